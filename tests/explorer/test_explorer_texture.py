from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from explorer_runs import SHARD
from scipy import ndimage

from small_runs import SETTINGS, Cell, Killed, killed_at, run_cell
from vemosaic.errors import VolumeError
from vemosaic.explorer import texture as texture_module
from vemosaic.explorer.opened import OpenedRun
from vemosaic.explorer.session import Session
from vemosaic.explorer.smoothing import gaussian_taps, reach_of, smooth_codes
from vemosaic.explorer.texture import NotYet, Texture
from vemosaic.pipeline import Run
from vemosaic.volumes import array_writing
from vemosaic.volumes.labels import open_labels
from vemosaic.volumes.points import box_of
from vemosaic.volumes.volume import mirrored


@pytest.mark.parametrize("depth", [1.0, 2.5, math.inf])
@pytest.mark.parametrize("width", [0.5, 1.5, 3.0])
def test_gaussians_are_those_of_the_map(session: Session, width: float, depth: float) -> None:
    embedder = replace(Run.reopen(session.run.path).describer(), smoothing=width, depth=depth)
    for found, expected in zip(gaussian_taps(width, depth), embedder.taps, strict=True):
        assert np.allclose(found, expected, atol=1e-7)


@pytest.fixture
def detailed(cell: Cell, tmp_path: Path, session: Session) -> Session:
    """Another run, in which a voxel's own texture counts."""
    found = Session(run_cell(cell, tmp_path / "detailed", SETTINGS.model_copy(update={"detail": 1.0})).folder.path)
    found.derived.texture.write()
    return found


def check_that_the_map_was_made_from(texture: Texture) -> np.ndarray:
    """Compare what describes a box with what the run's own description of it is; return that."""
    job = Run.reopen(texture.run.path)
    inner = box_of((9, 10, 11), (2, 12, 14))  # nearer to the border, surroundings are mirrored differently
    describer = job.describer()
    assert describer.diffusion
    expected = describer.box(job.first.working, (9, 10, 11), (2, 12, 14))
    assert np.allclose(texture.mapped(inner), expected, atol=1e-4)
    found = texture.box(inner).vectors
    undiffused = replace(describer, diffusion=None).box(job.first.working, (9, 10, 11), (2, 12, 14))
    assert np.allclose(texture.own(found), undiffused, atol=1e-4)
    assert not np.allclose(expected, undiffused, atol=1e-2)
    assert found.shape[-1] == texture.channels
    return expected


def test_vectors_are_what_the_map_was_made_from(session: Session) -> None:
    texture = session.derived.texture
    assert 3 * check_that_the_map_was_made_from(texture).shape[-1] == texture.channels


def test_details_come_first_and_single_voxels_planes_and_prototypes_know_them(detailed: Session) -> None:
    texture = detailed.derived.texture
    details, codes = texture._vocabulary.details.shape[1], texture._vocabulary.codes.shape[1]
    assert details > 0
    assert check_that_the_map_was_made_from(texture).shape[-1] == details + codes
    assert texture.channels == details + 3 * codes
    voxels = np.array([[0, 0, 0], [19, 35, 39], [10, 20, 3]])
    found = texture.at(voxels)
    whole = texture.box(box_of((0, 0, 0), texture.run.shape))
    for place, vector in zip(voxels.tolist(), found.vectors, strict=True):
        assert np.allclose(vector, slow_vectors(texture, (place[0], place[1], place[2])), atol=1e-4)
    assert np.allclose(texture.box(box_of((3, 0, 0), (1, 36, 40))).vectors, whole.vectors[3:4], atol=1e-4)
    mapped = np.stack([texture.mapped(box_of(place, (1, 1, 1)))[0, 0, 0] for place in voxels.tolist()])
    distance = ((mapped[:, None] - texture.prototype_centres) ** 2).sum(-1)
    prototypes = [texture.prototypes.read(0, box_of(place, (1, 1, 1)))[0, 0, 0] for place in voxels.tolist()]
    assert np.array_equal(prototypes, distance.argmin(-1) + 1)


