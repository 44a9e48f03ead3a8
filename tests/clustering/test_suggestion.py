from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from vemosaic.clustering import Consensus, clustering_from_json, fit_consensus, fit_kmeans, lifetimes, suggested_k
from vemosaic.clustering.tree import Tree


def blobs(count: int, each: int = 400, seed: int = 0) -> npt.NDArray[np.float32]:
    """Textures far apart, at the corners of a simplex that grows a little from one to the next."""
    rng = np.random.default_rng(seed)
    corners = 10 * np.eye(count, count) * (1 + 0.1 * np.arange(count))
    return np.concatenate([rng.normal(corner, 1, (each, count)) for corner in corners]).astype(np.float32)


def of_levels(k: int, *levels: float) -> Consensus:
    numbers = np.arange(1, k + 1, dtype=np.uint8)
    tree = Tree(np.empty((0, 2), np.int64), np.array(levels)[::-1])
    return Consensus(np.eye(k, dtype=np.float32), numbers, np.eye(k, dtype=np.float32), tree)


def test_a_lifetime_is_the_share_of_thresholds_that_leave_so_many_clusters() -> None:
    tree = linkage(pdist(np.random.default_rng(1).normal(size=(12, 2))), "average")
    thresholds = np.linspace(0, tree[-1, 2], 4001)[:-1]
    counts = np.array([fcluster(tree, t, "distance").max() for t in thresholds])
    found = lifetimes(tree[::-1, 2])
    assert list(found) == list(range(2, 12))
    for k, length in found.items():
        assert length == pytest.approx((counts == k).mean() * tree[-1, 2], abs=3 * tree[-1, 2] / 4000)


@pytest.mark.parametrize("count", [5, 7])
def test_as_many_clusters_as_there_are_textures_are_suggested(count: int) -> None:
    suggestion = suggested_k(fit_consensus(blobs(count), range(4, 11)))
    assert suggestion is not None
    assert suggestion.k == count
    assert suggestion.lifetime > 2 * suggestion.next_lifetime


def test_the_range_that_was_asked_for_is_kept_to() -> None:
    found = [of_levels(k, 0.9, 0.8, 0.4, 0.39, 0.3, 0.29, 0.1) for k in (4, 6)]
    suggestion = suggested_k(found)
    assert suggestion is not None  # 3 and 7 live longer; 5 was not asked for, but lies between
    assert (suggestion.k, suggestion.next_k) == (5, 4)
    assert suggestion.lifetime == pytest.approx(0.09)


def test_a_k_between_those_asked_for_may_be_the_best() -> None:
    found = fit_consensus(blobs(5), (4, 8))
    suggestion = suggested_k(found)
    assert suggestion is not None
    assert suggestion.k == 5
    assert suggestion.reason.startswith("the tree of clusters keeps 5 of them over the widest range of heights (")


def test_the_smaller_of_equals_is_suggested() -> None:
    suggestion = suggested_k([of_levels(k, 0.75, 0.5, 0.25, 0.125) for k in (2, 4)])
    assert suggestion is not None
    assert (suggestion.k, suggestion.next_k, suggestion.lifetime) == (2, 3, 0.25)


def test_levels_stay_with_a_clustering() -> None:
    sample = blobs(5)
    clusters = fit_consensus(sample, (4, 8), seed=3)[1]
    assert (np.diff(clusters.levels) <= 0).all()
    again = clustering_from_json(json.loads(json.dumps(clusters.to_json())))
    darkest = clusters.ordered_by(sample, sample[:, 0])
    for other in (again, darkest):
        assert isinstance(other, Consensus)
        np.testing.assert_array_equal(other.levels, clusters.levels)


def test_without_a_tree_or_a_choice_nothing_is_suggested() -> None:
    sample = blobs(3)
    assert suggested_k([fit_kmeans(sample, k) for k in (2, 4)]) is None
    assert suggested_k(fit_consensus(sample, [4])) is None
    before = fit_consensus(sample, (2, 4))[0].to_json()
    del before["levels"]  # as a version that did not have them wrote it
    assert suggested_k([clustering_from_json(before)]) is None
