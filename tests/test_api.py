"""The functions of a notebook: on arrays and files alike, and the same results as a run."""

from __future__ import annotations

import inspect
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import zarr

import vemosaic
from small_runs import MODEL, hold_a_small_vote
from vemosaic.blocks.events import Event, StageStarted
from vemosaic.datasets.phantom import Phantom
from vemosaic.embedding import Embedder
from vemosaic.errors import ReferenceMaskError, SettingsError, VolumeError
from vemosaic.inputs import Input, PaddingWarning, open_input
from vemosaic.models.model import Model
from vemosaic.pipeline import Run
from vemosaic.settings import Settings
from vemosaic.volumes import VoxelSizeWarning
from vemosaic.volumes.intensity import measure_intensity

SHAPE = (48, 50, 52)
ANCHORS = 128


@pytest.fixture(scope="module", autouse=True)
def small_sample() -> Iterator[None]:
    """Clusters found in two cells of the volume, not in all, and by fewer votes: quicker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vemosaic.embedding_sample.CELLS", 2)
        hold_a_small_vote(patch)
        yield


@pytest.fixture(scope="module")
def cell() -> Phantom:
    return vemosaic.phantom_cell(SHAPE, seed=1)


@pytest.fixture(scope="module")
def model(cell: Phantom) -> Model:
    return vemosaic.train(cell.raw, voxel_size=16, settings=MODEL, anchors=ANCHORS, device="cpu")


@pytest.fixture(scope="module")
def labels(cell: Phantom, model: Model) -> npt.NDArray[np.uint8]:
    return vemosaic.cluster(cell.raw, model, 3, words=8)


@pytest.fixture(scope="module")
def mapped(cell: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of the same volume from a file, up to its map."""
    folder = tmp_path_factory.mktemp("api")
    np.save(folder / "cell.npy", cell.raw)
    settings = Settings(model=MODEL, anchors=ANCHORS, clusters=(3, 4), words=8, working_voxel_size=None)
    opened = open_input(Input(str(folder / "cell.npy"), (16.0, 16.0, 16.0)), None)
    job = Run.start(folder / "run", [opened], settings, device="cpu")
    job.train()
    job.fit()
    job.map()
    return job


def same(one: Model, other: Model) -> bool:
    ours, theirs = one.vae.state_dict(), other.vae.state_dict()
    return all(bool((ours[name] == theirs[name]).all()) for name in ours)


def test_import_is_light_and_names_are_there() -> None:
    code = "import sys, vemosaic; sys.exit(bool({'numpy', 'torch', 'zarr', 'pydantic'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(callable(getattr(vemosaic, name)) for name in vemosaic.__all__)
    assert set(vemosaic.__all__) < set(dir(vemosaic))


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="segment"):
        vemosaic.segment  # noqa: B018


def test_train_is_the_training_of_a_run(model: Model, mapped: Run) -> None:
    assert same(model, vemosaic.load_model(mapped.folder.model))
    assert model.card["voxel_size_nm"] == [[16.0, 16.0, 16.0]]


def test_cluster_is_the_map_of_a_run(cell: Phantom, model: Model, mapped: Run) -> None:
    maps = vemosaic.cluster(cell.raw, model, (3, 4), words=8)
    assert maps.shape == (2, *SHAPE)
    for k, whole in zip((3, 4), maps, strict=True):
        stored = vemosaic.open_labels(mapped.folder.segmentation, k).volume.array
        np.testing.assert_array_equal(whole, stored[:, :, :])


def test_padding_is_left_out_as_in_a_run(cell: Phantom, model: Model) -> None:
    padded = np.pad(np.maximum(cell.raw, 1), ((0, 0), (10, 0), (12, 0)))
    inside = np.pad(np.ones(cell.raw.shape, np.uint8), ((0, 0), (10, 0), (12, 0)))
    with pytest.warns(PaddingWarning, match=r'padding \(zeros\); .* \(mask="everywhere" maps it, too\)'):
        found = vemosaic.cluster(padded, model, 3, voxel_size=16, words=8)
    np.testing.assert_array_equal(found != 0, inside != 0)
    for mask in (inside, "nonzero"):
        np.testing.assert_array_equal(vemosaic.cluster(padded, model, 3, voxel_size=16, words=8, mask=mask), found)
    assert vemosaic.cluster(padded, model, 3, voxel_size=16, words=8, mask="everywhere").all()


