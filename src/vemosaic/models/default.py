"""The default preset's networks: an encoder whose semantic part has two exact views, and its mirror.

Patch view: 16 grid points an axis, every convolution valid, 16 -> 7 -> 5 -> 3 -> 1. Dense view: at inference the grid
points lie half a voxel apart, so that trilinear interpolation followed by the first convolution (kernel 4, stride 2)
is one 3x3x3 convolution of the raw voxels; from there on the patch encoder *is* a plain stack of valid convolutions
over the volume, with a field of 9 voxels. Both views agree to floating-point rounding at every voxel.

The other latent dimensions come from a branch of their own, which sees patches less their mean. What is semantic would
otherwise be all that a shared trunk knows: the metric loss outweighs the reconstruction by far. Brightness, which
hardly changes when a patch is turned or moved, is left to the semantic dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vemosaic.patches import centred

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
    """

    def __init__(self, channels: tuple[int, int, int, int], dimensions: int) -> None:
        super().__init__()
        first, second, third, fourth = channels
        self.first = nn.Conv3d(1, first, 4, stride=2)  # 16 -> 7
        self.second = nn.Conv3d(first, second, 3)  # 7 -> 5
        self.third = nn.Conv3d(second, third, 3)  # 5 -> 3
        self.fourth = nn.Conv3d(third, fourth, 3)  # 3 -> 1
        self.mean = nn.Conv3d(fourth, dimensions, 1)
        self.scale = nn.Conv3d(fourth, dimensions, 1)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Patch view: ``(N, 1, 16, 16, 16)`` to latent mean and scale, each ``(N, dimensions)``."""
        features = self._features(F.relu(self.first(patches)))  # (N, C, 1, 1, 1)
        return self.mean(features).flatten(1), F.softplus(self.scale(features).flatten(1)) + 1e-6

    def dense(self, volume: Tensor) -> Tensor:
        """Dense view: normalised voxels ``(N, 1, Z, Y, X)`` to means ``(N, dimensions, Z-8, Y-8, X-8)``."""
        means: Tensor = self.mean(self._features(F.relu(F.conv3d(volume, self._folded(), self.first.bias))))
        return means

    def _features(self, features: Tensor) -> Tensor:
        features = F.relu(self.second(features))
        features = F.relu(self.third(features))
        return F.relu(self.fourth(features))

    def _folded(self) -> Tensor:
        """The first convolution folded with the interpolation before it: ``(C, 1, 3, 3, 3)`` on raw voxels."""
        weight = self.first.weight
        grid = torch.tensor(HALF_VOXEL_GRID, dtype=torch.float64, device=weight.device)
        return torch.einsum("ocijk,ia,jb,kd->ocabd", weight.double(), grid, grid, grid).to(weight.dtype)


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
    """

    points = 16  # grid points of a patch along each axis
    half_size = 3.75  # half the physical size of a patch at inference, in voxels: points lie half a voxel apart
    halo = 4  # voxels that the dense view needs beyond each face
    shared = True  # neighbours share their work exactly

    def __init__(self, channels: tuple[int, int, int, int], latent: int, semantic: int) -> None:
        super().__init__()
        first, second, third, fourth = (max(1, n // 2) for n in channels)
        self.branch = Branch(channels, semantic)
        self.other = Branch((first, second, third, fourth), latent - semantic) if latent > semantic else None
        self.latent = latent
        self.semantic = semantic

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Patch view: ``(N, 1, 16, 16, 16)`` to latent mean and scale, each ``(N, d)``."""
        mean, scale = self.branch(patches)
        if self.other is None:
            return mean, scale
        other_mean, other_scale = self.other(centred(patches))
        return torch.cat((mean, other_mean), 1), torch.cat((scale, other_scale), 1)

    def dense(self, volume: Tensor) -> Tensor:
        """Dense view: normalised voxels ``(N, 1, Z, Y, X)`` to semantic means ``(N, d_MS, Z-8, Y-8, X-8)``."""
        return self.branch.dense(volume)


class Decoder(nn.Module):
    """Latent variable to patch, the encoder mirrored: ``(N, d)`` to ``(N, 1, 16, 16, 16)``.

    The first and the last transposed convolution are written as what they amount to, a linear layer and a convolution
    to the eight sub-lattices of the patch: the same functions, at half the time on a CPU.
    """

    def __init__(self, channels: tuple[int, int, int, int], latent: int) -> None:
        super().__init__()
        first, second, third, fourth = channels
        self.hidden = nn.Linear(latent, fourth)
        self.spread = nn.Linear(fourth, 27 * third)  # 1 -> 3
        self.second = nn.ConvTranspose3d(third, second, 3)  # 3 -> 5
        self.first = nn.ConvTranspose3d(second, first, 3)  # 5 -> 7
        self.sublattices = nn.Conv3d(first, 8, 2, padding=1)  # 7 -> 8 points on each of 8 lattices

    def forward(self, latent: Tensor) -> Tensor:
        """Mean of the reconstructed patch."""
        features = F.relu(self.spread(F.relu(self.hidden(latent))))
        features = features.view(len(latent), 3, 3, 3, -1).permute(0, 4, 1, 2, 3)  # channels last in memory
        features = F.relu(self.first(F.relu(self.second(features))))
        lattices = self.sublattices(features).view(-1, 2, 2, 2, 8, 8, 8)
        patches: Tensor = lattices.permute(0, 4, 1, 5, 2, 6, 3).reshape(-1, 1, 16, 16, 16)
        return patches
