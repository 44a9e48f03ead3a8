"""The networks of CIHS (Hsu et al. 2021, https://arxiv.org/abs/2012.01644): a VAE whose latent space is hyperbolic.

The encoder ends with the exponential map onto the Poincaré ball of curvature -1, the decoder begins with signed
distances to gyroplanes: both respect the geometry between them (sections 3.2 and 4 of the paper).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vemosaic.hyperbolic import poincare, wrapped_normal
from vemosaic.models.patch_view import embed_patches
from vemosaic.models.vae import VAE


class Encoder(nn.Module):
    """Patch ``(N, 1, 10, 10, 10)`` to latent mean on the ball and scale, ``(N, d)``.

    At inference the paper encodes the 5 x 5 x 5 voxels around each voxel, upsampled to the encoder's input (section 4,
    "Implementation details"; section 3.3): half of that is 2.5.

    Parameters
    ----------
    latent
        Dimensions of the ball, d; the paper's is 2.
    """

    points = 10  # grid points of a patch along each axis
    half_size = 2.5  # half the physical size of a patch at inference, in voxels
    halo = 3  # voxels that a patch needs beyond its centre
    shared = False  # neighbours share no work
    standardise = False

    def __init__(self, latent: int = 2) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv3d(1, 16, 5, padding=2), nn.ReLU(),  # 10
            nn.Conv3d(16, 32, 5, padding=1), nn.ReLU(),  # 8
            nn.Conv3d(32, 64, 5, padding=1), nn.ReLU(),  # 6
            nn.Conv3d(64, 128, 5), nn.ReLU(),  # 2
        )  # fmt: skip
        self.hidden = nn.Linear(1024, 300)
        self.mean = nn.Linear(300, latent)
        self.scale = nn.Linear(300, latent)
        self.latent = latent
        self.semantic = latent  # all dimensions tell textures apart

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Encode patches."""
        features = F.relu(self.hidden(self.convolutions(patches).flatten(1)))
        return poincare.exp_map_origin(self.mean(features)), F.softplus(self.scale(features)) + 1e-5

    def dense(self, volume: Tensor, stride: int = 1, first: Sequence[int] = (0, 0, 0)) -> Tensor:
        """Latent means of every voxel of ``(N, 1, Z, Y, X)``, patch by patch: `patch_view.embed_patches`."""
        return embed_patches(self, volume, stride, first)


class Gyroplanes(nn.Module):
    r"""Signed distances to learned gyroplanes, ``(..., d)`` to ``(..., G)`` (Hsu et al. 2021, Eqs. 5 and 6).

    A gyroplane passes through its point nearest the origin, :math:`p = \exp_0(r a)`, perpendicular to *a*: orientation
    and offset r say all. The layer gives the distance alone; the factor :math:`|a|_p` of Eq. 5 is left to the layer
    that follows, as in the reference implementation.

    Parameters
    ----------
    latent
        Dimensions of the ball, d.
    count
        Gyroplanes, G.
    """

    def __init__(self, latent: int, count: int) -> None:
        super().__init__()
        self.orientation = nn.Parameter(torch.randn(count, latent) / latent**0.5)
        self.offset = nn.Parameter(torch.empty(count, 1).uniform_(-0.5, 0.5))

    def forward(self, points: Tensor) -> Tensor:
        """Measure points on the ball."""
        offsets = poincare.exp_map_origin(self.offset * self.orientation)
        return poincare.gyroplane_distance(points, offsets, self.orientation)


class Decoder(nn.Module):
    """Point on the ball ``(N, d)`` to the mean of a patch, ``(N, 1, 10, 10, 10)``: the encoder mirrored.

    A gyroplane for each of the 128 x 2 x 2 x 2 deepest features, then transposed convolutions. There are two
    differences from the reference implementation: it decodes eight draws of the latent variable at once, one at each of
    the 2 x 2 x 2 sites; and it ends with a ReLU, which normalised intensities, half of them negative, rule out.
    """

    def __init__(self, latent: int = 2) -> None:
        super().__init__()
        self.gyroplanes = Gyroplanes(latent, 1024)
        self.convolutions = nn.Sequential(
            nn.ReLU(), nn.ConvTranspose3d(128, 64, 5),  # 2 -> 6
            nn.ReLU(), nn.ConvTranspose3d(64, 32, 5, padding=1),  # 8
            nn.ReLU(), nn.ConvTranspose3d(32, 16, 5, padding=1),  # 10
            nn.ReLU(), nn.ConvTranspose3d(16, 1, 5, padding=2),  # 10
        )  # fmt: skip

    def forward(self, latent: Tensor) -> Tensor:
        """Decode points."""
        patches: Tensor = self.convolutions(self.gyroplanes(latent).view(-1, 128, 2, 2, 2))
        return patches


class HyperbolicVAE(VAE):
    """A VAE whose latent variable is a wrapped normal on the Poincaré ball (Mathieu et al. 2019).

    See https://arxiv.org/abs/1901.06033; the parameters are those of `VAE`.
    """

    def draw(self, mean: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
        """Draw points of the ball, ``(N, d)``."""
        return wrapped_normal.rsample(mean, scale, noise)
