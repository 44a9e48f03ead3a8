"""Coarser levels of a label image: each voxel takes the most frequent label of those it covers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from vemosaic.blocks.events import Listener, ignore
from vemosaic.blocks.executors import Executor, InProcess
from vemosaic.blocks.files import FileStamp
from vemosaic.blocks.grid import Unit, units
from vemosaic.blocks.records import Ledger
from vemosaic.blocks.work import Steps, Work
from vemosaic.volumes.volume import Shape, Triple

if TYPE_CHECKING:
    from vemosaic.volumes.labels import LabelStore

Number = TypeVar("Number", int, float)

SMALLEST = 128
"""Levels are added until one fits in a cube of so many voxels."""

ISOTROPY = 1.5
"""An axis is halved while its voxel size is less than this times the smallest: voxels grow towards cubes."""

TILE_BYTES = 1 << 17
"""Voxels of one view worked on at a time, so that all that one step needs stays in the cache."""


@dataclass(frozen=True)
class Level:
    """One resolution of a pyramid.

    Attributes
    ----------
    shape
        Voxels along z, y, x.
    step
        How many voxels of the level before it one covers along z, y, x: 1 or 2.
    voxel_size
        In nm along z, y, x.
    translation
        Position in nm of the centre of its first voxel along z, y, x.
    """

    shape: Shape
    step: Shape
    voxel_size: Triple
    translation: Triple


def levels(shape: Sequence[int], voxel_size: Sequence[float], translation: Sequence[float]) -> tuple[Level, ...]:
    """Lay out a pyramid.

    Each level halves those axes whose voxel size is below 1.5 times the smallest one among the axes that
    still can be halved, until all axes fit in 128 voxels. The centre of the first voxel moves by half of what
    the voxel grows.

    Parameters
    ----------
    shape
        Voxels of the finest level along z, y, x.
    voxel_size, translation
        Of the finest level, in nm along z, y, x.

    Returns
    -------
    tuple of Level
        The finest first.
    """
    level = Level(_three(shape), (1, 1, 1), _three(voxel_size), _three(translation))
    pyramid = [level]
    while max(level.shape) > SMALLEST:
        finest = min(s for s, n in zip(level.voxel_size, level.shape, strict=True) if n > 1)
        step = [2 if n > 1 and s < ISOTROPY * finest else 1 for s, n in zip(level.voxel_size, level.shape, strict=True)]
        grown = [s * f for s, f in zip(level.voxel_size, step, strict=True)]
        level = Level(
            _three([-(-n // f) for n, f in zip(level.shape, step, strict=True)]),
            _three(step),
            _three(grown),
            _three([t + (s - s0) / 2 for t, s, s0 in zip(translation, grown, voxel_size, strict=True)]),
        )
        pyramid.append(level)
    return tuple(pyramid)


def mode_downsample(labels: npt.NDArray[np.uint8], step: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Give every box of ``step`` voxels its most frequent label; the smallest one where several are.

    Parameters
    ----------
    labels : ndarray, (Z, Y, X), uint8
        Where an axis is odd, the boxes at its end are cut, and what they hold counts alone.
    step
        1 or 2 along z, y, x.

    Returns
    -------
    ndarray, (ceil(Z / step), ceil(Y / step), ceil(X / step)), uint8

    Notes
    -----
    Each of the n voxels of a box gets the number of voxels equal to it, by n (n - 1) / 2 comparisons of whole
    arrays; the mode is the largest of ``256 count + 255 - label``.
    """
    if set(step) - {1, 2} or len(step) != 3:
        raise ValueError(f"steps are 1 or 2 along each axis, not {tuple(step)}")
    if set(step) == {1}:
        return labels.copy()
    # a border voxel repeated doubles every count of its box, and so changes neither the mode nor the ties
    padding = [(0, -n % f) for n, f in zip(labels.shape, step, strict=True)]
    if any(after for _, after in padding):
        labels = np.pad(labels, padding, mode="edge")
    views = [
        labels[tuple(slice(start, None, f) for start, f in zip(corner, step, strict=True))]
        for corner in itertools.product(*map(range, step))
    ]
    mode: npt.NDArray[np.uint8] = np.empty(views[0].shape, np.uint8)
    rows = max(1, TILE_BYTES // max(1, mode[0].size))
    for top in range(0, mode.shape[0], rows):
        mode[top : top + rows] = _mode([np.ascontiguousarray(view[top : top + rows]) for view in views])
    return mode


def _mode(views: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Return the mode across equally shaped arrays, element by element."""
    counts = [np.ones(views[0].shape, np.uint8) for _ in views]
    for i, j in itertools.combinations(range(len(views)), 2):
        equal = (views[i] == views[j]).view(np.uint8)
        counts[i] += equal
        counts[j] += equal
    best = np.zeros(views[0].shape, np.uint16)
    for view, count in zip(views, counts, strict=True):
        key = count.astype(np.uint16)
        key <<= 8
        key |= ~view
        np.maximum(best, key, out=best)
    return ~best.astype(np.uint8)


def build_pyramid(
    store: LabelStore,
    *,
    records: Path,
    fingerprint: str,
    listen: Listener = ignore,
    executor: Executor | None = None,
) -> dict[Path, FileStamp]:
    """Fill all coarser levels of a label store from its finest, level by level, a shard at a time.

    Parameters
    ----------
    store
        Its level 0 is complete for every k.
    records
        Folder of the done-records, beside the store.
    fingerprint
        That of level 0: coarser levels are made anew when it changes.
    listen
        Hears of one stage for each level, in voxels of that level.
    executor
        Who carries them out; this process where None.

    Returns
    -------
    dict
        What the records of all coarser levels vouch for, for `LabelStore.finish`.
    """
    executor = executor or InProcess()
    recorded: dict[Path, FileStamp] = {}
    for number, level in enumerate(store.levels[1:], start=1):
        opener = _LevelOpener(
            store.path.resolve(), store.ks, store.levels, store.shard, number, records.resolve(), fingerprint
        )
        steps = opener.steps(store)
        work = [unit for k in store.ks for unit in units(level.shape, store.shard, group=f"k{k}")]
        executor.carry_out(work, Work(steps, opener), listen)
        recorded |= steps.ledger.recorded(work)
    return recorded


@dataclass(frozen=True)
class _LevelOpener:
    """Makes the steps of one level, in any process that sees the store."""

    path: Path
    ks: tuple[int, ...]
    levels: tuple[Level, ...]
    shard: Shape
    number: int
    records: Path
    fingerprint: str

    def __call__(self) -> Steps[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        from vemosaic.volumes.labels import LabelStore

        return self.steps(LabelStore(self.path, self.ks, self.levels, self.shard))

    def steps(self, store: LabelStore) -> Steps[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Make the steps for a store that is open already."""
        stage = _LevelStage(store, self.number, self.levels[self.number])
        ledger = Ledger(
            self.records, f"pyramid-level-{self.number}", self.fingerprint, owns=stage.owns, root=store.path.parent
        )
        return Steps(stage.read, stage.compute, stage.write, ledger)


@dataclass(frozen=True)
class _LevelStage:
    """Reading, computing and writing one level of one or more label images."""

    store: LabelStore
    number: int
    level: Level

    def owns(self, unit: Unit) -> list[Path]:
        return self.store.files(_k(unit), self.number, unit.origin, unit.shape)

    def read(self, unit: Unit) -> npt.NDArray[np.uint8]:
        finer = self.store.levels[self.number - 1].shape
        origin = [o * f for o, f in zip(unit.origin, self.level.step, strict=True)]
        shape = [
            min(n * f, whole - o) for n, f, whole, o in zip(unit.shape, self.level.step, finer, origin, strict=True)
        ]
        return self.store.read(_k(unit), self.number - 1, origin, shape)

    def compute(self, unit: Unit, labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return mode_downsample(labels, self.level.step)

    def write(self, unit: Unit, labels: npt.NDArray[np.uint8]) -> None:
        self.store.write(_k(unit), self.number, unit.origin, labels)


def _k(unit: Unit) -> int:
    return int(unit.group[1:])


def _three(values: Sequence[Number]) -> tuple[Number, Number, Number]:
    first, second, third = values
    return first, second, third
