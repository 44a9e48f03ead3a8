"""Dense cells with a halo: where every feature describes a volume, and the voxels drawn from them, the same for all."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch

from vemosaic.blocks.grid import Unit, units
from vemosaic.gaussian import Taps, gaussian_taps
from vemosaic.smoothing import smooth
from vemosaic.volumes.intensity import measure_intensity
from vemosaic.volumes.volume import Shape, Triple, Volume

EDGE = 32
VOXELS = 48 * EDGE**3
"""Cells are taken until they hold so many voxels."""

SAMPLE = 150_000

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Layout:
    """Where a volume is described.

    Attributes
    ----------
    boxes
        The cells; a further box, from which no voxel is drawn, may serve a picture.
    drawn
        For each box the flat places of the voxels drawn, ascending.
    scale
        Length of the shortest edge of a voxel over each edge, z, y, x: lengths are in shortest edges everywhere.
    """

    boxes: tuple[Unit, ...]
    drawn: tuple[npt.NDArray[np.int64], ...]
    scale: Triple

    def voxels(self) -> npt.NDArray[np.int64]:
        """Places of the voxels drawn, ``(N, 3)``, z y x."""
        return np.concatenate(
            [
                np.stack(np.unravel_index(places, box.shape), 1) + np.array(box.origin)
                for box, places in zip(self.boxes, self.drawn, strict=True)
            ]
        )

    def grown(self, halo: Shape) -> list[Unit]:
        """Return the boxes with a halo around each; they may reach outside the volume."""
        return [grown(box, halo) for box in self.boxes]

    def pick(self, whole: Sequence[npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
        """Pick the voxels drawn from one array ``(Z, Y, X)`` or ``(Z, Y, X, C)`` for each box."""
        return np.concatenate(
            [
                values.reshape(-1, *values.shape[3:])[places]
                for values, places in zip(whole, self.drawn, strict=True)
                if len(places)
            ]
        )


@dataclass(frozen=True)
class Image:
    """The raw image of a layout's boxes, and of a halo around each.

    Attributes
    ----------
    halo
        Voxels beyond each face, z, y, x.
    values
        For each box ``(Z + 2 halo, Y + 2 halo, X + 2 halo)``, float32.
    spread
        Of the volume's intensities, as of `vemosaic.volumes.intensity.Intensity`.
    """

    halo: Shape
    values: tuple[Vectors, ...] = field(repr=False)
    spread: float

    @classmethod
    def of(cls, volume: Volume, layout: Layout, halo: Shape) -> Image:
        """Read it, with two voxels more than a halo."""
        z, y, x = (n + 2 for n in halo)
        boxes = layout.grown((z, y, x))
        return cls((z, y, x), tuple(volume.read(b.origin, b.shape) for b in boxes), measure_intensity(volume).spread)


@dataclass(frozen=True)
class Cells:
    """What describes the voxels of a layout's boxes, and of a halo around each.

    Attributes
    ----------
    layout
        Where.
    halo
        Voxels beyond each face, z, y, x.
    values
        For each box ``(Z + 2 halo, Y + 2 halo, X + 2 halo, C)``, float32.
    image
        The raw image of the same boxes, for treatments that look at it.
    """

    layout: Layout
    halo: Shape
    values: tuple[Vectors, ...] = field(repr=False)
    image: Image | None = field(default=None, repr=False)

    @property
    def scale(self) -> Triple:
        """As of `Layout`."""
        return self.layout.scale

    def inner(self, number: int) -> Vectors:
        """Return what describes the voxels of one box, without its halo, ``(Z, Y, X, C)``."""
        inside = tuple(slice(h, h + n) for h, n in zip(self.halo, self.layout.boxes[number].shape, strict=True))
        return self.values[number][inside]

    def sample(self) -> Vectors:
        """Return what describes the voxels drawn, ``(N, C)``."""
        return np.ascontiguousarray(self.layout.pick([self.inner(i) for i in range(len(self.values))]), np.float32)

    def changed(self, change: Callable[[Vectors], Vectors], lost: Shape = (0, 0, 0)) -> Cells:
        """Apply a function to each box with its halo, of which it takes `lost` voxels beyond each face."""
        z, y, x = (h - n for h, n in zip(self.halo, lost, strict=True))
        return replace(self, halo=(z, y, x), values=tuple(change(values) for values in self.values))


def lay_out(volume: Volume, picture: Unit | None = None, count: int = SAMPLE, voxels: int = VOXELS) -> Layout:
    """Choose cells of 32 voxels an edge in an order that is always the same, and draw voxels uniformly from them.

    Parameters
    ----------
    volume
        On the working lattice.
    picture
        A box to describe as well, for a picture.
    count
        Voxels to draw; all where there are fewer.
    voxels
        Cells are taken until they hold so many.
    """
    cells = units(volume.shape, (EDGE, EDGE, EDGE))
    chosen: list[Unit] = []
    for number in np.random.default_rng(0).permutation(len(cells)).tolist():
        if sum(cell.voxels for cell in chosen) >= voxels:
            break
        chosen.append(cells[number])
    starts = np.cumsum([0, *(cell.voxels for cell in chosen)])
    places = np.sort(
        np.random.default_rng(1).choice(int(starts[-1]), min(count, int(starts[-1])), replace=False, shuffle=False)
    )
    drawn = [places[slice(*np.searchsorted(places, (start, end)))] - start for start, end in itertools.pairwise(starts)]
    if picture is not None:
        chosen.append(picture)
        drawn.append(np.empty(0, np.int64))
    return Layout(tuple(chosen), tuple(drawn), scale_of(volume))


def scale_of(volume: Volume) -> Triple:
    """Return the shortest edge of a volume's voxels over each edge, z, y, x."""
    sizes = volume.known_voxel_size()
    z, y, x = (min(sizes) / size for size in sizes)
    return z, y, x


def grown(box: Unit, halo: Shape) -> Unit:
    """Return a box with a halo around it."""
    z, y, x = (o - h for o, h in zip(box.origin, halo, strict=True))
    depth, height, width = (n + 2 * h for n, h in zip(box.shape, halo, strict=True))
    return Unit(box.index, (z, y, x), (depth, height, width))


def reach(sigma: float, scale: Triple) -> Shape:
    """Voxels that a Gaussian of `sigma` shortest edges needs beyond each face, z, y, x."""
    z, y, x = (len(taps) // 2 for taps in _taps(sigma, scale))
    return z, y, x


def smoothed(values: Vectors, sigma: float, scale: Triple) -> Vectors:
    """Convolve ``(Z, Y, X, C)`` with a Gaussian as wide in nm along every axis; each loses twice its `reach`."""
    return smooth(torch.from_numpy(np.ascontiguousarray(values)), _taps(sigma, scale)).numpy()


def _taps(sigma: float, scale: Triple) -> Taps:
    z, y, x = (gaussian_taps(sigma * factor) for factor in scale)
    return z, y, x
