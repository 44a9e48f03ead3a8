from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from vemosaic.clustering import Clustering, Clusters, Consensus, HyperbolicClusters, Mixture, assign, confidence


def points(*shape: int, seed: int = 0, scale: float = 1.0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def consensus(k: int, *, fine: int = 30, seed: int = 0) -> Consensus:
    """Any consensus of the fine clusters that a seed draws, each of its clusters with at least one of them."""
    numbers = np.concatenate([np.arange(k), np.random.default_rng(k).integers(0, k, fine - k)]) + 1
    return Consensus(points(fine, 4, seed=seed), numbers.astype(np.uint8), points(k, 4, seed=k))


def mixture(k: int) -> Mixture:
    whitening = np.exp(points(k, 1, 1)) * np.eye(4, dtype=np.float32)
    return Mixture(np.full(k, 1 / k, np.float32), points(k, 4), whitening.astype(np.float32))


def obvious(embedding: np.ndarray, clusters: Clustering) -> np.ndarray:
    """Voxel by voxel."""
    labels = assign(torch.from_numpy(embedding), [clusters])[0].numpy()
    fine = clusters.fine if isinstance(clusters, Consensus) else clusters.centres
    numbers = clusters.numbers if isinstance(clusters, Consensus) else np.arange(1, clusters.k + 1)
    found = []
    for vector, label in zip(embedding.astype(np.float64), labels, strict=True):
        distances = np.linalg.norm(fine - vector, axis=1)
        own, other = distances[numbers == label].min(), distances[numbers != label].min()
        found.append(255 * max(0.0, 1 - own / other))
    return np.array(found)


@pytest.mark.parametrize(
    "clusters",
    [Clusters(points(5, 4)), consensus(2), consensus(7), mixture(6), HyperbolicClusters(points(3, 4, scale=1 / 9))],
    ids=["k-means", "consensus of 2", "consensus of 7", "mixture", "hyperbolic"],
)
def test_it_is_how_much_nearer_the_own_cluster_is(clusters: Clustering) -> None:
    embedding = points(500, 4, seed=1, scale=1 / 9 if isinstance(clusters, HyperbolicClusters) else 1)
    sure = confidence(torch.from_numpy(embedding), [clusters])[0]
    assert sure.dtype == torch.uint8
    np.testing.assert_allclose(sure.numpy(), obvious(embedding, clusters), atol=0.6)
    assert sure.float().std() > 20


def test_from_the_border_to_a_centre() -> None:
    clusters = Clusters(np.array([[0, 0], [4, 0], [0, 9]], np.float32))
    embedding = torch.tensor([[[0.0, 0.0], [2.0, 0.0]], [[1.0, 0.0], [4.0, 3.0]]])
    assert confidence(embedding, [clusters])[0].tolist() == [[255, 0], [170, 102]]


def test_several_at_once_equal_one_by_one_and_tiles_do_not_change_a_voxel() -> None:
    found = [consensus(4), consensus(9), Clusters(points(5, 4)), consensus(4, seed=5), mixture(3), consensus(2)]
    embedding = torch.from_numpy(points(20, 30, 40, 4, seed=2))
    together = confidence(embedding, found)
    for clusters, sure in zip(found, together, strict=True):
        assert sure.shape == (20, 30, 40)
        alone = confidence(embedding, [clusters])[0]
        assert (sure.int() - alone.int()).abs().max() <= 1  # sums of products in another order
        tile = confidence(embedding[3:9, 5:20, 7:8], found[:1])[0]
        assert (tile.int() - together[0][3:9, 5:20, 7:8].int()).abs().max() <= 1


def test_of_two_centres_in_one_place_none_is_sure() -> None:
    clusters = Clusters(np.array([[1, 1], [1, 1], [9, 9]], np.float32))
    assert confidence(torch.tensor([[1.0, 1.0], [2.0, 1.0]]), [clusters])[0].tolist() == [0, 0]
