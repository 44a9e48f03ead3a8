"""The classes of a volume's voxels: its labels, some of them merged or left out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from vemosaic.errors import SettingsError
from vemosaic.volumes.volume import LazyArray, Shape, Slices

Classes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Direction = tuple[int, int, int]


class ClassVolume:
    """A lazy volume of classes, (Z, Y, X) uint8, in which 0 is no class.

    Parameters
    ----------
    labels
        (Z, Y, X), uint8, stored or made on demand.
    remap
        The class of each of the 256 labels; None where labels are classes.

    Attributes
    ----------
    shape
        Voxels along z, y, x.
    """

    def __init__(self, labels: LazyArray, remap: Sequence[int] | None = None) -> None:
        if labels.dtype != np.uint8 or len(labels.shape) != 3:
            raise ValueError(f"labels must be (Z, Y, X) uint8, not {labels.shape} {labels.dtype}")
        if remap is not None and (len(remap) != 256 or min(remap) < 0 or max(remap) > 255):
            raise ValueError("a remapping is the class, 0 to 255, of each of the 256 labels")
        self.shape: Shape = labels.shape
        self.remap = None if remap is None else tuple(int(value) for value in remap)
        self._labels = labels
        self._table = None if remap is None else np.array(remap, np.uint8)

    def __getitem__(self, box: Slices) -> Classes:
        """Read a box inside the volume, (Z, Y, X) uint8.

        Raises
        ------
        VolumeError
            If a shard is missing or damaged.
        """
        labels: Classes = np.ascontiguousarray(self._labels[box])
        return labels if self._table is None else self._table[labels]

    def at(self, voxel: Sequence[int]) -> int:
        """Return the class of a voxel z, y, x.

        Raises
        ------
        SettingsError
            If it lies outside the volume.
        """
        place = tuple(int(v) for v in voxel)
        if any(not 0 <= v < n for v, n in zip(place, self.shape, strict=True)):
            raise SettingsError(
                f"voxel {place}", "lies outside the volume", f"choose one within {self.shape} (z, y, x), counted from 0"
            )
        z, y, x = (slice(v, v + 1) for v in place)
        return int(self[z, y, x][0, 0, 0])


def directions(connectivity: int) -> list[Direction]:
    """Return the steps to a voxel's neighbours along z, y, x: 6 across faces, or 26 across edges and corners too."""
    if connectivity not in (6, 26):
        raise ValueError(f"connectivity must be 6 or 26, not {connectivity}")
    steps = itertools.product((-1, 0, 1), (-1, 0, 1), (-1, 0, 1))
    return [step for step in steps if any(step) and (connectivity == 26 or sum(map(abs, step)) == 1)]


def shifted_pairs(direction: Direction, shape: Sequence[int], connectivity: int) -> Iterator[tuple[Slices, Slices]]:
    """Yield which voxels meet where two blocks touch, as places in the two sides that face each other.

    Parameters
    ----------
    direction
        From the one block to the other.
    shape
        Of either side, with length 1 along the axes of the direction.
    connectivity
        6, where voxels meet straight across, or 26, where they also meet aslant.
    """
    straight = connectivity == 6
    reach = [(0,) if step or straight or n == 1 else (-1, 0, 1) for step, n in zip(direction, shape, strict=True)]
    for shift in itertools.product(*reach):
        here = tuple(slice(max(0, -s), min(n, n - s)) for s, n in zip(shift, shape, strict=True))
        there = tuple(slice(max(0, s), min(n, n + s)) for s, n in zip(shift, shape, strict=True))
        yield here, there  # type: ignore[misc]


def facing(direction: Direction) -> Slices:
    """Return the side of a block, one voxel deep, that looks in a direction."""
    z, y, x = (slice(None) if s == 0 else slice(-1, None) if s > 0 else slice(0, 1) for s in direction)
    return z, y, x


def opposite(direction: Direction) -> Direction:
    """Return the direction back."""
    z, y, x = direction
    return -z, -y, -x
