from __future__ import annotations

from functools import reduce

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from vemosaic.clustering import (
    Clusters,
    Statistics,
    assign,
    fit_kmeans,
    fit_lloyd,
    inertia,
    statistics_of,
    updated,
)
from vemosaic.errors import VemosaicError

CENTRES = np.array([[0, 0, 0], [6, 0, 0], [0, 6, 0], [0, 0, 6]], np.float32)


def groups(counts: list[int], seed: int = 0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Points around four centres, one group after another, and the group of each."""
    which = np.repeat(np.arange(4), counts)
    noise = np.random.default_rng(seed).normal(0, 0.4, (len(which), 3))
    return (CENTRES[which] + noise).astype(np.float32), which


def agreement(found: Clusters, points: npt.NDArray[np.float32], which: npt.NDArray[np.int64]) -> float:
    return float(adjusted_rand_score(which, assign(torch.from_numpy(points), [found])[0].numpy()))


@pytest.mark.parametrize("seed", range(3))
def test_separates_groups(seed: int) -> None:
    points, which = groups([500, 300, 700, 100])
    found = fit_kmeans(points, 4, seed)
    assert found.k == 4
    assert found.centres.dtype == np.float32
    assert agreement(found, points, which) > 0.999


def test_same_seed_same_centres() -> None:
    points, _ = groups([500, 300, 700, 100])
    np.testing.assert_array_equal(fit_kmeans(points, 6, 3).centres, fit_kmeans(points, 6, 3).centres)
    assert not np.array_equal(fit_kmeans(points, 6, 3).centres, fit_kmeans(points, 6, 4).centres)


def test_fewer_different_voxels_than_clusters_are_refused() -> None:
    points = np.repeat(CENTRES[:3], 50, axis=0)
    assert fit_kmeans(points, 3).k == 3
    with pytest.raises(VemosaicError, match=r"--clusters: 4 were asked for, but only 3 .*; ask for fewer"):
        fit_kmeans(points, 4)


def test_a_sample_that_begins_with_padding_is_clustered() -> None:
    """Samples come cell by cell, and the first cells of a real volume may be empty."""
    points, which = groups([500, 300, 700, 100])
    padding = np.full((2000, 3), -9, np.float32)
    found = fit_kmeans(np.concatenate([padding, points]), 5)
    assert agreement(found, points, which) > 0.999


def test_nan_is_refused() -> None:
    points, _ = groups([50, 50, 50, 50])
    points[7, 1] = np.nan
    with pytest.raises(VemosaicError, match="not a finite number"):
        fit_kmeans(points, 2)


def streamed(sample: npt.NDArray[np.float32], parts: list[npt.NDArray[np.float32]]) -> Clusters:
    """Four clusters of a sample, one step nearer to what comes in parts."""
    begun = fit_lloyd(sample, [4])
    (found,) = updated(begun, reduce(Statistics.merge, (statistics_of(torch.from_numpy(p), begun) for p in parts)))
    return found


def test_streamed_centres_follow_the_stream() -> None:
    sample, _ = groups([60, 60, 60, 60])
    points, which = groups([2000, 1500, 900, 3000], seed=1)
    shift = np.float32(0.5)
    order = np.random.default_rng(0).permutation(len(points))
    found = streamed(sample, np.array_split(points[order] + shift, 6))
    assert agreement(found, points + shift, which) > 0.999
    nearest = found.centres[((found.centres[None] - CENTRES[:, None]) ** 2).sum(-1).argmin(1)]
    np.testing.assert_allclose(nearest, CENTRES + shift, atol=0.1)
    again = streamed(sample, np.array_split(points[order] + shift, 6))
    np.testing.assert_array_equal(found.centres, again.centres)


def test_streaming_keeps_clusters_that_come_late() -> None:
    """A volume is streamed block by block: for long stretches whole clusters do not come."""
    sample, _ = groups([200, 200, 200, 200])
    points, which = groups([20_000, 20_000, 20_000, 2_000], seed=1)
    found = streamed(sample, np.array_split(points, 31))  # one group after another
    assert agreement(found, points, which) > 0.999


def slow_sums(points: npt.NDArray[np.float32], centres: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Number, sum and sum of squared lengths of what is nearest to each centre, voxel by voxel in float64."""
    sums = np.zeros((len(centres), points.shape[1] + 2))
    for point in points.astype(np.float64):
        nearest = int(((point - centres) ** 2).sum(1).argmin())
        sums[nearest] += [1, *point, (point**2).sum()]
    return sums


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 7), st.integers(0, 2**16))
def test_sums_are_those_of_what_is_nearest(ks: list[int], channels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(-64, 65, (700, channels)).astype(np.float32) / 8  # exact in float32, with ties
    found = [Clusters(rng.integers(-32, 33, (k, channels)).astype(np.float32) / 4) for k in ks]
    sums = statistics_of(torch.from_numpy(points), found)
    expected = np.concatenate([slow_sums(points, clusters.centres) for clusters in found])
    np.testing.assert_array_equal(sums.moments, expected)
    distances = [((points[:, None].astype(np.float64) - c.centres) ** 2).sum(-1).min(1).sum() for c in found]
    np.testing.assert_allclose(inertia(found, sums), distances, rtol=1e-9)


def test_an_update_is_a_step_of_lloyd() -> None:
    points, _ = groups([900, 500, 1200, 300])
    starts = [Clusters(points[:: len(points) // k][:k].copy()) for k in (3, 4, 8)]
    for start, found in zip(starts, updated(starts, statistics_of(torch.from_numpy(points), starts)), strict=True):
        model = KMeans(start.k, init=start.centres.astype(np.float64), n_init=1, max_iter=1, algorithm="lloyd")
        model.fit(points.astype(np.float64))
        np.testing.assert_allclose(found.centres, model.cluster_centers_, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("seed", range(2))
def test_lloyd_finds_as_good_a_minimum_as_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    which = rng.integers(0, 9, 25_000)  # more than the restarts see
    points = (3 * rng.normal(size=(9, 4))[which] + rng.normal(size=(25_000, 4))).astype(np.float32)
    ks = (4, 7, 10)
    found = fit_lloyd(points, ks, seed)
    assert [clusters.k for clusters in found] == list(ks)
    reached = inertia(found, statistics_of(torch.from_numpy(points), found))
    for k, total in zip(ks, reached, strict=True):
        assert total < 1.002 * KMeans(k, n_init=3, random_state=seed).fit(points).inertia_


@pytest.mark.parametrize("far", [0.0, 1e3])
def test_lloyd_separates_groups_wherever_they_lie(far: float) -> None:
    points, which = groups([500, 300, 700, 100])
    (found,) = fit_lloyd(points + np.float32(far), [4])
    assert agreement(Clusters(found.centres - np.float32(far)), points, which) > 0.999


def test_lloyd_finds_voxels_that_thinning_loses() -> None:
    """Three voxels of a kind of their own among 21,000 that are all alike: as many kinds as clusters."""
    points = np.zeros((21_000, 2), np.float32)
    points[[11, 12_222, 20_999]] = [[1, 0], [0, 1], [5, 5]]
    (found,) = fit_lloyd(points, [4])
    assert sorted(found.centres.round(6).tolist()) == [[0, 0], [0, 1], [1, 0], [5, 5]]
    with pytest.raises(VemosaicError, match=r"--clusters: 5 were asked for, but only 4 .*; ask for fewer"):
        fit_lloyd(points, [4, 5])
