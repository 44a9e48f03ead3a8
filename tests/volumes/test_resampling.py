from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from vemosaic.errors import SettingsError, VolumeError
from vemosaic.volumes import at_voxel_size, open_volume
from vemosaic.volumes.resampling import AreaAveraged

SHAPES = st.tuples(*[st.integers(1, 14)] * 3)
FACTORS = st.tuples(*[st.one_of(st.integers(1, 4).map(float), st.floats(1, 5))] * 3)


def whole(array) -> np.ndarray:
    z, y, x = (slice(0, n) for n in array.shape)
    return array[z, y, x]


def by_the_definition(image: np.ndarray, factors: tuple[float, float, float], shape) -> np.ndarray:
    """Average each output voxel's box by itself, from the overlap of every input voxel with it."""
    averaged = np.empty(shape)
    for at in np.ndindex(*shape):
        weights = np.ones((1, 1, 1))
        for axis, (i, f, n) in enumerate(zip(at, factors, image.shape, strict=True)):
            j = np.arange(n)
            overlap = np.clip(np.minimum(j + 1, (i + 1) * f) - np.maximum(j, i * f), 0, None)
            weights = weights * overlap.reshape([-1 if a == axis else 1 for a in range(3)])
        averaged[at] = (image * weights).sum() / weights.sum()
    return averaged


