"""Flat patches: both views agree, and no slice is looked at that a patch does not hold."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from numeric_core import patch_at, realistic_model
from vemosaic.errors import VolumeError
from vemosaic.models.default import Decoder
from vemosaic.models.model import Model, load_model
from vemosaic.models.settings import Architecture, Han2022Architecture, ModelSettings
from vemosaic.patches import Sampling
from vemosaic.settings import Settings
from vemosaic.volumes import open_volume
from vemosaic.volumes.geometry import VoxelSizeWarning
from vemosaic.volumes.intensity import measure_intensity
from vemosaic.volumes.volume import Volume

SMALL = Architecture(channels=(5, 6, 7, 8), latent=9, semantic=4)
SLICES = pytest.mark.parametrize("slices", [1, 3])


@settings(max_examples=8, deadline=None)
@given(
    st.tuples(st.integers(1, 4), st.integers(5, 12), st.integers(5, 12)), st.sampled_from([1, 3]), st.integers(0, 99)
)
def test_patch_view_equals_dense_view_in_float64(shape: tuple[int, int, int], slices: int, seed: int) -> None:
    encoder = realistic_model(SMALL, seed, slices).encoder.double()
    image = 2 * np.random.default_rng(seed).normal(size=shape)
    mirrored = np.pad(image, [(h, h) for h in encoder.halo], mode="reflect" if shape[0] > 1 else "symmetric")
    if shape[0] == 1:  # a single slice is its own neighbour; within it the border voxel is not repeated
        mirrored = np.pad(image[0], 4, mode="reflect")[None].repeat(slices, 0)
    voxels = list(itertools.product(range(shape[0]), (0, 2, shape[1] - 1), (0, 3, shape[2] - 1)))
    patches = np.stack([patch_at(image, voxel, encoder.half_size, slices=slices) for voxel in voxels])
    with torch.inference_mode():
        dense = encoder.dense(torch.from_numpy(mirrored)[None, None])[0].permute(1, 2, 3, 0)
        assert dense.shape == (*shape, SMALL.semantic)
        means = encoder(torch.from_numpy(patches)[:, None])[0][:, : SMALL.semantic]
    assert dense.abs().mean() > 0.05  # nothing has died away
    torch.testing.assert_close(dense[tuple(np.array(voxels).T)], means, rtol=1e-10, atol=1e-10)


@SLICES
def test_dense_view_sees_its_slices_and_nine_voxels_within_them(slices: int) -> None:
    encoder = realistic_model(SMALL, slices=slices).encoder.double()
    volume = torch.randn(1, 1, 5, 11, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    place = (2 - encoder.halo[0], 1, 1)  # of the voxel (2, 5, 5)
    before = encoder.dense(volume)[0, :, *place]
    for voxel in itertools.product(range(5), (0, 1, 5, 9, 10), (0, 1, 5, 9, 10)):
        changed = volume.clone()
        changed[0, 0, *voxel] += 10
        seen = abs(voxel[0] - 2) <= slices // 2 and all(1 <= v <= 9 for v in voxel[1:])
        assert torch.equal(encoder.dense(changed)[0, :, *place], before) is not seen


@SLICES
def test_shapes(slices: int) -> None:
    encoder = realistic_model(SMALL, slices=slices).encoder
    mean, scale = encoder(torch.randn(3, 1, slices, 16, 16))
    assert mean.shape == scale.shape == (3, 9)
    assert encoder.dense(torch.randn(2, 1, 5, 9, 10)).shape == (2, 4, 5 - slices + 1, 1, 2)
    assert Decoder((5, 6, 7, 8), latent=9, slices=slices)(torch.randn(3, 9)).shape == (3, 1, slices, 16, 16)


@SLICES
def test_neighbouring_points_of_a_decoded_patch_come_from_neighbouring_lattices(slices: int) -> None:
    decoder = Decoder((5, 6, 7, 8), latent=9, slices=slices)
    with torch.no_grad():
        decoder.sublattices.weight.zero_()
        decoder.sublattices.bias = torch.nn.Parameter(torch.arange(4.0 * slices))  # each lattice its number
        patch = decoder(torch.zeros(1, 9))[0, 0]
    z, y, x = torch.meshgrid(torch.arange(slices), torch.arange(16) % 2, torch.arange(16) % 2, indexing="ij")
    assert torch.equal(patch, (4 * z + 2 * y + x).float())


@pytest.mark.real_data
@SLICES
def test_views_agree_at_the_border_of_a_real_volume(data_dir: Path, slices: int) -> None:
    volume = open_volume(data_dir / "vnc_sstem/raw.ome.tif")
    intensity, encoder = measure_intensity(volume), realistic_model(slices=slices).encoder
    image = intensity.normalise(volume.read((0, 0, 0), (10, 60, 60))).astype(np.float64)
    rng = np.random.default_rng(0)
    voxels = np.stack([rng.integers(0, n, 200) for n in (10, 40, 40)], 1)
    halo = encoder.halo
    wide = volume.read([-h for h in halo], [n + 2 * h for n, h in zip((10, 40, 40), halo, strict=True)])
    patches = np.stack([patch_at(image, voxel, encoder.half_size, slices=slices) for voxel in voxels])
    with torch.inference_mode():
        dense = encoder.dense(torch.from_numpy(intensity.normalise(wide))[None, None])[0].permute(1, 2, 3, 0)
        means = encoder(torch.from_numpy(patches).float()[:, None])[0][:, : encoder.semantic]
    torch.testing.assert_close(dense[tuple(voxels.T)], means, rtol=0, atol=1e-4)


# Which volumes a model is for.


def with_voxels(size: tuple[float, float, float], shape: tuple[int, int, int] = (12, 20, 20)) -> Volume:
    array = np.zeros(shape, np.uint8)
    return Volume(array, size, (0.0, 0.0, 0.0), "cell.tif", "TIFF")


CUBES, THICK = with_voxels((16, 16, 16)), with_voxels((50, 16, 16))


def trained(slices: int | None, size: tuple[float, float, float]) -> Model:
    model = realistic_model(SMALL, slices=slices)  # type: ignore[arg-type]
    return Model(model.vae, model.settings, {"voxel_size_nm": [size]})


def test_a_model_refuses_a_volume_of_the_other_kind() -> None:
    with pytest.raises(
        VolumeError, match=r"^cell.tif: has 12 slices with voxels of 50 x 16 x 16 nm .*for cubes; train"
    ):
        trained(None, (16, 16, 16)).check(THICK)
    with pytest.raises(
        VolumeError, match=r"^cell.tif: has 12 slices with voxels of 16 x 16 x 16 nm .*thick slices; tr"
    ):
        trained(1, (50, 16, 16)).check(CUBES)
    with pytest.raises(VolumeError, match=r"^cell.tif: has 1 slices"):
        trained(None, (16, 16, 16)).check(with_voxels((16, 16, 16), (1, 20, 20)))
    with pytest.raises(VolumeError, match=r"^cell.tif: has 2 slices"):
        trained(3, (50, 16, 16)).check(with_voxels((50, 16, 16), (2, 20, 20)))


def test_a_model_takes_what_it_was_trained_on() -> None:
    trained(None, (16, 16, 16)).check(CUBES)
    trained(1, (50, 16, 16)).check(THICK)
    trained(3, (50, 16, 16)).check(THICK)
    trained(None, (50, 16, 16)).check(THICK)  # somebody chose cubes all the same
    with pytest.warns(VoxelSizeWarning, match="unlike the 50 x 16 x 16 nm of the model, .* --working-voxel-size 16,"):
        trained(1, (50, 16, 16)).check(with_voxels((50, 8, 8)))


def test_single_slices_are_compared_within_their_plane() -> None:
    trained(1, (5, 16, 16)).check(with_voxels((4, 16, 16), (1, 20, 20)))
    with pytest.warns(VoxelSizeWarning, match="unlike"):
        trained(1, (5, 16, 16)).check(with_voxels((5, 8, 8), (1, 20, 20)))


@pytest.mark.parametrize("slices, size", [(None, (16, 16, 16)), (3, (50, 16, 16)), (1, (50, 16, 16)), (1, (4, 16, 16))])
def test_settings_take_the_voxel_size_of_a_model(slices: int | None, size: tuple[float, float, float]) -> None:
    model = trained(slices, size)
    assert Settings().adopting(model).working_voxel_size == 16
    assert Settings(working_voxel_size=20).adopting(model).working_voxel_size == 20
    assert Settings(working_voxel_size=None).adopting(model).working_voxel_size is None
    assert Settings().adopting(replace(model, card={})).working_voxel_size == "auto"


def test_presets_whose_patches_are_always_cubes_take_any_volume() -> None:
    model = realistic_model(SMALL)
    settings = ModelSettings(architecture=Han2022Architecture(), sampling=Sampling(standardise=True))
    Model(model.vae, settings, {}).check(THICK)


def test_settings_choose_flat_patches_where_slices_are_thick_or_few() -> None:
    chosen = ModelSettings()
    assert chosen.suited_to(CUBES) == chosen
    assert chosen.suited_to(with_voxels((27, 16, 16))) == chosen  # 1.69 times as deep as wide
    few, single = with_voxels((16, 16, 16), (8, 20, 20)), with_voxels((16, 16, 16), (1, 20, 20))
    assert chosen.suited_to(THICK, CUBES) == chosen
    assert chosen.suited_to(THICK, single).slices == 1
    for volume, slices in ((THICK, 3), (with_voxels((28, 16, 16)), 3), (few, 3), (single, 1)):
        flat = chosen.suited_to(volume)
        assert flat.slices == slices
        assert flat.sampling.radius == 0  # what is thin is no wider than positives would be moved
        assert flat.sampling.model_copy(update={"slices": None, "radius": 2.0}) == chosen.sampling
        assert flat.model_copy(update={"sampling": chosen.sampling}) == chosen  # nothing else changes
        assert flat.suited_to(CUBES) == flat  # asked for, or chosen before
    paper_s = ModelSettings(architecture=Han2022Architecture(), sampling=Sampling(standardise=True))
    assert paper_s.suited_to(THICK) == paper_s


def test_flat_patches_are_for_the_default_networks() -> None:
    with pytest.raises(ValueError, match="only the default networks take flat patches"):
        ModelSettings(architecture=Han2022Architecture(), sampling=Sampling(slices=1))


@SLICES
def test_a_flat_model_survives_its_file(tmp_path: Path, slices: int) -> None:
    model = trained(slices, (50, 16, 16))
    model.save(tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.settings.slices == slices
    volume = torch.randn(1, 1, 4, 12, 12)
    with torch.inference_mode():
        assert torch.equal(loaded.encoder.dense(volume), model.encoder.dense(volume))
    card = (tmp_path / "model.md").read_text()
    assert "9 x 9 voxels within a slice" in card
    assert ("and the same in 1 above and below" in card) is (slices == 3)


def test_models_from_before_there_were_flat_patches_are_cubes() -> None:
    old = ModelSettings().model_dump(mode="json")
    del old["sampling"]["slices"]
    assert ModelSettings.model_validate(old) == ModelSettings()
    assert ModelSettings().slices is None
