"""The default preset's networks: an encoder whose semantic part has two exact views, and its mirror.

Patch view: 16 grid points an axis, every convolution valid, 16 -> 7 -> 5 -> 3 -> 1. Dense view: at inference the grid
points lie half a voxel apart, so that trilinear interpolation followed by the first convolution (kernel 4, stride 2)
is one 3x3x3 convolution of the raw voxels; from there on the patch encoder *is* a plain stack of valid convolutions
over the volume, with a field of 9 voxels. Both views agree to floating-point rounding at every voxel.

The other latent dimensions come from a branch of their own, which sees patches less their mean. What is semantic would
otherwise be all that a shared trunk knows: the metric loss outweighs the reconstruction by far. Brightness, which
hardly changes when a patch is turned or moved, is left to the semantic dimensions.

Where slices are thick, patches lie flat in them, one or three slices of 16 x 16 points: every kernel is one slice deep,
but for the first, which takes in all slices of the patch, and there is nothing to interpolate across slices. All else,
and that both views agree, is as in the cube.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vemosaic.patches import centred
from vemosaic.volumes.volume import Shape

Channels: TypeAlias = tuple[int, int, int, int]

# What trilinear interpolation at the offsets -0.75, -0.25, +0.25, +0.75 takes from the voxels at -1, 0, +1.
HALF_VOXEL_GRID = ((0.75, 0.25, 0.0), (0.25, 0.75, 0.0), (0.0, 0.75, 0.25), (0.0, 0.25, 0.75))


class Branch(nn.Module):
    """Patch to mean and scale of some latent dimensions, by valid convolutions.

    Parameters
    ----------
    channels
        Channels of the four convolutions.
    dimensions
        How many latent dimensions.
    slices
        Slices of a flat patch; None for cubes.
    """

    def __init__(self, channels: Channels, dimensions: int, slices: int | None = None) -> None:
        super().__init__()
        first, second, third, fourth = channels
        deep = 1 if slices else 3
        self.slices = slices
        self.first = nn.Conv3d(1, first, (slices or 4, 4, 4), stride=(1 if slices else 2, 2, 2))  # 16 -> 7
        self.second = nn.Conv3d(first, second, (deep, 3, 3))  # 7 -> 5
        self.third = nn.Conv3d(second, third, (deep, 3, 3))  # 5 -> 3
        self.fourth = nn.Conv3d(third, fourth, (deep, 3, 3))  # 3 -> 1
        self.mean = nn.Conv3d(fourth, dimensions, 1)
        self.scale = nn.Conv3d(fourth, dimensions, 1)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Patch view: ``(N, 1, 16 or slices, 16, 16)`` to latent mean and scale, each ``(N, dimensions)``."""
        features = self._features(F.relu(self.first(patches), inplace=True))  # (N, C, 1, 1, 1)
        return self.mean(features).flatten(1), F.softplus(self.scale(features).flatten(1)) + 1e-6

    def dense(self, volume: Tensor) -> Tensor:
        """Dense view: normalised voxels ``(N, 1, Z, Y, X)`` to means; each axis loses twice the encoder's halo."""
        means: Tensor = self.mean(
            self._features(F.relu(F.conv3d(volume, self._folded(), self.first.bias), inplace=True))
        )
        return means

    def _features(self, features: Tensor) -> Tensor:
        features = F.relu(self.second(features), inplace=True)
        features = F.relu(self.third(features), inplace=True)
        return F.relu(self.fourth(features), inplace=True)

    def _folded(self) -> Tensor:
        """The first convolution folded with the interpolation before it: ``(C, 1, 3 or slices, 3, 3)`` on voxels."""
        weight = self.first.weight
        grid = torch.tensor(HALF_VOXEL_GRID, dtype=torch.float64, device=weight.device)
        across = torch.eye(self.slices, dtype=grid.dtype, device=weight.device) if self.slices else grid
        return torch.einsum("ocijk,ia,jb,kd->ocabd", weight.double(), across, grid, grid).to(weight.dtype)


class Encoder(nn.Module):
    """Patch or volume to latent mean and scale.

    Parameters
    ----------
    channels
        Channels of the four convolutions of the semantic branch; the other has half as many.
    latent
        Dimensions of the latent variable, d.
    semantic
        How many of them, the first, are semantic: d_MS.
    slices
        Slices of a flat patch; None for cubes.

    Attributes
    ----------
    halo
        Voxels that the dense view needs beyond each face, z y x.
    """

    points = 16  # grid points of a patch along each axis, but for the slices of a flat one
    half_size = 3.75  # half the physical size of a patch at inference, in voxels: points lie half a voxel apart
    shared = True  # neighbours share their work exactly

    def __init__(self, channels: Channels, latent: int, semantic: int, slices: int | None = None) -> None:
        super().__init__()
        self.halo: Shape = (slices // 2 if slices else 4, 4, 4)
        first, second, third, fourth = (max(1, n // 2) for n in channels)
        self.branch = Branch(channels, semantic, slices)
        halved = (first, second, third, fourth)
        self.other = Branch(halved, latent - semantic, slices) if latent > semantic else None
        self.latent = latent
        self.semantic = semantic

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Patch view: ``(N, 1, 16 or slices, 16, 16)`` to latent mean and scale, each ``(N, d)``."""
        mean, scale = self.branch(patches)
        if self.other is None:
            return mean, scale
        other_mean, other_scale = self.other(centred(patches))
        return torch.cat((mean, other_mean), 1), torch.cat((scale, other_scale), 1)

    def dense(self, volume: Tensor) -> Tensor:
        """Dense view: normalised voxels ``(N, 1, Z, Y, X)`` to semantic means; each axis loses twice the halo."""
        return self.branch.dense(volume)


class Decoder(nn.Module):
    """Latent variable to patch, the encoder mirrored: ``(N, d)`` to ``(N, 1, 16 or slices, 16, 16)``.

    The first and the last transposed convolution are written as what they amount to, a linear layer and a convolution
    to the eight sub-lattices of the patch (four in each slice of a flat one): the same functions, at half the time on a
    CPU.
    """

    def __init__(self, channels: Channels, latent: int, slices: int | None = None) -> None:
        super().__init__()
        first, second, third, fourth = channels
        self.deep = deep = 1 if slices else 3
        self.lattices = slices or 2  # along z
        self.hidden = nn.Linear(latent, fourth)
        self.spread = nn.Linear(fourth, deep * 9 * third)  # 1 -> 3
        self.second = nn.ConvTranspose3d(third, second, (deep, 3, 3))  # 3 -> 5
        self.first = nn.ConvTranspose3d(second, first, (deep, 3, 3))  # 5 -> 7
        kernel, padding = ((1, 2, 2), (0, 1, 1)) if slices else ((2, 2, 2), (1, 1, 1))
        self.sublattices = nn.Conv3d(first, 4 * self.lattices, kernel, padding=padding)  # 7 -> 8 points on each lattice

    def forward(self, latent: Tensor) -> Tensor:
        """Mean of the reconstructed patch."""
        features = F.relu(self.spread(F.relu(self.hidden(latent))))
        features = features.view(len(latent), self.deep, 3, 3, -1).permute(0, 4, 1, 2, 3)  # channels last in memory
        features = F.relu(self.first(F.relu(self.second(features))))
        points = self.sublattices(features)  # (N, lattices, 8 or 1, 8, 8)
        lattices = points.view(-1, self.lattices, 2, 2, *points.shape[2:])
        patches: Tensor = lattices.permute(0, 4, 1, 5, 2, 6, 3).reshape(len(latent), 1, -1, 16, 16)
        return patches
