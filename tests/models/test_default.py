from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from numeric_core import patch_at, realistic_model
from vemosaic.bench import view_difference
from vemosaic.models.default import HALF_VOXEL_GRID, Decoder, Encoder
from vemosaic.models.settings import Architecture
from vemosaic.volumes import open_volume
from vemosaic.volumes.intensity import measure_intensity

SMALL = Architecture(channels=(5, 6, 7, 8), latent=9, semantic=4)


def corners_and(count: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """The eight corner voxels, and random ones."""
    rng = np.random.default_rng(seed)
    corners = list(itertools.product(*[(0, n - 1) for n in shape]))
    return np.concatenate([corners, np.stack([rng.integers(0, n, count) for n in shape], 1)])


def test_half_voxel_grid_is_linear_interpolation_between_the_three_voxels() -> None:
    for row, offset in zip(HALF_VOXEL_GRID, (-0.75, -0.25, 0.25, 0.75), strict=True):
        assert row == tuple(max(0.0, 1 - abs(offset - voxel)) for voxel in (-1, 0, 1))


def test_grid_points_lie_half_a_voxel_apart() -> None:
    line = np.linspace(-Encoder.half_size, Encoder.half_size, Encoder.points)
    np.testing.assert_array_equal(np.diff(line), 0.5)


def test_folded_kernel_equals_interpolation_then_convolution() -> None:
    encoder = realistic_model(SMALL).encoder.double()
    voxels = torch.randn(2, 1, 3, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    # The 4 x 4 x 4 points at -0.75 .. 0.75, corner by corner.
    points = torch.zeros(2, 1, 4, 4, 4, dtype=torch.float64)
    offsets = (-0.75, -0.25, 0.25, 0.75)
    for i, j, k in itertools.product(range(4), repeat=3):
        for a, b, c in itertools.product(range(3), repeat=3):
            distance = [abs(offsets[p] - (q - 1)) for p, q in zip((i, j, k), (a, b, c), strict=True)]
            points[:, :, i, j, k] += math.prod(max(0.0, 1 - d) for d in distance) * voxels[:, :, a, b, c]
    direct = F.conv3d(points, encoder.branch.first.weight, encoder.branch.first.bias, stride=2)
    folded = F.conv3d(voxels, encoder.branch._folded(), encoder.branch.first.bias)
    torch.testing.assert_close(folded, direct, rtol=1e-12, atol=1e-12)


@settings(max_examples=8, deadline=None)
@given(st.tuples(*[st.integers(5, 12)] * 3), st.integers(0, 2**16))
def test_patch_view_equals_dense_view_in_float64(shape: tuple[int, int, int], seed: int) -> None:
    encoder = realistic_model(SMALL, seed).encoder.double()
    image = 2 * np.random.default_rng(seed).normal(size=shape)
    mirrored = torch.from_numpy(np.pad(image, [(h, h) for h in encoder.halo], mode="reflect"))
    with torch.inference_mode():
        dense = encoder.dense(mirrored[None, None])[0].permute(1, 2, 3, 0)  # (Z, Y, X, C)
        assert dense.shape == (*shape, SMALL.semantic)
        voxels = corners_and(40, shape, seed)
        patches = torch.from_numpy(np.stack([patch_at(image, voxel, encoder.half_size) for voxel in voxels]))
        means = encoder(patches[:, None])[0][:, : SMALL.semantic]
    assert dense.abs().mean() > 0.05  # nothing has died away
    torch.testing.assert_close(dense[tuple(voxels.T)], means, rtol=1e-10, atol=1e-10)


def test_dense_view_sees_nine_voxels_and_no_more() -> None:
    encoder = realistic_model(SMALL).encoder.double()
    volume = torch.randn(1, 1, 11, 11, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = encoder.dense(volume)[0, :, 1, 1, 1]  # sees voxels 1..9
    for voxel, seen in (((0, 5, 5), False), ((5, 10, 5), False), ((1, 5, 5), True), ((5, 5, 9), True)):
        changed = volume.clone()
        changed[0, 0, *voxel] += 10
        assert torch.equal(encoder.dense(changed)[0, :, 1, 1, 1], before) is not seen


def test_shapes_and_scale() -> None:
    encoder = realistic_model(SMALL).encoder
    mean, scale = encoder(torch.randn(3, 1, 16, 16, 16))
    assert mean.shape == scale.shape == (3, 9)
    assert (scale > 0).all()
    assert encoder.dense(torch.randn(2, 1, 9, 10, 12)).shape == (2, 4, 1, 2, 4)
    assert Decoder((5, 6, 7, 8), latent=9)(torch.randn(3, 9)).shape == (3, 1, 16, 16, 16)


def test_scale_stays_positive_where_softplus_vanishes() -> None:
    encoder = realistic_model(SMALL).encoder
    with torch.no_grad():
        assert encoder.branch.scale.bias is not None
        encoder.branch.scale.weight.zero_()
        encoder.branch.scale.bias.fill_(-200.0)
        assert encoder(torch.zeros(1, 1, 16, 16, 16))[1].log().isfinite().all()


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["epfl_ca1/raw_10nm.ome.tif", "flyem_medulla/a.ome.zarr", "vnc_sstem/raw.ome.tif"])
def test_views_agree_on_real_volumes(data_dir: Path, name: str) -> None:
    volume = open_volume(data_dir / name)
    model = realistic_model()
    assert view_difference(model, volume, measure_intensity(volume), 2_000) < 1e-4


@pytest.mark.real_data
def test_views_agree_with_an_independent_grid_at_the_border_of_a_real_volume(data_dir: Path) -> None:
    volume = open_volume(data_dir / "vnc_sstem/raw.ome.tif")
    intensity, encoder = measure_intensity(volume), realistic_model().encoder
    shape = (10, 40, 40)
    cut = volume.read((0, 0, 0), (10, 60, 60))  # the patches of the outermost voxels see 4 voxels beyond
    image = intensity.normalise(cut).astype(np.float64)
    voxels = [v for v in corners_and(40, shape) if v[1] < 40 and v[2] < 40]
    with torch.inference_mode():
        wide = intensity.normalise(volume.read((-4, -4, -4), (18, 48, 48)))
        dense = encoder.dense(torch.from_numpy(wide)[None, None])[0].permute(1, 2, 3, 0)
        patches = np.stack([patch_at(image, voxel, encoder.half_size) for voxel in voxels])
        means = encoder(torch.from_numpy(patches).float()[:, None])[0][:, : encoder.semantic]
    torch.testing.assert_close(dense[tuple(np.array(voxels).T)], means, rtol=0, atol=1e-4)
