"""Grids of points that patches are read at, and the turns that are given to them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Grids:
    """Where patches lie.

    Attributes
    ----------
    points
        Places of the grid points, ``(B, R, Z, Y, X, 3)``, z y x in voxels; R replicates of each sample.
    centres
        Centres of the patches, ``(B, R, 3)``, int64.
    half_size
        Half their physical sizes in voxels, ``(B, R)``.
    """

    points: Tensor
    centres: Tensor
    half_size: Tensor


def rotations(count: int, replicates: int, axes: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Rotations uniform over SO(3), from normal quaternions, or over SO(2): ``(count, replicates, axes, axes)``."""
    if axes == 2:
        angle = 2 * math.pi * torch.rand((count, replicates), generator=generator, device=device)
        cos, sin = angle.cos(), angle.sin()
        return torch.stack((torch.stack((cos, -sin), -1), torch.stack((sin, cos), -1)), -2)
    quaternion = torch.randn((count, replicates, 4), generator=generator, device=device)
    w, x, y, z = F.normalize(quaternion, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def axis_aligned(count: int, axes: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Random choices of axes and signs: signed permutation matrices, ``(count, axes, axes)``."""
    order = torch.rand((count, axes), generator=generator, device=device).argsort(-1)
    signs = torch.rand((count, axes), generator=generator, device=device).round() * 2 - 1
    return F.one_hot(order, axes).to(signs.dtype) * signs[..., None]
