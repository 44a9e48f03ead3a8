from __future__ import annotations

import numpy as np
import pytest

from numeric_core import volume_of
from vemosaic.errors import VolumeError
from vemosaic.volumes.intensity import Intensity, measure_intensity


def image_of(shape: tuple[int, int, int] = (30, 100, 120), seed: int = 0) -> np.ndarray:
    """Intensities of about 120, one standard deviation of 20."""
    return np.random.default_rng(seed).normal(120, 20, shape).astype(np.float32)


def test_measures_median_and_spread() -> None:
    measured = measure_intensity(volume_of(image_of()))
    assert measured.centre == pytest.approx(120, abs=0.3)
    assert measured.spread == pytest.approx(20, rel=0.01)


def test_a_volume_that_is_looked_at_whole_gives_its_percentiles() -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 20, 20), dtype=np.uint8)
    measured = measure_intensity(volume_of(image))
    low, centre, high = np.percentile(image, [15.9, 50, 84.1])
    assert measured.centre == centre
    assert measured.spread == pytest.approx((high - low) / 2)


def test_outliers_weigh_little() -> None:
    image = image_of()
    image.flat[::100] = 60_000
    measured = measure_intensity(volume_of(image))
    assert measured.centre == pytest.approx(120, abs=1)
    assert measured.spread == pytest.approx(20, rel=0.03)


def test_padding_of_zeros_is_left_out() -> None:
    image = np.zeros((120, 100, 120), np.float32)
    image[80:] = image_of((40, 100, 120))
    measured = measure_intensity(volume_of(image))
    assert measured.centre == pytest.approx(120, abs=3)
    assert measured.spread == pytest.approx(20, rel=0.15)


def test_same_seed_looks_at_the_same_places() -> None:
    volume = volume_of(image_of())
    assert measure_intensity(volume) == measure_intensity(volume)
    assert measure_intensity(volume, seed=1) != measure_intensity(volume)


def test_normalised_voxels_are_centred_scaled_and_clipped() -> None:
    intensity = Intensity(centre=100.0, spread=20.0, limit=3.0)
    voxels = np.array([[100, 120, 80], [150, 161, -1e6]], np.float32)
    normalised = intensity.normalise(voxels)
    np.testing.assert_allclose(normalised, [[0, 1, -1], [2.5, 3, -3]], rtol=1e-6)
    assert normalised.dtype == np.float32
    assert voxels[0, 0] == 100  # what was given is left as it was
    assert Intensity(0.0, 1.0).normalise(np.float32([9.0])) == 5.0


def test_normalising_undoes_a_change_of_brightness_and_contrast() -> None:
    image = image_of()
    changed = 3 * image + 40
    first, second = measure_intensity(volume_of(image)), measure_intensity(volume_of(changed))
    np.testing.assert_allclose(second.normalise(changed), first.normalise(image), rtol=0, atol=1e-4)


@pytest.mark.parametrize("value", [0, 7])
def test_a_constant_volume_is_refused(value: int) -> None:
    volume = volume_of(np.full((10, 20, 20), value, np.uint8), "empty.tif")
    with pytest.raises(VolumeError, match=f"empty.tif: every voxel looked at has the same intensity, {value}; check"):
        measure_intensity(volume)


def test_an_image_of_mostly_one_value_still_has_a_spread() -> None:
    image = np.full((10, 40, 40), 5, np.uint8)
    image[:, :4] = 200
    measured = measure_intensity(volume_of(image))
    assert measured.centre == 5
    assert measured.spread == pytest.approx(image.std(), rel=1e-6)


def test_nan_is_refused() -> None:
    image = image_of((10, 20, 20))
    image[5, 5, 5] = np.nan
    with pytest.raises(VolumeError, match="holds NaN"):
        measure_intensity(volume_of(image))


def test_padding_beside_tissue_is_left_out() -> None:
    image = np.zeros((30, 100, 120), np.float32)
    image[4:26, 12:88, 15:105] = image_of((22, 76, 90))  # next to no box of those looked at is without padding
    measured = measure_intensity(volume_of(image))
    assert measured.centre == pytest.approx(120, abs=2)  # where a box holds less than 9 voxels of it, they count
    assert measured.spread == pytest.approx(20, rel=0.1)


def test_dark_structures_are_no_padding() -> None:
    image = image_of((4, 64, 64))
    image[:, :32, ::10] = 0
    image[:, 40:48, 40:48] = 0
    low, centre, high = np.percentile(image, [15.9, 50, 84.1])
    measured = measure_intensity(volume_of(image))
    assert measured.centre == pytest.approx(centre, rel=1e-4)
    assert measured.spread == pytest.approx((high - low) / 2, rel=1e-4)
