r"""The wrapped normal on the Poincaré ball: a Gaussian in the tangent space of its mean, mapped down by geodesics.

Mathieu, Le Lan, Maddison, Tomioka and Teh 2019 (https://arxiv.org/abs/1901.06033), section 3.1.
Densities are with respect to the ball's own measure, :math:`d\mathcal{M}(z) = \lambda_z^d \, dz`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vemosaic.hyperbolic.poincare import TINY, conformal_factor, distance, exp_map, log_map


def rsample(mean: Tensor, scale: Tensor, noise: Tensor, c: float = 1.0) -> Tensor:
    r"""Draw points, differentiable in mean and scale: :math:`z = \exp_\mu(\sigma \epsilon / \lambda_\mu)`.

    Parameters
    ----------
    mean
        Points of the ball, ``(..., d)``.
    scale
        Standard deviation along each axis, as a length in the ball's metric, ``(..., d)``.
    noise
        Standard normal, ``(..., d)``.
    c
        Minus the curvature.
    """
    return exp_map(mean, scale * noise / conformal_factor(mean, c), c)


def log_prob(z: Tensor, mean: Tensor, scale: Tensor, c: float = 1.0) -> Tensor:
    r"""Logarithm of the density at z, ``(...)`` (Mathieu et al. 2019, section 3.1; Hsu et al. 2021, Eq. 4).

    .. math:: \log N_P(z \mid \mu, \Sigma) = \log N(\lambda_\mu \log_\mu(z) \mid 0, \Sigma)
        + (d - 1) \log \frac{\sqrt c \, r}{\sinh(\sqrt c \, r)}, \qquad r = d_P(\mu, z)

    Hsu et al. print it for d = 2, without the exponent d - 1.

    Parameters
    ----------
    z, mean
        Points of the ball, ``(..., d)``.
    scale
        Standard deviation along each axis, positive, ``(..., d)``.
    c
        Minus the curvature.
    """
    standard = conformal_factor(mean, c) * log_map(mean, z, c) / scale
    normal = -0.5 * standard.square() - scale.log() - 0.5 * math.log(2 * math.pi)
    return normal.sum(-1) - (z.shape[-1] - 1) * _log_sinh_ratio(math.sqrt(c) * distance(mean, z, c))


def _log_sinh_ratio(r: Tensor) -> Tensor:
    """log(sinh(r) / r), without overflow, and 0 at 0."""
    r = r.clamp_min(TINY)
    return r + torch.log(-torch.expm1(-2 * r) / (2 * r))
