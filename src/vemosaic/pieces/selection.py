"""What has been selected: one piece, or several of a class, as masks of any box."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import numpy.typing as npt

from vemosaic.pieces.classes import Mask
from vemosaic.volumes.volume import Slices

Place = tuple[int, int, int]

CACHE = 2**28
"""Bytes of masks that are kept at most by a selection that can make them anew."""


@dataclass(frozen=True)
class PackedMask:
    """A mask of a box at a bit a voxel.

    Attributes
    ----------
    bits
        ``(Z * Y * X / 8,)`` uint8.
    shape
        Voxels along z, y, x.
    """

    bits: npt.NDArray[np.uint8]
    shape: tuple[int, ...]

    @classmethod
    def pack(cls, mask: Mask) -> PackedMask:
        """Pack a mask, (Z, Y, X)."""
        return cls(np.packbits(mask), mask.shape)

    def unpack(self) -> Mask:
        """Return the mask, (Z, Y, X)."""
        return np.unpackbits(self.bits, count=int(np.prod(self.shape))).view(np.bool_).reshape(self.shape)


def kept(make: Callable[[int], Mask], limit: int = CACHE) -> Callable[[int], PackedMask]:
    """Make masks on demand and keep the latest of them, packed, up to ``limit`` bytes."""
    known: OrderedDict[int, PackedMask] = OrderedDict()
    lock = Lock()

    def get(number: int) -> PackedMask:
        with lock:
            if number in known:
                known.move_to_end(number)
                return known[number]
        mask = PackedMask.pack(make(number))
        with lock:
            known[number] = mask
            while len(known) > 1 and sum(mask.bits.nbytes for mask in known.values()) > limit:
                known.popitem(last=False)
        return mask

    return get


class Selection:
    """One piece, or several of one class: how large, where, and its mask in any box.

    Masks are made from the labels when they are asked for, or are there already where `select` has walked through
    the piece.

    Attributes
    ----------
    label
        The class.
    size
        Voxels.
    low, high
        Bounding box along z, y, x, ``high`` exclusive.
    voxel
        The first voxel in C order, z, y, x. It names a piece whatever the blocks.
    complete
        Whether this is all; `select` leaves off at a size.
    boxes
        Parts of the volume, none overlapping another, that together hold every voxel.
    """

    def __init__(
        self,
        label: int,
        size: int,
        voxel: Place,
        boxes: Sequence[Slices],
        read: Callable[[int], PackedMask],
        *,
        complete: bool = True,
    ) -> None:
        self.label = label
        self.size = size
        self.voxel = voxel
        self.boxes = tuple(boxes)
        self.complete = complete
        self._read = read
        self._low = np.array([[s.start for s in box] for box in boxes])
        self._high = np.array([[s.stop for s in box] for box in boxes])

    @property
    def low(self) -> Place:
        """The first voxel of the bounding box along z, y, x."""
        z, y, x = self._low.min(axis=0).tolist()
        return z, y, x

    @property
    def high(self) -> Place:
        """The end of the bounding box along z, y, x."""
        z, y, x = self._high.max(axis=0).tolist()
        return z, y, x

    def parts(self) -> Iterator[tuple[Slices, Mask]]:
        """Yield boxes with their masks (Z, Y, X), one in memory at a time, that together hold every voxel.

        Raises
        ------
        VolumeError
            If a shard of the labels is missing or damaged.
        """
        for number, box in enumerate(self.boxes):
            yield box, self._read(number).unpack()

    def mask(self, box: Slices) -> Mask:
        """Return which voxels of a box are selected, (Z, Y, X).

        Raises
        ------
        VolumeError
            If a shard of the labels is missing or damaged.
        """
        low, high = (np.array([getattr(s, end) for s in box]) for end in ("start", "stop"))
        mask = np.zeros(tuple(high - low), np.bool_)
        for number in np.flatnonzero(((self._low < high) & (self._high > low)).all(axis=1)).tolist():
            start, stop = np.maximum(low, self._low[number]), np.minimum(high, self._high[number])
            part = self._read(number).unpack()
            mask[between(start - low, stop - low)] = part[between(start - self._low[number], stop - self._low[number])]
        return mask


def between(low: npt.NDArray[np.int64], high: npt.NDArray[np.int64]) -> Slices:
    """Return the box from a voxel to another, which is exclusive."""
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return z, y, x