def test_every_cluster_is_found_and_the_first_is_the_darkest(
    cell: Phantom, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vemosaic.embedding_sample.CELLS", 256)  # all voxels are in the sample
    labels = vemosaic.cluster(cell.raw, model, 3, words=8)
    assert labels.shape == SHAPE
    assert np.unique(labels).tolist() == [1, 2, 3]
    means = [cell.raw[labels == label].mean() for label in (1, 2, 3)]
    assert np.diff(means).min() > -0.1  # in the order of the sample's means


def test_files_arrays_zarr_and_open_volumes_are_one(cell: Phantom, model: Model, tmp_path: Path) -> None:
    path = tmp_path / "cell.tif"
    tifffile.imwrite(path, cell.raw)
    stored = zarr.create_array(tmp_path / "cell.zarr", shape=SHAPE, dtype=np.uint8)
    stored[:] = cell.raw
    box = np.s_[20:28, 20:28, 20:28]
    expected = vemosaic.embed(cell.raw, model, box=box)
    for source in (path, str(path), stored, vemosaic.open_volume(path, voxel_size=16)):
        np.testing.assert_array_equal(vemosaic.embed(source, model, box=box), expected)


def test_embedding_of_a_box_is_that_of_the_whole(cell: Phantom, model: Model) -> None:
    volume = vemosaic.open_volume(cell.raw, voxel_size=16)
    whole = vemosaic.embed(volume, model)
    assert whole.shape == (*SHAPE, MODEL.architecture.semantic) and whole.dtype == np.float32
    np.testing.assert_array_equal(whole, Embedder(model, measure_intensity(volume)).box(volume, (0, 0, 0), SHAPE))
    box = np.s_[3:20, -9:, :]
    np.testing.assert_allclose(vemosaic.embed(cell.raw, model, box=box), whole[box], atol=1e-5)


def test_map_of_a_box_is_that_of_the_whole(cell: Phantom, model: Model, labels: npt.NDArray[np.uint8]) -> None:
    box = np.s_[10:30, 5:45, 40:]
    part = vemosaic.cluster(cell.raw, model, 3, words=8, box=box)
    assert part.shape == labels[box].shape
    assert (part == labels[box]).mean() > 0.999  # a voxel between two centres may fall either way by rounding


def test_streamed_clusters_follow_all_voxels(cell: Phantom, model: Model, labels: npt.NDArray[np.uint8]) -> None:
    heard: list[Event] = []
    streamed = vemosaic.cluster(cell.raw, model, 3, words=8, fit="stream", listen=heard.append)
    assert [e.stage for e in heard if isinstance(e, StageStarted)] == ["sample", "fit", "stream", "map"]
    assert not np.array_equal(streamed, labels)


def test_mask_bounds_the_map(cell: Phantom, model: Model) -> None:
    masked = vemosaic.cluster(cell.raw, model, 3, words=8, mask=cell.cell)
    np.testing.assert_array_equal(masked == 0, ~cell.cell)


def test_mask_bounds_the_training(cell: Phantom, model: Model, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "mask.tif", cell.cell.astype(np.uint8))
    both = [
        vemosaic.train(cell.raw, voxel_size=16, masks=mask, settings=MODEL, anchors=16, device="cpu")
        for mask in (cell.cell, tmp_path / "mask.tif")
    ]
    everywhere = vemosaic.train(cell.raw, voxel_size=16, settings=MODEL, anchors=16, device="cpu")
    assert same(*both)
    assert not same(both[0], everywhere)


def test_several_volumes_each_with_its_mask_or_none(cell: Phantom) -> None:
    other = vemosaic.phantom_cell((48, 48, 48), seed=2)
    together = vemosaic.train([cell.raw, other.raw], voxel_size=16, masks=[None, other.cell], anchors=128, device="cpu")
    assert len(together.card["volumes"]) == 2


def test_scores_of_arrays_and_files_agree(cell: Phantom, mapped: Run, tmp_path: Path) -> None:
    path = mapped.folder.segmentation
    array = vemosaic.open_labels(path, 3).volume.array[:, :, :]
    names = ("nucleus", "mitochondria")
    masks = {name: cell.masks[name] for name in names}
    for name, mask in masks.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", mask.astype(np.uint8))
    specs = [f"{name}={tmp_path}/{name}.tif" for name in names]
    volume = vemosaic.open_labels(path, 3).volume
    expected = vemosaic.evaluate(array, masks)
    assert set(expected["classes"]) == {"unrecognised", *names}
    assert vemosaic.evaluate(f"{path}/labels/k3", specs) == expected
    assert vemosaic.evaluate(volume, specs) == expected
    assert vemosaic.evaluate(volume, vemosaic.open_reference(specs, volume)) == expected
    assert vemosaic.evaluate(array, specs, voxel_size=16) == expected
    assert vemosaic.evaluate(path, masks)["k"] == vemosaic.open_labels(path).k  # the map that viewers show first


def test_label_array_as_reference(cell: Phantom, tmp_path: Path) -> None:
    classes = cell.labels()
    perfect = vemosaic.evaluate(classes, classes)
    assert perfect["k"] == 7
    assert all(perfect["classes"][f"label {i}"]["dice"] == 1.0 for i in np.unique(classes) if i)
    tifffile.imwrite(tmp_path / "labels.tif", classes)
    assert vemosaic.evaluate(classes, tmp_path / "labels.tif", voxel_size=16) == perfect
    assert vemosaic.evaluate(classes, classes, k=9)["k"] == 9


def test_defaults_are_those_of_settings() -> None:
    parameters = inspect.signature(vemosaic.cluster).parameters
    settings = Settings()
    for name in ("words", "vocabularies", "dimensions", "smoothing", "diffusion", "fit", "seed"):
        assert parameters[name].default == getattr(settings, name)
    assert inspect.signature(vemosaic.train).parameters["seed"].default == settings.seed


def test_voxels_of_another_size_are_noticed(cell: Phantom, model: Model) -> None:
    box = np.s_[:9, :9, :9]
    with pytest.warns(VoxelSizeWarning, match=r"5 x 5 x 5 nm .* unlike the 16 x 16 x 16 nm"):
        vemosaic.embed(cell.raw, model, voxel_size=5, box=box)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vemosaic.embed(cell.raw, model, voxel_size=15, box=box)
        vemosaic.embed(cell.raw, model, box=box)
    coarse = vemosaic.open_volume(cell.raw, voxel_size=40)
    with pytest.warns(VoxelSizeWarning, match="40 x 40 x 40"):
        vemosaic.train([vemosaic.open_volume(cell.raw, voxel_size=16), coarse], settings=MODEL, anchors=8, device="cpu")


class Huge:
    """As large as a whole cell, and holding the same few voxels everywhere."""

    shape = (2000, 2000, 2000)
    dtype = np.dtype(np.uint8)

    def __getitem__(self, box: Any) -> npt.NDArray[np.uint8]:
        z, y, x = np.ogrid[box]
        return ((z * 7 + y * 5 + x * 3) % 251).astype(np.uint8)


@pytest.fixture
def huge() -> vemosaic.Volume:
    return vemosaic.Volume(Huge(), (16.0,) * 3, (0.0,) * 3, "huge.zarr", "Zarr")  # type: ignore[arg-type]


def test_what_is_too_large_for_memory_is_refused(huge: vemosaic.Volume, model: Model) -> None:
    with pytest.raises(VolumeError, match=r"huge.zarr: 1 map\(s\) of 8 Gvoxel .* run folder"):
        vemosaic.cluster(huge, model, 8)
    with pytest.raises(VolumeError, match=r"huge.zarr: the embedding of 8 Gvoxel .* smaller box"):
        vemosaic.embed(huge, model)
    assert vemosaic.embed(huge, model, box=np.s_[990:995, 1000:1004, 0:3]).shape == (5, 4, 3, 4)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"k": 1}, "k: 1 is not 2 to 255"),
        ({"k": ()}, "is not 2 to 255"),
        ({"k": (4, 256)}, "is not 2 to 255"),
        ({"words": 300}, "words: 300 will not do"),
        ({"smoothing": -1.0}, "smoothing: -1.0 will not do"),
        ({"fit": "all"}, "fit: 'all' will not do"),
        ({"box": np.s_[0:4]}, "is not three slices"),
        ({"box": np.s_[0:4, 0:4, 3]}, "is not three slices"),
        ({"box": np.s_[0:4, 0:4, ::2]}, "is not three slices"),
        ({"box": np.s_[0:4, 0:4, 90:99]}, "holds no voxel"),
    ],
)
def test_settings_that_will_not_do(cell: Phantom, model: Model, how: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        vemosaic.cluster(cell.raw, model, **how)


def test_inputs_that_do_not_fit(cell: Phantom, model: Model, tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="how large a voxel is"):
        vemosaic.train(cell.raw, anchors=128)
    with pytest.raises(VolumeError, match="does not exist"):
        vemosaic.embed(tmp_path / "none.tif", model)
    with pytest.raises(VolumeError, match=r"the mask has .* where its volume has"):
        vemosaic.cluster(cell.raw, model, mask=cell.cell[1:])
    with pytest.raises(SettingsError, match="masks: 1 for 2 volumes"):
        vemosaic.train([cell.raw, cell.raw], voxel_size=16, masks=[None], anchors=128)
    with pytest.raises(ReferenceMaskError, match="states no voxel size, and its shape"):
        vemosaic.evaluate(cell.labels(), {"cell": cell.cell[1:]})


def test_run_takes_what_notebooks_write(cell: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths as text and a voxel size as one number, and the run can be taken up again from its folder."""
    monkeypatch.setattr("vemosaic.pipeline.write_report", lambda folder, **_: (folder / "report.html").touch())
    np.save(tmp_path / "cell.npy", cell.raw[:20, :30, :40])
    settings = vemosaic.Settings(anchors=128, clusters=(3,), words=0, smoothing=0)
    job = vemosaic.run(f"{tmp_path}/cell.npy", f"{tmp_path}/run", settings, voxel_size=16, device="cpu")
    again = Run.reopen(job.folder.path, device="cpu")
    assert again.first.working.voxel_size == (16.0, 16.0, 16.0)
    assert job.folder.record["complete"]
    assert vemosaic.open_labels(f"{tmp_path}/run/segmentation.ome.zarr").ks == (3,)
