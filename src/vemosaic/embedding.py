"""The dense view of a trained encoder: one vector for every voxel of a box, tile by tile."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vemosaic.blocks.grid import Unit
from vemosaic.clustering.words import Words
from vemosaic.devices import Precision, autocast, staged
from vemosaic.diffusion import Diffusion
from vemosaic.gaussian import Taps, smoothing_taps
from vemosaic.models import default
from vemosaic.models.model import Model
from vemosaic.models.patch_view import embed_places
from vemosaic.smoothing import smooth
from vemosaic.volumes.anisotropy import relative_depth
from vemosaic.volumes.intensity import Intensity
from vemosaic.volumes.volume import Shape, Volume

TILE = 96
"""Edge in voxels of the tiles that are computed at once. They lie on one global grid, clipped only at the volume's
border, so that no choice of blocks changes a voxel."""

UNSMOOTHED: Taps = ([1.0], [1.0], [1.0])

DETAIL = 1 / 3
"""Standard deviation of the Gaussian over a voxel's own texture, over that of the one over its surroundings."""


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
    depth
        How many times as deep as wide a voxel is taken to be: the Gaussian's standard deviation along z is as many
        times smaller. Infinite for a single slice, along which there is nothing to smooth.
    diffusion
        What follows the Gaussian, and stops at the image's edges; None for nothing.
    stride
        Of encoders that work patch by patch: embed one voxel in every block of so many an edge, on one lattice over the
        volume, and give its vector to the whole block.
    precision
        Of the dense view. Encoders that work patch by patch choose their own: see `vemosaic.models.patch_view`.
    """

    model: Model
    intensity: Intensity
    words: Words | None = None
    smoothing: float = 0.0
    depth: float = 1.0
    diffusion: Diffusion | None = None
    stride: int = 1
    precision: Precision = "auto"

    @property
    def channels(self) -> int:
        """Length of the vector, C."""
        return self.words.channels if self.words else self.model.vae.semantic

    @classmethod
    def of(cls, model: Model, volume: Volume, *, stride: int = 1, precision: Precision = "auto") -> Embedder:
        """Make a model ready for a volume: measure what normalises it, and how deep its voxels are.

        Smoothing follows the depth of the voxels where the model's patches are flat; where they are cubes, voxels are
        taken to be cubes, too.
        """
        depth = relative_depth(volume) if model.settings.slices else 1.0
        return cls(model, model.measure(volume), depth=depth, stride=stride, precision=precision)

    @property
    def taps(self) -> Taps:
        """Weights of the Gaussian along z, y and x."""
        return smoothing_taps(self.smoothing, self.depth)

    @property
    def detail_taps(self) -> Taps:
        """Weights of the narrower Gaussian, over a voxel's own texture."""
        return smoothing_taps(DETAIL * self.smoothing, self.depth)

    @property
    def reach(self) -> Shape:
        """Voxels that smoothing and diffusion need beyond each face, z y x."""
        diffused = self.diffusion.reach if self.diffusion else (0, 0, 0)
        z, y, x = (len(taps) // 2 + r for taps, r in zip(self.taps, diffused, strict=True))
        return z, y, x

    @property
    def halo(self) -> Shape:
        """Voxels read beyond each face, z y x."""
        encoder = self.model.encoder
        view = encoder.halo if isinstance(encoder, default.Encoder) else (encoder.halo + self.stride - 1,) * 3
        z, y, x = (v + r for v, r in zip(view, self.reach, strict=True))
        return z, y, x

    @property
    def device(self) -> torch.device:
        """Where tiles are computed."""
        return next(self.model.vae.parameters()).device

    def normalised(self, voxels: npt.NDArray[np.float32]) -> Tensor:
        """Normalise raw voxels, and bring them to the device."""
        return torch.from_numpy(self.intensity.normalise(voxels)).to(self.device)

    @torch.inference_mode()
    def semantic(self, normalised: Tensor, origin: Sequence[int]) -> Tensor:
        """Embed one box of normalised voxels, what the encoder needs around it included, to ``(Z, Y, X, C)``, float32.

        What it gives is neither described by words nor smoothed. `origin` is the place of its first embedded voxel in
        the volume.
        """
        encoder, boxes = self.model.encoder, normalised[None, None]
        if isinstance(encoder, default.Encoder):
            with autocast(self.precision, self.device):
                embedding = encoder.dense(boxes)
        else:
            embedding = encoder.dense(boxes, self.stride, origin)
        return embedding[0].permute(1, 2, 3, 0).float().contiguous()  # from (1, C, Z, Y, X)

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
        encoder = self.model.encoder
        assert not isinstance(encoder, default.Encoder)
        embedded = embed_places(encoder, self.normalised(voxels), torch.from_numpy(places).to(self.device))
        return np.asarray(embedded.cpu())

    def read(self, volume: Volume, box: Unit) -> npt.NDArray[np.float32]:
        """Read what a box needs: its voxels and the halo, mirrored at the volume's border."""
        halo = self.halo
        origin = [o - h for o, h in zip(box.origin, halo, strict=True)]
        return volume.read(origin, [n + 2 * h for n, h in zip(box.shape, halo, strict=True)])

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
        wanted = tiles_of(box.origin, box.shape)
        if self.words is None:
            around = [grown(part, self.reach) for part in wanted]
            for part, semantic in zip(wanted, self._semantics(voxels, box, around), strict=True):
                yield part, self.diffused(smooth(semantic, self.taps), self.image(voxels, part))
            return
        word = self._words_around(voxels, box, self.words)
        for part in wanted:
            cut = tuple(slice(o, o + n + 2 * r) for o, n, r in zip(part.origin, part.shape, self.reach, strict=True))
            yield part, self.described(word[cut], self.image(voxels, part))

    def described(self, word: Tensor, image: npt.NDArray[np.float32]) -> Tensor:
        """Describe a box by its words.

        Parameters
        ----------
        word
            ``(Z, Y, X)``, 1 to W, with as much around the box as `reach`.
        image
            As `image` cuts it out.

        Returns
        -------
        Tensor, (Z', Y', X', C), float32
        """
        assert self.words is not None
        return self.diffused(self.words.describe(word, self.taps, self.detail_taps), image)

    def diffused(self, values: Tensor, image: npt.NDArray[np.float32]) -> Tensor:
        """Diffuse what describes a box ``(Z, Y, X, C)``, where descriptions are diffused."""
        if self.diffusion is None:
            return values
        return self.diffusion(values, torch.from_numpy(image).to(values.device))

    def image(self, voxels: npt.NDArray[np.float32], part: Unit) -> npt.NDArray[np.float32]:
        """Cut what diffusion sees of the image for a part out of what `read` gave for a box; origin as within it."""
        sight = self.diffusion.sight if self.diffusion else (0, 0, 0)
        return voxels[
            tuple(
                slice(h + o - s, h + o + n + s)
                for h, o, n, s in zip(self.halo, part.origin, part.shape, sight, strict=True)
            )
        ]

    def _words_around(self, voxels: npt.NDArray[np.float32], box: Unit, words: Words) -> Tensor:
        """Find the word of every voxel of a box and within `reach` of it, ``(Z, Y, X)`` uint8.

        Encoded once for the whole box, and not for the surroundings of each tile anew.
        """
        around = grown(Unit(box.index, (0, 0, 0), box.shape), self.reach)
        word = torch.empty(around.shape, dtype=torch.uint8, device=self.device)
        parts = self.encoded_parts(box.shape)
        places = []
        for part in parts:
            z, y, x = (o + p for o, p in zip(around.origin, part.origin, strict=True))
            places.append(Unit(box.index, (z, y, x), part.shape))
        for part, semantic in zip(parts, self._semantics(voxels, box, places), strict=True):
            word[part.slices] = words.nearest(semantic)
        return word

    def encoded_parts(self, shape: Shape) -> list[Unit]:
        """Cut a box, with `reach` around it, into the parts that are encoded at once to find its words."""
        z, y, x = (n + 2 * r for n, r in zip(shape, self.reach, strict=True))
        return evenly((z, y, x), TILE + 2 * max(self.reach))

    def _semantics(self, voxels: npt.NDArray[np.float32], box: Unit, parts: Sequence[Unit]) -> Iterator[Tensor]:
        """Embed parts, their origins relative to the box that voxels were read for; they may reach beyond the box.

        A GPU gets each while it computes the one before.
        """
        cuts = [
            tuple(
                slice(o + r, o + r + n + 2 * (h - r))
                for o, n, r, h in zip(part.origin, part.shape, self.reach, self.halo, strict=True)
            )
            for part in parts
        ]
        normalised = staged((self.intensity.normalise(voxels[cut]) for cut in cuts), self.device)
        for part, boxes in zip(parts, normalised, strict=True):
            yield self.semantic(boxes, [o + p for o, p in zip(box.origin, part.origin, strict=True)])

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


def evenly(shape: Shape, most: int) -> list[Unit]:
    """Cut a box into the fewest parts of hardly different sizes whose edges are at most so long."""
    counts = [-(-length // most) for length in shape]
    cuts = [[length * i // count for i in range(count + 1)] for length, count in zip(shape, counts, strict=True)]
    return [
        Unit((0, 0, 0), (z[0], y[0], x[0]), (z[1] - z[0], y[1] - y[0], x[1] - x[0]))
        for z, y, x in itertools.product(*(itertools.pairwise(ends) for ends in cuts))
    ]


def grown(box: Unit, by: Shape) -> Unit:
    """Return a box with so much more at each face."""
    z, y, x = (o - more for o, more in zip(box.origin, by, strict=True))
    depth, height, width = (n + 2 * more for n, more in zip(box.shape, by, strict=True))
    return Unit(box.index, (z, y, x), (depth, height, width))
