from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vemosaic.clustering import Clusters, assign
from vemosaic.clustering import statistics as module


def slow_assign(embedding: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The nearest centre in float64, the first of several; numbers from 1."""
    labels = np.empty(len(embedding), np.uint8)
    for i, vector in enumerate(embedding.astype(np.float64)):
        labels[i] = 1 + min(range(len(centres)), key=lambda c: ((vector - centres[c].astype(np.float64)) ** 2).sum())
    return labels


def clusters_of(k: int, channels: int, seed: int) -> Clusters:
    return Clusters(np.random.default_rng(seed).normal(size=(k, channels)).astype(np.float32))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(1, 8), st.integers(0, 2**16))
def test_assigns_the_nearest_centre(k: int, channels: int, seed: int) -> None:
    clusters = clusters_of(k, channels, seed)
    embedding = 2 * np.random.default_rng(seed + 1).normal(size=(200, channels)).astype(np.float32)
    labels = assign(torch.from_numpy(embedding), [clusters])[0]
    assert labels.dtype == torch.uint8
    distance = ((embedding[:, None].astype(np.float64) - clusters.centres) ** 2).sum(-1)
    nearest = np.sort(distance, 1)
    clear = k == 1 or nearest[:, 1] - nearest[:, 0] > 1e-5  # float32 cannot tell what is nearer than that
    same = labels.numpy() == slow_assign(embedding, clusters.centres)
    assert np.all(same | ~np.broadcast_to(clear, same.shape))
    assert same.mean() > 0.99


def test_ties_go_to_the_smaller_number() -> None:
    grid = np.array([[x, y] for x in range(-4, 5) for y in range(-4, 5)], np.float32)  # exact in float32
    centres = np.array([[2, 2], [-2, 2], [-2, -2], [2, -2], [2, 2], [0, 0]], np.float32)
    labels = assign(torch.from_numpy(grid), [Clusters(centres)])[0].numpy()
    np.testing.assert_array_equal(labels, slow_assign(grid, centres))
    assert 5 not in labels  # the same place as number 1
    assert labels[grid.tolist().index([0.0, 2.0])] == 1  # as near to 1, 2, 5 and 6
    assert labels[grid.tolist().index([-2.0, 0.0])] == 2  # as near to 2, 3 and 6


def test_several_at_once_equal_one_by_one() -> None:
    found = [clusters_of(k, 5, k) for k in (4, 7, 2, 10)]
    embedding = torch.randn(6, 7, 8, 5, generator=torch.Generator().manual_seed(0))
    together = assign(embedding, found)
    assert [int(labels.max()) for labels in together] == [4, 7, 2, 10]
    for labels, clusters in zip(together, found, strict=True):
        assert labels.shape == (6, 7, 8)
        assert torch.equal(labels, assign(embedding, [clusters])[0])


def test_ordering_is_by_the_mean_of_the_values() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [10, 0], [0, 10], [50, 50]], np.float32)
    which = rng.integers(0, 3, 300)  # nobody belongs to the last
    sample = (centres[which] + rng.normal(size=(300, 2))).astype(np.float32)
    values = (np.array([200, 90, 130])[which] + rng.normal(size=300)).astype(np.float32)
    ordered = Clusters(centres).ordered_by(sample, values)
    np.testing.assert_array_equal(ordered.centres, centres[[1, 2, 0, 3]])  # dark to bright, the empty one last
    again = ordered.ordered_by(sample, values)
    np.testing.assert_array_equal(again.centres, ordered.centres)
    labels = assign(torch.from_numpy(sample), [ordered])[0].numpy()
    means = [values[labels == number].mean() for number in (1, 2, 3)]
    assert means == sorted(means)


@pytest.mark.parametrize("k", [1, 255])
def test_all_numbers_fit(k: int) -> None:
    centres = np.arange(k, dtype=np.float32)[:, None]
    labels = assign(torch.from_numpy(centres), [Clusters(centres)])[0]
    assert labels.tolist() == list(range(1, k + 1))


@pytest.mark.parametrize("count", [0, 1, 511, 512, 1025, 2600])
def test_long_embeddings_are_assigned_in_parts(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [clusters_of(k, 5, k) for k in (4, 7)]
    embedding = torch.randn(count, 5, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(module, "CACHED", 11 * 1024)  # two blocks at a time
    for labels, clusters in zip(assign(embedding, found), found, strict=True):
        np.testing.assert_array_equal(labels.numpy(), slow_assign(embedding.numpy(), clusters.centres))


def test_ties_do_not_disturb_their_neighbours() -> None:
    centres = np.array([[1.0], [-1.0]], np.float32)
    embedding = torch.linspace(-4, 4, 4001)[:, None].round(decimals=1)  # many zeros, as near to one as to the other
    labels = assign(embedding, [Clusters(centres), Clusters(np.array([[0.0], [9.0]], np.float32))])
    assert torch.equal(labels[0], torch.where(embedding[:, 0] >= 0, 1, 2).to(torch.uint8))
    assert (labels[1] == 1).all()
