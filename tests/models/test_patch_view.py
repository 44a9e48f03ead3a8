from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from numeric_core import blobs, patch_at, volume_of
from vemosaic.embedding import Embedder
from vemosaic.models import cihs, han2022
from vemosaic.models.model import Model, build, measure
from vemosaic.models.patch_view import embed_patches, embed_places, interpolation, resample
from vemosaic.models.settings import ModelSettings
from vemosaic.patches import FLOOR, standardised
from vemosaic.presets import preset
from vemosaic.volumes import at_voxel_size, open_volume
from vemosaic.volumes.intensity import Intensity
from vemosaic.volumes.volume import Volume

AnyEncoder = han2022.Encoder | cihs.Encoder
ENCODERS = {"han2022": lambda: han2022.Encoder(1 / 16, 12), "cihs": lambda: cihs.Encoder(8)}
PLAIN = Intensity(0.0, 1.0, np.inf)


def encoder_of(name: str) -> han2022.Encoder | cihs.Encoder:
    torch.manual_seed(1)
    return ENCODERS[name]().eval()


def one_by_one(
    encoder: han2022.Encoder | cihs.Encoder, image: npt.NDArray[np.float32], voxel: npt.ArrayLike
) -> torch.Tensor:
    """A voxel's semantic mean the slow way: its patch by scipy's interpolation, standardised by numpy."""
    patch = patch_at(image.astype(np.float64), voxel, encoder.half_size, encoder.points)
    if encoder.standardise:
        patch = (patch - patch.mean()) / max(patch.std(ddof=1), FLOOR)
    with torch.inference_mode():
        return encoder(torch.from_numpy(patch).float()[None, None])[0][0, : encoder.semantic]


@pytest.mark.parametrize("name", ENCODERS)
def test_every_voxel_is_embedded_by_its_own_patch(name: str) -> None:
    encoder, image = encoder_of(name), blobs((13, 15, 17))
    dense = embed_patches(encoder, torch.from_numpy(image)[None, None])[0]
    reach = encoder.halo
    assert dense.shape == (encoder.semantic, *(n - 2 * reach for n in image.shape))
    for voxel in np.random.default_rng(0).integers(reach, np.array(image.shape) - reach, (12, 3)):
        expected = one_by_one(encoder, image, voxel)
        torch.testing.assert_close(dense[(slice(None), *(voxel - reach))], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ENCODERS)
def test_places_are_those_of_the_whole(name: str) -> None:
    encoder, image = encoder_of(name), torch.from_numpy(blobs((12, 13, 14)))
    dense = embed_patches(encoder, image[None, None])[0]
    reach = encoder.halo
    places = torch.tensor([[reach, reach, reach], [reach + 1, reach + 3, reach + 2]])
    picked = embed_places(encoder, image, places)
    expected = torch.stack([dense[(slice(None), *(p - reach).tolist())] for p in places])
    torch.testing.assert_close(picked, expected, rtol=1e-5, atol=1e-6)


@functools.cache
def embedded() -> tuple[Volume, Model, npt.NDArray[np.float32]]:
    """A small volume, a model that works patch by patch, and every voxel's vector."""
    model = Model(build(preset("cihs").model, seed=0).eval(), preset("cihs").model)
    volume = volume_of(blobs((12, 12, 12)))
    return volume, model, Embedder(model, PLAIN).box(volume, (0, 0, 0), (12, 12, 12))


@settings(max_examples=15, deadline=None)
@given(
    stride=st.sampled_from([1, 2, 3, 4]),
    origin=st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6)),
)
def test_blocks_lie_on_one_lattice_whatever_the_box(
    stride: int, origin: tuple[int, int, int], shape: tuple[int, int, int]
) -> None:
    volume, model, whole = embedded()
    embedder = Embedder(model, PLAIN, stride=stride)
    middles = [np.arange(o, o + n) // stride * stride + stride // 2 for o, n in zip(origin, shape, strict=True)]
    got = embedder.box(volume, origin, shape)
    inside = [m[m < 12] for m in middles]  # beyond the volume it is mirrored
    expected = whole[np.ix_(*inside)]
    np.testing.assert_allclose(got[tuple(slice(0, len(i)) for i in inside)], expected, rtol=1e-4, atol=1e-5)


def test_interpolation_weights_are_those_of_grid_sample() -> None:
    windows = torch.from_numpy(blobs((9, 9, 9)))[None]
    line = torch.linspace(-1, 1, 16)
    grid = torch.stack(torch.meshgrid(line, line, line, indexing="ij")[::-1], -1)[None]
    expected = F.grid_sample(windows[None], grid, align_corners=True)[:, 0]
    torch.testing.assert_close(resample(windows, 16, 4.0), expected, rtol=1e-5, atol=1e-5)
    assert torch.allclose(interpolation(7, 10, 2.5).sum(1), torch.ones(10, dtype=torch.float64))


def test_standardised_patches_have_mean_0_and_spread_1_and_flat_ones_stay_finite() -> None:
    patches = torch.stack([torch.randn(4, 4, 4) * 7 + 3, torch.full((4, 4, 4), 0.5)])
    done = standardised(patches)
    assert done[0].mean().abs() < 1e-5
    assert done[0].std() == pytest.approx(1, abs=1e-5)
    assert (done[1] == 0).all()
    faint = torch.zeros(16, 16, 16)
    faint[::2] = 0.001
    assert standardised(faint).std() == pytest.approx(faint.std().item() / FLOOR, rel=1e-4)


def test_half_precision_stays_within_a_hundredth_of_full() -> None:
    model = preset("han2022", width=0.25).model
    encoder = build(model, seed=0).eval().encoder
    patches = torch.randn(16, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = encoder(patches)[0][:, :8]
        with torch.autocast("cpu", torch.bfloat16):  # coarser than the float16 of a GPU
            rounded = encoder(patches)[0][:, :8].float()
    assert (exact - rounded).abs().max() < 1e-2 * exact.abs().max()


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["han2022", "cihs"])
def test_dense_view_agrees_with_the_patch_view_on_real_voxels(name: str, data_dir: Path) -> None:
    settings: ModelSettings = preset(name, **({"width": 0.25} if name == "han2022" else {"latent": 8})).model
    volume = at_voxel_size(open_volume(data_dir / "epfl_ca1" / "raw_10nm.ome.tif"), 15.0)
    model = Model(build(settings, seed=0).eval(), settings)
    embedder = Embedder(model, measure(settings, volume))
    origin = (10, 20, 30)
    box = embedder.box(volume, origin, (3, 4, 5))
    reach = model.encoder.halo
    raw = embedder.intensity.normalise(volume.read([o - reach for o in origin], [n + 2 * reach for n in (3, 4, 5)]))
    for voxel in ((0, 0, 0), (2, 3, 4), (1, 2, 2)):
        expected = one_by_one(model.encoder, raw, np.array(voxel) + reach)
        np.testing.assert_allclose(box[voxel], expected, rtol=1e-3, atol=1e-4)
