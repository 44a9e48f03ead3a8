from __future__ import annotations

import itertools
import json
from functools import reduce

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import normalized_mutual_info_score

from vemosaic.clustering import (
    Clustering,
    Clusters,
    Consensus,
    Statistics,
    agreed,
    assign,
    clustering_from_json,
    fit_consensus,
    fit_kmeans,
    statistics_of,
    updated,
)
from vemosaic.clustering.merging import BALLOTS, co_association, votes_of
from vemosaic.clustering.tree import grow_tree
from vemosaic.errors import VemosaicError

Floats = npt.NDArray[np.float32]


def consensus_of(k: int, fine: int = 40, channels: int = 4, seed: int = 0) -> Consensus:
    """Any consensus, each of its clusters with at least one fine cluster."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(fine, channels)).astype(np.float32)
    numbers = rng.permutation(np.concatenate([np.arange(1, k + 1), rng.integers(1, k + 1, fine - k)]))
    return Consensus(centres, numbers.astype(np.uint8), rng.normal(size=(k, channels)).astype(np.float32))


def embedding_of(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def organelles(count: int = 12_000, seed: int = 0) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Three textures of the bulk, and a rare one whose voxels lie along a ray, as its rim is mixed with the bulk."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(4, count, p=[0.4, 0.3, 0.2, 0.1])
    places = np.array([[-2, 0, 0, 0], [2, 0, 0, 0], [0, 3, 0, 0], [0, 0, 8, 0]], np.float64)
    mixed = np.where(kind == 3, rng.uniform(0.5, 1, count), 1)
    points = places[kind] * mixed[:, None] + rng.normal(size=(count, 4)) * 0.8
    return points.astype(np.float32), kind


@pytest.fixture(scope="module")
def tree() -> tuple[Floats, npt.NDArray[np.int64], list[Consensus]]:
    points, kind = organelles()
    return points, kind, fit_consensus(points, range(2, 15), seed=1)


def dice(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def test_each_vector_belongs_where_the_nearest_fine_centre_does() -> None:
    found, embedding = [consensus_of(k) for k in (3, 9)], embedding_of(5, 6, 7, 4)
    distances = (embedding.numpy()[..., None, :].astype(np.float64) - found[0].fine) ** 2
    nearest = distances.sum(-1).argmin(-1)
    for clusters, labels in zip(found, assign(embedding, found), strict=True):
        assert labels.dtype == torch.uint8
        np.testing.assert_array_equal(labels.numpy(), clusters.numbers[nearest])


@pytest.mark.parametrize("shares", [True, False])
def test_several_at_once_equal_one_by_one(shares: bool) -> None:
    found = [consensus_of(k, seed=0 if shares else k) for k in (4, 2, 4, 7)]
    assert np.array_equal(found[0].fine, found[3].fine) == shares
    embedding = embedding_of(900, 4)
    for clusters, labels in zip(found, assign(embedding, found), strict=True):
        assert torch.equal(labels, assign(embedding, [clusters])[0])


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 12), st.integers(0, 2**16))
def test_renumbering_changes_numbers_and_nothing_else(k: int, seed: int) -> None:
    clusters, embedding = consensus_of(k, seed=seed), embedding_of(300, 4, seed=seed)
    order = np.random.default_rng(seed).permutation(k)
    other = clusters.renumbered(order)
    before, after = (assign(embedding, [c])[0].numpy() for c in (clusters, other))
    np.testing.assert_array_equal(order[after.astype(int) - 1] + 1, before)
    np.testing.assert_array_equal(other.centres, clusters.centres[order])


def test_json_brings_the_same_clusters_back() -> None:
    clusters = consensus_of(5)
    data = json.loads(json.dumps(clusters.to_json(), allow_nan=False))
    assert data["family"] == "consensus"
    again = clustering_from_json(data)
    assert type(again) is Consensus
    for name in ("fine", "numbers", "centres"):
        np.testing.assert_array_equal(getattr(again, name), getattr(clusters, name))
        assert getattr(again, name).dtype == getattr(clusters, name).dtype


def test_json_brings_the_tree_back_and_knows_those_without() -> None:
    points, _ = organelles(2000)
    clusters = fit_consensus(points, [4])[0]
    data = json.loads(json.dumps(clusters.to_json()))
    again = Consensus.from_json(data)
    np.testing.assert_array_equal(again.tree.unions, clusters.tree.unions)
    np.testing.assert_array_equal(again.tree.heights, clusters.tree.heights)
    np.testing.assert_array_equal(again.tree.cut(7), clusters.tree.cut(7))
    del data["unions"]  # as a version that did not keep them wrote it
    before = Consensus.from_json(data)
    assert before.tree.unions.shape == (0, 2)
    np.testing.assert_array_equal(before.levels, clusters.levels)


def test_numbers_go_from_dark_to_bright() -> None:
    clusters, sample = consensus_of(6), embedding_of(3000, 4).numpy()
    grey = np.random.default_rng(0).uniform(0, 255, 3000).astype(np.float32)
    labels = assign(torch.from_numpy(sample), [clusters.ordered_by(sample, grey)])[0].numpy()
    means = [grey[labels == number].mean() for number in range(1, 7)]
    assert means == sorted(means)


def test_votes_are_shares_of_coarse_clusterings() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(size=(10, 3)), rng.normal(size=(10, 3)) + 100]).astype(np.float32)
    votes = co_association(points, np.ones(20), seed=3)
    np.testing.assert_array_equal(votes, votes.T)
    np.testing.assert_array_equal(np.diag(votes), 1)
    assert (votes[:10, 10:] == 0).all()  # k-means++ never joins what is so far apart
    assert 0 < votes[:10, :10].min() < 1
    np.testing.assert_array_equal(co_association(points, np.ones(20), seed=3), votes)
    assert not np.array_equal(co_association(points, np.ones(20), seed=4), votes)


def test_weights_say_what_a_point_stands_for() -> None:
    """Two pairs: k-means with a centre too few leaves apart the one that weighs more."""
    far = 1000 * np.eye(3, 2)[[0, 0, 1, 1]].astype(np.float32)
    points = far + np.array([[0, 0], [1, 0], [0, 0], [1, 0]], np.float32)
    third = [
        [5000, 0],
        [0, 5000],
        [5000, 5000],
        [9000, 0],
        [0, 9000],
        [9000, 9000],
        [5000, 9000],
        [9000, 5000],
        [2e4, 0],
    ]
    points = np.concatenate([points, np.array(third, np.float32)])
    first, second = np.ones(13), np.ones(13)
    first[:2], second[2:4] = 1e6, 1e6
    for weights, apart, together in ((first, (0, 1), (2, 3)), (second, (2, 3), (0, 1))):
        votes = co_association(points, weights)
        assert votes[apart] < votes[together]


def test_trees_are_nested(tree: tuple[Floats, npt.NDArray[np.int64], list[Consensus]]) -> None:
    _, _, found = tree
    assert [c.k for c in found] == list(range(2, 15))
    for coarse, fine in itertools.pairwise(found):
        assert np.array_equal(coarse.fine, fine.fine)
        pairs = set(zip(coarse.numbers.tolist(), fine.numbers.tolist(), strict=True))
        assert len(pairs) == fine.k  # each cluster lies within one, and all of them are there


def test_those_with_the_most_votes_in_common_are_joined(
    tree: tuple[Floats, npt.NDArray[np.int64], list[Consensus]],
) -> None:
    """On average over all pairs of their fine clusters; so from each k to the next smaller one."""
    points, _, found = tree
    sizes = np.bincount(_nearest(points, found[0].fine), minlength=len(found[0].fine)).astype(np.float64)
    votes = co_association(found[0].fine, sizes, seed=1)
    for joined, apart in itertools.pairwise(found):
        members = [np.flatnonzero(apart.numbers == n) for n in range(1, apart.k + 1)]
        common = {
            (i, j): votes[np.ix_(members[i], members[j])].mean() for i, j in itertools.combinations(range(apart.k), 2)
        }
        chosen = [pair for pair in common if len({joined.numbers[members[i][0]] for i in pair}) == 1]
        assert len(chosen) == 1
        assert common[chosen[0]] == pytest.approx(max(common.values()), abs=1e-9)


def _nearest(points: Floats, centres: Floats) -> npt.NDArray[np.int64]:
    nearest: npt.NDArray[np.int64] = ((points[:, None].astype(np.float64) - centres) ** 2).sum(-1).argmin(1)
    return nearest


def test_centres_are_the_means_of_their_voxels_by_fine_clusters(
    tree: tuple[Floats, npt.NDArray[np.int64], list[Consensus]],
) -> None:
    points, _, found = tree
    clusters = found[5]
    sizes = np.bincount(_nearest(points, clusters.fine), minlength=len(clusters.fine)).astype(np.float64)
    for number in range(clusters.k):
        own = clusters.numbers == number + 1
        np.testing.assert_allclose(clusters.centres[number], np.average(clusters.fine[own], 0, sizes[own]), rtol=1e-5)


def test_an_organelle_stays_whole_whatever_k(tree: tuple[Floats, npt.NDArray[np.int64], list[Consensus]]) -> None:
    """Where k-means cuts the rare texture's core from its rim."""
    points, kind, found = tree
    embedding = torch.from_numpy(points)

    def best(clusters: Clustering) -> float:
        labels = assign(embedding, [clusters])[0].numpy()
        return max(dice(labels == number, kind == 3) for number in range(1, clusters.k + 1))

    ks = range(4, 12)
    assert min(best(clusters) for clusters in found if clusters.k in ks) > 0.95
    assert min(best(fit_kmeans(points, k, 1)) for k in ks) < 0.8


