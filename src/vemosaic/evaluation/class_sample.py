"""Draws voxels from a volume: uniformly, and so many from each class however rare it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vemosaic.blocks.grid import units
from vemosaic.errors import ReferenceMaskError
from vemosaic.volumes.volume import Shape, Volume

CUBE = (64, 64, 64)
FEWEST_CUBES = 128

Voxels = npt.NDArray[np.int64]


class Classes(Protocol):
    """A class for every voxel: a reference segmentation, or anything that reads like one."""

    @property
    def class_names(self) -> Sequence[str]:
        """Name of each class."""

    def read(self, origin: Sequence[int], shape: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Read the classes (Z, Y, X) of a box inside the volume."""


@dataclass(frozen=True)
class ClassSample:
    """Voxels of a volume.

    Attributes
    ----------
    uniform
        Of the whole, so that classes appear in proportion to their sizes, ``(N, 3)`` z, y, x.
    classes
        Their classes, ``(N,)``; all 0 where there are none.
    by_class
        Voxels of each class that has any, ``(n, 3)``, by its index.
    """

    uniform: Voxels
    classes: npt.NDArray[np.uint8]
    by_class: dict[int, Voxels]


def draw_voxels(
    shape: Shape,
    classes: Classes | None,
    *,
    count: int,
    each: int,
    mask: Volume | None = None,
    margin: int = 0,
    seed: int = 0,
) -> ClassSample:
    """Draw voxels without replacement, in random order, from cubes of 64 voxels an edge in random order.

    At least 128 cubes are read (all, of a volume of up to 33 Mvoxel), and more until every class has its voxels or no
    cube is left. Among the voxels of the cubes read, each is as likely as any other of its class.

    Parameters
    ----------
    shape
        Of the volume, z, y, x.
    classes
        On the same lattice, or None.
    count
        Voxels wanted of the whole.
    each
        Voxels wanted of each class; those that are rarer give what they have.
    mask
        Non-zero where voxels may be drawn, on the same lattice.
    margin
        Voxels to keep from the border; a thin volume gives up some of it, as in training.
    seed
        Of the choice.

    Raises
    ------
    ReferenceMaskError
        If the mask leaves no voxel.
    """
    rng = np.random.default_rng(seed)
    low = [min(margin, (n - 1) // 4) for n in shape]
    inner: Shape = (shape[0] - 2 * low[0], shape[1] - 2 * low[1], shape[2] - 2 * low[2])
    cubes = units(inner, CUBE)
    names = [] if classes is None else list(classes.class_names)
    whole = _Lowest(count)
    of_class = [_Lowest(each) for _ in names]
    for read, number in enumerate(rng.permutation(len(cubes)).tolist()):
        if read >= FEWEST_CUBES and all(kept.full for kept in (whole, *of_class)):
            break
        origin = [o + m for o, m in zip(cubes[number].origin, low, strict=True)]
        size = cubes[number].shape
        keys = rng.random(size, dtype=np.float32)
        if mask is not None:
            keys[mask.array[tuple(slice(o, o + n) for o, n in zip(origin, size, strict=True))] == 0] = np.inf  # type: ignore[index]
        label = np.zeros(size, np.uint8) if classes is None else classes.read(origin, size)
        whole.add(keys, label, np.isfinite(keys), origin)
        for index, kept in enumerate(of_class):
            kept.add(keys, label, (label == index) & np.isfinite(keys), origin)
    if not len(whole.keys):
        raise ReferenceMaskError(mask.source if mask else "map", "no voxel of it is mapped", "map the volume first")
    by_class = {index: kept.voxels for index, kept in enumerate(of_class) if len(kept.keys)}
    return ClassSample(whole.voxels, whole.labels, by_class)


class _Lowest:
    """Keeps the voxels with the lowest of their random keys."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.keys = np.empty(0, np.float32)
        self.voxels = np.empty((0, 3), np.int64)
        self.labels = np.empty(0, np.uint8)

    @property
    def full(self) -> bool:
        return len(self.keys) == self.count

    def add(
        self,
        keys: npt.NDArray[np.float32],
        labels: npt.NDArray[np.uint8],
        eligible: npt.NDArray[np.bool_],
        origin: Sequence[int],
    ) -> None:
        """Consider the eligible voxels of a box."""
        flat = np.flatnonzero(eligible)
        if self.count < len(flat):
            flat = flat[np.argpartition(keys.ravel()[flat], self.count)[: self.count]]
        voxels = np.stack(np.unravel_index(flat, keys.shape), 1) + np.asarray(origin)
        together = np.concatenate([self.keys, keys.ravel()[flat]])
        order = np.argsort(together, kind="stable")[: self.count]
        self.keys = together[order]
        self.voxels = np.concatenate([self.voxels, voxels])[order]
        self.labels = np.concatenate([self.labels, labels.ravel()[flat]])[order]
