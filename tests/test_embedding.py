from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from numeric_core import blobs, realistic_model, volume_of
from vemosaic.blocks.grid import Unit
from vemosaic.clustering import Words
from vemosaic.diffusion import Diffusion
from vemosaic.embedding import TILE, Embedder, evenly, tiles_of
from vemosaic.gaussian import TRUNCATE, gaussian_taps
from vemosaic.models.settings import Architecture
from vemosaic.smoothing import smooth
from vemosaic.volumes.intensity import Intensity
from vemosaic.volumes.volume import Shape

SMALL = Architecture(channels=(4, 5, 6, 7), latent=6, semantic=3)
INTENSITY = Intensity(centre=0.1, spread=0.9)
SHAPE = (14, TILE + 30, TILE + 11)


@pytest.fixture(scope="module")
def image() -> npt.NDArray[np.float32]:
    return blobs(SHAPE)


def embedder_of(smoothing: float = 0.0, words: Words | None = None) -> Embedder:
    return Embedder(realistic_model(SMALL), INTENSITY, words=words, smoothing=smoothing)


def some_words() -> Words:
    rng = np.random.default_rng(0)
    return Words(*(rng.normal(size=(5, n)).astype(np.float32) for n in (3, 2, 2)))


@pytest.fixture(scope="module")
def whole(image: npt.NDArray[np.float32]) -> dict[float, npt.NDArray[np.float32]]:
    """The embedding of the whole volume, for each smoothing."""
    return {sigma: embedder_of(sigma).box(volume_of(image), (0, 0, 0), SHAPE) for sigma in (0.0, 1.5)}


def test_every_voxel_has_a_finite_vector(whole: dict[float, npt.NDArray[np.float32]]) -> None:
    for embedding in whole.values():
        assert embedding.shape == (*SHAPE, 3)
        assert embedding.dtype == np.float32
        assert np.isfinite(embedding).all()
        assert (embedding.std((0, 1, 2)) > 0.01).all()


@pytest.mark.parametrize("smoothing", [0.0, 1.5])
@pytest.mark.parametrize(
    ("origin", "shape"),
    [
        ((0, 0, 0), (14, TILE, TILE)),
        ((0, TILE, 0), (14, 30, TILE)),
        ((0, TILE, TILE), (14, 30, 11)),
        ((0, 0, TILE), (14, TILE + 30, 11)),
    ],
)
def test_box_on_the_tile_grid_is_bitwise_that_of_the_whole(
    image: npt.NDArray[np.float32],
    whole: dict[float, npt.NDArray[np.float32]],
    smoothing: float,
    origin: Shape,
    shape: Shape,
) -> None:
    box = embedder_of(smoothing).box(volume_of(image), origin, shape)
    np.testing.assert_array_equal(box, whole[smoothing][Unit((0, 0, 0), origin, shape).slices])


@pytest.mark.parametrize("smoothing", [0.0, 1.5])
@pytest.mark.parametrize(
    ("origin", "shape"), [((3, 5, 7), (4, 20, 9)), ((0, 0, 0), (1, 1, 1)), ((13, 90, 80), (1, 36, 27))]
)
def test_any_box_is_that_of_the_whole(
    image: npt.NDArray[np.float32],
    whole: dict[float, npt.NDArray[np.float32]],
    smoothing: float,
    origin: Shape,
    shape: Shape,
) -> None:
    box = embedder_of(smoothing).box(volume_of(image), origin, shape)
    expected = whole[smoothing][Unit((0, 0, 0), origin, shape).slices]
    np.testing.assert_allclose(box, expected, rtol=0, atol=1e-5)


def test_borders_are_embedded_as_if_the_volume_went_on_mirrored(
    image: npt.NDArray[np.float32], whole: dict[float, npt.NDArray[np.float32]]
) -> None:
    embedder = embedder_of(1.5)
    assert embedder.halo == (4 + 3,) * 3
    padded = np.pad(image, 4 + 3, mode="reflect")
    box = embedder.box(volume_of(padded), embedder.halo, SHAPE)
    np.testing.assert_allclose(box, whole[1.5], rtol=0, atol=1e-5)


