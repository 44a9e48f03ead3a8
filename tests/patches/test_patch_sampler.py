"""Batches: what they hold, where their anchors lie, and that they depend on the seed and the step alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage, stats
from torch import Tensor

import vemosaic.patches.positives
from numeric_core import PLAIN, CountingArray, blobs, volume_of
from vemosaic.errors import VolumeError
from vemosaic.patches import Batch, Grids, PatchSampler, Sampling, draw_grids
from vemosaic.volumes.intensity import Intensity
from vemosaic.volumes.volume import Shape, Volume

PLAIN_COLOURS = {"contrast": 0.0, "brightness": 0.0, "noise": 0.0}
POINTS = Sampling(points=2, positives=1, **PLAIN_COLOURS)  # cheap, where only centres are looked at
SMALL_POOL = {"tile": 64, "pool_bytes": 3 * 4 * 64**3}  # three tiles of 64 voxels an edge


def sampler_of(
    arrays: Sequence[npt.NDArray[np.generic]],
    sampling: Sampling = POINTS,
    *,
    seed: int = 0,
    masks: Sequence[npt.NDArray[np.generic] | None] | None = None,
    intensity: Intensity = PLAIN,
    **sizes: int,
) -> PatchSampler:
    return PatchSampler(
        [volume_of(array, f"volume {i}") for i, array in enumerate(arrays)],
        [intensity] * len(arrays),
        sampling,
        seed=seed,
        masks=masks and [None if m is None else volume_of(m, f"mask {i}") for i, m in enumerate(masks)],
        **sizes,
    )


def equal(one: Batch, other: Batch) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(other, name)) for name in ("patches", "centres", "half_size", "volume")
    )


@pytest.fixture
def grids(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """The grids and centres that samplers lay, in voxels of their tiles, as they lay them."""
    laid: list[tuple[Tensor, Tensor]] = []

    def draw(anchor: Tensor, sampling: Sampling, generator: torch.Generator) -> Grids:
        grids = draw_grids(anchor, sampling, generator)
        laid.append((grids.points, grids.centres))
        return grids

    monkeypatch.setattr(vemosaic.patches.positives, "draw_grids", draw)
    return laid


# A batch is a function of seed and step.


@pytest.mark.parametrize("sizes", [{}, SMALL_POOL], ids=["resident", "sliding"])
def test_batch_depends_on_seed_and_step_alone(sizes: dict[str, int]) -> None:
    image = blobs((70, 80, 90))
    sampling = Sampling(positives=1, points=4)
    steps = (0, 1, 15, 16, 17, 64, 90)
    through = sampler_of([image], sampling, seed=5, **sizes)
    undisturbed = {step: through.batch(step, 6) for step in range(91) if step in steps or step % 10 == 0}
    for step in (90, 17, 16, 0, 64):  # resumed there, or drawn in another order
        assert equal(sampler_of([image], sampling, seed=5, **sizes).batch(step, 6), undisturbed[step])
        assert equal(through.batch(step, 6), undisturbed[step])
    drawn = [undisturbed[step].patches for step in steps]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(drawn, 2))
    assert not equal(sampler_of([image], sampling, seed=6, **sizes).batch(0, 6), undisturbed[0])


def test_a_sliding_pool_reads_each_tile_once_as_it_comes() -> None:
    array = CountingArray(blobs((70, 80, 90)))
    sampler = PatchSampler([volume_of(array)], [PLAIN], POINTS, seed=0, **SMALL_POOL)  # type: ignore[arg-type]
    for step in range(64):
        sampler.batch(step, 4)
    sampler._reader.shutdown(wait=True)
    assert len(array.boxes) == 3 + 3 + 1  # the first pool, one tile each 16 steps, one read ahead


def test_a_sliding_pool_comes_by_every_place() -> None:
    image = blobs((40, 100, 100))
    sampler = sampler_of([image], **SMALL_POOL)
    assert not sampler._resident
    tiles = sampler._tiles[0]
    centres = torch.cat([sampler.batch(step, 16).centres[:, 0] for step in range(0, 16 * len(tiles), 8)])
    for tile in tiles:
        inside = (centres >= torch.tensor(tile.start)) & (centres < torch.tensor(tile.stop))
        assert inside.all(1).any()


# Where patches lie and what they hold.


@pytest.mark.parametrize(
    ("shapes", "sizes"),
    [([(40, 44, 48)], {}), ([(60, 90, 50), (9, 60, 30)], SMALL_POOL), ([(12, 30, 30), (50, 40, 45)], {})],
    ids=["one tile", "sliding pool", "thin and thick"],
)
def test_patches_equal_scipy_at_their_grid(
    shapes: list[Shape], sizes: dict[str, int], grids: list[tuple[Tensor, Tensor]]
) -> None:
    images = [blobs(shape, seed) for seed, shape in enumerate(shapes)]
    sampler = sampler_of(images, Sampling(**PLAIN_COLOURS), **sizes)
    seen = set()
    for step in (0, 40, 200):
        batch = sampler.batch(step, 3)
        grid, tile_centres = grids[-1]
        assert batch.patches.shape == (3, 5, 16, 16, 16)
        assert batch.patches.isfinite().all()
        for sample, index in enumerate(batch.volume.tolist()):
            seen.add(index)
            shift = (batch.centres - tile_centres)[sample, 0]
            places = (grid[sample] + shift).movedim(-1, 0).double().numpy()  # (3, R, Z, Y, X)
            expected = ndimage.map_coordinates(images[index].astype(np.float64), places, order=1, mode="mirror")
            np.testing.assert_allclose(batch.patches[sample], expected, atol=1e-3)
    assert seen == set(range(len(images)))


@pytest.mark.parametrize("sizes", [{}, SMALL_POOL], ids=["resident", "sliding"])
def test_middle_of_a_patch_is_the_voxel_that_its_centre_names(sizes: dict[str, int]) -> None:
    images = [blobs((50, 90, 70), 1), blobs((30, 40, 100), 2)]
    sampling = Sampling(points=5, deformation=0, **PLAIN_COLOURS)
    sampler = sampler_of(images, sampling, **sizes)
    for step in (0, 33, 70):
        batch = sampler.batch(step, 16)
        for sample, index in enumerate(batch.volume.tolist()):
            z, y, x = (folded(batch.centres[sample, :, a], images[index].shape[a]) for a in range(3))
            np.testing.assert_allclose(batch.patches[sample, :, 2, 2, 2], images[index][z, y, x], atol=1e-3)


def folded(place: Tensor, length: int) -> list[int]:
    """Fold places back inside, one step at a time."""
    inside = []
    for index in place.tolist():
        while not 0 <= index < length:
            index = -index if index < 0 else 2 * (length - 1) - index
        inside.append(index)
    return inside


def test_a_ramp_stays_a_ramp_on_the_grid(grids: list[tuple[Tensor, Tensor]]) -> None:
    ramp = np.broadcast_to(np.arange(60, dtype=np.float32), (50, 40, 60))  # intensity = x
    batch = sampler_of([ramp], Sampling(positives=2, **PLAIN_COLOURS)).batch(0, 8)
    grid, tile_centres = grids[-1]
    x = grid[..., 2] + (batch.centres - tile_centres)[:, :, None, None, None, 2]
    inside = (x > 0) & (x < 59)
    torch.testing.assert_close(batch.patches[inside], x[inside], rtol=0, atol=2e-3)


def test_patches_are_normalised() -> None:
    image = blobs((40, 40, 40))
    sampling = Sampling(positives=1, **PLAIN_COLOURS)
    plain = sampler_of([image], sampling).batch(0, 4).patches
    scaled = sampler_of([40 * image + 90], sampling, intensity=Intensity(90.0, 40.0, limit=1.0)).batch(0, 4).patches
    assert 0.9 < scaled.abs().max() < 1 + 1e-6
    gentle = sampler_of([40 * image + 90], sampling, intensity=Intensity(90.0, 40.0, limit=99.0)).batch(0, 4).patches
    torch.testing.assert_close(gentle, plain, rtol=0, atol=1e-4)


def test_a_wild_deformation_does_not_reach_into_the_next_tile() -> None:
    images = [np.full((40, 40, 40), value, np.float32) for value in (1.0, 2.0, 3.0)]
    batch = sampler_of(images, Sampling(deformation=50.0, **PLAIN_COLOURS)).batch(0, 12)
    for patches, index in zip(batch.patches, batch.volume.tolist(), strict=True):
        torch.testing.assert_close(patches, torch.full_like(patches, index + 1))


# Where anchors may lie.


def octant_chances(centres: Tensor, low: Sequence[int], high: Sequence[int]) -> float:
    """Probability of octant counts as uneven as these, were the centres uniform over [low, high)."""
    middle = [(a + b) // 2 for a, b in zip(low, high, strict=True)]
    which = (centres >= torch.tensor(middle)).long() @ torch.tensor([4, 2, 1])
    volumes = [
        math.prod(b - m if bit else m - a for a, m, b, bit in zip(low, middle, high, bits, strict=True))
        for bits in itertools.product((0, 1), repeat=3)
    ]
    expected = np.array(volumes) / sum(volumes) * len(centres)
    return float(stats.chisquare(np.bincount(which, minlength=8), expected).pvalue)


@pytest.mark.parametrize("shape", [(60, 70, 81), (120, 47, 90)])
def test_anchors_are_uniform_over_all_voxels_within_the_margin(shape: Shape) -> None:
    margin = 11  # ceil(6 sqrt(3))
    sampler = sampler_of([np.zeros(shape, np.float32)], tile=64)
    assert len(sampler._tiles[0]) > 1
    assert sampler._resident
    anchors = torch.cat([sampler.batch(step, 2000).centres[:, 0] for step in range(4)])
    low, high = [margin] * 3, [n - margin for n in shape]
    assert anchors.amin(0).tolist() == low
    assert anchors.amax(0).tolist() == [n - 1 for n in high]
    assert octant_chances(anchors, low, high) > 1e-3
    for axis in range(3):
        counts = np.bincount(anchors[:, axis] - margin)
        assert stats.chisquare(counts).pvalue > 1e-3


def test_anchors_lie_inside_the_mask_and_everywhere_in_it() -> None:
    mask = np.zeros((50, 60, 70), np.uint8)
    mask[12:30, 20:45, 30:58] = 7
    mask[20:24] = 0
    mask[0:5] = 1  # within the margin: no anchor
    sampler = sampler_of([np.zeros(mask.shape, np.float32)], masks=[mask], tile=48)
    anchors = torch.cat([sampler.batch(step, 4000).centres[:, 0] for step in range(3)]).numpy()
    assert mask[tuple(anchors.T)].all()
    counts = np.zeros(mask.shape, int)
    np.add.at(counts, tuple(anchors.T), 1)
    allowed = mask.astype(bool)
    allowed[:11] = False
    assert counts[~allowed].sum() == 0
    assert (counts[allowed] > 0).mean() > 0.6  # 9,800 voxels, 12,000 draws: 1 - exp(-1.2) = 0.70
    halves = np.array([counts[:20].sum(), counts[20:].sum()])
    assert stats.chisquare(halves, np.array([allowed[:20].sum(), allowed[20:].sum()]) / allowed.sum() * 12000)[1] > 1e-3


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sizes", [{}, SMALL_POOL], ids=["resident", "sliding"])
def test_volumes_of_different_sizes_are_drawn_equally_often(sizes: dict[str, int], masked: bool) -> None:
    shapes = [(30, 30, 30), (90, 100, 110), (40, 100, 50)]
    images = [np.zeros(shape, np.float32) for shape in shapes]
    mask = np.zeros(shapes[1], bool)
    mask[40:44, 50:54, 30:90] = True
    sampler = sampler_of(images, masks=[None, mask, None] if masked else None, **sizes)
    steps = range(0, 160, 8)
    volume = torch.cat([sampler.batch(step, 300).volume for step in steps])
    assert stats.chisquare(np.bincount(volume, minlength=3)).pvalue > 1e-3


def test_a_small_mask_in_a_large_volume_never_leaves_the_pool_without_an_anchor() -> None:
    mask = np.zeros((60, 150, 150), np.uint8)
    mask[30:32, 100:103, 20:24] = 1
    sampler = sampler_of([np.zeros(mask.shape, np.float32)], masks=[mask], **SMALL_POOL)
    for step in range(0, 128, 16):
        anchors = sampler.batch(step, 8).centres[:, 0]
        assert mask[tuple(anchors.T.numpy())].all()


@pytest.mark.parametrize("shape", [(9, 9, 9), (9, 60, 60), (10, 12, 200), (23, 23, 23)])
def test_volumes_thinner_than_the_margin_are_drawn_from_their_middle(shape: Shape) -> None:
    image = blobs(shape)
    batch = sampler_of([image], Sampling(positives=2, points=6)).batch(0, 200)
    anchors = batch.centres[:, 0]
    margin = [min(11, (n - 1) // 4) for n in shape]
    assert (anchors >= torch.tensor(margin)).all()
    assert (anchors < torch.tensor([n - m for n, m in zip(shape, margin, strict=True)])).all()
    assert batch.patches.isfinite().all()


# What is refused.


def no_voxel(shape: Shape) -> npt.NDArray[np.uint8]:
    return np.zeros(shape, np.uint8)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: sampler_of([no_voxel((8, 40, 40))]), VolumeError, "volume 0: .*fewer than the 9 that a patch needs; "),
        (
            lambda: sampler_of([no_voxel((40, 40, 40))], masks=[no_voxel((40, 40, 41))]),
            VolumeError,
            "mask 0: .*has .40, 40, 41. voxels where its volume has .40, 40, 40.; give a mask on the same lattice",
        ),
        (
            lambda: sampler_of([blobs((40, 40, 40))] * 2, masks=[None, no_voxel((40, 40, 40))]),
            VolumeError,
            "mask 1: the mask leaves no voxel for an anchor; give a larger mask",
        ),
    ],
)
def test_what_cannot_be_sampled_is_refused_at_once(
    make: Callable[[], PatchSampler], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


def test_nan_is_reported_with_its_volume() -> None:
    image = blobs((40, 40, 40))
    image[20, 20, 20] = np.nan
    with pytest.raises(VolumeError, match="volume 0: holds NaN"):
        sampler_of([image]).batch(0, 4)


def test_volume_objects_serve_as_masks() -> None:
    """What the pipeline hands over: volumes, on the same lattice."""
    mask = np.zeros((30, 30, 30), bool)
    mask[15, 15, 12] = True
    volumes: list[Volume] = [volume_of(np.zeros((30, 30, 30), np.uint8))]
    sampler = PatchSampler(volumes, [PLAIN], POINTS, seed=0, masks=[volume_of(mask)])
    assert sampler.batch(0, 5).centres[:, 0].tolist() == [[15, 15, 12]] * 5
