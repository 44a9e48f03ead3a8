"""The triplet loss: a child patch must lie closer to its parent than a patch from elsewhere does, by a margin."""

from __future__ import annotations

from torch import Tensor


def triplet(positive: Tensor, negative: Tensor, margin: float = 0.2, valid: Tensor | None = None) -> Tensor:
    r"""Hinge triplet loss on given distances (Hsu et al. 2021, https://arxiv.org/abs/2012.01644, section 3.2).

    .. math:: L_{triplet} = \frac{1}{b} \sum_i \max\big(0,
        d(\mu_i, \mu_i^{pos}) - d(\mu_i, \mu_i^{neg}) + \alpha\big)

    Parameters
    ----------
    positive, negative
        Distance of each parent to its child and to its negative, ``(B,)``, in any metric.
    margin
        alpha, by which the negative must lie further.
    valid
        Which samples have a negative, bool ``(B,)``; the mean is over these alone, and 0 where there are none. All
        where None.

    Returns
    -------
    Tensor, scalar

    Raises
    ------
    ValueError
        If the shapes differ or are not one-dimensional.
    """
    if positive.ndim != 1 or positive.shape != negative.shape:
        raise ValueError(f"expected two tensors (B,), got {tuple(positive.shape)} and {tuple(negative.shape)}")
    hinge = (positive - negative + margin).relu()
    if valid is None:
        return hinge.mean()
    return hinge.masked_fill(~valid, 0).sum() / valid.sum().clamp_min(1)
