from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from report_fixture import MadeRun, write_maps

from vemosaic.report.content import Clustering, RunContent, Sample, read_run
from vemosaic.report.slices import (
    FIELD,
    PATCH,
    as_grey,
    informative_place,
    label_levels,
    nearest_voxels,
    read_patches,
    read_slices,
)
from vemosaic.report.sources import classes_at


class Recorder:
    """Passes reads on and remembers their sizes."""

    def __init__(self, array: Any) -> None:
        self.array, self.shape, self.dtype, self.read = array, array.shape, array.dtype, 0

    def __getitem__(self, box: Any) -> Any:
        voxels = self.array[box]
        self.read += voxels.size
        return voxels


def test_planes_show_the_voxels_they_cut(shared_run: MadeRun) -> None:
    content = read_run(shared_run.folder)
    slices = read_slices(content, shared_run.volume, shared_run.reference, pixels=900)
    z, y, x = (plane.index for plane in slices.planes)
    image = np.asarray(shared_run.volume.array)
    for plane, cut in zip(slices.planes, (np.s_[z], np.s_[:, y], np.s_[:, :, x]), strict=True):
        np.testing.assert_array_equal(plane.labels[8], shared_run.labels[8][cut])
        np.testing.assert_array_equal(plane.reference, shared_run.reference.classes[cut])
        np.testing.assert_array_equal(plane.raw, as_grey(image[cut].astype(np.float32), slices.contrast))
    assert slices.planes[1].name == "xz"
    assert slices.planes[1].extent == (60 * 16.0, 100 * 16.0)
    assert slices.planes[1].cuts == ((z + 0.5) / 60, (x + 0.5) / 100)


def test_only_the_planes_are_read(shared_run: MadeRun) -> None:
    recorder = Recorder(shared_run.volume.array)
    read_slices(read_run(shared_run.folder), replace(shared_run.volume, array=recorder), None, pixels=900)
    assert recorder.read == 90 * 100 + 60 * 100 + 60 * 90


def test_intensity_is_the_mean_of_each_cluster_in_the_planes(shared_run: MadeRun) -> None:
    slices = read_slices(read_run(shared_run.folder), shared_run.volume, None, pixels=900)
    z, y, x = (plane.index for plane in slices.planes)
    cuts = (np.s_[z], np.s_[:, y], np.s_[:, :, x])
    labels = np.concatenate([shared_run.labels[4][cut].ravel() for cut in cuts])
    values = np.concatenate([np.asarray(shared_run.volume.array)[cut].ravel() for cut in cuts])
    np.testing.assert_allclose(slices.intensity[4], [values[labels == c].mean() for c in range(1, 5)])


def big(make_run: Callable[..., MadeRun]) -> tuple[RunContent, np.ndarray]:
    """A run with a map of 40 x 300 x 270 and its pyramid: the label of a voxel says where it lies."""
    run = make_run(ks=(4,))
    content = read_run(run.folder)
    _, y, x = np.indices((40, 300, 270))
    labels = (1 + (y >= 150) + 2 * (x >= 130)).astype(np.uint8)
    path = run.folder.parent / "big" / "segmentation.ome.zarr"
    write_maps(path, {4: labels}, (16.0, 16.0, 16.0))
    content.record["inputs"][0]["working"]["shape"] = [40, 300, 270]
    return replace(content, folder=path.parent), labels


def test_big_planes_are_reduced_from_a_coarser_level(make_run: Callable[..., MadeRun]) -> None:
    content, labels = big(make_run)
    assert len(label_levels(content, 4)) == 3  # 1, 2 and 4 voxels
    plane = read_slices(content, None, None, pixels=100).planes[0]
    assert plane.labels[4].shape == (100, 90)  # steps of 3 voxels
    expected = labels[plane.index, 1::3, 1::3]
    assert (plane.labels[4] == expected).mean() > 0.97  # a voxel's width at the borders may differ


