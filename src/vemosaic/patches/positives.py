"""Anchors and their positives: close by, freely turned, scaled, deformed and recoloured (Han et al. 2022).

A patch is a grid of 16 points an axis. An anchor's grid is axis-aligned; its positives lie close by, freely rotated,
scaled and deformed; all are recoloured (sections 3.1 and 4.2; the numbers in `Sampling` are those of the reference
implementation). Where slices are thick, patches lie flat in them: they are turned, scaled, deformed and moved within
the slice, and mirrored across it; the slices above and below are moved a little against the middle one.
"""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from vemosaic.patches.contrast import standardised
from vemosaic.patches.grids import Grids, axis_aligned, rotations
from vemosaic.patches.sampling import LEAST
from vemosaic.volumes.volume import Shape


class Sampling(BaseModel):
    """How anchors and positives are drawn; lengths in voxels of the working lattice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["positives"] = "positives"
    points: int = Field(16, ge=2, description="Grid points of a patch along each axis.")
    slices: Literal[1, 3] | None = Field(
        None, description="Of patches that lie flat in thick slices: how many slices they have; None for cubes."
    )
    drift: float = Field(
        2.0, ge=0.0, description="Shift of the outer slices of a flat patch, as sections are never quite aligned (std)."
    )
    half_size: tuple[float, float] = Field(
        (2.0, 6.0), description="Half the physical size of a patch, drawn uniformly from this range."
    )
    positives: int = Field(4, ge=1, description="Positive patches for each anchor.")
    radius: float = Field(2.0, ge=0.0, description="Radius of the ball around the anchor where positives lie.")
    deformation: float = Field(
        0.25, ge=0.0, description="Noise on the inner grid points of positives, in grid steps (std)."
    )
    contrast: float = Field(1.0, ge=0.0, description="Contrast is scaled by 2^U(-contrast, contrast).")
    brightness: float = Field(0.25, ge=0.0, description="Intensity is shifted by U(-brightness, brightness).")
    noise: float = Field(0.1, ge=0.0, description="Additive Gaussian noise (std).")
    standardise: bool = Field(
        False, description="Standardise each patch by its own mean and spread, at training and at inference."
    )

    @model_validator(mode="after")
    def _sizes_are_a_range(self) -> Self:
        if not 0 < self.half_size[0] <= self.half_size[1]:
            raise ValueError(f"half sizes {self.half_size} are not a range; give two, the smaller first")
        return self

    @property
    def least(self) -> Shape:
        """Fewest voxels that a volume may have along each axis."""
        return (1, *LEAST[1:]) if self.slices else LEAST

    @property
    def margin(self) -> Shape:
        """Voxels between an anchor and the border: the reach of the largest patch, rotated."""
        return self._along_axes(math.ceil(self._diagonal))

    @property
    def halo(self) -> Shape:
        """Voxels around an anchor that its positives may read."""
        drift = self.drift if self.slices == 3 else 0.0
        return self._along_axes(math.ceil(self._diagonal + self.radius + 0.5 + drift) + 1)

    @property
    def turned(self) -> int:
        """How many axes patches are turned, scaled and moved along: all three, or those of the slice."""
        return 2 if self.slices else 3

    @property
    def _diagonal(self) -> float:
        """Half the diagonal of the largest patch, in as many axes as it is turned in."""
        return self.half_size[1] * math.sqrt(self.turned)

    def _along_axes(self, voxels: int) -> Shape:
        """So many voxels along each axis, but across slices no more than a flat patch has."""
        return (self.slices // 2 if self.slices else voxels, voxels, voxels)

    def draw(self, anchor: Tensor, generator: torch.Generator) -> Grids:
        """Lay the grids of anchors, axis-aligned, and of their positives, turned, scaled and deformed."""
        return draw_grids(anchor, self, generator)

    def finish(self, patches: Tensor, generator: torch.Generator) -> Tensor:
        """Standardise where that is asked for, and recolour."""
        return recolour(standardised(patches) if self.standardise else patches, self, generator)


def draw_grids(anchor: Tensor, sampling: Sampling, generator: torch.Generator) -> Grids:
    """Lay the grids of anchors and positives.

    Parameters
    ----------
    anchor
        Centres of the anchors, ``(B, 3)``, whole voxels, z y x.
    sampling
        How patches are drawn.
    generator
        Source of all randomness.

    Returns
    -------
    Grids
        R = 1 + positives.
    """
    device = anchor.device
    count, replicates, points = len(anchor), 1 + sampling.positives, sampling.points
    axes = sampling.turned
    layers = (sampling.slices,) if sampling.slices else ()
    low, high = sampling.half_size

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    half_size = low + (high - low) * uniform(count, replicates)
    direction = F.normalize(normal(count, sampling.positives, axes), dim=-1)
    distance = sampling.radius * uniform(count, sampling.positives, 1) ** (1 / axes)
    offset = torch.cat((torch.zeros(count, 1, axes, device=device), (direction * distance).round()), 1)
    centres = anchor[:, None] + F.pad(offset, (3 - axes, 0))  # (B, R, 3)

    line = torch.linspace(-1, 1, points, device=device)
    unit = torch.stack(torch.meshgrid(*(line,) * axes, indexing="ij"), -1)
    unit = unit.expand(*layers, *unit.shape)  # (Z, Y, X, axes)
    step = 2 / (points - 1)
    inner = (points - 2,) * axes
    shift = sampling.deformation * step * normal(count, sampling.positives, *layers, *inner, axes)
    shift = F.pad(shift, (0, 0, *(1, 1) * axes))  # the outer faces stay
    flat = torch.cat((unit.expand(count, 1, *unit.shape), unit + shift), 1).flatten(2, 4)

    turn = torch.cat(
        (
            axis_aligned(count, axes, generator, device)[:, None],
            rotations(count, sampling.positives, axes, generator, device),
        ),
        1,
    )
    flips = uniform(count, replicates, 3).round() * 2 - 1
    turn = turn * flips[:, :, None, -axes:] * half_size[:, :, None, None]  # flip, then rotate; scale anywhere
    grid = flat @ turn.transpose(-1, -2)
    if sampling.slices:
        drift = sampling.drift * normal(count, replicates, sampling.slices, 1, 2)
        drift[:, :, sampling.slices // 2] = 0
        grid = (grid.view(count, replicates, sampling.slices, -1, 2) + drift).flatten(2, 3)
        layer = torch.arange(sampling.slices, device=device) - sampling.slices // 2
        across = (flips[:, :, :1] * layer).repeat_interleave(points**2, -1)  # slices lie one voxel apart
        grid = torch.cat((across[..., None], grid), -1)
    grid = grid + centres[:, :, None]
    return Grids(grid.view(count, replicates, -1, points, points, 3), centres.long(), half_size)


def recolour(patches: Tensor, sampling: Sampling, generator: torch.Generator) -> Tensor:
    """Change contrast and brightness of each patch and add noise: ``(B, R, Z, Y, X)`` to the same."""

    def uniform(bound: float) -> Tensor:
        draw = torch.rand(patches.shape[:2], generator=generator, device=patches.device) * 2 - 1
        return (bound * draw)[..., None, None, None]

    noise = torch.randn(patches.shape, generator=generator, device=patches.device)
    return patches * 2 ** uniform(sampling.contrast) + uniform(sampling.brightness) + sampling.noise * noise
