"""What training makes small: the terms of each objective on one batch."""

from __future__ import annotations

import torch
from torch import Tensor

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
    vae: VAE | HyperbolicVAE, batch: Batch, objective: Objective | TripletObjective, generator: torch.Generator
) -> dict[str, Tensor]:
    """The objective, as ``"loss"``, and its terms on one batch.

    Parameters
    ----------
    vae
        The networks.
    batch
        Patches ``(B, R, Z, Y, X)``.
    objective
        Which terms, and how they are weighed.
    generator
        Source of the latent noise.
    """
    patches = batch.patches
    noise = torch.randn((*patches.shape[:2], vae.latent), generator=generator, device=patches.device)
    if isinstance(objective, TripletObjective):
        assert isinstance(vae, HyperbolicVAE)
        return _triplet_terms(vae, batch, objective, noise, generator)
    assert isinstance(vae, VAE)
    return _multi_similarity_terms(vae, batch, objective, noise)


def _multi_similarity_terms(vae: VAE, batch: Batch, objective: Objective, noise: Tensor) -> dict[str, Tensor]:
    """Han et al. 2022, Eqs. 1 to 4."""
    with torch.autocast("cuda", torch.bfloat16, enabled=batch.patches.is_cuda and not vae.encoder.shared):
        latent = vae(batch.patches, noise)
    mean, scale = latent.mean.float(), latent.scale.float()
    terms = {
        "reconstruction": reconstruction(batch.patches, latent.reconstruction.float()),
        "kl": kl_divergence(mean, scale),
        "multi_similarity": multi_similarity(
            mean[..., : vae.semantic], objective.alpha, objective.beta, objective.margin
        ),
    }
    loss = terms["reconstruction"] + objective.theta_kl * terms["kl"] + objective.theta_ms * terms["multi_similarity"]
    return {"loss": loss, **terms}


def _triplet_terms(
    vae: HyperbolicVAE, batch: Batch, objective: TripletObjective, noise: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """Hsu et al. 2021: the negative evidence lower bound, of a normal with unit variance, and the triplet loss.

    Distances are those of the latent means on the ball; the negative of a parent is another sample's child.
    """
    latent = vae(batch.patches, noise)
    negatives, valid = choose_negatives(batch.centres, batch.half_size, batch.volume, generator)
    parent, child = latent.mean.unbind(1)  # (B, d)
    terms = {
        "reconstruction": reconstruction(batch.patches, latent.reconstruction),
        "kl": hyperbolic_kl(latent.mean, latent.scale, latent.sample),
        "triplet": triplet(
            poincare.distance(parent, child), poincare.distance(parent, child[negatives]), objective.margin, valid
        ),
    }
    voxels = batch.patches[0, 0].numel()
    bound = 0.5 * voxels * terms["reconstruction"] + terms["kl"]
    return {"loss": bound + objective.theta_triplet * terms["triplet"], **terms}
