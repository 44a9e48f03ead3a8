"""The embedding of volumes that lie in slices: depths in nm, no slice out of reach, the same whatever the box."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from numeric_core import PLAIN, blobs, realistic_model, volume_of
from vemosaic.blocks.grid import Unit
from vemosaic.embedding import TILE, Embedder
from vemosaic.embedding_sample import describe_sample
from vemosaic.gaussian import TRUNCATE, gaussian_taps
from vemosaic.models.settings import Architecture
from vemosaic.volumes.volume import Shape, Volume

SMALL = Architecture(channels=(4, 5, 6, 7), latent=6, semantic=3)
SHAPE = (9, TILE + 20, 40)


def thick(image: npt.NDArray[np.float32], depth: float = 40.0) -> Volume:
    """Slices of so many nm, with pixels of 16 nm."""
    return replace(volume_of(image), voxel_size=(depth, 16.0, 16.0))


def embedder_of(volume: Volume, smoothing: float = 0.0) -> Embedder:
    model = realistic_model(SMALL, slices=1)
    return replace(Embedder.of(model, volume), intensity=PLAIN, smoothing=smoothing)


@pytest.fixture(scope="module")
def image() -> npt.NDArray[np.float32]:
    return blobs(SHAPE)


@pytest.fixture(scope="module")
def whole(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The smoothed embedding of the whole volume."""
    volume = thick(image)
    return embedder_of(volume, 3.0).box(volume, (0, 0, 0), SHAPE)


def test_smoothing_reaches_as_far_across_slices_as_within_them(
    image: npt.NDArray[np.float32], whole: npt.NDArray[np.float32]
) -> None:
    volume = thick(image)
    embedder = embedder_of(volume, 3.0)
    assert embedder.depth == 2.5
    assert embedder.taps == (gaussian_taps(1.2), gaussian_taps(3.0), gaussian_taps(3.0))
    assert embedder.reach == (2, 6, 6)
    assert embedder.halo == (2, 10, 10)
    plain = embedder_of(volume).box(volume, (0, 0, 0), SHAPE).astype(np.float64)
    expected = ndimage.gaussian_filter(plain, (1.2, 3.0, 3.0), truncate=TRUNCATE, axes=(0, 1, 2), mode="mirror")
    inner = np.s_[:, 10:-10, 10:-10]  # mirrored voxels have the embedding of mirrored patches across slices alone
    np.testing.assert_allclose(whole[inner], expected[inner], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("depth", "across"), [(16.0, 3.0), (100.0, 0.48), (200.0, 0.24)], ids=["cubes", "thick", "too thick to smooth"]
)
def test_the_thicker_the_slices_the_fewer_are_smoothed_over(
    image: npt.NDArray[np.float32], depth: float, across: float
) -> None:
    embedder = embedder_of(thick(image, depth), 3.0)
    assert embedder.taps[0] == pytest.approx(gaussian_taps(across))
    assert embedder.halo[0] == round(TRUNCATE * across)


def test_single_slices_have_no_halo_across() -> None:
    volume = thick(blobs((1, 30, 40)), 16.0)
    embedder = embedder_of(volume, 3.0)
    assert embedder.halo == (0, 10, 10)
    assert np.isfinite(embedder.box(volume, (0, 0, 0), volume.shape)).all()


def test_models_of_cubes_smooth_alike_along_all_axes(image: npt.NDArray[np.float32]) -> None:
    embedder = replace(Embedder.of(realistic_model(SMALL), thick(image)), smoothing=3.0)
    assert embedder.depth == 1.0
    assert embedder.halo == (10, 10, 10)


@pytest.mark.parametrize("smoothing", [0.0, 3.0])
def test_slices_out_of_reach_change_nothing(image: npt.NDArray[np.float32], smoothing: float) -> None:
    volume = thick(image)
    embedder = embedder_of(volume, smoothing)
    before = embedder.box(volume, (0, 0, 0), SHAPE)
    changed = image.copy()
    changed[4] = blobs(SHAPE, seed=1)[4]
    after = embedder.box(thick(changed), (0, 0, 0), SHAPE)
    moved = [bool((before[z] != after[z]).any()) for z in range(SHAPE[0])]
    assert moved == [abs(z - 4) <= embedder.halo[0] for z in range(SHAPE[0])]


@pytest.mark.parametrize(
    ("origin", "shape"), [((0, TILE, 0), (9, 20, 40)), ((0, 0, 0), (9, TILE, 40)), ((3, TILE, 0), (4, 20, 40))]
)
def test_a_box_is_that_of_the_whole(
    image: npt.NDArray[np.float32], whole: npt.NDArray[np.float32], origin: Shape, shape: Shape
) -> None:
    volume = thick(image)
    box = embedder_of(volume, 3.0).box(volume, origin, shape)
    expected = whole[Unit((0, 0, 0), origin, shape).slices]
    if origin[0] == 0:
        np.testing.assert_array_equal(box, expected)  # cut along the planes of the tile grid
    np.testing.assert_allclose(box, expected, rtol=0, atol=1e-5)


def test_a_sample_is_described_as_the_map_is(image: npt.NDArray[np.float32]) -> None:
    volume = thick(image)
    ((embedder, sample),) = describe_sample(embedder_of(volume, 3.0), volume, [0], words=6, dimensions=3, count=500)
    described = embedder.box(volume, (0, 0, 0), SHAPE)
    np.testing.assert_allclose(sample.embedding, described[tuple(sample.voxel.T)], rtol=0, atol=1e-4)
