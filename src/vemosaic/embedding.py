"""The dense view of a trained encoder: one vector for every voxel of a box, tile by tile."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vemosaic.blocks.grid import Unit
from vemosaic.clustering.words import Words
from vemosaic.models import default
from vemosaic.models.model import Model
from vemosaic.models.patch_view import embed_places
from vemosaic.volumes.intensity import Intensity
from vemosaic.volumes.volume import Shape, Volume

TILE = 96
"""Edge in voxels of the tiles that are computed at once. They lie on one global grid, clipped only at the volume's
border, so that no choice of blocks changes a voxel."""

TRUNCATE = 2.0
"""Where the smoothing Gaussian ends, in standard deviations."""


@dataclass(frozen=True)
class Embedder:
    """Describes every voxel by a vector: the semantic mean of its patch, or what mixture of them surrounds it.

    Attributes
    ----------
    model
        Trained; its device is where tiles are computed.
    intensity
        What normalises the volume.
    words
        Vocabulary whose codes take the place of the semantic means before smoothing; None for none.
    smoothing
        Standard deviation in voxels of a Gaussian over what describes the voxels; 0 for none. A voxel's own patch
        says which texture it touches; the mean over its neighbourhood says in which it lies.
    stride
        Of encoders that work patch by patch: embed one voxel in every block of so many an edge, on one lattice over the
        volume, and give its vector to the whole block.
    """

    model: Model
    intensity: Intensity
    words: Words | None = None
    smoothing: float = 0.0
    stride: int = 1

    @property
    def channels(self) -> int:
        """Length of the vector, C."""
        return self.words.channels if self.words else self.model.vae.semantic

    @property
    def reach(self) -> int:
        """Voxels that smoothing needs beyond each face."""
        return len(gaussian_taps(self.smoothing)) // 2

    @property
    def halo(self) -> int:
        """Voxels read beyond each face."""
        return self.model.encoder.halo + self.stride - 1 + self.reach

    @property
    def device(self) -> torch.device:
        """Where tiles are computed."""
        return next(self.model.vae.parameters()).device

    @torch.inference_mode()
    def tile(self, voxels: npt.NDArray[np.float32], origin: Sequence[int]) -> Tensor:
        """Embed one box of raw voxels ``(Z + 2 halo, Y + 2 halo, X + 2 halo)`` to ``(Z, Y, X, C)``, float32.

        `origin` is the place of its first embedded voxel in the volume.
        """
        normalised = torch.from_numpy(self.intensity.normalise(voxels)).to(self.device)
        encoder = self.model.encoder
        if isinstance(encoder, default.Encoder):
            embedding = encoder.dense(normalised[None, None])  # (1, C, Z, Y, X)
        else:
            embedding = encoder.dense(normalised[None, None], self.stride, [o - self.reach for o in origin])
        described = embedding[0].permute(1, 2, 3, 0).contiguous()
        if self.words is not None:
            described = self.words.encode(described)
        return smooth(described, gaussian_taps(self.smoothing))

    @torch.inference_mode()
    def voxels(self, voxels: npt.NDArray[np.float32], places: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Embed single voxels of a box patch by patch, neither described by words nor smoothed.

        Parameters
        ----------
        voxels
            Raw, ``(Z, Y, X)``.
        places
            Which of them, ``(N, 3)``, at least the encoder's halo from every face.

        Returns
        -------
        ndarray, (N, C), float32
        """
        normalised = torch.from_numpy(self.intensity.normalise(voxels)).to(self.device)
        encoder = self.model.encoder
        assert not isinstance(encoder, default.Encoder)
        embedded = embed_places(encoder, normalised, torch.from_numpy(places).to(self.device))
        return np.asarray(embedded.cpu())

    def read(self, volume: Volume, box: Unit) -> npt.NDArray[np.float32]:
        """Read what a box needs: its voxels and the halo, mirrored at the volume's border."""
        return volume.read([o - self.halo for o in box.origin], [n + 2 * self.halo for n in box.shape])

    def tiles(self, box: Unit, voxels: npt.NDArray[np.float32]) -> Iterator[tuple[Unit, Tensor]]:
        """Embed a box tile by tile.

        Parameters
        ----------
        box
            Where in the volume; its origin a multiple of the tile's edge, for results that do not depend on the box.
        voxels
            What `read` gave for it.

        Yields
        ------
        tile : Unit
            Its origin within the box, and its shape.
        embedding : Tensor, (Z, Y, X, C), float32
        """
        for part in tiles_of(box.origin, box.shape):
            cut = tuple(slice(o, o + n + 2 * self.halo) for o, n in zip(part.origin, part.shape, strict=True))
            place = [o + p for o, p in zip(box.origin, part.origin, strict=True)]
            yield part, self.tile(voxels[cut], place)

    def box(self, volume: Volume, origin: Shape, shape: Shape) -> npt.NDArray[np.float32]:
        """Embed any box of a volume at once, ``(Z, Y, X, C)``: for samples, slices and tests."""
        box = Unit((0, 0, 0), origin, shape)
        result = np.empty((*shape, self.channels), np.float32)
        voxels = self.read(volume, box)
        for part, embedding in self.tiles(box, voxels):
            result[part.slices] = embedding.cpu().numpy()
        return result


def tiles_of(origin: Shape, shape: Shape, edge: int = TILE) -> list[Unit]:
    """Cut a box along the planes of the global tile grid; origins are relative to the box."""
    cuts = []
    for start, length in zip(origin, shape, strict=True):
        planes = range(start - start % edge + edge, start + length, edge)
        ends = [0, *(p - start for p in planes), length]
        cuts.append(list(itertools.pairwise(ends)))
    return [
        Unit((0, 0, 0), (z[0], y[0], x[0]), (z[1] - z[0], y[1] - y[0], x[1] - x[0]))
        for z, y, x in itertools.product(*cuts)
    ]


def gaussian_taps(sigma: float) -> list[float]:
    """Weights of a Gaussian cut at two standard deviations, their sum 1; ``[1.0]`` for a sigma of 0."""
    radius = int(TRUNCATE * sigma + 0.5)
    if radius == 0:
        return [1.0]
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(-radius, radius + 1)]
    return [w / sum(weights) for w in weights]


def smooth(values: Tensor, taps: list[float]) -> Tensor:
    """Convolve ``(Z, Y, X, C)`` along z, y and x with the same taps; each axis loses ``len(taps) - 1`` voxels.

    A convolution along one axis is a product with a banded matrix: several times as fast as adding shifted copies.
    """
    lost = len(taps) - 1
    if lost == 0:
        return values
    depth, height, width, channels = values.shape
    band_z, band_y, band_x = (_band(n, taps, values) for n in (depth, height, width))
    values = band_x @ values  # (Z, Y, X', C)
    values = band_y @ values.view(depth, height, -1)  # (Z, Y', X' C)
    values = band_z @ values.view(depth, -1)  # (Z', Y' X' C)
    return values.view(depth - lost, height - lost, width - lost, channels)


def _band(length: int, taps: list[float], like: Tensor) -> Tensor:
    """Return the matrix ``(length - len(taps) + 1, length)`` that convolves a column."""
    band = like.new_zeros((length - len(taps) + 1, length))
    for place, weight in enumerate(taps):
        band.diagonal(place).fill_(weight)
    return band
