"""Other objectives for the default preset's networks, each measured against it: tried, and no part of the product.

An idea changes what training makes small, and on what patches. It may add a head to the networks, which is dropped
afterwards: what it leaves is an ordinary model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import vemosaic.training
from ablation.trained import Trained
from vemosaic.devices import Precision
from vemosaic.distributed import Ranks
from vemosaic.losses import kl_divergence, multi_similarity, reconstruction
from vemosaic.models.default import Branch
from vemosaic.models.model import Model, build
from vemosaic.models.settings import ModelSettings, Objective
from vemosaic.models.vae import VAE
from vemosaic.patches import Batch, centred
from vemosaic.volumes.volume import Volume

HEAD = "head"
OUTER = 2  # layers of grid points that are never hidden


@dataclass(frozen=True)
class Drawn:
    """All that the terms of a batch depend on, beside the networks.

    Attributes
    ----------
    batch
        As the sampler gave it.
    noise
        Latent noise, standard normal, ``(B, R, d)``.
    seen
        What the encoder is shown, ``(B, R, Z, Y, X)``.
    """

    batch: Batch
    noise: Tensor
    seen: Tensor


@dataclass(frozen=True)
class Idea:
    """The preset's own objective, of which an idea changes a part.

    Only for the networks of the default preset and the multi-similarity objective, in one process, in float32.
    """

    def about(self) -> dict[str, Any]:
        """What tells this idea from others, ready for JSON."""
        return {"idea": type(self).__name__, **asdict(self)}

    def settings(self, settings: ModelSettings) -> ModelSettings:
        """Settings for the time of the training."""
        return settings

    def head(self, vae: VAE) -> nn.Module | None:
        """Make what is trained beside the networks, and dropped afterwards."""
        return None

    def shown(self, patches: Tensor, generator: torch.Generator) -> Tensor:
        """What the encoder sees of patches ``(B, R, Z, Y, X)``."""
        return patches

    def terms(self, vae: VAE, drawn: Drawn, objective: Objective) -> dict[str, Tensor]:
        """The objective, as ``"loss"``, and its terms."""
        features = trunk(vae.encoder.branch, drawn.seen.flatten(0, 1)[:, None])
        terms, semantic = generative_terms(vae, features, drawn.seen, drawn.batch.patches, drawn.noise)
        terms["multi_similarity"] = self.metric(vae, features, semantic, drawn, objective)
        return weighed(terms, objective)

    def metric(self, vae: VAE, features: Tensor, semantic: Tensor, drawn: Drawn, objective: Objective) -> Tensor:
        """The term that shapes the semantic means ``(B, R, d_MS)``, which are made of ``(B R, C, 1, 1, 1)``."""
        return multi_similarity(semantic, objective.alpha, objective.beta, objective.margin, objective.false_negatives)


def trunk(branch: Branch, patches: Tensor) -> Tensor:
    """What a branch makes its means and scales from: ``(N, 1, Z, Y, X)`` to ``(N, C, ...)``, 1 x 1 x 1 for a patch."""
    return branch._features(F.relu(branch.first(patches), inplace=True))


def generative_terms(
    vae: VAE, features: Tensor, seen: Tensor, whole: Tensor, noise: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """Reconstruction and Kullback-Leibler term of patches, and their semantic means ``(B, R, d_MS)``.

    Parameters
    ----------
    vae
        The networks.
    features
        What the semantic branch's trunk makes of the patches, ``(B R, C, 1, 1, 1)``.
    seen, whole
        Patches as the encoder sees them and as the decoder must give them back, ``(B, R, Z, Y, X)``.
    noise
        Standard normal, ``(B, R, d)``.
    """
    branch, other = vae.encoder.branch, vae.encoder.other
    mean, scale = other(centred(seen.flatten(0, 1)[:, None]))
    semantic = branch.mean(features).flatten(1)
    mean = torch.cat((semantic, mean), 1)
    scale = torch.cat((F.softplus(branch.scale(features).flatten(1)) + 1e-6, scale), 1)  # (B R, d)
    restored = vae.decoder(vae.draw(mean, scale, noise.flatten(0, 1)))[:, 0]
    shape = seen.shape[:2]
    terms = {
        "reconstruction": reconstruction(whole, restored.unflatten(0, shape)),
        "kl": kl_divergence(mean.unflatten(0, shape), scale.unflatten(0, shape)),
    }
    return terms, semantic.unflatten(0, shape)


def weighed(terms: dict[str, Tensor], objective: Objective) -> dict[str, Tensor]:
    """Add the sum of the terms, each weighed as in the preset, as ``"loss"``."""
    loss = terms["reconstruction"] + objective.theta_kl * terms["kl"] + objective.theta_ms * terms["multi_similarity"]
    return {"loss": loss, **terms}


@dataclass(frozen=True)
class MaskedCentre(Idea):
    """Of some patches the encoder is not shown a block of inner grid points; the decoder must give them back whole.

    Attributes
    ----------
    share
        Of the patches.
    edge
        Of the block, in grid points.
    """

    share: float = 0.5
    edge: int = 6

    def shown(self, patches: Tensor, generator: torch.Generator) -> Tensor:
        """Set the blocks to 0, the median of the volume; in flat patches they go through all slices."""
        each, device = (*patches.shape[:2], 1, 1, 1), patches.device
        hidden = torch.rand(each, generator=generator, device=device) < self.share
        for axis, points in enumerate(patches.shape[2:]):
            last = points - OUTER - self.edge
            if last > OUTER:
                along = [points if a == axis else 1 for a in range(3)]
                low = torch.randint(OUTER, last + 1, each, generator=generator, device=device)
                past = torch.arange(points, device=device).view(along) - low
                hidden = hidden & (past >= 0) & (past < self.edge)
        return patches.masked_fill(hidden, 0)


@dataclass(frozen=True)
class Equivariance(Idea):
    """The trunk that the semantic dimensions are made from must tell by how much larger one replicate is than another.

    A head on the other dimensions would not reach the semantic ones, as they have convolutions of their own.

    Attributes
    ----------
    weight
        Of the squared error of the relative log size, relative to that of the multi-similarity loss.
    """

    weight: float = 1.0

    def head(self, vae: VAE) -> nn.Module:
        """Features to log size, whose differences count."""
        return nn.Linear(vae.encoder.branch.mean.in_channels, 1)

    def metric(self, vae: VAE, features: Tensor, semantic: Tensor, drawn: Drawn, objective: Objective) -> Tensor:
        """The preset's metric term, and the error of relative log sizes."""
        told = vae.get_submodule(HEAD)(features.flatten(1)).view(semantic.shape[:2])
        error = relative_error(told, drawn.batch.half_size.log())
        return super().metric(vae, features, semantic, drawn, objective) + self.weight * error


