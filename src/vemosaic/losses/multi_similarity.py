"""The multi-similarity loss: pulls transformed views of one place together and pushes other places away."""

from __future__ import annotations

import torch
from torch import Tensor


def multi_similarity(
    semantic: Tensor, alpha: float = 1.0, beta: float = 1.0, margin: float = 1.0, false_negatives: float = 0.0
) -> Tensor:
    r"""Multi-similarity loss on Euclidean distances (Han et al. 2022, Eq. 3).

    With :math:`d_{jikl}` the Euclidean distance between replicate *j* of sample *i* and replicate *k* of sample
    *l*,

    .. math::
        L_{MS} = \frac{1}{b (1 + n_{pos})} \sum_{i,j} \Big\{
            \frac{1}{\alpha} \log\big[1 + \sum_{k \ne j} e^{\alpha (d_{jiki} - \lambda)}\big] +
            \frac{1}{\beta} \log\big[1 + \sum_k \sum_{l \ne i} e^{-\beta (d_{jikl} - \lambda)}\big] \Big\}.

    Both signs are turned against the equation as printed. There *S* is the similarity of Wang et al. 2019
    (https://doi.org/10.1109/CVPR.2019.00516), while the paper's text calls it a distance and its code uses one; with
    a distance in the printed form, a step down the loss would drive positives apart.

    Two places of cytoplasm are no true negatives. Where `false_negatives` is not 0, the nearest negatives of each point
    are taken for such and left out, as in Huynh et al. 2022 (https://arxiv.org/abs/2011.11765).

    Parameters
    ----------
    semantic
        Semantic part of the latent means, ``(B, R, d_MS)``: B samples, each an anchor and its positives,
        R = 1 + n_pos.
    alpha, beta
        Scales of the positive and the negative term.
    margin
        The distance lambda beyond which a positive weighs, and within which a negative does.
    false_negatives
        Share of each point's negatives that are left out, the nearest ones, rounded down; less than 1.

    Returns
    -------
    Tensor, scalar

    Raises
    ------
    ValueError
        If `semantic` is not three-dimensional, or has fewer than two samples or two replicates.
    """
    if semantic.ndim != 3 or semantic.shape[0] < 2 or semantic.shape[1] < 2:
        raise ValueError(f"expected (B >= 2, R >= 2, d_MS), got {tuple(semantic.shape)}")
    samples, replicates, _ = semantic.shape
    points = semantic.flatten(0, 1)  # (B R, d_MS)
    distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")  # (B R, B R)
    sample = torch.arange(samples * replicates, device=points.device) // replicates
    same = sample[:, None] == sample[None, :]
    itself = torch.eye(len(points), dtype=torch.bool, device=points.device)
    positive = (alpha * (distance - margin)).masked_fill(~same | itself, -torch.inf)
    negative = (-beta * (distance - margin)).masked_fill(same, -torch.inf)
    left_out = int(false_negatives * (samples - 1) * replicates)
    if left_out:
        nearest = negative.detach().topk(left_out, dim=1).indices
        negative = negative.scatter(1, nearest, -torch.inf)
    return (_log1p_sum_exp(positive) / alpha + _log1p_sum_exp(negative) / beta).mean()


def _log1p_sum_exp(exponent: Tensor) -> Tensor:
    """log(1 + sum over the last axis of exp), without overflow."""
    return torch.nn.functional.softplus(torch.logsumexp(exponent, dim=-1))
