from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from geoopt.manifolds.stereographic import math as geoopt
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from vemosaic.clustering import hyperbolic_kmeans
from vemosaic.clustering.hyperbolic_kmeans import fit_hyperbolic_kmeans, nearest
from vemosaic.errors import VemosaicError
from vemosaic.hyperbolic import poincare

torch.set_num_threads(1)

MINUS_ONE = torch.tensor(-1.0, dtype=torch.float64)
# Two lie close together as vectors, and far apart in the ball: near its boundary lengths are long.
CENTRES = torch.tensor([[0, 0, 0], [0.9, 0, 0], [0.98, 0.05, 0], [0, -0.9, 0.3]], dtype=torch.float64)


def groups(
    counts: list[int], spread: float = 0.3, seed: int = 0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Points around four centres, and the group of each."""
    which = torch.arange(4).repeat_interleave(torch.tensor(counts))
    noise = torch.randn(len(which), 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    centres = CENTRES[which]
    points = poincare.exp_map(centres, spread * noise / poincare.conformal_factor(centres))
    return points.float().numpy(), which.numpy()


def distances(points: npt.NDArray[np.float32], centres: npt.NDArray[np.float32]) -> Tensor:
    """From each point to each centre, by geoopt: ``(N, k)``."""
    x, c = torch.from_numpy(points).double(), torch.from_numpy(centres).double()
    return geoopt.dist(x[:, None], c[None], k=MINUS_ONE)


def inertia(points: npt.NDArray[np.float32], centres: npt.NDArray[np.float32]) -> float:
    return distances(points, centres).min(1).values.square().sum().item()


@pytest.mark.parametrize("seed", range(3))
def test_separates_groups_that_are_far_apart_only_in_the_ball(seed: int) -> None:
    points, which = groups([300, 200, 250, 60])
    centres = fit_hyperbolic_kmeans(points, 4, seed)
    assert centres.shape == (4, 3)
    assert centres.dtype == np.float32
    assert adjusted_rand_score(which, nearest(torch.from_numpy(points), centres).numpy()) > 0.99


def test_same_seed_same_centres() -> None:
    points, _ = groups([100, 100, 100, 100], spread=1.5)
    assert np.array_equal(fit_hyperbolic_kmeans(points, 7, 3), fit_hyperbolic_kmeans(points, 7, 3))
    assert not np.array_equal(fit_hyperbolic_kmeans(points, 7, 3), fit_hyperbolic_kmeans(points, 7, 4))


def test_every_centre_is_the_frechet_mean_of_its_points() -> None:
    points, _ = groups([100, 100, 100, 100], spread=1.0)
    centres = fit_hyperbolic_kmeans(points, 6)
    label = distances(points, centres).argmin(1)
    for cluster in range(6):
        members = poincare.project(torch.from_numpy(points))[label == cluster].double()
        away = poincare.distance(poincare.frechet_mean(members), torch.from_numpy(centres[cluster]).double())
        assert away < 1e-4


def test_restarts_find_what_a_single_start_misses() -> None:
    points, _ = groups([100, 100, 100, 100], spread=1.5)
    single = [inertia(points, fit_hyperbolic_kmeans(points, 8, seed, restarts=1)) for seed in range(6)]
    best = inertia(points, fit_hyperbolic_kmeans(points, 8, 0))
    assert best < np.mean(single)
    assert best < 1.01 * min(single)


def test_nearest_equals_the_smallest_of_geoopts_distances() -> None:
    points, _ = groups([100, 100, 100, 100], spread=1.5)
    centres = fit_hyperbolic_kmeans(points, 9)
    label = nearest(torch.from_numpy(points).view(20, 5, 4, 3), centres)
    assert label.shape == (20, 5, 4)
    assert label.dtype == torch.uint8
    away = distances(points, centres)
    chosen = away.gather(1, label.view(-1, 1).long() - 1)[:, 0]
    torch.testing.assert_close(chosen, away.min(1).values, rtol=1e-4, atol=1e-5)
    assert set(label.unique().tolist()) == set(range(1, 10))


def test_points_at_and_beyond_the_boundary_are_clustered() -> None:
    points, which = groups([50, 50, 50, 50])
    rim = np.array([[0, 0, 1]] * 40 + [[0, 0, 1.5]] * 40, np.float32)
    all_points = np.concatenate([points, rim])
    centres = fit_hyperbolic_kmeans(all_points, 5)
    assert np.isfinite(centres).all()
    assert (np.linalg.norm(centres, axis=1) < 1).all()
    label = nearest(torch.from_numpy(all_points), centres).numpy()
    assert adjusted_rand_score(np.concatenate([which, [4] * 80]), label) > 0.98


def test_an_empty_cluster_begins_anew_where_points_fare_worst() -> None:
    array, which = groups([50, 50, 50, 50])
    points = torch.from_numpy(array).double()
    start = points[[0, 60, 110]]
    nowhere = torch.tensor([[0.0, 0.999, 0.0]], dtype=torch.float64)
    gap = 1 - points.square().sum(1)
    centres, _ = hyperbolic_kmeans._settle(points, gap, torch.cat((start, nowhere))[None], 1e-6)
    label = nearest(points, centres[0].numpy())
    assert adjusted_rand_score(which, label.numpy()) > 0.98


def test_as_many_different_points_as_clusters_are_all_centres() -> None:
    points = np.repeat(CENTRES.float().numpy(), 30, axis=0)
    centres = fit_hyperbolic_kmeans(points, 4)
    assert sorted(nearest(CENTRES.float(), centres).tolist()) == [1, 2, 3, 4]
    with pytest.raises(VemosaicError, match=r"--clusters: 5 were asked for, but only 4 .*; ask for fewer"):
        fit_hyperbolic_kmeans(points, 5)


def test_points_that_differ_only_beyond_the_boundary_are_not_different() -> None:
    points = np.array([[2, 0], [3, 0], [4, 0], [0, 0.5]] * 10, np.float32)
    with pytest.raises(VemosaicError, match=r"3 were asked for, but only 2 different"):
        fit_hyperbolic_kmeans(points, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_a_number_is_refused(value: float) -> None:
    points, _ = groups([50, 50, 50, 50])
    points[7, 1] = value
    with pytest.raises(VemosaicError, match="not a finite number"):
        fit_hyperbolic_kmeans(points, 2)
