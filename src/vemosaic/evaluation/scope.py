"""Scope: which voxels of a map are scored, and which classes are matched and averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from vemosaic.evaluation.reference import Reference
from vemosaic.volumes.volume import Shape

Places = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Scope:
    """Which voxels of a map are scored, and which classes count.

    Attributes
    ----------
    places
        Voxels along z, y, x, ascending: those whose three places are all listed are scored. None for every voxel.
    inside
        A mask on the lattice of the map: only where it is not 0. None for everywhere.
    classes
        The classes that are matched with clusters and averaged; voxels of the others count only towards the sizes
        of the clusters. None for all.
    """

    places: tuple[Sequence[int], Sequence[int], Sequence[int]] | None = None
    inside: Reference | None = None
    classes: tuple[str, ...] | None = None

    def blocks(self, shape: Shape, edge: int) -> list[ScopeBlock]:
        """Cut what is scored of a map into blocks within cubes of `edge` voxels; cubes without a place are left out."""
        chosen = self.places or tuple(range(n) for n in shape)
        axes = [list(_runs(np.asarray(p, np.intp), n, edge)) for p, n in zip(chosen, shape, strict=True)]
        return [ScopeBlock((z, y, x)) for z, y, x in product(*axes)]


@dataclass(frozen=True)
class ScopeBlock:
    """Places along z, y, x within one cube of the map, at least one each."""

    places: tuple[Places, Places, Places]

    @property
    def origin(self) -> Shape:
        """First voxel of the smallest box around the places."""
        z, y, x = (int(p[0]) for p in self.places)
        return z, y, x

    @property
    def shape(self) -> Shape:
        """Voxels of that box."""
        z, y, x = (int(p[-1] - p[0]) + 1 for p in self.places)
        return z, y, x

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """That box in the map."""
        z, y, x = (slice(int(p[0]), int(p[-1]) + 1) for p in self.places)
        return z, y, x

    def of(self, box: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Pick the places out of the voxels of the box."""
        if self.shape == tuple(len(p) for p in self.places):
            return box
        return box[np.ix_(*(p - p[0] for p in self.places))]


def _runs(places: Places, length: int, edge: int) -> Iterator[Places]:
    """Cut ascending places where a new cube begins."""
    if places.size and not 0 <= places[0] <= places[-1] < length:
        raise IndexError(f"places {places[0]} to {places[-1]} leave an axis of {length} voxels")
    for start in range(0, length, edge):
        within = places[np.searchsorted(places, start) : np.searchsorted(places, start + edge)]
        if within.size:
            yield within
