"""Which prototypes lie at and around voxels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from explorer_runs import SHARD
from hypothesis import given
from hypothesis import strategies as st

from vemosaic.blocks.grid import units
from vemosaic.explorer import mixtures
from vemosaic.explorer.mixtures import BoxMixture, ListMixture
from vemosaic.explorer.session import Session
from vemosaic.explorer.smoothing import Taps, gaussian_taps, reach_of
from vemosaic.volumes.points import box_of


def slow(around: np.ndarray, taps: Taps, table: np.ndarray) -> np.ndarray:
    """Average a table over one voxel's surroundings, place by place."""
    mean = np.zeros(table.shape[1])
    for z, y, x in itertools.product(*map(range, around.shape)):
        mean += float(taps[0][z]) * float(taps[1][y]) * float(taps[2][x]) * table[around[z, y, x]]
    return mean


@given(st.sampled_from([1.0, 3.0]), st.integers(0, 2**16))
def test_a_table_is_averaged_around_each_voxel(depth: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    taps, table = gaussian_taps(1.0, depth), rng.normal(size=(256, 3)).astype(np.float32)
    z, y, x = reach_of(taps)
    prototypes = rng.choice(np.array([0, 1, 7, 255], np.uint8), (2 + 2 * z, 3 + 2 * y, 4 + 2 * x))
    box = BoxMixture(prototypes, taps).mean(table)
    windows = np.lib.stride_tricks.sliding_window_view(prototypes, [len(t) for t in taps])
    listed = ListMixture.of(windows.reshape(-1, *windows.shape[3:]), taps)
    assert box.shape == (2, 3, 4, 3)
    assert box.dtype == listed.mean(table).dtype == np.float32
    np.testing.assert_allclose(listed.mean(table), box.reshape(-1, 3), atol=1e-5)
    place = tuple(rng.integers(0, box.shape[:3]))
    np.testing.assert_allclose(box[place], slow(windows[place], taps, table), atol=1e-5)
    some = rng.integers(0, 24, 5)
    np.testing.assert_array_equal(listed.pick(some).mean(table), listed.mean(table)[some])


def test_many_voxels_are_counted_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    around, taps = rng.integers(0, 256, (11, 3, 3, 3)).astype(np.uint8), gaussian_taps(0.5, 1.0)
    whole = ListMixture.of(around, taps).shares.toarray()
    monkeypatch.setattr(mixtures, "PART", 4)
    np.testing.assert_array_equal(ListMixture.of(around, taps).shares.toarray(), whole)
    np.testing.assert_allclose(whole.sum(1), 1, rtol=1e-5)


def test_alone_a_voxel_has_what_is_said_of_its_prototype() -> None:
    table = np.random.default_rng(0).normal(size=(256, 2)).astype(np.float32)
    np.testing.assert_array_equal(ListMixture.alone(np.arange(256, dtype=np.uint8)).mean(table), table)
    assert ListMixture.alone(np.empty(0, np.uint8)).mean(table).shape == (0, 2)


def test_tiles_of_a_block_and_the_border_of_the_volume_are_as_the_whole(session: Session) -> None:
    texture = session.derived.texture
    table = np.random.default_rng(1).normal(size=(256, 2)).astype(np.float32)
    whole = texture.box(box_of((0, 0, 0), session.run.shape)).mixture.mean(table)
    prototypes = texture.prototypes.read(0, box_of((0, 0, 0), session.run.shape))
    taps = texture._kernels[0]
    mirrored = np.pad(prototypes, [(r, r) for r in reach_of(taps)], mode="reflect")
    np.testing.assert_allclose(whole, BoxMixture(mirrored, taps).mean(table), atol=1e-6)
    for unit in units(session.run.shape, SHARD):
        for tile, described in texture.tiles(unit, texture.around(unit)):
            place = tuple(slice(o + t.start, o + t.stop) for o, t in zip(unit.origin, tile, strict=True))
            np.testing.assert_allclose(described.mixture.mean(table), whole[place], atol=1e-5)


def test_a_texture_from_before_there_were_mixtures_is_completed(session: Session) -> None:
    texture = session.derived.texture
    kept = texture._around_dots.read_bytes()
    texture._around_dots.unlink()
    again = Session(session.run.path).derived.texture
    assert not again.finished
    again.write()
    assert again.finished
    assert again._around_dots.read_bytes() == kept