def relative_error(told: Tensor, true: Tensor) -> Tensor:
    """Mean squared error of the differences between replicates, each ``(B, R)``: over all pairs of two of a sample."""
    return 2 * (told - true).var(1).mean()


@dataclass(frozen=True)
class TrainedOtherwise(Trained):
    """The semantic means of an encoder that was trained by an idea.

    Attributes
    ----------
    idea
        What changes.
    """

    idea: Idea

    def about(self) -> dict[str, Any]:
        """What decides the result beside volume and seed, ready for JSON."""
        return super().about() | self.idea.about()

    def trained(self, volume: Volume, settings: ModelSettings, seed: int) -> Model:
        """Train by the idea, and drop its head."""
        with otherwise(self.idea):
            model = super().trained(volume, self.idea.settings(settings), seed)
        vae = build(settings, seed)
        weights = model.vae.state_dict()
        vae.load_state_dict({name: weights[name] for name in vae.state_dict()})
        return Model(vae, settings, model.card)


@contextmanager
def otherwise(idea: Idea) -> Iterator[None]:
    """Have `vemosaic.training.train` follow an idea."""

    def built(settings: ModelSettings, seed: int) -> VAE:
        vae = build(settings, seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = idea.head(vae)
        if head is not None:
            vae.add_module(HEAD, head)
        return vae

    def draw(vae: VAE, batch: Batch, objective: Objective, generator: torch.Generator) -> Drawn:
        patches = batch.patches
        noise = torch.randn((*patches.shape[:2], vae.latent), generator=generator, device=patches.device)
        return Drawn(batch, noise, idea.shown(patches, generator))

    def terms(vae: VAE, drawn: Drawn, objective: Objective, ranks: Ranks, precision: Precision) -> dict[str, Tensor]:
        return idea.terms(vae, drawn, objective)

    with patch.multiple(vemosaic.training, build=built, draw_inputs=draw, loss_terms=terms):
        yield