def test_where_patches_are_flat_less_is_smoothed_along_z(explored: Path) -> None:
    record = json.loads((explored / "run.json").read_text())
    record["settings"]["model"]["sampling"]["slices"] = 3
    (explored / "run.json").write_text(json.dumps(record))
    size = open_labels(explored / "segmentation.ome.zarr").volume.known_voxel_size()
    texture = Session(explored).derived.texture
    z, y, x = texture.reach
    assert y == x == 12
    assert z == int(12 * max(size[1:]) / size[0] + 0.5)


@pytest.mark.parametrize("shape", [(1, 6, 7), (6, 2, 7), (5, 6, 7)])
def test_codes_are_smoothed_alike_in_thin_boxes_and_others(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    kernels = [gaussian_taps(width, 2.0) for width in (0.7, 1.5, 3.0)]
    codes = rng.normal(size=(5, 2)).astype(np.float32)
    reach = reach_of(kernels[-1])
    words = rng.integers(0, 5, [n + 2 * r for n, r in zip(shape, reach, strict=True)]).astype(np.uint8)
    inner = tuple(slice(r, r + n) for r, n in zip(reach, shape, strict=True))
    expected = []
    for taps in kernels:
        smoothed = codes[words]
        for axis, weights in enumerate(taps):
            smoothed = ndimage.correlate1d(smoothed, weights, axis)
        expected.append(smoothed[inner])
    assert np.allclose(smooth_codes(words, codes, kernels), np.concatenate(expected, -1), atol=1e-5)


def slow_vectors(texture: Texture, voxel: tuple[int, int, int]) -> np.ndarray:
    """Weight the codes around a voxel one by one."""
    words = texture.words.read(0, box_of((0, 0, 0), texture.run.shape))
    reach = texture.reach
    places = [mirrored(np.arange(v - r, v + r + 1), n) for v, r, n in zip(voxel, reach, words.shape, strict=True)]
    word = words[np.ix_(*places)]
    padded = [[np.pad(t, r - len(t) // 2) for t, r in zip(taps, reach, strict=True)] for taps in texture._kernels]
    _, codes, details = texture._vocabulary
    tables = [(details, padded[0]), *((codes, taps) for taps in padded)]
    return np.concatenate([np.einsum("zyxc,z,y,x->c", table[word], *taps) for table, taps in tables])


@pytest.mark.parametrize("voxel", [(0, 0, 0), (19, 35, 39), (10, 20, 3)])
def test_vectors_at_the_border_are_of_mirrored_surroundings(session: Session, voxel: tuple[int, int, int]) -> None:
    texture = session.derived.texture
    assert np.allclose(texture.box(box_of(voxel, (1, 1, 1))).vectors[0, 0, 0], slow_vectors(texture, voxel), atol=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_plane_has_the_vectors_of_the_box_that_holds_it(session: Session, axis: int) -> None:
    texture = session.derived.texture
    box = list(box_of((4, 6, 8), (12, 14, 16)))
    whole = texture.box((box[0], box[1], box[2])).vectors
    box[axis] = slice(box[axis].start + 3, box[axis].start + 4)
    plane = texture.box((box[0], box[1], box[2])).vectors
    assert np.allclose(plane, whole.take([3], axis), atol=1e-4)


def test_single_voxels_have_the_vectors_of_their_boxes(session: Session) -> None:
    texture = session.derived.texture
    voxels = np.array([[1, 2, 3], [19, 35, 39], [1, 2, 4], [10, 33, 1]])
    whole = texture.box(box_of((0, 0, 0), session.run.shape))
    found = texture.at(voxels)
    assert np.allclose(found.vectors, whole.vectors[tuple(voxels.T)], atol=1e-4)
    table = np.random.default_rng(0).normal(size=(256, 3)).astype(np.float32)
    assert np.allclose(found.mixture.mean(table), whole.mixture.mean(table)[tuple(voxels.T)], atol=1e-5)
    assert texture.at(np.empty((0, 3), np.int64)).vectors.shape == (0, texture.channels)


def test_a_voxel_is_described_undiffused_where_the_image_is_gone(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    texture, box = session.derived.texture, box_of((9, 10, 11), (2, 12, 14))
    diffused, own = texture.mapped(box), texture.own(texture.box(box).vectors)

    def gone(run: OpenedRun) -> None:
        raise VolumeError(run.path, "is gone", "put it back")

    monkeypatch.delitem(vars(texture.run), "input")
    monkeypatch.setattr(OpenedRun, "input", property(gone))
    np.testing.assert_array_equal(texture.mapped(box), own)
    assert not np.allclose(diffused, own, atol=1e-3)


def test_prototypes_are_the_nearest_centres_and_a_lasso_takes_those_it_has_most_dots_of(session: Session) -> None:
    texture = session.derived.texture
    place = (9, 20, 20)
    vector = texture.mapped(box_of(place, (1, 1, 1)))[0, 0, 0]
    nearest = int(((texture.prototype_centres - vector) ** 2).sum(1).argmin()) + 1
    assert texture.prototypes.read(0, box_of(place, (1, 1, 1)))[0, 0, 0] == nearest
    dots = np.flatnonzero(texture.dot_prototypes == nearest)
    few = dots[: len(dots) // 2]
    assert texture.lassoed(dots)[nearest]
    assert texture.lassoed(dots).sum() == 1
    assert not texture.lassoed(few).any() if len(few) else True


def test_prototypes_are_what_the_clusters_of_a_consensus_are_made_of(session: Session) -> None:
    texture, k = session.derived.texture, session.run.default_k
    held = np.unique(texture.dot_prototypes)
    members = texture.memberships[held]
    assert np.isin(members, (0, 1)).all()
    assert (members.sum(1) == len(session.run.ks)).all()
    inner = box_of((7, 8, 9), (5, 16, 18))  # nearer to the border, surroundings are mirrored differently
    prototypes, labels = texture.prototypes.read(0, inner), np.asarray(session.run.map(k).volume.array[inner])
    assert len(np.unique(labels)) > 1
    assert all(len(np.unique(labels[prototypes == p])) == 1 for p in np.unique(prototypes))


def test_memberships_are_shares_where_prototypes_cross_clusters(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    texture = session.derived.texture
    dots = len(session.run.sample.voxel)
    monkeypatch.setattr(texture, "dot_prototypes", np.where(np.arange(dots) < dots // 2, 1, 7).astype(np.uint8))
    clusters = session.run.sample.clusters
    first, *_ = clusters
    shares = np.bincount(clusters[first][: dots // 2], minlength=first + 1)[1:] / (dots // 2)
    assert np.allclose(texture.memberships[1, :first], shares, atol=1e-6)
    assert texture.memberships.shape == (256, sum(clusters))
    assert not texture.memberships[[0, 2, 255]].any()


def test_texture_is_asked_for_before_it_is_there(copied: Path, quick: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotYet, match="the texture of the volume: is still being computed; wait"):
        Session(copied).derived.texture.check()


def test_an_interrupted_reading_goes_on_and_ends_the_same(
    copied: Path, described: Path, quick: pytest.MonkeyPatch
) -> None:
    quick.setattr(array_writing, "SHARD", SHARD)

    texture = Session(copied).derived.texture
    with pytest.raises(Killed):
        texture.write(killed_at(3, "words"))
    assert not texture.finished
    again = Session(copied).derived.texture
    again.write()
    whole = box_of((0, 0, 0), again.run.shape)
    expected = Session(described).derived.texture
    assert np.array_equal(again.words.read(0, whole), expected.words.read(0, whole))
    assert np.array_equal(again.prototypes.read(0, whole), expected.prototypes.read(0, whole))


def test_a_run_without_words_gets_some(explored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = json.loads((explored / "centres.json").read_text())
    (explored / "centres.json").write_text(json.dumps(document | {"words": None}))
    monkeypatch.setattr(texture_module, "WORDS", 5)
    texture = Session(explored).derived.texture
    centres, codes, details = texture._vocabulary
    assert details.shape == (5, 0)
    assert len(centres) == 5
    assert centres is codes