def test_embedding_is_the_encoder_on_normalised_voxels(
    image: npt.NDArray[np.float32], whole: dict[float, npt.NDArray[np.float32]]
) -> None:
    encoder = realistic_model(SMALL).encoder
    voxels = torch.from_numpy((image[1:10, 40:49, 60:69] - 0.1) / 0.9)
    with torch.inference_mode():
        expected = encoder.dense(voxels[None, None])[0, :, 0, 0, 0]
    np.testing.assert_allclose(whole[0.0][5, 44, 64], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 1.5, 3.0])
def test_smoothing_is_scipy_s_gaussian(whole: dict[float, npt.NDArray[np.float32]], sigma: float) -> None:
    embedding = whole[0.0][:, :40, :40].astype(np.float64)
    smoothed = smooth(torch.from_numpy(embedding), (gaussian_taps(sigma),) * 3).numpy()
    reach = len(gaussian_taps(sigma)) // 2
    expected = ndimage.gaussian_filter(embedding, sigma, truncate=TRUNCATE, axes=(0, 1, 2))
    inner = tuple(slice(reach, n - reach) for n in embedding.shape[:3])
    assert smoothed.shape == expected[inner].shape
    np.testing.assert_allclose(smoothed, expected[inner], rtol=0, atol=1e-12)


def test_smoothed_embedding_is_the_embedding_smoothed(whole: dict[float, npt.NDArray[np.float32]]) -> None:
    expected = ndimage.gaussian_filter(whole[0.0].astype(np.float64), 1.5, truncate=TRUNCATE, axes=(0, 1, 2))
    inner = (slice(3, -3),) * 3
    np.testing.assert_allclose(whole[1.5][inner], expected[inner], rtol=0, atol=1e-5)


