"""Transforms of flat patches, for the figures: all of them within the slice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from numeric_core import PLAIN, blobs, patch_at, realistic_model, volume_of
from vemosaic.evaluation.patch_transforms import KINDS, offsets, patches_at, transformed_means
from vemosaic.models.settings import Architecture

SLICES = pytest.mark.parametrize("slices", [1, 3])
SMALL = Architecture(channels=(4, 5, 6, 7), latent=6, semantic=3)


@SLICES
def test_patches_are_those_of_the_dense_view(slices: int) -> None:
    image = blobs((4, 24, 30))
    volume, model = replace(volume_of(image), voxel_size=(50.0, 16.0, 16.0)), realistic_model(SMALL, slices=slices)
    voxels = np.array([(0, 8, 9), (2, 12, 20), (3, 10, 10)])
    found = patches_at(model, volume, PLAIN, voxels)
    expected = [patch_at(image.astype(np.float64), v, model.encoder.half_size, slices=slices) for v in voxels]
    np.testing.assert_allclose(found.numpy(), np.stack(expected), rtol=0, atol=1e-4)
    means = transformed_means(model, volume, PLAIN, voxels, each=2, seed=0)
    assert {kind: tuple(m.shape) for kind, m in means.items()} == dict.fromkeys(KINDS, (3, 2, 6))


@SLICES
def test_transforms_leave_points_in_their_slices(slices: int) -> None:
    model = realistic_model(SMALL, slices=slices)
    generator = torch.Generator().manual_seed(0)
    line = torch.linspace(-3.75, 3.75, 16)
    at_rest = torch.stack(torch.meshgrid(torch.arange(slices) - slices // 2.0, line, line, indexing="ij"), -1)
    made = {kind: offsets(kind, model, 40, 3, generator) for kind in KINDS}
    for grid in made.values():
        assert grid.shape == (40, 3, slices, 16, 16, 3)
        assert torch.equal(grid[..., 0], at_rest[..., 0].expand(grid.shape[:-1]))
        assert not torch.allclose(grid, at_rest.expand_as(grid))
    within = {kind: grid[..., 1:] for kind, grid in made.items()}
    radius = at_rest[..., 1:].norm(dim=-1)
    torch.testing.assert_close(within["rotation"].norm(dim=-1), radius.expand(40, 3, -1, -1, -1), rtol=0, atol=1e-4)
    ratio = within["scale"].norm(dim=-1) / radius
    torch.testing.assert_close(ratio, ratio[..., :1, :1, :1].expand_as(ratio), rtol=0, atol=1e-4)
    assert 2 / 3.75 < ratio.min() < ratio.max() < 6 / 3.75
    moved = within["shift"] - at_rest[..., 1:]
    assert torch.equal(moved.round(), moved[..., :1, :1, :1, :].round().expand_as(moved))
    assert moved.abs().max() == pytest.approx(2, abs=1e-4)
