"""Anchors within masks: the same as if all allowed voxels stood in a list, without ever holding them."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import stats

from numeric_core import PLAIN, CountingArray, blobs, volume_of
from vemosaic.errors import VolumeError
from vemosaic.patches import PatchSampler, Sampling
from vemosaic.patches.allowed import AllowedVoxels
from vemosaic.patches.tiles import Tile, Tiles
from vemosaic.volumes.volume import Shape, Slices

CPU = torch.device("cpu")
POINTS = Sampling(points=2, positives=1, half_size=(1.0, 1.0), radius=1.0, contrast=0.0, brightness=0.0, noise=0.0)


@pytest.mark.parametrize("seed", range(4))
def test_voxels_are_picked_as_from_a_list_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 9, 3))
    shapes = [tuple(rng.integers(1, n + 1) for n in shape) for _ in range(4)]  # tiles are clipped at the border
    tiles = [None if slot == seed else rng.random(s) < rng.random() ** 2 for slot, s in enumerate(shapes)]
    allowed = AllowedVoxels(4, shape, CPU)
    for number in (3, 0, 2, 1, 3, 0):  # in any order, and again
        allowed.put(number, np.ones(shape, bool))
        allowed.put(number, tiles[number])
    allowed.count()
    for slot, tile in enumerate(tiles):
        plain = np.argwhere(np.zeros(shape, bool) if tile is None else tile)
        if len(plain):
            share = (torch.arange(len(plain)) + 0.5) / len(plain)
            np.testing.assert_array_equal(allowed.pick(torch.full(share.shape, slot), share), plain)
            ends = allowed.pick(torch.tensor([slot, slot]), torch.tensor([0.0, 1.0]))
            np.testing.assert_array_equal(ends, plain[[0, -1]])


def test_a_mask_is_read_once_and_in_small_boxes_before_training_begins() -> None:
    mask = CountingArray(blobs((150, 130, 140)) > 0.5)
    image = volume_of(np.zeros(mask.shape, np.uint8))
    tracemalloc.start()
    try:
        sampler = PatchSampler(
            [image], [PLAIN], POINTS, seed=0, masks=[volume_of(mask)], tile=28, pool_bytes=20 * 4 * 28**3
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    inner = 28 - 2 * POINTS.halo[0]
    margin = POINTS.margin[0]
    assert sum(mask.sizes) == np.prod([n - 2 * margin for n in mask.shape])
    assert max(mask.sizes) <= (2 * inner) ** 3
    assert peak < 0.25 * mask.voxels.nbytes
    for step in range(0, 64, 16):
        sampler.batch(step, 4)
    sampler._reader.shutdown(wait=True)
    assert sum(mask.sizes[-30:]) <= 30 * inner**3


def sampler_of(mask: npt.NDArray[np.bool_], tiles: int) -> PatchSampler:
    image = volume_of(np.zeros(mask.shape, np.uint8))
    return PatchSampler(
        [image], [PLAIN], POINTS, seed=0, masks=[volume_of(mask)], tile=28, pool_bytes=tiles * 4 * 28**3
    )


def test_every_allowed_voxel_has_the_same_chance() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((60, 50, 54), bool)
    mask[5:30, 10:20, 5:45] = rng.random((25, 10, 40)) < 0.05  # some tiles hold many, some few, some none
    mask[40:50, 30:33, 20:50] = rng.random((10, 3, 30)) < 0.5
    sampler = sampler_of(mask, 100)
    assert sampler._resident
    drawn = np.concatenate([sampler.batch(step, 5000).centres[:, 0].numpy() for step in range(4)])
    counts = np.zeros(mask.shape, int)
    np.add.at(counts, tuple(drawn.T), 1)
    assert counts[~mask].sum() == 0
    assert stats.chisquare(counts[mask]).pvalue > 1e-3


def test_tiles_weigh_what_the_mask_leaves_of_them_while_the_pool_slides() -> None:
    mask = np.zeros((60, 60, 60), bool)
    mask[5:55, 5:55, 5:55] = np.random.default_rng(0).random((50, 50, 50)) < np.linspace(0.01, 0.6, 50)
    sampler = sampler_of(mask, 16)
    assert not sampler._resident
    drawn = np.concatenate([sampler.batch(step, 150).centres[:, 0].numpy() for step in range(0, 16 * 96, 16)])
    assert mask[tuple(drawn.T)].all()
    thirds = np.array_split(np.arange(60), 3)
    share = [np.isin(drawn[:, 2], third).mean() for third in thirds]
    expected = [mask[..., third].sum() / mask.sum() for third in thirds]
    assert share == pytest.approx(expected, abs=0.02)


def test_tiles_without_an_allowed_voxel_are_left_out() -> None:
    mask = np.zeros((33, 40, 29), bool)
    mask[4, 30, 28] = mask[32, 0, 9] = mask[17, 20, 20] = True
    volume = volume_of(np.zeros(mask.shape, np.uint8))
    every = Tiles(0, volume, (8, 9, 10), (1, 0, 2))
    kept = Tiles(0, volume, (8, 9, 10), (1, 0, 2), volume_of(mask))
    plain = [t for t in every if mask[tuple(slice(a, b) for a, b in zip(t.start, t.stop, strict=True))].any()]
    assert list(kept) == plain == [Tile(0, (17, 18, 12), (25, 27, 22))]  # the others lie within the margin
    with pytest.raises(VolumeError, match="mask: the mask leaves no voxel for an anchor; give a larger mask"):
        Tiles(0, volume, (8, 9, 10), (5, 5, 5), volume_of(mask & (np.arange(29) > 25), "mask"))


def test_tiles_cut_all_within_the_margin() -> None:
    volume = volume_of(np.zeros((33, 40, 5), np.uint8))
    tiles = Tiles(2, volume, (8, 9, 10), (1, 0, 2))
    covered = np.zeros(volume.shape, int)
    for tile in tiles:
        covered[tuple(slice(a, b) for a, b in zip(tile.start, tile.stop, strict=True))] += 1
        assert tile.voxels == np.prod(tile.shape)
        assert tile.volume == 2
    expected = np.zeros(volume.shape, int)
    expected[1:32, :, 1:4] = 1  # a thin axis gives up some of the margin
    np.testing.assert_array_equal(covered, expected)
    assert len(list(tiles)) == len(tiles) == 4 * 5 * 1


@dataclass
class NoVoxels:
    """The shape of an array, and nothing behind it."""

    shape: Shape
    dtype: np.dtype[np.generic] = field(default_factory=lambda: np.dtype(np.uint8))

    def __getitem__(self, box: Slices) -> npt.NDArray[np.generic]:
        raise AssertionError(f"{box} was read")


def test_the_tiles_of_a_petavoxel_are_made_as_they_are_asked_for() -> None:
    tiles = Tiles(0, volume_of(NoVoxels((100_000, 100_000, 100_000))), (96, 96, 96), (11, 11, 11))
    assert len(tiles) == 1042**3
    assert tiles[1042**2 + 2 * 1042 + 3] == Tile(0, (107, 203, 299), (203, 299, 395))
    with pytest.raises(IndexError):
        tiles[len(tiles)]
