from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from numeric_core import volume_of
from vemosaic.volumes.intensity import padded_share
from vemosaic.volumes.padding import ImageMask, padding


def padded(seed: int = 0) -> npt.NDArray[np.float32]:
    """An image of 8 x 40 x 50 with zeros around it, holes of zeros, and single zeros."""
    rng = np.random.default_rng(seed)
    image = np.zeros((12, 60, 70), np.float32)
    image[2:10, 11:51, 9:59] = rng.normal(100, 20, (8, 40, 50))
    image[3:6, 20:32, 20:30] = 0
    image[7, 25:33, 30:60] = 0  # 8 high: no padding
    image[rng.random(image.shape) < 0.02] = 0
    return image


def test_is_the_opening_of_the_zeros() -> None:
    image = padded()
    expected = ndimage.binary_opening(image == 0, np.ones((1, 9, 9), bool))
    np.testing.assert_array_equal(padding(image), expected)
    assert not padding(image)[7, 25:33, 30:58].any()
    assert padding(image)[3:6, 20:32, 20:30].all()


def test_all_or_nothing() -> None:
    assert padding(np.zeros((2, 3, 4), np.float32)).all()
    assert not padding(np.ones((2, 3, 4), np.float32)).any()


box = st.tuples(st.integers(0, 69), st.integers(1, 70))


@given(box, box, box, st.integers(0, 3))
def test_any_box_of_the_mask_is_that_of_the_whole(
    z: tuple[int, int], y: tuple[int, int], x: tuple[int, int], seed: int
) -> None:
    volume = volume_of(padded(seed))
    mask = ImageMask(volume)
    whole = mask[tuple(slice(0, n) for n in mask.shape)]  # type: ignore[index]
    assert whole.dtype == mask.dtype
    assert mask.shape == volume.shape
    cut = tuple(
        slice(start % n, min(n, start % n + length)) for (start, length), n in zip((z, y, x), mask.shape, strict=True)
    )
    np.testing.assert_array_equal(mask[cut], whole[cut])  # type: ignore[index]


def test_the_mask_is_where_no_padding_is() -> None:
    mask = ImageMask(volume_of(padded()))
    whole = mask[slice(0, 12), slice(0, 60), slice(0, 70)]
    assert not whole[:2].any()
    assert not whole[:, :10].any()
    assert not whole[3:6, 21:31, 21:29].any()
    assert whole[3:6, 33:50, 31:58].all()


def test_the_share_is_about_what_there_is() -> None:
    image = np.full((40, 100, 100), 7.0, np.float32)
    assert padded_share(volume_of(image)) == 0
    image[:, :, :50] = 0
    assert padded_share(volume_of(image)) == pytest.approx(0.5, abs=0.1)
    assert padded_share(volume_of(np.zeros((4, 10, 10), np.float32))) == 1
