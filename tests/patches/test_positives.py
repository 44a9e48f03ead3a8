"""The grids of anchors and positives, and how their intensities are changed."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from vemosaic.patches import Sampling, axis_aligned, draw_grids, recolour, rotations

CPU = torch.device("cpu")
PLAIN_COLOURS = {"contrast": 0.0, "brightness": 0.0, "noise": 0.0}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def laid(sampling: Sampling, count: int = 200, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Anchors, grids relative to their patch's centre in float64, and centres."""
    anchor = torch.randint(-50, 50, (count, 3), generator=seeded(seed))
    grids = draw_grids(anchor, sampling, seeded(seed + 1))
    return anchor, grids.points.double() - grids.centres[:, :, None, None, None], grids.centres


def axes_of(grid: Tensor) -> Tensor:
    """Half edges of each grid as columns, ``(..., 3, 3)``, from three of its outer, undeformed corners."""
    origin = grid[..., 0, 0, 0, :]
    corners = (grid[..., -1, 0, 0, :], grid[..., 0, -1, 0, :], grid[..., 0, 0, -1, :])
    return torch.stack([(corner - origin) / 2 for corner in corners], -1)


def test_grids_have_sizes_in_range_and_centres_in_the_ball() -> None:
    anchor, grid, centres = laid(Sampling())
    assert grid.shape == (200, 5, 16, 16, 16, 3)
    sizes = axes_of(grid).norm(dim=-2)  # (B, R, 3)
    torch.testing.assert_close(sizes, sizes[..., :1].expand_as(sizes), rtol=1e-4, atol=1e-4)  # cubes
    size = sizes[..., 0]
    assert size.min() > 2 - 1e-3
    assert size.max() < 6 + 1e-3
    assert stats.kstest((size.flatten() - 2) / 4, "uniform").pvalue > 1e-3
    assert torch.equal(centres[:, 0], anchor)
    offset = (centres - anchor[:, None])[:, 1:].flatten(0, 1)
    assert offset.abs().max() == 2  # the ball's radius; no voxel of it is further along an axis
    # A point of the ball lies at most half a voxel along each axis from the voxel it is rounded to.
    assert ((offset.abs() - 0.5).clamp_min(0).norm(dim=1) <= 2).all()
    assert offset.double().mean(0).abs().max() < 0.1
    # Of a uniform ball, (r / R)^3 is uniform: half the points lie beyond 0.79 R, and so most are not the anchor itself.
    assert 0.8 < offset.double().square().sum(1).mean() / (0.6 * 2**2 + 3 / 12) < 1.2


def test_anchors_are_axis_aligned_and_not_deformed() -> None:
    _, grid, _ = laid(Sampling())
    anchor = grid[:, 0]
    axes = axes_of(anchor)
    size = axes.norm(dim=-2)[:, :1, None]
    permutation = (axes / size).round()
    torch.testing.assert_close(axes / size, permutation, rtol=0, atol=1e-4)
    assert (permutation.abs().sum(1) == 1).all()
    assert (permutation.abs().sum(2) == 1).all()
    assert len(permutation.unique(dim=0)) > 40  # of 48: six choices of axes, eight of signs
    line = torch.linspace(-1, 1, 16, dtype=torch.float64)
    unit = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1)
    regular = torch.einsum("zyxj,bij->bzyxi", unit, axes)
    torch.testing.assert_close(anchor, regular, rtol=0, atol=2e-4)


def test_positives_are_turned_and_deformed_inside_only() -> None:
    sampling = Sampling()
    _, grid, _ = laid(sampling)
    positive = grid[:, 1:].flatten(0, 1)  # (N, Z, Y, X, 3)
    axes = axes_of(positive)
    line = torch.linspace(-1, 1, 16, dtype=torch.float64)
    unit = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1)
    local = torch.einsum("nij,nzyxj->nzyxi", torch.linalg.inv(axes), positive)  # back on the unit cube
    shift = (local - unit) * 15 / 2  # in grid steps
    outer = torch.ones(16, 16, 16, dtype=torch.bool)
    outer[1:-1, 1:-1, 1:-1] = False
    assert shift[:, outer].abs().max() < 1e-3
    inner = shift[:, ~outer]
    assert inner.std().item() == pytest.approx(sampling.deformation, rel=0.01)
    assert inner.mean().abs() < 1e-3
    # Neighbouring points and axes move independently of each other.
    left, right = shift[:, 3:-4, 3:-3, 3:-3], shift[:, 4:-3, 3:-3, 3:-3]
    assert (left * right).mean().abs() < 1e-3
    assert (inner[..., 0] * inner[..., 1]).mean().abs() < 1e-3
    # Half of them are mirrored: turned, and flipped along any number of axes.
    turn = axes / axes.norm(dim=-2, keepdim=True)
    torch.testing.assert_close(
        turn.transpose(1, 2) @ turn, torch.eye(3, dtype=turn.dtype).expand_as(turn), rtol=0, atol=1e-3
    )
    assert stats.binomtest(int((torch.linalg.det(turn) > 0).sum()), len(turn)).pvalue > 1e-3


