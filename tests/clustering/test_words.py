from __future__ import annotations

import numpy as np
import pytest
import torch

from vemosaic.clustering import Words, code_words, find_words


def histograms(words: int, seed: int = 0) -> np.ndarray:
    """Mixtures of words around 500 voxels, that vary along some directions more than along others."""
    rng = np.random.default_rng(seed)
    weights = rng.gamma(np.linspace(0.2, 3, words), size=(500, words))
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def test_each_vector_becomes_the_code_of_its_nearest_word() -> None:
    rng = np.random.default_rng(0)
    words = Words(rng.normal(size=(9, 4)).astype(np.float32), rng.normal(size=(9, 3)).astype(np.float32))
    embedding = rng.normal(size=(5, 6, 7, 4)).astype(np.float32)
    nearest = ((embedding[..., None, :].astype(np.float64) - words.centres) ** 2).sum(-1).argmin(-1)
    encoded = words.encode(torch.from_numpy(embedding))
    assert words.channels == 3
    assert torch.equal(encoded, torch.from_numpy(words.codes[nearest]))


def test_mean_code_of_a_mixture_is_its_whitened_principal_component() -> None:
    sample = histograms(10).astype(np.float64)
    words = code_words(np.zeros((10, 4), np.float32), [sample[:100], sample[100:]], 6)
    described = sample @ words.codes  # what smoothing the codes gives
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
    assert code_words(np.zeros((count, 4), np.float32), [histograms(count)], 6).codes.shape == (count, length)


def test_found_words_lie_among_the_embeddings_and_repeat() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.uniform(0, 1, (3000, 3)).astype(np.float32)
    centres = find_words(embeddings, 16, seed=1)
    assert centres.shape == (16, 3)
    assert ((centres > 0) & (centres < 1)).all()
    np.testing.assert_array_equal(find_words(embeddings, 16, seed=1), centres)
