"""Flat patches are turned, scaled, deformed and moved within their slice, mirrored across it, and nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import Tensor

import vemosaic.patches.positives
from numeric_core import PLAIN, blobs, volume_of
from vemosaic.errors import VolumeError
from vemosaic.patches import Grids, PatchSampler, Sampling, axis_aligned, draw_grids, rotations

CPU = torch.device("cpu")
SLICES = pytest.mark.parametrize("slices", [1, 3])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def laid(sampling: Sampling, count: int = 300) -> tuple[Tensor, Tensor, Tensor]:
    """Offsets of positives and anchors from their anchor, of their grids from their centres, and half sizes."""
    anchor = torch.randint(-50, 50, (count, 3), generator=seeded(0))
    grids = draw_grids(anchor, sampling, seeded(1))
    points = grids.points.double() - grids.centres[:, :, None, None, None]
    return grids.centres - anchor[:, None], points, grids.half_size.double()


@SLICES
def test_every_point_lies_in_its_slice(slices: int) -> None:
    offset, points, _ = laid(Sampling(slices=slices))
    assert points.shape == (300, 5, slices, 16, 16, 3)
    across = points[..., 0]
    assert torch.equal(across, across[..., :1, :1].expand_as(across))  # one slice for all of a layer
    order = across[..., 0, 0].flatten(0, 1)
    kinds = {tuple(row) for row in order.tolist()}
    assert kinds == ({(0.0,)} if slices == 1 else {(-1.0, 0.0, 1.0), (1.0, 0.0, -1.0)})
    if slices == 3:
        assert stats.binomtest(int((order[:, 0] < 0).sum()), len(order)).pvalue > 1e-3
    assert (offset[..., 0] == 0).all()  # positives are moved within the slice


@SLICES
def test_half_sizes_hold_within_the_slice(slices: int) -> None:
    _, points, half_size = laid(Sampling(slices=slices))
    corner, along = points[..., 0, 0, 1:], points[..., 0, -1, 1:]
    edge = (along - corner).norm(dim=-1) / 2  # (B, R, S)
    torch.testing.assert_close(edge, half_size[..., None].expand_as(edge), rtol=0, atol=1e-4)
    assert half_size.min() > 2
    assert half_size.max() < 6


def test_positives_lie_in_a_disc() -> None:
    offset, _, _ = laid(Sampling(slices=1), 2000)
    moved = offset[:, 1:, 1:].flatten(0, 1).double()
    assert (offset[:, 0] == 0).all()
    assert moved.abs().max() == 2
    assert ((moved.abs() - 0.5).clamp_min(0).norm(dim=1) <= 2).all()
    assert moved.mean(0).abs().max() < 0.1
    # Of a uniform disc the mean square distance is half the square of the radius; rounding adds 1/12 an axis.
    assert moved.square().sum(1).mean().item() == pytest.approx(2**2 / 2 + 2 / 12, rel=0.1)


def test_anchors_are_axis_aligned_and_positives_freely_turned() -> None:
    _, points, half_size = laid(Sampling(slices=1, deformation=0.0))
    along = (points[:, :, 0, 0, -1, 1:] - points[:, :, 0, 0, 0, 1:]) / (2 * half_size[..., None])  # x in the slice
    anchors, positives = along[:, 0], along[:, 1:].flatten(0, 1)
    torch.testing.assert_close(anchors.abs().amax(1), torch.ones(300, dtype=torch.float64), rtol=0, atol=1e-4)
    assert len(anchors.round().unique(dim=0)) == 4
    angle = torch.atan2(positives[:, 0], positives[:, 1]) / (2 * math.pi) + 0.5
    assert stats.kstest(angle, "uniform").pvalue > 1e-3


@SLICES
def test_slices_are_deformed_each_by_itself_and_inside_only(slices: int) -> None:
    sampling = Sampling(slices=slices, drift=0.0)
    _, points, _ = laid(sampling)
    y, x = points[:, 1:, :, 0, 0, 1:], points[:, 1:, :, -1, 0, 1:]
    ends = torch.stack([(x - y) / 2, (points[:, 1:, :, 0, -1, 1:] - y) / 2], -1)  # half edges as columns
    line = torch.linspace(-1, 1, 16, dtype=torch.float64)
    unit = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1)
    local = torch.einsum("nrsij,nrsyxj->nrsyxi", torch.linalg.inv(ends), points[:, 1:, ..., 1:])
    shift = ((local - unit) * 15 / 2).flatten(0, 1)  # in grid steps, (N, S, Y, X, 2)
    outer = torch.ones(16, 16, dtype=torch.bool)
    outer[1:-1, 1:-1] = False
    assert shift[:, :, outer].abs().max() < 1e-3
    inner = shift[:, :, ~outer]
    assert inner.std().item() == pytest.approx(sampling.deformation, rel=0.01)
    if slices == 3:
        assert np.corrcoef(inner[:, 0].flatten(), inner[:, 1].flatten())[0, 1] == pytest.approx(0, abs=0.01)


def test_outer_slices_drift_and_the_middle_one_does_not() -> None:
    sampling = Sampling(slices=3, deformation=0.0)
    _, points, _ = laid(sampling, 1000)
    middles = points[..., 1:].mean((3, 4))  # (B, R, S, 2)
    assert middles[:, :, 1].abs().max() < 1e-3
    outer = middles[:, :, [0, 2]].flatten(0, 1)
    assert outer.std().item() == pytest.approx(sampling.drift, rel=0.03)
    assert np.corrcoef(outer.flatten(1).T.numpy()) == pytest.approx(np.eye(4), abs=0.06)  # each by itself
    _, still, _ = laid(Sampling(slices=3, deformation=0.0, drift=0.0))
    assert still[..., 1:].mean((3, 4)).abs().max() < 1e-3


def test_turns_within_a_slice() -> None:
    turns = rotations(3000, 2, 2, seeded(0), CPU).double().flatten(0, 1)
    torch.testing.assert_close(turns @ turns.transpose(1, 2), torch.eye(2).double().expand_as(turns), rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(len(turns)).double(), rtol=0, atol=1e-6)
    kinds, counts = np.unique(axis_aligned(4000, 2, seeded(0), CPU).flatten(1).numpy(), axis=0, return_counts=True)
    assert len(kinds) == 8
    assert stats.chisquare(counts).pvalue > 1e-3


@SLICES
@pytest.mark.parametrize("depth", [1, 2, 7])
def test_patches_equal_scipy_at_their_grid(slices: int, depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    image, laid_grids = blobs((depth, 40, 50)), []

    def draw(anchor: Tensor, sampling: Sampling, generator: torch.Generator) -> Grids:
        laid_grids.append(draw_grids(anchor, sampling, generator))
        return laid_grids[-1]

    monkeypatch.setattr(vemosaic.patches.positives, "draw_grids", draw)
    sampling = Sampling(slices=slices, positives=2, contrast=0.0, brightness=0.0, noise=0.0)
    batch = PatchSampler([volume_of(image)], [PLAIN], sampling, seed=0).batch(0, 20)
    (grids,) = laid_grids
    origin = batch.centres - grids.centres  # of the tile
    places = (grids.points + origin[:, :, None, None, None]).double().numpy()
    expected = ndimage.map_coordinates(image.astype(np.float64), np.moveaxis(places, -1, 0), order=1, mode="mirror")
    assert batch.patches.shape == (20, 3, slices, 16, 16)
    np.testing.assert_allclose(batch.patches.numpy(), expected, rtol=0, atol=1e-3)


@SLICES
def test_patches_hold_their_own_slices_and_no_others(slices: int) -> None:
    image = np.arange(6, dtype=np.float32)[:, None, None] + np.zeros((6, 40, 40), np.float32)
    sampling = Sampling(slices=slices, positives=2, contrast=0.0, brightness=0.0, noise=0.0)
    batch = PatchSampler([volume_of(image)], [PLAIN], sampling, seed=0).batch(0, 50)
    middle = batch.centres[..., 0]
    torch.testing.assert_close(
        batch.patches[:, :, slices // 2], middle[..., None, None].expand(-1, -1, 16, 16).float(), rtol=0, atol=1e-4
    )
    if slices == 3:
        outer = batch.patches[:, :, [0, 2], 0, 0].sort(-1).values
        neighbours = torch.stack((middle - 1, middle + 1), -1).float()
        torch.testing.assert_close(outer, neighbours, rtol=0, atol=1e-4)


def test_anchors_lie_in_every_slice_and_all_over_it() -> None:
    image = blobs((3, 60, 70))
    sampler = PatchSampler([volume_of(image)], [PLAIN], Sampling(slices=1, positives=1), seed=0)
    anchors = torch.cat([sampler.batch(step, 200).centres[:, 0] for step in range(5)]).numpy()
    assert stats.chisquare(np.bincount(anchors[:, 0], minlength=3)).pvalue > 1e-3
    assert anchors[:, 1:].min(0).tolist() == [9, 9]  # ceil(6 sqrt 2) from the border
    assert anchors[:, 1:].max(0).tolist() == [50, 60]


def test_masks_of_slices_are_kept_to() -> None:
    mask = np.zeros((3, 60, 60), np.uint8)
    mask[1, 20:24, 30:31] = 1
    sampler = PatchSampler(
        [volume_of(blobs(mask.shape))], [PLAIN], Sampling(slices=1, positives=1), seed=0, masks=[volume_of(mask)]
    )
    anchors = sampler.batch(0, 50).centres[:, 0].numpy()
    assert mask[tuple(anchors.T)].all()


def test_margin_and_halo_hold_the_largest_patch() -> None:
    sampling = Sampling(slices=1)
    assert sampling.margin == (0, 9, 9)
    assert sampling.halo == (0, 12, 12)
    assert Sampling(slices=3).halo == (1, 14, 14)
    offset, points, _ = laid(sampling, 2000)
    reach = (points + offset[:, :, None, None, None]).abs().amax((0, 1, 2, 3, 4))
    assert reach[0] == 0
    assert (reach[1:] < 12 - 1).all()
    assert (reach[1:] > 12 - 3).all()


def test_slices_smaller_than_a_patch_are_refused() -> None:
    with pytest.raises(VolumeError, match=r"volume: \(1, 8, 40\) voxels .* fewer than the 9 that a patch needs"):
        PatchSampler([volume_of(blobs((1, 8, 40)), "volume")], [PLAIN], Sampling(slices=1), seed=0)
