"""The units that a stage is cut into: boxes on one global grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

Index = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
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
    counts = unit_counts(shape, unit_shape)
    depth, rows, columns = map(range, counts)
    return [_unit(index, shape, unit_shape, group) for index in itertools.product(depth, rows, columns)]


def unit_counts(shape: Sequence[int], unit_shape: Sequence[int]) -> Index:
    """Count the units along z, y, x that `units` cuts an array into."""
    if len(shape) != 3 or len(unit_shape) != 3 or min(unit_shape) < 1:
        raise ValueError(f"cannot cut {tuple(shape)} into units of {tuple(unit_shape)}: three positive sizes needed")
    z, y, x = (-(-n // u) for n, u in zip(shape, unit_shape, strict=True))
    return z, y, x


def unit_at(number: int, shape: Sequence[int], unit_shape: Sequence[int]) -> Unit:
    """Return one of the units that `units` cuts an array into, without the others: a large array has very many."""
    _, rows, columns = unit_counts(shape, unit_shape)
    return _unit((number // (rows * columns), number // columns % rows, number % columns), shape, unit_shape)


def _unit(index: Index, shape: Sequence[int], unit_shape: Sequence[int], group: str = "") -> Unit:
    origin = tuple(i * u for i, u in zip(index, unit_shape, strict=True))
    clipped = tuple(min(u, n - o) for u, n, o in zip(unit_shape, shape, origin, strict=True))
    return Unit(index, origin, clipped, group)  # type: ignore[arg-type]