def test_the_same_seed_gives_the_same_bits_and_k_does_not_change_the_tree() -> None:
    points, _ = organelles(4000)
    first, again = fit_consensus(points, [4, 9], seed=2), fit_consensus(points, [9], seed=2)
    assert again[0].to_json() == first[1].to_json()


def test_trees_vote_on_each_other() -> None:
    """Against votes that are counted voxel by voxel."""
    rng = np.random.default_rng(4)
    kind = rng.integers(0, 6, 400)
    samples = [(rng.normal(size=(6, 3))[kind] + rng.normal(0, 0.4, (400, 3))).astype(np.float32) for _ in range(3)]
    fitted = [fit_consensus(sample, (3, 5), seed=seed) for seed, sample in enumerate(samples)]
    nearest = [
        assign(torch.from_numpy(sample), [Clusters(found[0].fine)])[0].numpy().astype(int) - 1
        for sample, found in zip(samples, fitted, strict=True)
    ]
    cuts = [min(k, len(found[0].fine)) for found in fitted for k in BALLOTS]
    weights = list(BALLOTS.values()) * len(fitted)
    of = [pair for pair in zip(fitted, nearest, strict=True) for _ in BALLOTS]
    labels = [found[0].tree.cut(k)[near] for k, (found, near) in zip(cuts, of, strict=True)]
    trees = [found[0].tree for found in fitted]
    for found, near, again in zip(fitted, nearest, agreed(fitted, samples), strict=True):
        count = len(found[0].fine)
        votes = np.zeros((count, count))
        for a, b in itertools.product(range(count), repeat=2):
            pairs = [np.mean(each[near == a][:, None] == each[near == b]) for each in labels]
            votes[a, b] = np.average(pairs, weights=weights)
        given = votes_of(trees, nearest, near, count)
        np.testing.assert_allclose(given, votes, atol=1e-12)
        tree = grow_tree(given, sizes=np.bincount(near, minlength=count).astype(float))
        np.testing.assert_array_equal(again[0].tree.unions, tree.unions)
        for k, clusters in zip((3, 5), again, strict=True):
            np.testing.assert_array_equal(clusters.fine, found[0].fine)
            np.testing.assert_array_equal(clusters.numbers, tree.cut(k))


