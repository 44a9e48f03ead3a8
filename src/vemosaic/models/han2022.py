"""The encoder of Han et al. 2022, as its reference implementation builds it."""

from __future__ import annotations

import itertools

from torch import Tensor, nn
from torch.nn import functional as F


class Encoder(nn.Module):
    """Patch ``(N, 1, 16, 16, 16)`` to latent mean and scale, ``(N, d)``.

    Padded convolutions with max-pooling, so that neighbouring voxels share nothing exactly: it runs patch by patch.

    Parameters
    ----------
    width
        Factor on all channels; 1 is the paper's 128-256-512.
    latent
        Dimensions of the latent variable, d.
    """

    points = 16
    half_size = 4.0  # half the physical size of a patch at inference, in voxels

    def __init__(self, width: float = 1.0, latent: int = 64) -> None:
        super().__init__()
        sizes = [1, *(round(width * n) for n in (128, 256, 512))]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Conv3d(before, after, 3, padding=1), nn.MaxPool3d(2), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)  # 16 -> 8 -> 4 -> 2
        self.hidden = nn.Linear(8 * sizes[-1], 256)
        self.mean = nn.Linear(256, latent)
        self.scale = nn.Linear(256, latent)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Encode patches."""
        features = F.relu(self.hidden(self.convolutions(patches).flatten(1)))
        return self.mean(features), F.softplus(self.scale(features))
