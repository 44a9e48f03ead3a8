"""Hierarchical triplets: a parent patch, a child patch inside it, and a patch from elsewhere (Hsu et al. 2021).

A parent and its child are replicates of one sample; the negative is the child of another sample of the batch, so that
each patch is read and encoded once.
"""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from vemosaic.patches import LEAST, Grids
from vemosaic.volumes.volume import Shape

Range = tuple[float, float]


class HierarchicalSampling(BaseModel):
    """How parents and children are drawn; lengths in voxels of the working lattice.

    The reference implementation draws edges, of 5 to 35 voxels for parents and 3 to 15 for children, and encodes
    patches of 5 voxels an edge at inference; half of them stand here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["hierarchy"] = "hierarchy"
    points: int = Field(10, ge=2, description="Grid points of a patch along each axis.")
    parent: Range = Field((2.5, 17.5), description="Half the size of a parent, drawn uniformly from this range.")
    child: Range = Field(
        (1.5, 7.5), description="Half the size of a child, drawn uniformly from the part below its parent's."
    )

    @model_validator(mode="after")
    def _child_is_smaller(self) -> Self:
        for name, (low, high) in (("parent", self.parent), ("child", self.child)):
            if not 0 < low <= high:
                raise ValueError(f"{name} {(low, high)} is not a range of positive sizes, the smaller first")
        if self.child[0] >= self.parent[0]:
            raise ValueError(f"the smallest child, {self.child[0]}, is not smaller than the smallest parent")
        return self

    @property
    def least(self) -> Shape:
        """Fewest voxels that a volume may have along each axis."""
        return LEAST

    @property
    def margin(self) -> Shape:
        """Voxels between an anchor and the border: the reach of the largest parent."""
        return (math.ceil(self.parent[1]),) * 3

    @property
    def halo(self) -> Shape:
        """Voxels around an anchor that its patches may read; a child reads none that its parent does not."""
        return self.margin

    def draw(self, anchor: Tensor, generator: torch.Generator) -> Grids:
        """Lay the grids of parents and children."""
        return draw_hierarchy(anchor, self, generator)

    def finish(self, patches: Tensor, generator: torch.Generator) -> Tensor:
        """Leave patches as they are: Hsu et al. augment nothing."""
        return patches


def draw_hierarchy(anchor: Tensor, sampling: HierarchicalSampling, generator: torch.Generator) -> Grids:
    """Lay the grids of parents and children, axis-aligned (Hsu et al. 2021, section 4).

    A child's centre is uniform over the whole voxels from which it lies wholly inside its parent, faces included.

    Parameters
    ----------
    anchor
        Centres of the parents, ``(B, 3)``, whole voxels, z y x.
    sampling
        How patches are drawn.
    generator
        Source of all randomness.

    Returns
    -------
    Grids
        Replicate 0 is the parent, 1 the child.
    """
    device = anchor.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    smallest, largest = sampling.parent
    parent = smallest + (largest - smallest) * uniform(len(anchor))
    smallest, largest = sampling.child
    child = smallest + (parent.clamp_max(largest) - smallest) * uniform(len(anchor))
    room = (parent - child).floor()[:, None]  # (B, 1)
    offset = (uniform(len(anchor), 3) * (2 * room + 1)).floor().minimum(2 * room) - room
    centres = torch.stack((anchor.long(), anchor.long() + offset.long()), 1)  # (B, 2, 3)
    half_sizes = torch.stack((parent, child), 1)  # (B, 2)
    line = torch.linspace(-1, 1, sampling.points, device=device)
    unit = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1)  # (Z, Y, X, 3)
    grid = unit * half_sizes[:, :, None, None, None, None] + centres[:, :, None, None, None]
    return Grids(grid, centres, half_sizes)


def choose_negatives(
    centres: Tensor, half_sizes: Tensor, volume: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Choose for each sample another one whose child does not overlap the sample's parent.

    Patches of different volumes never overlap, patches of one volume do where their cubes share more than a face.

    Parameters
    ----------
    centres
        Of parents and children, ``(B, 2, 3)``, z y x in voxels.
    half_sizes
        Half their sizes, ``(B, 2)``.
    volume
        Which volume each sample lies in, ``(B,)``.
    generator
        Draws uniformly among those that may serve.

    Returns
    -------
    index : Tensor, (B,), int64
        The sample whose child is the negative; the sample itself where there is none.
    valid : Tensor, (B,), bool
        Where there is one.
    """
    apart = (centres[:, None, 0] - centres[None, :, 1]).abs()  # (B parents, B children, 3)
    touching = half_sizes[:, None, 0] + half_sizes[None, :, 1]
    possible = (apart >= touching[..., None]).any(-1) | (volume[:, None] != volume[None])
    possible.fill_diagonal_(False)
    draw = torch.rand(possible.shape, generator=generator, device=possible.device).masked_fill(~possible, -1)
    valid = possible.any(1)
    itself = torch.arange(len(valid), device=valid.device)
    return torch.where(valid, draw.argmax(1), itself), valid