def test_what_one_description_does_by_luck_is_outvoted() -> None:
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 16, 4000)
    large, small = kind // 4, kind % 4
    samples = [
        (10 * far + near + rng.normal(0, 0.1, 4000))[:, None].astype(np.float32)
        for far, near in ((large, small), (small, large), (small, large))
    ]
    fitted = [fit_consensus(sample, (4,)) for sample in samples]
    before, after = (
        assign(torch.from_numpy(samples[0]), found)[0].numpy() for found in (fitted[0], agreed(fitted, samples)[0])
    )
    assert same_partition(before, large)
    assert same_partition(after, small)


def test_many_clusters_are_told_apart_as_well_as_by_one_description() -> None:
    """More of them than any tree is cut into with a vote that counts."""
    rng = np.random.default_rng(1)
    kind = rng.integers(0, 30, 12_000)
    places = 6 * rng.normal(size=(30, 6))
    points = places[kind] + rng.normal(0, 1, (len(kind), 6))
    turns = [np.linalg.qr(rng.normal(size=(6, 6)))[0] for _ in range(3)]
    samples = [(points @ turn).astype(np.float32) for turn in turns]
    fitted = [fit_consensus(sample, (16, 20, 30), seed=seed) for seed, sample in enumerate(samples)]
    for found, sample, again in zip(fitted, samples, agreed(fitted, samples), strict=True):
        for before, after in zip(found, again, strict=True):
            alone, together = (
                normalized_mutual_info_score(kind, assign(torch.from_numpy(sample), [each])[0].numpy())
                for each in (before, after)
            )
            assert together > alone - 0.03


