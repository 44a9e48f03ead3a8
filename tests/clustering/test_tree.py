"""One tree for all k."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import cut_tree, linkage
from scipy.spatial.distance import squareform

from vemosaic.clustering.tree import EDGES, HALVED, SMALL, TRUST, WAYS, grow_tree

Matrix = npt.NDArray[np.float64]


def drawn(count: int, seed: int) -> tuple[Matrix, Matrix, Matrix]:
    """Votes, numbers of neighbours and sums of their conductances; some clusters never touch."""
    rng = np.random.default_rng(seed)
    votes, numbers, means = rng.random((3, count, count))
    votes, numbers, means = (each + each.T for each in (votes / 2, numbers, means / 2))
    np.fill_diagonal(votes, 1)
    counts = np.floor(np.maximum(numbers - 0.7, 0) * 100)
    return votes, counts, counts * means


def cost(
    one: list[int], other: list[int], votes: Matrix, counts: Matrix, sums: Matrix, mean: float, sizes: list[int]
) -> float:
    """What it costs to unite two sets of clusters, anew from their parts."""

    def conductance(pairs: list[tuple[int, int]]) -> float:
        seen = sum(counts[i, j] for i, j in pairs)
        return float((sum(sums[i, j] for i, j in pairs) + TRUST * mean) / (seen + TRUST))

    within = [conductance([(i, j) for i in part for j in part if i <= j]) for part in (one, other)]
    between = list(itertools.product(one, other))
    apart = 1 - float(np.mean([votes[pair] for pair in between]))
    across = sum(sums[pair] for pair in between)
    out = [sum(sums[i, j] for i in part for j in range(len(sums)) if j not in part) for part in (one, other)]
    share = across / (max(out) + TRUST * mean)
    least = min(sum(sizes[i] for i in part) for part in (one, other)) / sum(sizes)
    small = math.log2(SMALL / least) if least < SMALL else 0
    return float(apart + EDGES / mean * (max(within) - conductance(between)) - WAYS * share - HALVED * small)


@given(st.integers(2, 9), st.integers(0, 2**16), st.integers(1, 1000))
def test_the_cheapest_union_is_made_first(count: int, seed: int, largest: int) -> None:
    votes, counts, sums = drawn(count, seed)
    sizes = np.random.default_rng(seed).integers(1, largest, count, endpoint=True)
    apart = ~np.eye(count, dtype=bool)
    if not counts[apart].any():
        return
    mean = sums[apart].sum() / counts[apart].sum()
    parts = [[i] for i in range(count)]
    highest = -np.inf
    tree = grow_tree(votes, counts, sums, sizes)
    for height, k in zip(tree.heights, range(count, 1, -1), strict=True):
        numbers = tree.cut(k)
        assert {frozenset(np.flatnonzero(numbers == n)) for n in range(1, k + 1)} == set(map(frozenset, parts))
        costs = {
            (i, j): cost(parts[i], parts[j], votes, counts, sums, mean, sizes.tolist())
            for i, j in itertools.combinations(range(len(parts)), 2)
        }
        i, j = min(costs, key=lambda pair: costs[pair])
        highest = max(highest, costs[i, j])
        np.testing.assert_allclose(height, highest, rtol=1e-9)
        parts[i] = [*parts[i], *parts[j]]
        del parts[j]
    assert tree.cut(1).tolist() == [1] * count


@given(st.integers(2, 12), st.integers(0, 2**16))
def test_without_contacts_it_is_average_linkage(count: int, seed: int) -> None:
    votes, _, _ = drawn(count, seed)
    expected = linkage(squareform(1 - votes, checks=False), "average")
    none = np.zeros_like(votes)
    for tree in (grow_tree(votes), grow_tree(votes, none, none)):
        np.testing.assert_allclose(tree.heights, expected[:, 2], atol=1e-12)
        for k in range(1, count + 1):
            pairs = set(zip(tree.cut(k).tolist(), cut_tree(expected, n_clusters=k)[:, 0].tolist(), strict=True))
            assert len(pairs) == k
            assert set(tree.cut(k)) == set(range(1, k + 1))


def test_where_all_touch_as_much_and_the_image_is_everywhere_alike_votes_tell_what_is_united() -> None:
    votes, _, _ = drawn(8, 3)
    counts = np.full((8, 8), 1000.0)
    np.fill_diagonal(votes, 1)
    assert grow_tree(votes, counts, counts).unions[0].tolist() == grow_tree(votes).unions[0].tolist()


def test_a_cluster_goes_to_what_most_of_its_ways_out_lead_into() -> None:
    """A rim between two others, as like to either, and no steeper an edge to the one than to the other."""
    votes = np.full((3, 3), 0.4) + 0.6 * np.eye(3)
    counts = np.array([[9000.0, 0, 100], [0, 9000, 900], [100, 900, 3000]])
    assert grow_tree(votes, counts, counts * 0.5).cut(2).tolist() == [1, 2, 2]


def test_textures_of_one_compartment_are_united_before_those_that_an_edge_divides() -> None:
    """By votes alone it is the other way round."""
    votes = np.array([[1, 0.3, 0.4], [0.3, 1, 0.1], [0.4, 0.1, 1]])
    counts = np.full((3, 3), 1000.0)
    sums = counts * np.array([[0.8, 0.7, 0.1], [0.7, 0.8, 0.1], [0.1, 0.1, 0.6]])
    assert grow_tree(votes).cut(2).tolist() == [1, 2, 1]
    assert grow_tree(votes, counts, sums).cut(2).tolist() == [1, 1, 2]


def test_what_was_never_seen_to_touch_is_told_by_votes() -> None:
    """The mean of what was seen elsewhere stands for it, and one contact more or less changes little."""
    votes, counts, sums = drawn(6, 5)
    counts[0, 1] = counts[1, 0] = sums[0, 1] = sums[1, 0] = 0
    seen, total = counts.copy(), sums.copy()
    seen[0, 1] = seen[1, 0] = 1
    before, after = grow_tree(votes, counts, sums), grow_tree(votes, seen, total)
    np.testing.assert_allclose(after.heights, before.heights, atol=EDGES / TRUST)


def test_a_small_cluster_is_not_left_over() -> None:
    """It has few ways out: by them the two large ones would be united first."""
    votes = np.array([[1, 0.4, 0.9], [0.4, 1, 0.4], [0.9, 0.4, 1]])
    counts = np.array([[9000.0, 900, 10], [900, 9000, 10], [10, 10, 50]])
    assert grow_tree(votes, counts, counts * 0.5).cut(2).tolist() == [1, 1, 2]
    assert grow_tree(votes, counts, counts * 0.5, np.array([10000.0, 9000, 1])).cut(2).tolist() == [1, 2, 1]