def test_big_raw_planes_are_reduced_by_means(make_run: Callable[..., MadeRun]) -> None:
    content, _ = big(make_run)
    values = np.random.default_rng(0).integers(0, 255, (40, 300, 270)).astype(np.uint8)

    class Raw:
        shape = values.shape

        def read(self, origin: Sequence[int], shape: Sequence[int]) -> np.ndarray:
            return values[tuple(slice(o, o + n) for o, n in zip(origin, shape, strict=True))].astype(np.float32)

    slices = read_slices(content, Raw(), None, pixels=100)  # type: ignore[arg-type]
    plane = slices.planes[0]
    means = values[plane.index].reshape(100, 3, 90, 3).mean(axis=(1, 3)).astype(np.float32)
    np.testing.assert_array_equal(plane.raw, as_grey(means, slices.contrast))


def test_an_odd_end_is_averaged_over_what_is_there(make_run: Callable[..., MadeRun]) -> None:
    content, _ = big(make_run)

    class Ramp:
        def read(self, origin: Sequence[int], shape: Sequence[int]) -> np.ndarray:
            return np.broadcast_to(np.arange(shape[2], dtype=np.float32), tuple(shape))

    slices = read_slices(content, Ramp(), None, pixels=77)  # type: ignore[arg-type]
    plane = slices.planes[0]
    assert plane.raw is not None
    assert plane.raw.shape == (75, 68)  # 300 / 4 and 270 / 4, rounded up; the last column averages 268 and 269
    low, high = slices.contrast
    assert high == pytest.approx(268.5, abs=1)
    assert low == pytest.approx(1.5, abs=1.5)


def test_the_place_has_the_most_even_mixture(make_run: Callable[..., MadeRun]) -> None:
    run = make_run(ks=(4,))
    content = read_run(run.folder)
    labels = np.ones((60, 90, 100), np.uint8)
    labels[22, 30:50, 20:40], labels[22, 50:70, 40:60], labels[22, 10:30, 60:80] = 2, 3, 4
    path = run.folder.parent / "other" / "segmentation.ome.zarr"
    write_maps(path, {4: labels}, (16.0, 16.0, 16.0))
    content = replace(content, folder=path.parent)
    assert informative_place(label_levels(content, 4), content, 4)[0] == 22
    assert informative_place((), content, 4) == (30, 45, 50)


def test_nearest_voxels_are_sorted_and_apart() -> None:
    voxel = np.array([[0, 0, 0], [0, 2, 2], [0, 40, 40], [0, 80, 80], [9, 9, 9]])
    embedding = np.array([[0.0], [0.1], [0.3], [0.2], [0.0]], np.float32)
    sample = Sample(voxel, embedding, {2: np.array([1, 1, 1, 1, 2], np.uint8)})
    clustering = Clustering(2, np.array([[0.0], [1.0]]), np.array([4, 1]), [(0, 0, 0)] * 2)
    assert nearest_voxels(clustering, sample, 3) == [[0, 3, 2], [4]]
    assert nearest_voxels(clustering, sample, 8) == [[0, 3, 2, 1], [4]]  # a near repeat comes last


def test_patches_are_centred_on_their_voxels(shared_run: MadeRun) -> None:
    content = read_run(shared_run.folder)
    rows = read_patches(content, shared_run.volume, (0.0, 255.0), columns=8)[8]
    assert [len(row) for row in rows] == [8] * 8
    image = np.asarray(shared_run.volume.array)
    inside = 0
    for patch in (patch for row in rows for patch in row):
        z, y, x = patch.voxel
        assert patch.grey.shape == (PATCH, PATCH)
        assert patch.grey[PATCH // 2, PATCH // 2] == image[z, y, x]
        if 12 <= y <= 78 and 12 <= x <= 88:
            np.testing.assert_array_equal(patch.grey, image[z, y - 12 : y + 12, x - 12 : x + 12])
            inside += 1
    assert inside > 5
    assert FIELD % 2 == 1


def test_classes_of_single_voxels() -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 4, (40, 70, 90)).astype(np.uint8)
    voxels = np.stack([rng.integers(0, n, 300) for n in classes.shape], 1)

    class InMemory:
        class_names = ("unrecognised", "a", "b", "c")

        def read(self, origin: Sequence[int], shape: Sequence[int]) -> np.ndarray:
            assert max(shape) <= 32
            z, y, x = (slice(o, o + n) for o, n in zip(origin, shape, strict=True))
            return classes[z, y, x]

    assert (classes_at(InMemory(), voxels) == classes[tuple(voxels.T)]).all()
