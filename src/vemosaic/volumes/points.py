"""Single voxels of a volume, read together where they lie together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from vemosaic.volumes.volume import Slices

CELL = 32
"""Edge in voxels of the cells that voxels are read in; that of the cells that samples are drawn from."""

Bytes = npt.NDArray[np.uint8]
Value = TypeVar("Value", bound=np.generic)


def box_of(origin: Sequence[int], shape: Sequence[int]) -> Slices:
    """Return a box as slices along z, y, x."""
    z, y, x = (slice(int(o), int(o) + int(n)) for o, n in zip(origin, shape, strict=True))
    return z, y, x


def neighbours(voxels: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Group voxels ``(N, 3)`` that lie in one cell of 32, so that each group is read at once."""
    if len(voxels) == 0:
        return []
    cells = voxels // CELL
    order = np.lexsort(cells.T)
    return np.split(order, np.flatnonzero(np.any(np.diff(cells[order], axis=0), axis=1)) + 1)


def read_at(read: Callable[[Sequence[int], Sequence[int]], Bytes], voxels: npt.NDArray[np.int64]) -> Bytes:
    """Read single voxels, ``(N, 3)`` to ``(N,)``, by what reads boxes of an origin and a shape."""
    found = np.empty(len(voxels), np.uint8)
    fill_at(found, read, voxels)
    return found


def fill_at(
    found: npt.NDArray[Value],
    read: Callable[[Sequence[int], Sequence[int]], npt.NDArray[Value]],
    voxels: npt.NDArray[np.int64],
) -> None:
    """Fill ``(N,)`` or ``(N, C)`` with what is known of single voxels, ``(N, 3)``, by what reads boxes."""
    for group in neighbours(voxels):
        low, high = voxels[group].min(0), voxels[group].max(0) + 1
        found[group] = read(low.tolist(), (high - low).tolist())[tuple((voxels[group] - low).T)]
