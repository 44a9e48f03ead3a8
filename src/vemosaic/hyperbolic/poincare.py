r"""The Poincaré ball of curvature -c: plain functions on tensors ``(..., d)`` that broadcast.

Its points are :math:`\{x \in R^d : c |x|^2 < 1\}`, its metric is :math:`\lambda_x^2` times the Euclidean one with the
conformal factor :math:`\lambda_x = 2 / (1 - c |x|^2)` (Ganea, Bécigneul and Hofmann 2018, https://arxiv.org/abs/1805.09112,
section 2).

Near the boundary the textbook forms cancel. With the gap :math:`g_x = 1 - c |x|^2` and :math:`\delta = y - x`,

.. math::
    (-x) \oplus y = \frac{g_x \delta - c |\delta|^2 x}{g_x g_y + c |\delta|^2}, \qquad
    d(x, y) = \frac{2}{\sqrt c} \sinh^{-1} q, \qquad q = \frac{\sqrt c |\delta|}{\sqrt{g_x g_y}}

say the same without the difference of nearly equal numbers; all functions here are built on them. Points at or beyond
the boundary are taken as their `project`-ion, so that every value and every gradient is finite.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TINY = 1e-15
"""What lengths are held above where they divide; ``tanh(TINY) / TINY`` and its like are exactly 1."""

MARGINS = {torch.float32: 1e-3, torch.float64: 1e-8}
"""How far within the unit ball points are kept. The gap of a point there is 2e-3 (or 2e-8), which the rounding of its
norm changes by less than one part in 10,000; it lies 7.6 (or 19.1) from the origin."""


def project(x: Tensor, c: float = 1.0) -> Tensor:
    """Pull points at or beyond the boundary radially into the ball, to norm ``(1 - margin) / sqrt(c)``.

    Parameters
    ----------
    x
        Any vectors, ``(..., d)``, float32 or float64; `MARGINS` gives the margin of each.
    c
        Minus the curvature.
    """
    largest = (1 - MARGINS[x.dtype]) / math.sqrt(c)
    length = _length(x)
    return torch.where(length > largest, x * (largest / length), x)


def conformal_factor(x: Tensor, c: float = 1.0) -> Tensor:
    r"""Return :math:`\lambda_x = 2 / (1 - c |x|^2)`, ``(..., 1)``."""
    return 2 / _gap(project(x, c), c)


def mobius_add(x: Tensor, y: Tensor, c: float = 1.0) -> Tensor:
    r"""Möbius addition (Ganea et al. 2018, section 2.3), ``(..., d)``.

    .. math:: x \oplus y = \frac{(1 + 2 c \langle x, y \rangle + c |y|^2) x + (1 - c |x|^2) y}
        {1 + 2 c \langle x, y \rangle + c^2 |x|^2 |y|^2}
    """
    x, y = project(x, c), project(y, c)
    total = x + y
    square = c * total.square().sum(-1, keepdim=True)
    gap = _gap(x, c)
    return project((gap * total + square * x) / (gap * _gap(y, c) + square), c)


def distance(x: Tensor, y: Tensor, c: float = 1.0) -> Tensor:
    r"""Geodesic distance, ``(...)``: :math:`\frac{1}{\sqrt c} \cosh^{-1}\big(1 + \frac{2 c |x-y|^2}{g_x g_y}\big)`.

    Hsu et al. 2021 (https://arxiv.org/abs/2012.01644), Eq. 1.
    """
    x, y = project(x, c), project(y, c)
    return (2 / math.sqrt(c)) * _half_sinh(x, y, c).asinh().squeeze(-1)


def exp_map_origin(v: Tensor, c: float = 1.0) -> Tensor:
    r"""Exponential map at the origin: :math:`\tanh(\sqrt c |v|) \, v / (\sqrt c |v|)`, ``(..., d)``."""
    length = math.sqrt(c) * _length(v)
    return project(length.tanh() / length * v, c)


def log_map_origin(y: Tensor, c: float = 1.0) -> Tensor:
    r"""Logarithm at the origin: :math:`\tanh^{-1}(\sqrt c |y|) \, y / (\sqrt c |y|)`, ``(..., d)``."""
    y = project(y, c)
    length = math.sqrt(c) * _length(y)
    return length.atanh() / length * y


def exp_map(x: Tensor, v: Tensor, c: float = 1.0) -> Tensor:
    r"""Exponential map at a point (Hsu et al. 2021, Eq. 2): where the geodesic from x along v arrives.

    .. math:: \exp_x(v) = x \oplus \Big(\tanh\big(\tfrac{\sqrt c \lambda_x |v|}{2}\big) \frac{v}{\sqrt c |v|}\Big)

    Parameters
    ----------
    x
        Points, ``(..., d)``.
    v
        Tangent vectors there, ``(..., d)``.
    c
        Minus the curvature.
    """
    x = project(x, c)
    return mobius_add(x, exp_map_origin(v / _gap(x, c), c), c)


def log_map(x: Tensor, y: Tensor, c: float = 1.0) -> Tensor:
    r"""Logarithm at a point (Hsu et al. 2021, Eq. 3): the tangent vector at x whose geodesic leads to y, ``(..., d)``.

    .. math:: \log_x(y) = \frac{2}{\sqrt c \lambda_x} \tanh^{-1}(\sqrt c |w|) \frac{w}{|w|}
        = \frac{\sinh^{-1} q}{q \sqrt{1 + q^2}} \cdot \frac{g_x \delta - c |\delta|^2 x}{g_y}, \quad w = (-x) \oplus y
    """
    x, y = project(x, c), project(y, c)
    q = _half_sinh(x, y, c).clamp_min(TINY)
    difference = y - x
    direction = _gap(x, c) * difference - c * difference.square().sum(-1, keepdim=True) * x
    return q.asinh() / (q * (1 + q * q).sqrt()) * direction / _gap(y, c)


def transport_from_origin(x: Tensor, v: Tensor, c: float = 1.0) -> Tensor:
    r"""Parallel transport of v from the origin to x: :math:`(\lambda_0 / \lambda_x) v`, ``(..., d)``.

    Ganea et al. 2018, theorem 4.
    """
    return _gap(project(x, c), c) * v


def gyroplane_distance(points: Tensor, offsets: Tensor, normals: Tensor, c: float = 1.0) -> Tensor:
    r"""Signed distance of points to gyroplanes, the geodesic hyperplanes of the ball.

    .. math:: \pm d(x, H_{a,p}) = \frac{1}{\sqrt c} \sinh^{-1}
        \frac{2 \sqrt c \langle (-p) \oplus x, a \rangle}{(1 - c |(-p) \oplus x|^2) |a|}

    (Ganea et al. 2018, theorem 5; Hsu et al. 2021, Eq. 6); positive on the side that a points to. The
    denominators of the Möbius sum cancel, which leaves products of two matrices.

    Parameters
    ----------
    points
        x, ``(..., d)``.
    offsets
        A point p on each gyroplane, ``(G, d)``.
    normals
        A vector a perpendicular to each gyroplane at its p, ``(G, d)``; only its direction matters.
    c
        Minus the curvature.

    Returns
    -------
    Tensor, (..., G)
    """
    x, p = project(points, c), project(offsets, c)
    a = normals / _length(normals)
    along = 1 - 2 * c * x @ p.T + c * x.square().sum(-1, keepdim=True)  # (..., G)
    gap = _gap(p, c).squeeze(-1)  # (G,)
    sine = gap * (x @ a.T) - along * (p * a).sum(-1)
    return (2 * math.sqrt(c) * sine / (gap * _gap(x, c))).asinh() / math.sqrt(c)


def frechet_mean(
    x: Tensor, weights: Tensor | None = None, c: float = 1.0, tolerance: float | None = None, iterations: int = 1000
) -> Tensor:
    r"""Weighted Fréchet mean, the minimiser of :math:`\sum_l w_l d(x_l, y)^2` over y, ``(..., d)``.

    Lou et al. 2020 (https://arxiv.org/abs/2003.00335), algorithm 1: the squared distance is a concave function of
    :math:`|x_l - y|^2 / (g_l g_y)`, so that its tangent at the present y bounds the sum from above, and the bound's
    minimum is known (`bound_minimum`). Every step goes down, without a step size.

    Parameters
    ----------
    x
        Points, ``(..., N, d)``.
    weights
        ``(..., N)``, not negative, with a positive sum; equal where None.
    c
        Minus the curvature.
    tolerance
        The iteration ends where no mean moves further than this (Euclidean); that of the data type where None.
    iterations
        After how many steps it ends at the latest.
    """
    tolerance = 8 * torch.finfo(x.dtype).eps if tolerance is None else tolerance
    x = math.sqrt(c) * project(x, c)  # in the unit ball
    weights = x.new_ones(x.shape[:-1]) if weights is None else weights
    pull = weights / _gap(x).squeeze(-1)  # (..., N)
    mean = _weighted_minimum(x, pull)
    for _ in range(iterations):
        before, mean = mean, _weighted_minimum(x, pull * tangent_slope(distance(x, mean.unsqueeze(-2))))
        if (mean - before).abs().amax() <= tolerance:
            break
    return mean / math.sqrt(c)


def tangent_slope(distances: Tensor) -> Tensor:
    r"""Slope of :math:`d^2` as a function of :math:`|x - y|^2 / (g_x g_y)`, up to a factor of 4: :math:`d / \sinh d`.

    For curvature -1.
    """
    held = distances.clamp_min(TINY)
    return held / held.sinh()


def bound_minimum(centroid: Tensor, gap: Tensor, variance: Tensor) -> Tensor:
    r"""Minimiser over the unit ball of :math:`\sum_l \alpha_l |x_l - y|^2 / (1 - |y|^2)`, the weights adding up to 1.

    .. math:: y = \frac{2 \bar x}{2 - G + \sqrt{G^2 + 4 V}}

    Lou et al. 2020, in terms that do not cancel near the boundary.

    Parameters
    ----------
    centroid
        :math:`\bar x = \sum_l \alpha_l x_l`, ``(..., d)``.
    gap
        :math:`G = \sum_l \alpha_l (1 - |x_l|^2)`, ``(..., 1)``.
    variance
        :math:`V = \sum_l \alpha_l |x_l - \bar x|^2`, ``(..., 1)``.
    """
    return project(2 * centroid / (2 - gap + (gap * gap + 4 * variance).sqrt()))


def _weighted_minimum(x: Tensor, alpha: Tensor) -> Tensor:
    alpha = (alpha / alpha.sum(-1, keepdim=True)).unsqueeze(-1)  # (..., N, 1)
    centroid = (alpha * x).sum(-2, keepdim=True)
    variance = (alpha * (x - centroid).square().sum(-1, keepdim=True)).sum(-2)
    return bound_minimum(centroid.squeeze(-2), (alpha * _gap(x)).sum(-2), variance)


def _length(x: Tensor) -> Tensor:
    """Euclidean norm, ``(..., 1)``, held above zero; its gradient at zero is zero."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return length.clamp_min(TINY)


def _gap(x: Tensor, c: float = 1.0) -> Tensor:
    """1 - c |x|^2 of projected points, ``(..., 1)``."""
    return 1 - c * x.square().sum(-1, keepdim=True)


def _half_sinh(x: Tensor, y: Tensor, c: float) -> Tensor:
    """Sinh of half the distance at curvature -1, q, of projected points, ``(..., 1)``."""
    between: Tensor = torch.linalg.vector_norm(y - x, dim=-1, keepdim=True)
    return math.sqrt(c) * between / (_gap(x, c) * _gap(y, c)).sqrt()