def same_partition(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> bool:
    """Whether two labellings differ in numbers only."""
    pairs = set(zip(a.tolist(), b.tolist(), strict=True))
    return len(pairs) == len(set(a.tolist())) == len(set(b.tolist()))


def test_few_different_voxels_become_as_many_clusters() -> None:
    points = np.repeat(np.eye(6, dtype=np.float32), 40, axis=0)
    clusters = fit_consensus(points, [6])[0]
    labels = assign(torch.from_numpy(points), [clusters])[0].numpy().reshape(6, 40)
    assert (labels == labels[:, :1]).all()
    assert sorted(labels[:, 0]) == [1, 2, 3, 4, 5, 6]


def test_one_dimension_is_enough() -> None:
    points = np.random.default_rng(0).normal(size=(2000, 1)).astype(np.float32)
    assert [c.k for c in fit_consensus(points, [2, 5])] == [2, 5]


def test_what_cannot_be_clustered_is_refused() -> None:
    points = np.repeat(np.eye(3, dtype=np.float32), 50, axis=0)
    with pytest.raises(VemosaicError, match=r"--clusters: 4 were asked for, but only 3 .*; ask for fewer"):
        fit_consensus(points, [2, 4])
    points[3, 1] = np.nan
    with pytest.raises(VemosaicError, match="not a finite number"):
        fit_consensus(points, [2])


def test_fine_centres_follow_all_voxels_and_the_votes_stay() -> None:
    rng = np.random.default_rng(5)
    sample = np.concatenate([rng.normal(m, 0.3, (400, 2)) for m in ((0, 0), (4, 0), (0, 4))]).astype(np.float32)
    begun = fit_consensus(sample, (2, 3))
    shifted = torch.from_numpy(sample + np.float32(0.1))
    parts = [statistics_of(part, begun) for part in shifted.split(100)]
    found = updated(begun, reduce(Statistics.merge, parts))
    nearest = assign(shifted, [Clusters(begun[0].fine)])[0].numpy() - 1
    for before, after in zip(begun, found, strict=True):
        np.testing.assert_array_equal(after.numbers, before.numbers)
        for number in np.unique(nearest):
            expected = shifted.numpy()[nearest == number].mean(0)
            np.testing.assert_allclose(after.fine[number], expected, atol=1e-5)
        for number in range(1, after.k + 1):
            inside = before.numbers[nearest] == number
            np.testing.assert_allclose(after.centres[number - 1], shifted.numpy()[inside].mean(0), atol=1e-4)
    np.testing.assert_array_equal(found[0].fine, found[1].fine)
