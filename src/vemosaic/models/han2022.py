"""The networks of Han et al. 2022, as their reference implementation builds them.

Max-pooling and padded convolutions make the patch of every voxel a case of its own: neighbours share nothing exactly,
and a volume is embedded patch by patch (`vemosaic.models.patch_view`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vemosaic.models.patch_view import embed_patches

CHANNELS = (128, 256, 512)
HIDDEN = 256
PHASES = (((1, 0, 0), (0, 1, 0), (0, 1, 0)), ((0, 1, 0), (0, 1, 0), (0, 0, 1)))
"""For the first and the second point of each upsampled pair: from which coarse point each of the three taps reads."""


class Encoder(nn.Module):
    """Patch ``(N, 1, 16, 16, 16)`` to latent mean and scale, ``(N, d)``.

    Parameters
    ----------
    width
        Factor on the channels of the convolutions; 1 is the paper's 128-256-512.
    latent
        Dimensions of the latent variable, d.
    semantic
        How many of them, the first, are semantic: d_MS.
    """

    points = 16  # grid points of a patch along each axis
    half_size = 4.0  # half the physical size of a patch at inference, in voxels
    halo = 4  # voxels that a patch needs beyond its centre
    shared = False  # neighbours share no work
    standardise = True  # each patch by its own mean and spread

    def __init__(self, width: float = 1.0, latent: int = 64, semantic: int = 8) -> None:
        super().__init__()
        sizes = [1, *(round(width * n) for n in CHANNELS)]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Conv3d(before, after, 3, padding=1), nn.MaxPool3d(2), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)  # 16 -> 8 -> 4 -> 2
        self.hidden = nn.Linear(8 * sizes[-1], HIDDEN)
        self.mean = nn.Linear(HIDDEN, latent)
        self.scale = nn.Linear(HIDDEN, latent)
        self.latent = latent
        self.semantic = semantic

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Encode patches, already standardised."""
        features = F.relu(self.hidden(self.convolutions(patches).flatten(1)))
        return self.mean(features), F.softplus(self.scale(features)) + 1e-5

    def dense(self, volume: Tensor, stride: int = 1, first: Sequence[int] = (0, 0, 0)) -> Tensor:
        """Semantic means of every voxel of ``(N, 1, Z, Y, X)``, patch by patch: `patch_view.embed_patches`."""
        return embed_patches(self, volume, stride, first)


class UpsampledConvolution(nn.Conv3d):
    """Nearest upsampling to twice the points, then a padded 3x3x3 convolution; written as one convolution.

    Every output lies on one of eight sub-lattices, in each of which the upsampled neighbours are again the coarse
    points -1, 0, +1: the same function without the upsampled features, and several times as fast where few channels
    come out.
    """

    phases: Tensor

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 3, padding=1)
        # On the device from the start: copied there in every step, it would make the step wait for the host.
        self.register_buffer("phases", torch.tensor(PHASES, dtype=self.weight.dtype), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, C, Z, Y, X)`` to ``(N, C', 2 Z, 2 Y, 2 X)``."""
        weight = torch.einsum("ocijk,pia,qjb,rkd->opqrcabd", self.weight, self.phases, self.phases, self.phases)
        assert self.bias is not None
        lattices = F.conv3d(features, weight.flatten(0, 3), self.bias.repeat_interleave(8), padding=1)
        n, _, *sizes = lattices.shape
        parted = lattices.view(n, -1, 2, 2, 2, *sizes).permute(0, 1, 5, 2, 6, 3, 7, 4)
        return parted.reshape(n, -1, *(2 * size for size in sizes))


class Decoder(nn.Module):
    """Latent variable to patch, the encoder mirrored: ``(N, d)`` to ``(N, 1, 16, 16, 16)``.

    The reference implementation also predicts a standard deviation for every voxel; Eq. 1 of the paper has none.
    """

    def __init__(self, width: float = 1.0, latent: int = 64) -> None:
        super().__init__()
        sizes = [*(round(width * n) for n in reversed(CHANNELS)), 1]
        self.hidden = nn.Linear(latent, HIDDEN)
        self.spread = nn.Linear(HIDDEN, 8 * sizes[0])
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [UpsampledConvolution(before, after), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers[:-1])  # 2 -> 4 -> 8 -> 16; the last has no ReLU

    def forward(self, latent: Tensor) -> Tensor:
        """Mean of the reconstructed patch."""
        features = F.relu(self.spread(self.hidden(latent)))
        patches: Tensor = self.convolutions(features.view(len(latent), -1, 2, 2, 2))
        return patches
