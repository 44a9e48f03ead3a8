"""The tiles of a volume: the boxes from which anchors are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vemosaic.blocks.grid import units
from vemosaic.errors import VolumeError
from vemosaic.volumes.volume import Shape, Volume

READ_TOGETHER = 2
"""How many tiles along each axis are read at a time where a mask is looked through."""


@dataclass(frozen=True)
class Tile:
    """A box of one volume where anchors may lie.

    Attributes
    ----------
    volume
        Index of the volume.
    start, stop
        Of the anchors along z, y, x.
    """

    volume: int
    start: Shape
    stop: Shape

    @property
    def shape(self) -> Shape:
        """Voxels along z, y, x."""
        z, y, x = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    @property
    def voxels(self) -> int:
        """How many anchors the box has room for."""
        return math.prod(self.shape)


class Tiles:
    """The tiles of a volume, in C order; each is made when it is asked for, as a teravoxel has a million of them.

    Parameters
    ----------
    index
        Index of the volume.
    volume
        Which is cut where anchors may lie; one that is thin gives up some of the margin.
    inner
        Voxels of a tile along z, y, x; the last ones are clipped.
    margin
        Voxels between an anchor and the border, along z, y, x.
    mask
        On the same lattice, non-zero where anchors may lie. It is read once, some tiles at a time, and tiles where it
        allows no anchor are left out, so that no pool is ever without one.

    Raises
    ------
    VolumeError
        If the mask leaves no voxel.
    """

    def __init__(
        self, index: int, volume: Volume, inner: Sequence[int], margin: Shape, mask: Volume | None = None
    ) -> None:
        self._index = index
        self._margins = [min(m, (n - 1) // 4) for m, n in zip(margin, volume.shape, strict=True)]
        self._stops = [n - m for m, n in zip(self._margins, volume.shape, strict=True)]
        self._inner = inner
        self._counts = [-(-(stop - m) // size) for m, stop, size in zip(self._margins, self._stops, inner, strict=True)]
        self._kept = None if mask is None else self._allowed_by(mask)

    def __len__(self) -> int:
        return math.prod(self._counts) if self._kept is None else len(self._kept)

    def __getitem__(self, number: int) -> Tile:
        if not 0 <= number < len(self):
            raise IndexError(number)
        place = np.unravel_index(number if self._kept is None else self._kept[number], self._counts)
        return self._at([int(i) for i in place])

    def _at(self, place: Sequence[int]) -> Tile:
        start = [m + i * size for m, i, size in zip(self._margins, place, self._inner, strict=True)]
        stop = [min(a + size, end) for a, size, end in zip(start, self._inner, self._stops, strict=True)]
        return Tile(self._index, tuple(start), tuple(stop))  # type: ignore[arg-type]

    def _allowed_by(self, mask: Volume) -> npt.NDArray[np.int64]:
        """Return the numbers of the tiles in which a mask allows an anchor."""
        allowed = np.zeros(self._counts, bool)
        for block in units(self._counts, (READ_TOGETHER,) * 3):
            first = self._at(block.origin)
            last = self._at([o + n - 1 for o, n in zip(block.origin, block.shape, strict=True)])
            inside = mask.read(first.start, Tile(self._index, first.start, last.stop).shape) != 0
            for axis, (count, size) in enumerate(zip(block.shape, self._inner, strict=True)):
                inside = np.logical_or.reduceat(inside, np.arange(count) * size, axis)
            allowed[block.slices] = inside
        if not allowed.any():
            raise VolumeError(mask.source, "the mask leaves no voxel for an anchor", "give a larger mask")
        return np.flatnonzero(allowed)
