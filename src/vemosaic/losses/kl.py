"""The Kullback-Leibler term: keeps the latent variable close to a standard normal."""

from __future__ import annotations

from torch import Tensor


def kl_divergence(mean: Tensor, scale: Tensor) -> Tensor:
    r"""Kullback-Leibler divergence of the posterior from the standard normal (Han et al. 2022, Eq. 2).

    .. math:: L_{KL} = \frac{1}{b d} \sum D_{KL}\big(N(\mu_z, \sigma_z^2) \,\|\, N(0, 1)\big)
        = \frac{1}{2 b d} \sum (\mu_z^2 + \sigma_z^2 - 1 - \log \sigma_z^2)

    The order of the arguments is that of the evidence lower bound (Kingma and Welling 2013), to which the paper refers.
    The terms of an anchor and of each of its positives are summed, as in the reference implementation: only the
    number of samples *b* and of latent dimensions *d* divide.

    Parameters
    ----------
    mean, scale
        Mean and standard deviation of the latent variable, ``(B, R, d)``: B samples, R replicates of each.

    Returns
    -------
    Tensor, scalar

    Raises
    ------
    ValueError
        If the shapes differ or are not three-dimensional.
    """
    if mean.ndim != 3 or mean.shape != scale.shape:
        raise ValueError(f"expected two tensors (B, R, d), got {tuple(mean.shape)} and {tuple(scale.shape)}")
    divergence = 0.5 * (mean.square() + scale.square() - 1 - 2 * scale.log())
    return divergence.sum() / (mean.shape[0] * mean.shape[2])
