from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import ablation.trained
from ablation.cells import lay_out
from ablation.features import HAND_MADE, LEARNED, described, feature
from ablation.filters import INTEGRATION, FilterBank, Patches, eigenvalues
from ablation.trained import Workshop
from vemosaic.blocks.grid import Unit
from vemosaic.errors import SettingsError
from vemosaic.models.settings import ModelSettings
from vemosaic.volumes import open_volume
from vemosaic.volumes.intensity import measure_intensity

CUBES, FLAT = (10.0, 10.0, 10.0), (50.0, 10.0, 10.0)


def raw(seed=0, shape=(30, 36, 34)):
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, 1).astype(np.float32)


def box(origin, shape):
    return Unit((0, 0, 0), origin, shape)


def describe(chosen, volume, *boxes):
    return list(chosen.describe(volume, boxes, 0))


@pytest.mark.parametrize("size", [CUBES, FLAT])
@pytest.mark.parametrize("name", HAND_MADE)
def test_a_voxel_is_described_alike_in_every_box(name, size):
    volume = open_volume(raw(), voxel_size=size)
    one, other, outside = describe(
        HAND_MADE[name], volume, box((4, 5, 6), (9, 9, 9)), box((8, 8, 8), (6, 4, 5)), box((-3, 4, 4), (8, 3, 2))
    )
    np.testing.assert_allclose(one[4:, 3:7, 2:7], other[:5], atol=1e-5)
    if name != "patches":  # the others know no direction
        np.testing.assert_allclose(outside[2], outside[4], atol=1e-5)  # mirrored at z = 0
    assert one.dtype == np.float32


def test_intensity_is_smoothed():
    volume = open_volume(raw(), voxel_size=CUBES)
    (found,) = describe(HAND_MADE["intensity"], volume, box((0, 0, 0), volume.shape))
    expected = ndimage.gaussian_filter(measure_intensity(volume).normalise(raw()), 2, truncate=2, mode="mirror")
    np.testing.assert_allclose(found[..., 0], expected, atol=1e-5)


def test_patches_are_projected_on_their_principal_components():
    volume = open_volume(ndimage.gaussian_filter(raw(), (0, 0, 1.5)), voxel_size=FLAT)
    (found,) = describe(Patches(5, 2), volume, box((6, 6, 6), (10, 10, 10)))
    voxels = measure_intensity(volume).normalise(volume.read((0, 0, 0), volume.shape))
    patches = np.lib.stride_tricks.sliding_window_view(voxels, (1, 5, 5)).reshape(-1, 25)
    axes = np.linalg.eigh(np.cov(patches.T))[1][:, :-3:-1]
    patch = voxels[8, 7:12, 9:14].ravel()  # around (8, 9, 11)
    np.testing.assert_allclose(np.abs(found[2, 3, 5]), np.abs(patch @ axes), atol=0.05 * np.linalg.norm(patch))


@pytest.mark.parametrize("size", [2, 3])
def test_eigenvalues_are_those_of_the_matrices(size):
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(500, size, size))
    matrices[:5] = 0
    matrices[5:9] = 3 * np.eye(size)
    matrices += matrices.transpose(0, 2, 1)
    found = eigenvalues([matrices[:, i, j] for i, j in np.transpose(np.triu_indices(size))])
    np.testing.assert_allclose(np.stack(found, -1), np.linalg.eigvalsh(matrices)[:, ::-1], atol=1e-6)