def test_rotations_are_uniform_over_all_rotations() -> None:
    turns = rotations(5000, 2, 3, seeded(0), CPU).double().flatten(0, 1)
    unit = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(turns @ turns.transpose(1, 2), unit.expand_as(turns), rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(len(turns), dtype=torch.float64), rtol=0, atol=1e-5)
    # Haar measure: entries have mean 0 and variance 1/3, each is uniform on [-1, 1] (Archimedes), and the trace,
    # 1 + 2 cos(angle), has mean 0 and variance 1.
    assert turns.mean(0).abs().max() < 0.03
    torch.testing.assert_close(turns.square().mean(0), torch.full((3, 3), 1 / 3).double(), rtol=0, atol=0.02)
    for i, j in itertools.product(range(3), repeat=2):
        assert stats.kstest((turns[:, i, j] + 1) / 2, "uniform").pvalue > 1e-4
    trace = turns.diagonal(dim1=1, dim2=2).sum(1)
    assert trace.mean().abs() < 0.05
    assert trace.var().item() == pytest.approx(1, abs=0.05)
    # The two replicates of a sample are independent.
    pairs = turns.view(5000, 2, 9)
    assert (pairs[:, 0] * pairs[:, 1]).mean().abs() < 0.02


def test_axis_aligned_turns_are_all_equally_likely() -> None:
    turns = axis_aligned(9600, 3, seeded(0), CPU)
    kinds, counts = np.unique(turns.flatten(1).numpy(), axis=0, return_counts=True)
    assert len(kinds) == 48
    assert stats.chisquare(counts).pvalue > 1e-3


def test_recolouring_is_of_the_size_that_is_set() -> None:
    sampling = Sampling()
    wave = torch.linspace(-1, 1, 16**3, dtype=torch.float64).view(16, 16, 16) * math.sqrt(3)  # mean 0, std 1
    patches = wave.expand(300, 5, -1, -1, -1)
    changed = recolour(patches, sampling, seeded(0))
    brightness = changed.mean((2, 3, 4))
    contrast = (changed * wave).mean((2, 3, 4))
    noise = changed - contrast[..., None, None, None] * wave - brightness[..., None, None, None]
    assert noise.std().item() == pytest.approx(sampling.noise, rel=0.01)
    # Each patch has its own, the anchor too; 2^U(-1, 1) and U(-1/4, 1/4), up to the noise's mean of about 0.002.
    assert stats.kstest((contrast.flatten().log2() + 1) / 2, "uniform").pvalue > 1e-3
    assert stats.kstest((brightness.flatten() + 0.25) / 0.5, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(contrast[:, 0], contrast[:, 1])[0, 1]) < 0.2
    assert abs(np.corrcoef(contrast.flatten(), brightness.flatten())[0, 1]) < 0.1


def test_recolouring_off_changes_nothing() -> None:
    patches = torch.randn(3, 2, 4, 4, 4, generator=seeded(0))
    assert torch.equal(recolour(patches, Sampling(**PLAIN_COLOURS), seeded(1)), patches)


def test_margin_and_halo_hold_the_largest_patch() -> None:
    sampling = Sampling()
    assert sampling.margin == (11, 11, 11)
    anchor, grid, centres = laid(sampling)
    reach = (grid + (centres - anchor[:, None])[:, :, None, None, None]).abs().amax()
    (halo,) = set(sampling.halo)
    assert halo - 4 < reach < halo - 1  # a trilinear patch reads the voxels on either side
