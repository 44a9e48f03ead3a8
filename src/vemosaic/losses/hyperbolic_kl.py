"""The Kullback-Leibler term of a hyperbolic VAE, estimated from one sample of the posterior."""

from __future__ import annotations

import torch
from torch import Tensor

from vemosaic.hyperbolic import wrapped_normal


def hyperbolic_kl(mean: Tensor, scale: Tensor, sample: Tensor) -> Tensor:
    r"""One-sample estimate of the divergence of wrapped normals on the Poincaré ball (Mathieu et al. 2019).

    .. math:: L_{KL} = \frac{1}{b} \sum \log q(z \mid x) - \log p(z), \qquad
        q = N_P(\mu_z, \sigma_z^2), \quad p = N_P(0, 1), \quad z \sim q

    It is the part of the Riemannian evidence lower bound (Hsu et al. 2021, Eq. 8) that has no closed form; the estimate
    is unbiased, and may be negative. The terms of all replicates and of all latent dimensions are summed: only the
    number of samples *b* divides.

    Parameters
    ----------
    mean, scale
        Mean on the ball of curvature -1 and standard deviation of the posterior, ``(B, R, d)``.
    sample
        A draw from the posterior for each, ``(B, R, d)``, differentiable in mean and scale.

    Returns
    -------
    Tensor, scalar

    Raises
    ------
    ValueError
        If the shapes differ or are not three-dimensional.
    """
    if mean.ndim != 3 or mean.shape != scale.shape or mean.shape != sample.shape:
        shapes = ", ".join(str(tuple(t.shape)) for t in (mean, scale, sample))
        raise ValueError(f"expected three tensors (B, R, d), got {shapes}")
    posterior = wrapped_normal.log_prob(sample, mean, scale)
    prior = wrapped_normal.log_prob(sample, torch.zeros_like(mean), torch.ones_like(scale))
    return (posterior - prior).sum() / len(mean)
