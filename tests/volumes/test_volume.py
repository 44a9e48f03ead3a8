from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numeric_core import CountingArray, volume_of
from vemosaic.errors import VolumeError
from vemosaic.volumes.volume import Shape, Slices, Volume, mirrored


class PickyArray(CountingArray):
    """An array that is asked only for what it has, in plain slices."""

    @property
    def read(self) -> int:
        """How many voxels were read."""
        return sum(self.sizes)

    def __getitem__(self, box: Slices) -> npt.NDArray[np.generic]:
        for part, length in zip(box, self.shape, strict=True):
            assert 0 <= part.start < part.stop <= length
            assert part.step is None
        return super().__getitem__(box)


sides = st.tuples(*[st.integers(1, 7)] * 3)
reaches = st.tuples(*[st.tuples(st.integers(0, 20), st.integers(0, 20))] * 3)


@settings(max_examples=100)
@given(sides, reaches)
def test_what_lies_outside_is_mirrored_at_any_distance(shape: Shape, reach: tuple[tuple[int, int], ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    expected = np.pad(image, reach, mode="reflect").astype(np.float32)
    origin = [-before for before, _ in reach]
    read = volume_of(PickyArray(image)).read(origin, expected.shape)
    np.testing.assert_array_equal(read, expected)
    assert read.dtype == np.float32
    assert read.flags.c_contiguous


@settings(max_examples=100)
@given(sides, st.tuples(*[st.integers(-25, 25)] * 3), st.tuples(*[st.integers(1, 12)] * 3))
def test_any_box_is_a_part_of_the_mirrored_whole(shape: Shape, origin: Shape, size: Shape) -> None:
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    padded = np.pad(image, 40, mode="reflect")
    expected = padded[tuple(slice(40 + o, 40 + o + s) for o, s in zip(origin, size, strict=True))]
    np.testing.assert_array_equal(volume_of(PickyArray(image)).read(origin, size), expected)


@given(st.integers(1, 9), st.integers(-60, 60))
def test_mirrored_index_walks_to_and_fro(length: int, index: int) -> None:
    path = [*range(length), *range(length - 2, 0, -1)] if length > 1 else [0]
    assert mirrored(np.array([index]), length).tolist() == [path[index % len(path)]]


def test_reading_is_no_larger_than_needed() -> None:
    array = PickyArray(np.zeros((50, 60, 70), np.uint8))
    volume = volume_of(array)
    volume.read((10, 10, 10), (5, 6, 7))
    assert array.read == 5 * 6 * 7
    volume.read((-4, 10, 66), (9, 6, 8))  # z 0..4, x 65..69 by way of its mirror image
    assert array.read == 5 * 6 * 7 + 5 * 6 * 5


@pytest.mark.parametrize("dtype", ["u1", "i2", ">u2", "u4", "f4", ">f8"])
def test_every_type_becomes_float32(dtype: str) -> None:
    image = np.arange(3 * 4 * 5).reshape(3, 4, 5).astype(dtype)
    read = volume_of(image).read((0, 0, 0), (3, 4, 5))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, np.arange(60, dtype=np.float32).reshape(3, 4, 5))


def test_reading_does_not_hand_out_the_array_itself() -> None:
    image = np.zeros((3, 4, 5), np.float32)
    volume_of(image).read((0, 0, 0), (3, 4, 5))[:] = 1
    assert not image.any()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("origin", [(0, 0, 0), (-2, 0, 0)])
def test_voxels_that_are_no_number_are_refused(wrong: float, origin: Shape) -> None:
    image = np.zeros((9, 9, 9), np.float32)
    image[1, 2, 3] = wrong
    volume = volume_of(image, "cell.tif")
    with pytest.raises(VolumeError, match=r"cell.tif: holds NaN or infinite voxels near .*; replace them"):
        volume.read(origin, (5, 5, 5))
    assert not volume.read((2, 0, 0), (5, 5, 5)).any()  # elsewhere all is well


def test_unknown_voxel_size_is_asked_for() -> None:
    volume = Volume(np.zeros((3, 3, 3)), None, (0.0, 0.0, 0.0), "cell.npy", "NumPy")
    with pytest.raises(VolumeError, match=r"cell.npy: the file \(NumPy\) does not say .*; give it in nm"):
        volume.known_voxel_size()
    assert volume_of(np.zeros((3, 3, 3))).known_voxel_size() == (16.0, 16.0, 16.0)


def test_identity_is_of_the_content_and_not_of_the_name() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 50, 60), dtype=np.uint8)
    identity = volume_of(image).identity()
    assert volume_of(image.copy(), "renamed").identity() == identity
    assert volume_of(PickyArray(image)).identity() == identity
    assert volume_of(np.asfortranarray(image)).identity() == identity


@pytest.mark.parametrize(
    "change",
    [
        lambda v: dataclasses.replace(v, voxel_size=(16.0, 16.0, 15.0)),
        lambda v: dataclasses.replace(v, translation=(0.0, 8.0, 0.0)),
        lambda v: dataclasses.replace(v, array=v.array[:, :, :-1]),
        lambda v: dataclasses.replace(v, array=v.array[:].reshape(8, 60, 50)),
        lambda v: dataclasses.replace(v, array=v.array[:].view(np.int8)),
        lambda v: dataclasses.replace(v, array=v.array[:, ::-1]),
    ],
    ids=["voxel size", "translation", "shape", "order", "dtype", "flipped"],
)
def test_identity_tells_changed_volumes_apart(change: Callable[[Volume], Volume]) -> None:
    image = np.random.default_rng(0).integers(0, 128, (8, 50, 60), dtype=np.uint8)
    assert change(volume_of(image)).identity() != volume_of(image).identity()


def test_identity_notices_a_changed_region() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 200, 200), dtype=np.uint8)
    changed = image.copy()
    changed[20:30, 50:150, 50:150] ^= 1
    assert volume_of(changed).identity() != volume_of(image).identity()


def test_identity_reads_little() -> None:
    array = PickyArray(np.zeros((200, 300, 300), np.uint8))
    volume_of(array).identity()
    assert array.read == 64 * 2 * 64 * 64