def test_filters_give_the_derivatives_of_a_parabola():
    place = np.stack(np.mgrid[-15:16, -15:16, -15:16])
    volume = open_volume(-(np.square(place).sum(0)).astype(np.float32), voxel_size=CUBES)
    (found,) = describe(FilterBank((0.7,)), volume, box((15, 15, 15), (1, 1, 6)))
    spread = measure_intensity(volume).spread
    smooth, laplacian, steepness, *others = found[0, 0].T * spread
    hessian, tensor = others[:3], others[3:]
    x = np.arange(6)
    np.testing.assert_allclose(smooth - smooth[0], -(x**2), atol=0.01)
    np.testing.assert_allclose(laplacian, -6, atol=0.01)
    np.testing.assert_allclose(steepness, 2 * x, atol=0.01)
    np.testing.assert_allclose(hessian, -2, atol=0.01)
    around = 4 * (INTEGRATION * 0.7) ** 2  # mean square of a derivative 2x over the tensor's Gaussian
    np.testing.assert_allclose(tensor[0] * spread, 4 * x**2 + around, rtol=0.03)
    np.testing.assert_allclose([part * spread for part in tensor[1:]], around, rtol=0.03)


def test_filters_of_flat_voxels_lie_in_the_plane():
    one, other = raw(), raw()
    other[12] = raw(1)[12]
    statistics = measure_intensity(open_volume(one, voxel_size=FLAT))
    rows = []
    for voxels in (one, other):
        volume = open_volume(voxels, voxel_size=FLAT)
        (found,) = describe(FilterBank(), volume, box((0, 0, 0), volume.shape))
        assert found.shape[-1] == 5 * 7
        own = measure_intensity(volume)
        rows.append(found[..., 0] * own.spread + own.centre)
    changed = np.abs(rows[0] - rows[1]).max((1, 2)) > 1e-4 * statistics.spread
    assert np.flatnonzero(changed).tolist() == [12]


def test_channels_without_a_common_scale_are_standardised():
    volume = open_volume(raw(), voxel_size=CUBES)
    layout = lay_out(volume, count=3_000)
    vectors = described(feature("filterbank", Workshop(None)), volume, layout, (2, 2, 2), 1).sample()
    np.testing.assert_allclose(vectors.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(vectors.std(0), 1, atol=1e-3)


@pytest.mark.parametrize("name", ["colour", "filterbank@100", "default@", "default@many"])
def test_refuses_features_that_there_are_not(name):
    with pytest.raises(SettingsError, match=r"--features.*choose from"):
        feature(name, Workshop(None))


@pytest.mark.parametrize(("name", "channels"), [("default@8", 8), ("cihs@8", 2)])
def test_trains_once_and_keeps_what_took_long(tmp_path, monkeypatch, name, channels):
    settings = LEARNED[name.removesuffix("@8")].model_dump()
    settings["optimiser"]["batch"] = 8
    monkeypatch.setitem(LEARNED, name.removesuffix("@8"), ModelSettings.model_validate(settings))
    volume = open_volume(raw(shape=(48, 48, 48)), voxel_size=CUBES)
    chosen = feature(name, Workshop(tmp_path, stride=8))
    boxes = box((-2, 0, 16), (8, 8, 8)), box((30, 30, 30), (3, 2, 1))
    first = describe(chosen, volume, *boxes)
    assert [values.shape for values in first] == [(8, 8, 8, channels), (3, 2, 1, channels)]
    monkeypatch.setattr(ablation.trained, "train", None)
    for one, other in zip(first, describe(chosen, volume, *boxes), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(TypeError):  # another seed is another model
        list(chosen.describe(volume, boxes, 1))


def test_two_levels_agree_whichever_box_a_voxel_is_in(tmp_path):
    volume = open_volume(raw(shape=(48, 48, 48)), voxel_size=CUBES)
    workshop = Workshop(tmp_path)
    whole = box((-3, 4, 5), (15, 12, 13))
    part = box((2, 7, 6), (7, 3, 4))
    around, inside = describe(feature("two-levels@128", workshop), volume, whole, part)
    assert around.shape == (15, 12, 13, 16)
    np.testing.assert_allclose(inside, around[5:12, 3:6, 1:5], atol=1e-5)
    (own,) = describe(feature("default@128", workshop), volume, whole)
    np.testing.assert_array_equal(around[..., :8], own)
