from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from vemosaic.clustering import Clusters, assign, fit_kmeans, stream_kmeans
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


def test_streamed_centres_follow_the_stream() -> None:
    sample, _ = groups([60, 60, 60, 60])
    points, which = groups([2000, 1500, 900, 3000], seed=1)
    shift = np.float32(0.5)
    order = np.random.default_rng(0).permutation(len(points))
    found = stream_kmeans(sample, np.array_split(points[order] + shift, 6), [4])[0]
    assert agreement(found, points + shift, which) > 0.999
    nearest = found.centres[((found.centres[None] - CENTRES[:, None]) ** 2).sum(-1).argmin(1)]
    np.testing.assert_allclose(nearest, CENTRES + shift, atol=0.1)
    again = stream_kmeans(sample, np.array_split(points[order] + shift, 6), [4])[0]
    np.testing.assert_array_equal(found.centres, again.centres)


def test_streaming_keeps_clusters_that_come_late() -> None:
    """A volume is streamed block by block: for long stretches whole clusters do not come."""
    sample, _ = groups([200, 200, 200, 200])
    points, which = groups([20_000, 20_000, 20_000, 2_000], seed=1)
    found = stream_kmeans(sample, np.array_split(points, 31), [4])[0]  # one group after another
    assert agreement(found, points, which) > 0.999
