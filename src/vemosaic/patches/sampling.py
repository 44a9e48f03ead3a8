"""What every way to draw patches has in common."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from vemosaic.patches.grids import Grids
from vemosaic.volumes.anisotropy import FIELD
from vemosaic.volumes.volume import Shape

LEAST = (FIELD, FIELD, FIELD)
"""Fewest voxels of a volume whose patches are cubes."""


class AnySampling(Protocol):
    """What `PatchSampler` asks of a way to draw patches."""

    @property
    def least(self) -> Shape:
        """Fewest voxels that a volume may have along each axis."""

    @property
    def margin(self) -> Shape:
        """Voxels between an anchor and the border."""

    @property
    def halo(self) -> Shape:
        """Voxels around an anchor that the patches of its sample may read."""

    def draw(self, anchor: Tensor, generator: torch.Generator) -> Grids:
        """Lay the grids of the samples whose anchors are ``(B, 3)``, whole voxels."""

    def finish(self, patches: Tensor, generator: torch.Generator) -> Tensor:
        """Standardise and recolour patches ``(B, R, Z, Y, X)``."""
