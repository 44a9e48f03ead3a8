"""The units that a stage is cut into: boxes on one global grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

Index = tuple[int, int, int]


@dataclass(frozen=True)
class Unit:
    """One box of work, aligned to the grid and clipped at the border.

    Attributes
    ----------
    index
        Its place on the grid along z, y, x.
    origin
        Its first voxel along z, y, x.
    shape
        Its voxels along z, y, x.
    group
        Which of several arrays it belongs to, where one stage fills several (``"k8"``).
    """

    index: Index
    origin: Index
    shape: Index
    group: str = ""

    @property
    def voxels(self) -> int:
        """How many voxels the box holds."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as slices along z, y, x."""
        z, y, x = (slice(o, o + n) for o, n in zip(self.origin, self.shape, strict=True))
        return z, y, x

    @property
    def name(self) -> str:
        """What the unit is called in records: unique within its stage, fit for a file name."""
        place = "_".join(map(str, self.index))
        return f"{self.group}-{place}" if self.group else place


def units(shape: Sequence[int], unit_shape: Sequence[int], group: str = "") -> list[Unit]:
    """Cut an array into units, in C order.

    Parameters
    ----------
    shape
        Voxels of the array along z, y, x.
    unit_shape
        Voxels of a unit along z, y, x; the last ones are clipped at the border.
    group
        Given to every unit.

    Returns
    -------
    list of Unit
        Every voxel lies in exactly one of them.
    """
    if len(shape) != 3 or len(unit_shape) != 3 or min(unit_shape) < 1:
        raise ValueError(f"cannot cut {tuple(shape)} into units of {tuple(unit_shape)}: three positive sizes needed")
    counts = [-(-n // u) for n, u in zip(shape, unit_shape, strict=True)]
    cut = []
    for index in itertools.product(*map(range, counts)):
        origin = tuple(i * u for i, u in zip(index, unit_shape, strict=True))
        clipped = tuple(min(u, n - o) for u, n, o in zip(unit_shape, shape, origin, strict=True))
        cut.append(Unit(index, origin, clipped, group))  # type: ignore[arg-type]
    return cut
