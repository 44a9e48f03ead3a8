"""Training on dense views: differently transformed views of one region, of which all outputs share computation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ablation.ideas import Drawn, Idea, generative_terms, trunk, weighed
from vemosaic.models.settings import ModelSettings, Objective
from vemosaic.models.vae import VAE
from vemosaic.patches import Sampling
from vemosaic.patches.grids import Grids

POINTS = 16  # of a patch along each axis
STRIDE = 2  # grid points between neighbouring outputs of the encoder
APART = 3  # outputs between those that are compared: neighbours see the same
SAME_PLACE = 2.0  # voxels within which two outputs are positives, as positives and anchors of the preset are


class RegionSampling(Sampling):
    """Larger grids, with the same spacing: each holds the patches of several outputs of the encoder."""

    def draw(self, anchor: Tensor, generator: torch.Generator) -> Grids:
        """Lay the grids; the centres are those of the patches that are compared, ``(B, R P, 3)``, not rounded."""
        grids = super().draw(anchor, generator)
        return Grids(grids.points, places(grids.points).flatten(1, 2), grids.half_size)


def places(points: Tensor) -> Tensor:
    """Centres ``(B, R, P, 3)`` of the patches that are compared, within grids ``(B, R, Z, Y, X, 3)``."""
    flat = points.flatten(0, 1).movedim(-1, 1)
    window = [min(POINTS, n) for n in flat.shape[2:]]
    centres = F.avg_pool3d(flat, window, STRIDE * APART)
    return centres.flatten(2).transpose(1, 2).unflatten(0, points.shape[:2])


@dataclass(frozen=True)
class DenseViews(Idea):
    """Views of one region, larger than a patch: positives are corresponding outputs of two of them.

    Positive are outputs of two views of a region no further apart than positives and their anchor are in the preset;
    other pairs of a region are neither positive nor negative, those of two regions negative. Reconstructed is the
    middle patch of each view.

    Attributes
    ----------
    points
        Grid points of a view along each axis: 22 for 4 outputs, of which 2 are compared; 28 for 7 and 3.
    views
        Of each region.
    """

    points: int = 22
    views: int = 2

    def settings(self, settings: ModelSettings) -> ModelSettings:
        """Draw views in the place of patches."""
        larger = (self.points - 1) / (POINTS - 1)
        low, high = settings.sampling.half_size
        fields = settings.sampling.model_dump() | {
            "points": self.points,
            "positives": self.views - 1,
            "half_size": (low * larger, high * larger),
        }
        return settings.model_copy(update={"sampling": RegionSampling.model_validate(fields)})

    def terms(self, vae: VAE, drawn: Drawn, objective: Objective) -> dict[str, Tensor]:
        """The preset's terms: the metric one between outputs, the others of the middle patches."""
        regions = drawn.seen
        features = trunk(vae.encoder.branch, regions.flatten(0, 1)[:, None])  # (B R, C, z, y, x)
        middle = [(n - 1) // 2 for n in features.shape[2:]]
        z, y, x = (slice(STRIDE * m, STRIDE * m + POINTS) for m in middle)
        patches = regions[:, :, z, y, x]
        own = features[:, :, middle[0], middle[1], middle[2], None, None, None]
        terms, _ = generative_terms(vae, own, patches, patches, drawn.noise)
        compared = vae.encoder.branch.mean(features[:, :, ::APART, ::APART, ::APART])  # (B R, d_MS, ...)
        outputs = compared.flatten(2).transpose(1, 2).unflatten(0, regions.shape[:2])  # (B, R, P, d_MS)
        where = drawn.batch.centres.unflatten(1, outputs.shape[1:3])
        terms["multi_similarity"] = dense_multi_similarity(outputs, where, SAME_PLACE, objective)
        return weighed(terms, objective)


def dense_multi_similarity(outputs: Tensor, where: Tensor, reach: float, objective: Objective) -> Tensor:
    """Multi-similarity loss between the outputs of views.

    Parameters
    ----------
    outputs
        ``(B, R, P, d_MS)``: P outputs of R views of B regions.
    where
        Places of their patches in the volume, in voxels, ``(B, R, P, 3)``.
    reach
        How far apart outputs of two views of a region may lie to be positive, in voxels.
    objective
        Its constants.
    """
    positive, negative = pairs(where, reach)
    points = outputs.flatten(0, 2)
    distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    pull = (objective.alpha * (distance - objective.margin)).masked_fill(~positive, -torch.inf)
    push = (-objective.beta * (distance - objective.margin)).masked_fill(~negative, -torch.inf)
    pull, push = (F.softplus(torch.logsumexp(exponent, -1)) for exponent in (pull, push))
    return (pull / objective.alpha + push / objective.beta).mean()


def pairs(where: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    """Which pairs of all outputs, in their order, are positive and which negative, each bool ``(B R P, B R P)``."""
    regions, views, count, _ = where.shape
    view = torch.arange(regions * views, device=where.device).repeat_interleave(count)
    region = view // views
    same = region[:, None] == region
    flat = where.flatten(0, 2).double()
    near = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist") <= reach
    return same & (view[:, None] != view) & near, ~same
