from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy import ndimage

from vemosaic.clustering import Words, code_details, code_words, find_words
from vemosaic.gaussian import smoothing_taps


def histograms(words: int, seed: int = 0) -> np.ndarray:
    """Mixtures of words around 500 voxels, that vary along some directions more than along others."""
    rng = np.random.default_rng(seed)
    weights = rng.gamma(np.linspace(0.2, 3, words), size=(500, words))
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def some_words(details: int) -> Words:
    rng = np.random.default_rng(0)
    return Words(*(rng.normal(size=(9, n)).astype(np.float32) for n in (4, 3, details)))


def test_each_vector_has_the_word_it_is_nearest_to() -> None:
    words = some_words(0)
    embedding = np.random.default_rng(1).normal(size=(5, 6, 7, 4)).astype(np.float32)
    nearest = ((embedding[..., None, :].astype(np.float64) - words.centres) ** 2).sum(-1).argmin(-1) + 1
    assert np.array_equal(words.nearest(torch.from_numpy(embedding)), nearest)


@pytest.mark.parametrize("details", [0, 2])
def test_a_voxel_is_described_by_the_words_at_its_place_and_around(details: int) -> None:
    words = some_words(details)
    word = np.random.default_rng(1).integers(1, 10, (7, 9, 11)).astype(np.uint8)
    taps, narrow = smoothing_taps(1.5, 1.5), smoothing_taps(0.5, 1.5)
    found = words.describe(torch.from_numpy(word), taps, narrow).numpy()
    expected = []
    for table, weights in ((words.details, narrow), (words.codes, taps)):
        values = table[word - 1].astype(np.float64)
        for axis, along in enumerate(weights):
            values = ndimage.correlate1d(values, along, axis)
        expected.append(
            values[tuple(slice(len(t) // 2, n - len(t) // 2) for t, n in zip(taps, word.shape, strict=True))]
        )
    assert found.shape == (3, 3, 5, details + 3)
    assert words.channels == details + 3
    np.testing.assert_allclose(found, np.concatenate(expected, -1), atol=1e-5)


def test_words_come_back_from_json_those_of_a_version_without_details_too() -> None:
    for words in (some_words(0), some_words(2)):
        document = json.loads(json.dumps(words.to_json()))
        for name, array in vars(Words.from_json(document)).items():
            assert np.array_equal(array, getattr(words, name))
            assert array.dtype == np.float32
    del document["details"]
    assert Words.from_json(document).details.shape == (9, 0)
    assert Words.from_json(document).channels == 3


def test_details_are_principal_components_of_the_means_of_places_with_one_scale() -> None:
    rng = np.random.default_rng(0)
    centres = (rng.normal(size=(9, 4)) * [5, 1, 3, 0.2]).astype(np.float32)
    mixtures = histograms(9)
    details = code_details(centres, mixtures @ centres, 0.5)
    described = mixtures @ details  # what smoothing them gives
    spread = described.std(0)
    np.testing.assert_allclose(described.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(spread[0], 0.5, rtol=2e-3)
    assert (np.diff(spread) < 0).all()
    # Turned and scaled, nothing else: distances are as in the embedding.
    between = np.linalg.norm(centres[:, None] - centres, axis=-1)
    turned = np.linalg.norm(details[:, None] - details, axis=-1)
    np.testing.assert_allclose(turned, between * turned[0, 1] / between[0, 1], rtol=1e-3, atol=1e-3)


def test_details_of_a_place_that_is_everywhere_alike_are_finite() -> None:
    assert np.isfinite(code_details(np.ones((3, 2), np.float32), np.ones((10, 2), np.float32), 1.0)).all()


def test_mean_code_of_a_mixture_is_its_whitened_principal_component() -> None:
    sample = histograms(10).astype(np.float64)
    described = sample @ code_words(sample, 6)  # what smoothing the codes gives
    covariance = np.cov(described.T)
    np.testing.assert_allclose(described.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(covariance, np.eye(6), atol=1e-3)
    # The directions are those that vary most: the first components of a plain singular value decomposition.
    centred = sample - sample.mean(0)
    _, spread, directions = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ directions[:6].T / (spread[:6] / np.sqrt(len(sample) - 1))
    signs = np.sign((expected * described).sum(0))
    np.testing.assert_allclose(described * signs, expected, atol=1e-3)


@pytest.mark.parametrize(("count", "length"), [(2, 1), (4, 3), (20, 6)])
def test_codes_are_no_longer_than_words_allow(count: int, length: int) -> None:
    assert code_words(histograms(count), 6).shape == (count, length)


def test_found_words_lie_among_the_embeddings_and_repeat() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.uniform(0, 1, (3000, 3)).astype(np.float32)
    centres = find_words(embeddings, 16, seed=1)
    assert centres.shape == (16, 3)
    assert ((centres > 0) & (centres < 1)).all()
    np.testing.assert_array_equal(find_words(embeddings, 16, seed=1), centres)