@settings(max_examples=60)
@given(SHAPES, FACTORS, st.integers(0, 9))
def test_same_as_the_definition(shape, factors, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    array = AreaAveraged(image, factors)
    np.testing.assert_allclose(whole(array), by_the_definition(image, factors, array.shape), rtol=1e-6, atol=1e-6)


@settings(max_examples=60)
@given(SHAPES, FACTORS, st.data())
def test_any_box_has_the_bits_of_the_whole(shape, factors, data: st.DataObject) -> None:
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    array = AreaAveraged(image, factors)
    box = []
    for n in array.shape:
        start = data.draw(st.integers(0, n - 1))
        box.append(slice(start, data.draw(st.integers(start + 1, n))))
    z, y, x = box
    assert array[z, y, x].tobytes() == np.ascontiguousarray(whole(array)[z, y, x]).tobytes()


def test_slabs_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    array = AreaAveraged(np.random.default_rng(0).normal(size=(20, 9, 9)), (1.6, 1.3, 2.0))
    expected = whole(array)
    monkeypatch.setattr("vemosaic.volumes.resampling.SLAB_VOXELS", 100)
    assert whole(array).tobytes() == expected.tobytes()


@settings(max_examples=30)
@given(SHAPES, FACTORS, st.integers(0, 65535))
def test_constants_stay(shape, factors, value: int) -> None:
    array = AreaAveraged(np.full(shape, value, np.uint16), factors)
    np.testing.assert_allclose(whole(array), value, rtol=1e-7)


@settings(max_examples=30)
@given(st.tuples(*[st.integers(1, 4)] * 3), st.tuples(*[st.integers(1, 4)] * 3))
def test_whole_factors_keep_the_mean(out, factors) -> None:
    image = np.random.default_rng(2).integers(0, 256, np.multiply(out, factors), dtype=np.uint8)
    array = AreaAveraged(image, tuple(map(float, factors)))
    assert array.shape == out
    assert whole(array).mean(dtype=np.float64) == pytest.approx(image.mean(), rel=1e-6)


def test_length_is_rounded_down_but_never_to_nothing() -> None:
    assert AreaAveraged(np.zeros((10, 9, 2)), (3.0, 3.0, 5.0)).shape == (3, 3, 1)
    assert AreaAveraged(np.zeros((30, 30, 30)), (15 / 4.9999999,) * 3).shape == (10, 10, 10)


def test_only_what_is_needed_is_read() -> None:
    class Watched:
        shape, dtype = (100, 100, 100), np.dtype(np.uint8)
        boxes: list[tuple[slice, ...]] = []  # noqa: RUF012

        def __getitem__(self, box):
            self.boxes.append(box)
            return np.zeros([b.stop - b.start for b in box], np.uint8)

    watched = Watched()
    AreaAveraged(watched, (2.0, 2.5, 1.0))[10:12, 4:6, 0:5]
    assert watched.boxes == [(slice(20, 24), slice(10, 15), slice(0, 5))]


def pyramid(*sizes: tuple[float, float, float]):
    """A volume of 64 voxels along each axis, and levels of the given sizes."""
    levels = [
        replace(
            open_volume(
                np.zeros([int(64 * own / s) for own, s in zip(sizes[0], size, strict=True)], np.uint8), voxel_size=size
            ),
            translation=tuple((s - own) / 2 for own, s in zip(sizes[0], size, strict=True)),
        )
        for size in sizes
    ]
    return replace(levels[0], coarser=tuple(levels[1:]))


def test_none_keeps_the_volume() -> None:
    volume = pyramid((4, 4, 4), (8, 8, 8))
    kept = at_voxel_size(volume, None)
    assert kept.array is volume.array
    assert kept.coarser == ()


@pytest.mark.parametrize("target", [4.0, 3.9, 2.0, 4.03])
def test_never_finer(target: float) -> None:
    volume = pyramid((4, 4, 4), (8, 8, 8))
    assert at_voxel_size(volume, target).array is volume.array


@pytest.mark.parametrize(("target", "level"), [(8, 1), (8.3, 1), (7.7, 1), (16, 2), (4.1, 0)])
def test_a_near_level_is_taken_as_it_is(target: float, level: int) -> None:
    volume = pyramid((4, 4, 4), (8, 8, 8), (16, 16, 16))
    worked = at_voxel_size(volume, target)
    expected = (volume, *volume.coarser)[level]
    assert worked.array is expected.array
    assert (worked.voxel_size, worked.translation, worked.dtype) == (
        expected.voxel_size,
        expected.translation,
        np.uint8,
    )


def test_the_coarsest_finer_level_is_averaged() -> None:
    volume = pyramid((4, 4, 4), (8, 8, 8), (16, 16, 16))
    worked = at_voxel_size(volume, 12)
    assert worked.array.factors == (1.5, 1.5, 1.5)
    assert worked.array._array is volume.coarser[0].array
    assert worked.voxel_size == (12, 12, 12)
    assert worked.shape == (21, 21, 21)
    assert worked.dtype == np.float32
    assert worked.translation == (4, 4, 4)  # centre of the first 12 nm, where 4 nm voxels start at -2
    assert worked.coarser == ()


def test_coarse_axes_stay() -> None:
    volume = pyramid((50, 4, 4), (50, 8, 8), (100, 16, 16))
    worked = at_voxel_size(volume, 16)
    assert worked.array._array is volume.coarser[0].array  # not the level that loses half of the slices
    assert worked.voxel_size == (50, 16, 16)
    assert worked.array.factors == (1, 2, 2)
    assert worked.shape == (64, 16, 16)
    assert worked.translation == (0, 6, 6)


def test_anisotropic_level_fits_on_the_axes_that_matter() -> None:
    volume = pyramid((50, 4, 4), (50, 8, 8), (50, 16, 16))
    assert at_voxel_size(volume, 16).array is volume.coarser[1].array


@pytest.mark.parametrize("target", [0, -4, float("nan"), float("inf")])
def test_no_size(target: float) -> None:
    with pytest.raises(SettingsError, match="--working-voxel-size"):
        at_voxel_size(pyramid((4, 4, 4)), target)


def test_unknown_voxel_size_is_asked_for() -> None:
    with pytest.raises(VolumeError, match="--voxel-size"):
        at_voxel_size(open_volume(np.zeros((4, 4, 4), np.uint8)), 16)


@pytest.mark.real_data
def test_epfl_binned_by_three(data_dir: Path) -> None:
    path = data_dir / "epfl_ca1" / "raw_5nm_crop.ome.tif"
    worked = at_voxel_size(open_volume(path), 15)
    assert (worked.shape, worked.voxel_size, worked.translation) == ((55, 128, 170), (15,) * 3, (5,) * 3)
    raw = tifffile.imread(path)[:, :, :510].reshape(55, 3, 128, 3, 170, 3)
    np.testing.assert_array_equal(whole(worked.array), raw.mean((1, 3, 5), dtype=np.float64).astype(np.float32))
