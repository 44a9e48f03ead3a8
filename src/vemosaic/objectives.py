"""What training makes small: the terms of each objective on one batch."""

from __future__ import annotations

import torch
from torch import Tensor

from vemosaic.distributed import ALONE, Ranks
from vemosaic.hierarchy import choose_negatives
from vemosaic.hyperbolic import poincare
from vemosaic.losses import kl_divergence, multi_similarity, reconstruction
from vemosaic.losses.hyperbolic_kl import hyperbolic_kl
from vemosaic.losses.triplet import triplet
from vemosaic.models.cihs import HyperbolicVAE
from vemosaic.models.settings import Objective, TripletObjective
from vemosaic.models.vae import VAE
from vemosaic.patches import Batch


def loss_terms(
    vae: VAE | HyperbolicVAE,
    batch: Batch,
    objective: Objective | TripletObjective,
    generator: torch.Generator,
    ranks: Ranks = ALONE,
) -> dict[str, Tensor]:
    """The objective, as ``"loss"``, and its terms on one batch.

    Of several processes, each gives its share: summed over them, value and gradient are those of the whole batch. The
    networks run on a process's own samples; what compares samples with each other is computed from the latent means of
    all, an equal share each.

    Parameters
    ----------
    vae
        The networks.
    batch
        Patches ``(B, R, Z, Y, X)``: the whole batch on every process.
    objective
        Which terms, and how they are weighed.
    generator
        Source of the latent noise, in the same state on every process.
    ranks
        The processes that train together.
    """
    patches = batch.patches
    noise = torch.randn((*patches.shape[:2], vae.latent), generator=generator, device=patches.device)
    if isinstance(objective, TripletObjective):
        assert isinstance(vae, HyperbolicVAE)
        return _triplet_terms(vae, batch, objective, noise, generator, ranks)
    assert isinstance(vae, VAE)
    return _multi_similarity_terms(vae, batch, objective, noise, ranks)


def _multi_similarity_terms(
    vae: VAE, batch: Batch, objective: Objective, noise: Tensor, ranks: Ranks
) -> dict[str, Tensor]:
    """Han et al. 2022, Eqs. 1 to 4."""
    own, share = _own(batch, ranks)
    patches = batch.patches[own]
    with torch.autocast("cuda", torch.bfloat16, enabled=patches.is_cuda and not vae.encoder.shared):
        latent = vae(patches, noise[own])
    mean, scale, restored = (t.to(patches.dtype) for t in (latent.mean, latent.scale, latent.reconstruction))
    semantic = ranks.gather(mean[..., : vae.semantic], len(batch.patches))  # (B, R, d_MS)
    terms = {
        "reconstruction": share * reconstruction(patches, restored),
        "kl": share * kl_divergence(mean, scale),
        "multi_similarity": multi_similarity(semantic, objective.alpha, objective.beta, objective.margin) / ranks.count,
    }
    loss = terms["reconstruction"] + objective.theta_kl * terms["kl"] + objective.theta_ms * terms["multi_similarity"]
    return {"loss": loss, **terms}


def _triplet_terms(
    vae: HyperbolicVAE,
    batch: Batch,
    objective: TripletObjective,
    noise: Tensor,
    generator: torch.Generator,
    ranks: Ranks,
) -> dict[str, Tensor]:
    """Hsu et al. 2021: the negative evidence lower bound, of a normal with unit variance, and the triplet loss.

    Distances are those of the latent means on the ball; the negative of a parent is another sample's child.
    """
    own, share = _own(batch, ranks)
    patches = batch.patches[own]
    latent = vae(patches, noise[own])
    negatives, valid = choose_negatives(batch.centres, batch.half_size, batch.volume, generator)
    parent, child = ranks.gather(latent.mean, len(batch.patches)).unbind(1)  # (B, d)
    hinge = triplet(
        poincare.distance(parent, child), poincare.distance(parent, child[negatives]), objective.margin, valid
    )
    terms = {
        "reconstruction": share * reconstruction(patches, latent.reconstruction),
        "kl": share * hyperbolic_kl(latent.mean, latent.scale, latent.sample),
        "triplet": hinge / ranks.count,
    }
    voxels = patches[0, 0].numel()
    bound = 0.5 * voxels * terms["reconstruction"] + terms["kl"]
    return {"loss": bound + objective.theta_triplet * terms["triplet"], **terms}


def _own(batch: Batch, ranks: Ranks) -> tuple[slice, float]:
    """A process's samples of a batch, and which part of it they are: the weight of a mean over them."""
    samples = len(batch.patches)
    own = ranks.own(samples)
    return own, (own.stop - own.start) / samples
