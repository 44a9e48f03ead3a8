"""What training makes small: the terms of each objective on one batch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vemosaic.devices import Precision, autocast
from vemosaic.distributed import ALONE, Ranks
from vemosaic.hierarchy import choose_negatives
from vemosaic.hyperbolic import poincare
from vemosaic.losses import kl_divergence, multi_similarity, reconstruction
from vemosaic.losses.hyperbolic_kl import hyperbolic_kl
from vemosaic.losses.triplet import triplet
from vemosaic.models.settings import Objective, TripletObjective
from vemosaic.models.vae import VAE
from vemosaic.patches import Batch


class Inputs(NamedTuple):
    """All that the terms of a batch depend on, beside the networks; nothing random is left to draw.

    Attributes
    ----------
    patches
        ``(B, R, Z, Y, X)``: the whole batch on every process.
    noise
        Latent noise, standard normal, ``(B, R, d)``.
    negatives, valid
        What `choose_negatives` chose, where the objective needs it, each ``(B,)``.
    """

    patches: Tensor
    noise: Tensor
    negatives: Tensor | None = None
    valid: Tensor | None = None


def draw_inputs(vae: VAE, batch: Batch, objective: Objective | TripletObjective, generator: torch.Generator) -> Inputs:
    """Draw what is random about the terms of a batch.

    Parameters
    ----------
    vae
        The networks.
    batch
        The whole batch.
    objective
        What is to be computed.
    generator
        On the batch's device, in the same state on every process.
    """
    patches = batch.patches
    noise = torch.randn((*patches.shape[:2], vae.latent), generator=generator, device=patches.device)
    if not isinstance(objective, TripletObjective):
        return Inputs(patches, noise)
    return Inputs(patches, noise, *choose_negatives(batch.centres, batch.half_size, batch.volume, generator))


def loss_terms(
    vae: VAE,
    inputs: Inputs,
    objective: Objective | TripletObjective,
    ranks: Ranks = ALONE,
    precision: Precision = "float32",
) -> dict[str, Tensor]:
    """The objective, as ``"loss"``, and its terms on one batch.

    Of several processes, each gives its share: summed over them, value and gradient are those of the whole batch. The
    networks run on a process's own samples; what compares samples with each other is computed from the latent means of
    all, an equal share each.

    Parameters
    ----------
    vae
        The networks.
    inputs
        What `draw_inputs` gave.
    objective
        Which terms, and how they are weighed.
    ranks
        The processes that train together.
    precision
        Of the networks; the terms are computed in that of the patches. Networks whose latent variable lies on the
        Poincaré ball keep to that of the patches, as distances near its border would be lost.
    """
    if isinstance(objective, TripletObjective):
        return _triplet_terms(vae, inputs, objective, ranks)
    return _multi_similarity_terms(vae, inputs, objective, ranks, precision)


def _multi_similarity_terms(
    vae: VAE, inputs: Inputs, objective: Objective, ranks: Ranks, precision: Precision
) -> dict[str, Tensor]:
    """Han et al. 2022, Eqs. 1 to 4."""
    own, share = _own(inputs, ranks)
    patches = inputs.patches[own]
    with autocast(precision, patches.device):
        latent = vae(patches, inputs.noise[own])
    mean, scale, restored = (t.to(patches.dtype) for t in (latent.mean, latent.scale, latent.reconstruction))
    semantic = ranks.gather(mean[..., : vae.semantic], len(inputs.patches))  # (B, R, d_MS)
    metric = multi_similarity(semantic, objective.alpha, objective.beta, objective.margin, objective.false_negatives)
    terms = {
        "reconstruction": share * reconstruction(patches, restored),
        "kl": share * kl_divergence(mean, scale),
        "multi_similarity": metric / ranks.count,
    }
    loss = terms["reconstruction"] + objective.theta_kl * terms["kl"] + objective.theta_ms * terms["multi_similarity"]
    return {"loss": loss, **terms}


def _triplet_terms(vae: VAE, inputs: Inputs, objective: TripletObjective, ranks: Ranks) -> dict[str, Tensor]:
    """Hsu et al. 2021: the negative evidence lower bound, of a normal with unit variance, and the triplet loss.

    Distances are those of the latent means on the ball; the negative of a parent is another sample's child.
    """
    own, share = _own(inputs, ranks)
    patches = inputs.patches[own]
    latent = vae(patches, inputs.noise[own])
    parent, child = ranks.gather(latent.mean, len(inputs.patches)).unbind(1)  # (B, d)
    hinge = triplet(
        poincare.distance(parent, child),
        poincare.distance(parent, child[inputs.negatives]),
        objective.margin,
        inputs.valid,
    )
    terms = {
        "reconstruction": share * reconstruction(patches, latent.reconstruction),
        "kl": share * hyperbolic_kl(latent.mean, latent.scale, latent.sample),
        "triplet": hinge / ranks.count,
    }
    voxels = patches[0, 0].numel()
    bound = 0.5 * voxels * terms["reconstruction"] + terms["kl"]
    return {"loss": bound + objective.theta_triplet * terms["triplet"], **terms}


def _own(inputs: Inputs, ranks: Ranks) -> tuple[slice, float]:
    """A process's samples of a batch, and which part of it they are: the weight of a mean over them."""
    samples = len(inputs.patches)
    own = ranks.own(samples)
    return own, (own.stop - own.start) / samples