@given(st.floats(0, 8))
def test_taps_are_symmetric_and_sum_to_one(sigma: float) -> None:
    taps = gaussian_taps(sigma)
    assert sum(taps) == pytest.approx(1)
    assert taps == taps[::-1]
    assert len(taps) % 2 == 1
    assert abs(len(taps) // 2 - TRUNCATE * sigma) <= 0.5


def test_no_smoothing_changes_nothing() -> None:
    embedding = torch.randn(3, 4, 5, 2)
    assert torch.equal(smooth(embedding, (gaussian_taps(0.0),) * 3), embedding)


def test_words_take_the_place_of_the_embedding_before_smoothing(
    image: npt.NDArray[np.float32], whole: dict[float, npt.NDArray[np.float32]]
) -> None:
    words = some_words()
    embedder = embedder_of(1.5, words)
    assert embedder.channels == 4
    described = embedder.box(volume_of(image), (0, 0, 0), SHAPE)
    distance = ((whole[0.0][..., None, :] - words.centres) ** 2).sum(-1)
    word = distance.argmin(-1)
    expected = np.concatenate(
        [
            ndimage.gaussian_filter(table[word].astype(np.float64), sigma, truncate=TRUNCATE, axes=(0, 1, 2))
            for table, sigma in ((words.details, 0.5), (words.codes, 1.5))
        ],
        -1,
    )
    inner = (slice(3, -3),) * 3
    np.testing.assert_allclose(described[inner], expected[inner], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("smoothing", "words"), [(0.0, None), (1.5, None), (1.5, some_words())], ids=["plain", "smoothed", "words"]
)
def test_descriptions_are_diffused_by_the_raw_image(
    image: npt.NDArray[np.float32], smoothing: float, words: Words | None
) -> None:
    plain, volume = embedder_of(smoothing, words), volume_of(image)
    embedder = replace(plain, diffusion=Diffusion(2, 0.3, False))
    assert embedder.diffusion
    assert embedder.halo == (4 + 2 * smoothing + 2,) * 3
    depth, height, width = SHAPE
    around = plain.box(volume, (-2, -2, -2), (depth + 4, height + 4, width + 4))
    before = around[2:-2, 2:-2, 2:-2].copy()
    expected = embedder.diffusion(around, volume.read((-3, -3, -3), (depth + 6, height + 6, width + 6)))
    found = embedder.box(volume, (0, 0, 0), SHAPE)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert np.abs(found - before).mean() > 0.01 * np.abs(before).mean()
    for origin, shape in (((0, TILE, 0), (14, 30, TILE)), ((0, 0, TILE), (14, TILE, 11))):
        part = found[Unit((0, 0, 0), origin, shape).slices]
        np.testing.assert_array_equal(embedder.box(volume, origin, shape), part)
    np.testing.assert_allclose(embedder.box(volume, (3, 5, 7), (4, 9, 8)), found[3:7, 5:14, 7:15], rtol=0, atol=1e-5)


def test_tiles_of_a_box_come_with_their_places(image: npt.NDArray[np.float32]) -> None:
    embedder, volume = embedder_of(), volume_of(image)
    box = Unit((0, 0, 0), (2, 50, 60), (5, 60, 40))
    result = embedder.box(volume, box.origin, box.shape)
    tiles = list(embedder.tiles(box, embedder.read(volume, box)))
    assert [(tile.origin, tile.shape) for tile, _ in tiles] == [
        ((0, 0, 0), (5, 46, 36)), ((0, 0, 36), (5, 46, 4)), ((0, 46, 0), (5, 14, 36)), ((0, 46, 36), (5, 14, 4)),
    ]  # fmt: skip
    for tile, embedding in tiles:
        assert embedding.shape == (*tile.shape, embedder.channels)
        np.testing.assert_array_equal(embedding.numpy(), result[tile.slices])


boxes = st.tuples(st.tuples(*[st.integers(0, 40)] * 3), st.tuples(*[st.integers(1, 25)] * 3), st.integers(3, 12))


@settings(max_examples=60)
@given(boxes)
def test_tiles_cover_a_box_exactly_once_along_the_planes_of_the_grid(box: tuple[Shape, Shape, int]) -> None:
    origin, shape, edge = box
    count = np.zeros(shape, int)
    for tile in tiles_of(origin, shape, edge):
        count[tile.slices] += 1
        for start, offset, length, size in zip(origin, tile.origin, tile.shape, shape, strict=True):
            first, last = start + offset, start + offset + length - 1
            assert first // edge == last // edge  # within one tile of the global grid
            assert offset == 0 or first % edge == 0
            assert offset + length == size or (last + 1) % edge == 0
    assert (count == 1).all()


@given(st.tuples(*[st.integers(1, 40)] * 3), st.integers(1, 30))
def test_even_parts_cover_a_box_exactly_once(shape: Shape, most: int) -> None:
    count = np.zeros(shape, int)
    edges: list[set[int]] = [set(), set(), set()]
    for part in evenly(shape, most):
        count[part.slices] += 1
        for axis, length in enumerate(part.shape):
            edges[axis].add(length)
    assert (count == 1).all()
    for length, found in zip(shape, edges, strict=True):
        assert max(found) <= most
        assert max(found) - min(found) <= 1
        assert max(found) == -(-length // -(-length // most))  # no more parts than it takes


def test_words_are_found_once_for_a_box_and_not_for_each_tile(
    image: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the encoder is given is the box and its halo, in few parts; the description is that of each tile alone."""
    embedder, volume = embedder_of(1.5, some_words()), volume_of(image)
    box = Unit((0, 0, 0), (0, 0, 0), volume.shape)
    alone = [(t, embedder.box(volume, t.origin, t.shape)) for t in tiles_of(box.origin, box.shape, 64)]
    encoded = []
    semantic = Embedder.semantic

    def counting(self: Embedder, voxels: npt.NDArray[np.float32], origin: Shape) -> torch.Tensor:
        found = semantic(self, voxels, origin)
        encoded.append(found[..., 0].numel())
        return found

    monkeypatch.setattr(Embedder, "semantic", counting)
    whole = embedder.box(volume, box.origin, box.shape)
    assert sum(encoded) == math.prod(n + 2 * r for n, r in zip(box.shape, embedder.reach, strict=True))
    for tile, values in alone:
        np.testing.assert_allclose(whole[tile.slices], values, atol=1e-5)


def test_tiles_of_two_boxes_meet_on_one_grid() -> None:
    left, right = tiles_of((0, 0, 0), (5, 5, 30), 8), tiles_of((0, 0, 16), (5, 5, 30), 8)
    cut = {tile.origin[2] for tile in left} | {tile.origin[2] + 16 for tile in right}
    assert cut == {0, 8, 16, 24, 32, 40}
    assert all(len(set(c)) == 1 for c in zip(*(itertools.islice((t.shape for t in left), 3)), strict=True))
