"""The dense view of a trained encoder: one vector for every voxel of a box, tile by tile."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vemosaic.blocks.grid import Unit
from vemosaic.models.model import Model
from vemosaic.volumes.intensity import Intensity
from vemosaic.volumes.volume import Shape, Volume

TILE = 96
"""Edge in voxels of the tiles that are computed at once. They lie on one global grid, clipped only at the volume's
border, so that no choice of blocks changes a voxel."""

TRUNCATE = 2.0
"""Where the smoothing Gaussian ends, in standard deviations."""


@dataclass(frozen=True)
class Embedder:
    """Maps voxels to semantic means.

    Attributes
    ----------
    model
        Trained; its device is where tiles are computed.
    intensity
        What normalises the volume.
    smoothing
        Standard deviation in voxels of a Gaussian over the embedding; 0 for none. A voxel's own patch says which
        texture it touches; the mean over its neighbourhood says in which it lies.
    """

    model: Model
    intensity: Intensity
    smoothing: float = 0.0

    @property
    def channels(self) -> int:
        """Semantic dimensions, C."""
        return self.model.vae.semantic

    @property
    def halo(self) -> int:
        """Voxels read beyond each face."""
        return self.model.encoder.halo + len(self._taps()) // 2

    @property
    def device(self) -> torch.device:
        """Where tiles are computed."""
        return next(self.model.vae.parameters()).device

    @torch.inference_mode()
    def tile(self, voxels: npt.NDArray[np.float32]) -> Tensor:
        """Embed one box of raw voxels ``(Z + 2 halo, Y + 2 halo, X + 2 halo)`` to ``(Z, Y, X, C)``, float32."""
        normalised = torch.from_numpy(self.intensity.normalise(voxels)).to(self.device)
        embedding = self.model.encoder.dense(normalised[None, None])  # (1, C, Z, Y, X)
        return smooth(embedding[0].permute(1, 2, 3, 0).contiguous(), self._taps())

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
            yield part, self.tile(voxels[cut])

    def box(self, volume: Volume, origin: Shape, shape: Shape) -> npt.NDArray[np.float32]:
        """Embed any box of a volume at once, ``(Z, Y, X, C)``: for samples, slices and tests."""
        box = Unit((0, 0, 0), origin, shape)
        result = np.empty((*shape, self.channels), np.float32)
        voxels = self.read(volume, box)
        for part, embedding in self.tiles(box, voxels):
            result[part.slices] = embedding.cpu().numpy()
        return result

    def _taps(self) -> list[float]:
        return gaussian_taps(self.smoothing)


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
    radius = round(TRUNCATE * sigma)
    if radius == 0:
        return [1.0]
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(-radius, radius + 1)]
    return [w / sum(weights) for w in weights]


def smooth(embedding: Tensor, taps: list[float]) -> Tensor:
    """Convolve ``(Z, Y, X, C)`` along z, y and x with the same taps; each axis loses ``len(taps) - 1`` voxels."""
    if len(taps) == 1:
        return embedding
    for axis in range(3):
        length = embedding.shape[axis] - len(taps) + 1
        total = embedding.narrow(axis, 0, length) * taps[0]
        for place, weight in enumerate(taps[1:], 1):
            total.add_(embedding.narrow(axis, place, length), alpha=weight)
        embedding = total
    return embedding
