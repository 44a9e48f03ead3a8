"""Self-distillation: replicates must agree on the prototypes that they are assigned to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ablation.ideas import HEAD, Drawn, Idea
from vemosaic.models.settings import Objective
from vemosaic.models.vae import VAE


@dataclass(frozen=True)
class Prototypes(Idea):
    r"""Swapped prediction: each replicate must tell to which prototypes the others of its sample are assigned.

    After Caron et al. 2020 (https://arxiv.org/abs/2006.09882), but with Euclidean distances to the prototypes, as the
    embedding is clustered by these: :math:`p \propto e^{-d^2 / 2}`, and the assignments, twice as sharp, are made
    equally many for all prototypes by Sinkhorn and Knopp's iterations.

    Attributes
    ----------
    count
        Of prototypes.
    multi_similarity
        Weight of the multi-similarity loss beside them, relative to its usual one.
    iterations
        Of Sinkhorn and Knopp.
    """

    count: int = 64
    multi_similarity: float = 0.0
    iterations: int = 3

    def head(self, vae: VAE) -> nn.Module:
        """The prototypes, ``(count, d_MS)``, standard normal at first."""
        prototypes = nn.Linear(vae.semantic, self.count, bias=False)
        nn.init.normal_(prototypes.weight)
        return prototypes

    def metric(self, vae: VAE, features: Tensor, semantic: Tensor, drawn: Drawn, objective: Objective) -> Tensor:
        """Swapped prediction in the place of the multi-similarity loss, or added to it."""
        swapped = swapped_prediction(semantic, vae.get_parameter(f"{HEAD}.weight"), self.iterations)
        if not self.multi_similarity:
            return swapped
        return swapped + self.multi_similarity * super().metric(vae, features, semantic, drawn, objective)


def swapped_prediction(semantic: Tensor, prototypes: Tensor, iterations: int) -> Tensor:
    """Mean cross-entropy between each replicate's probabilities and the assignments of the others of its sample.

    Parameters
    ----------
    semantic
        ``(B, R, d_MS)``.
    prototypes
        ``(K, d_MS)``.
    iterations
        Of Sinkhorn and Knopp.
    """
    closeness = -0.5 * (semantic[:, :, None] - prototypes).square().sum(-1)  # (B, R, K)
    with torch.no_grad():
        assigned = sinkhorn((2 * closeness).flatten(0, 1), iterations).unflatten(0, semantic.shape[:2])
        others = (assigned.sum(1, keepdim=True) - assigned) / (semantic.shape[1] - 1)
    return -(others * closeness.log_softmax(-1)).sum(-1).mean()


def sinkhorn(scores: Tensor, iterations: int) -> Tensor:
    """Assign N points to K prototypes, equally many to each, by scores ``(N, K)``; rows of the result sum to 1."""
    logs = scores
    for _ in range(iterations):
        logs = logs.log_softmax(0)  # each prototype the same
        logs = logs.log_softmax(1)  # each point one
    return logs.exp()
