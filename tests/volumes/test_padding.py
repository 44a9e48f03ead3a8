from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from numeric_core import volume_of
from vemosaic.volumes.intensity import padded_share
from vemosaic.volumes.padding import SEEN, ImageMask, mirror_padding, padding
from vemosaic.volumes.volume import mirrored


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


def slowly_mirrored(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The slow twin: each line by itself, mirrored far beyond the border, as the volume is."""
    far = 2 * SEEN + 8
    index = [mirrored(np.arange(-far, n + far), n) for n in image.shape]
    values = image[np.ix_(*index)].copy()
    known = ~padding(values)
    for axis in (2, 1, 0):
        before, were = values.copy(), known.copy()
        for place in np.argwhere(~were):
            line = tuple(slice(None) if a == axis else p for a, p in enumerate(place))
            own, image_there = place[axis], np.flatnonzero(were[line])
            if len(image_there) == 0:
                continue
            edge = image_there[np.abs(image_there - own).argmin()]  # the first of two as near
            if abs(edge - own) > SEEN:
                continue
            opposite = 2 * edge - own
            inside = 0 <= opposite < len(were[line]) and were[line][opposite]
            values[tuple(place)] = before[line][opposite if inside else edge]
            known[tuple(place)] = True
    return values[tuple(slice(far, far + n) for n in image.shape)]


def test_padding_shows_the_image_mirrored() -> None:
    image = padded()[:5, 5:30, 3:32]
    whole = mirror_padding(volume_of(image)).read((0, 0, 0), image.shape)
    np.testing.assert_array_equal(whole, slowly_mirrored(image))
    shown = ImageMask(volume_of(image))[slice(0, 5), slice(0, 25), slice(0, 29)] != 0
    np.testing.assert_array_equal(whole[shown], image[shown])
    np.testing.assert_array_equal(whole[2, 7:, :6], image[2, 7:, 12:6:-1])


@given(box, box, box, st.integers(0, 3))
@settings(max_examples=30)
def test_any_box_shows_what_the_whole_shows(
    z: tuple[int, int], y: tuple[int, int], x: tuple[int, int], seed: int
) -> None:
    image = np.pad(padded(seed), ((20, 0), (0, 40), (30, 0)))
    volume = mirror_padding(volume_of(image))
    whole = volume.read((0, 0, 0), image.shape)
    assert not whole[:4].any()
    origin = [start % n for (start, _), n in zip((z, y, x), image.shape, strict=True)]
    shape = [length for _, length in (z, y, x)]  # which may reach beyond the volume
    places = [mirrored(np.arange(o, o + n), m) for o, n, m in zip(origin, shape, image.shape, strict=True)]
    np.testing.assert_array_equal(volume.read(origin, shape), whole[np.ix_(*places)])


def test_nothing_within_a_mask_is_padding() -> None:
    image = padded()
    inside = np.zeros(image.shape, np.uint8)
    inside[:, :, 20:40] = 1
    volume = volume_of(image)
    shown = mirror_padding(volume, volume_of(inside)).read((0, 0, 0), image.shape)
    np.testing.assert_array_equal(shown[:, :, 20:40], image[:, :, 20:40])
    assert (shown[4, 20:40, 3:9] != 0).mean() > 0.9


def test_a_single_slice_is_mirrored_within_itself() -> None:
    image = padded()[5:6]
    shown = mirror_padding(volume_of(image)).read((0, 0, 0), image.shape)
    np.testing.assert_array_equal(shown[0, 11:51, 3:9], image[0, 11:51, 15:9:-1])


def test_what_is_mirrored_has_an_identity_of_its_own() -> None:
    volumes = [volume_of(padded(seed)) for seed in (0, 1)]
    names = {v.identity() for v in (*volumes, *map(mirror_padding, volumes))}
    assert len(names) == 4
    assert mirror_padding(volumes[0]).identity() == mirror_padding(volume_of(padded(0))).identity()
