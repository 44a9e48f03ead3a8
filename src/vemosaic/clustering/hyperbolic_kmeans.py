"""Hyperbolic k-means: Lloyd's algorithm on the Poincaré ball, with its distance and its Fréchet mean."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vemosaic.clustering.kmeans import check_sample
from vemosaic.hyperbolic import poincare

SETTLED = 1e-3  # a restart ends where its inertia falls by less than this share in one iteration
CONVERGED = 1e-13  # the same for the best of them, which goes on
ITERATIONS = 500  # at most, of each


def fit_hyperbolic_kmeans(
    sample: npt.NDArray[np.float32], k: int, seed: int = 0, restarts: int = 20, option: str = "--clusters"
) -> npt.NDArray[np.float32]:
    r"""Cluster points of the Poincaré ball of curvature -1 (Hsu et al. 2021, section 3.3).

    Minimises the inertia :math:`\sum_i \min_j d(x_i, c_j)^2`. Each restart is seeded as k-means++ is (Arthur and
    Vassilvitskii 2007), with the Poincaré distance. An iteration gives every point to its nearest centre and takes one
    step of the Fréchet mean's iteration (Lou et al. 2020, see `poincare.frechet_mean`) for every centre: both lower the
    inertia, and where nothing moves any more the centres are the Fréchet means. Restarts go on until their inertia
    settles to 1e-3, the best of them until it does to 1e-13.

    Parameters
    ----------
    sample
        ``(N, C)``; points at or beyond the boundary of the ball are pulled into it.
    k
        Clusters.
    seed
        Of the initial centres.
    restarts
        Of which the best is taken.
    option
        What the user would change, were k too large.

    Returns
    -------
    ndarray, (k, C), float32
        The centres.

    Raises
    ------
    VemosaicError
        If there are fewer different points than clusters, or an embedding is not finite.
    """
    points = poincare.project(torch.from_numpy(sample)).double()
    check_sample(points.numpy(), k, option)
    generator = torch.Generator().manual_seed(seed)
    gap = 1 - points.square().sum(1)
    centres, inertia = _settle(points, gap, _seed(points, gap, k, restarts, generator), SETTLED)
    best, _ = _settle(points, gap, centres[inertia.argmin()][None], CONVERGED)
    return best[0].float().numpy()


def nearest(embedding: Tensor, centres: npt.NDArray[np.float32]) -> Tensor:
    """Give each point the number of its nearest centre in Poincaré distance.

    Parameters
    ----------
    embedding
        Points of the ball of curvature -1, ``(..., C)``, on any device.
    centres
        ``(k, C)``.

    Returns
    -------
    Tensor, (...), uint8
        1..k; ties go to the smaller number.
    """
    points = poincare.project(embedding.flatten(0, -2))
    places = poincare.project(torch.from_numpy(centres).to(points))
    # The distance grows with |x - c|^2 over both gaps, and the point's own is the same for all centres.
    scores = _squares(points, places) / (1 - places.square().sum(1))
    return (scores.argmin(1) + 1).to(torch.uint8).view(embedding.shape[:-1])


def _squares(points: Tensor, centres: Tensor) -> Tensor:
    """Squared Euclidean distances ``(N, C)`` x ``(M, C)`` to ``(N, M)``, from differences: nothing cancels."""
    return torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist").square_()


def _distances(points: Tensor, gap: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of each point to the nearest of each set of centres ``(R, k, C)``, and which that is: ``(R, N)``."""
    scores = _squares(points, centres.flatten(0, 1)).view(-1, *centres.shape[:2])  # (N, R, k)
    best, label = (scores / (1 - centres.square().sum(-1))).min(-1)
    return 2 * (best.T / gap).sqrt().asinh(), label.T


def _seed(points: Tensor, gap: Tensor, k: int, restarts: int, generator: torch.Generator) -> Tensor:
    """Draw centres ``(R, k, C)``: each next one with a chance in proportion to its squared distance to those drawn."""
    chosen = torch.randint(len(points), (restarts, 1), generator=generator)
    closest, _ = _distances(points, gap, points[chosen])
    for _ in range(1, k):
        following = torch.multinomial(closest.square(), 1, generator=generator)  # (R, 1)
        closest = closest.minimum(_distances(points, gap, points[following])[0])
        chosen = torch.cat((chosen, following), 1)
    return points[chosen]


def _settle(points: Tensor, gap: Tensor, centres: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Iterate sets of centres ``(R, k, C)`` until each settles; return them and the inertia of each, ``(R,)``."""
    centres = centres.clone()
    inertia = points.new_full((len(centres),), torch.inf)
    moments = torch.cat((torch.ones_like(gap)[:, None], points, gap[:, None]), 1)  # (N, C + 2)
    active = torch.arange(len(centres))
    for _ in range(ITERATIONS):
        distances, label = _distances(points, gap, centres[active])
        total = distances.square().sum(1)
        going = total < inertia[active] * (1 - tolerance)
        inertia[active] = total
        active, distances, label = active[going], distances[going], label[going]
        if not len(active):
            break
        centres[active] = _step(points, moments, distances, label, centres.shape[1])
    return centres, inertia


def _step(points: Tensor, moments: Tensor, distances: Tensor, label: Tensor, k: int) -> Tensor:
    """Move centres one step towards the Fréchet means of their points: ``(R, k, C)``."""
    alpha = poincare.tangent_slope(distances) / moments[:, -1]  # (R, N)
    shares = alpha.new_zeros(*label.shape, k).scatter_(2, label[..., None], alpha[..., None])  # (R, N, k)
    sums = shares.transpose(1, 2) @ moments  # (R, k, C + 2)
    total = sums[..., :1]
    means = sums / total.clamp_min(poincare.TINY)
    centroid, gap = means[..., 1:-1], means[..., -1:]
    variance = (1 - gap - centroid.square().sum(-1, keepdim=True)).clamp_min(0)
    centres = poincare.bound_minimum(centroid, gap, variance)
    for restart, cluster in (total[..., 0] == 0).nonzero().tolist():  # empty: begins anew where points fare worst
        farthest = distances[restart].argmax()
        centres[restart, cluster] = points[farthest]
        distances[restart, farthest] = 0
    return centres
