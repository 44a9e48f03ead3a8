"""Volumes of bytes that the explorer computes once and keeps, block by block, with coarser levels for viewing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from vemosaic.blocks.events import Listener, ignore
from vemosaic.blocks.executor import process
from vemosaic.blocks.files import FileStamp, disk_errors
from vemosaic.blocks.grid import Unit, units
from vemosaic.blocks.records import Ledger
from vemosaic.volumes import array_writing
from vemosaic.volumes.array_writing import ShardedArray, chunk_shape
from vemosaic.volumes.ome_writing import finish, multiscale, unfinish
from vemosaic.volumes.points import box_of
from vemosaic.volumes.pyramid import Level, mode_downsample
from vemosaic.volumes.volume import Shape, Slices

Bytes = npt.NDArray[np.uint8]
Data = TypeVar("Data")
Reduce = Callable[[Bytes, Sequence[int]], Bytes]


def mean_downsample(values: Bytes, step: Sequence[int]) -> Bytes:
    """Average boxes of ``step`` voxels, 1 or 2 along z, y, x; those at the end of an odd axis are cut."""
    sums = values.astype(np.uint16)
    for axis, f in enumerate(step):
        if f == 1:
            continue
        if sums.shape[axis] % 2:
            sums = np.concatenate([sums, sums.take([-1], axis)], axis)
        even, odd = (sums[(slice(None),) * axis + (slice(start, None, 2),)] for start in (0, 1))
        sums = even + odd
    return ((sums + np.prod(step) // 2) // np.prod(step)).astype(np.uint8)


class Layer:
    """A volume of bytes on the lattice of the map, with the same levels.

    Parameters
    ----------
    path
        Folder of its store, whose name says all that decides its content.
    pyramid
        Its levels.
    """

    def __init__(self, path: Path, pyramid: Sequence[Level]) -> None:
        self.path = path
        self.levels = tuple(pyramid)
        self.shard: Shape = array_writing.SHARD

    @property
    def finished(self) -> bool:
        """Whether all of it is there."""
        return (self.path / "zarr.json").exists()

    @property
    def shape(self) -> Shape:
        """Voxels of the finest level along z, y, x."""
        return self.levels[0].shape

    @cached_property
    def _arrays(self) -> list[ShardedArray]:
        return [ShardedArray.open(self.path / str(n)) for n in range(len(self.levels))]

    def read(self, level: int, box: Slices) -> Bytes:
        """Read a box of a level of a finished layer.

        Raises
        ------
        VolumeError
            If a shard is missing or damaged.
        """
        return self._arrays[level][box]

    def fill(
        self,
        *,
        read: Callable[[Unit], Data],
        compute: Callable[[Unit, Data], Bytes],
        reduce: Reduce = mode_downsample,
        listen: Listener = ignore,
    ) -> None:
        """Compute what is missing of the layer, its coarser levels too; an interrupted one goes on.

        Parameters
        ----------
        read
            Gets what a unit of whole shards is made from; called in a thread.
        compute
            Makes the unit's voxels, ``(Z, Y, X)`` uint8.
        reduce
            Makes a coarser level of a finer one.
        listen
            Hears of a stage with the layer's name, and one for each level.

        Raises
        ------
        OutputError
            If the disk is full or the folder cannot be written to.
        """
        if self.finished:
            return
        name = self.path.name.partition(".")[0].partition("-")[0]
        unfinish(self.path, ())
        with disk_errors(self.path):
            for metadata in self.path.glob("*/zarr.json"):
                metadata.unlink()
        arrays = [
            ShardedArray.create(
                self.path / str(number),
                shape=level.shape,
                shard=self.shard,
                chunk=chunk_shape(self.shard),
                dtype=np.uint8,
                axes="zyx",
            )
            for number, level in enumerate(self.levels)
        ]
        recorded: dict[Path, FileStamp] = {}
        for number, level in enumerate(self.levels):
            array = arrays[number]
            ledger = Ledger(
                self.path.with_name(f"{self.path.name}.progress"),
                name if number == 0 else f"{name}-level-{number}",
                self.path.name,
                owns=lambda unit, array=array: array.files(unit.origin, unit.shape),  # type: ignore[misc]
                root=self.path.parent,
            )

            def write(unit: Unit, voxels: Bytes, array: ShardedArray = array) -> None:
                array.write(unit.origin, voxels)

            work = units(level.shape, self.shard)
            if number == 0:
                process(work, read=read, compute=compute, write=write, ledger=ledger, listen=listen, read_ahead=1)
            else:
                finer, step = arrays[number - 1], level.step
                process(
                    work,
                    read=lambda unit, finer=finer, step=step: finer[_covered(unit, step, finer.shape)],  # type: ignore[misc]
                    compute=lambda unit, voxels, step=step: reduce(voxels, step),  # type: ignore[misc]
                    write=write,
                    ledger=ledger,
                    listen=listen,
                )
            recorded |= ledger.recorded(work)
        layout = [(str(n), level.voxel_size, level.translation) for n, level in enumerate(self.levels)]
        finish(self.path, arrays, recorded, {"": {"multiscales": [multiscale(name, "zyx", layout)]}})


def _covered(unit: Unit, step: Sequence[int], finer: Sequence[int]) -> Slices:
    """Return the box of the finer level that a unit of the coarser one covers."""
    origin = [o * f for o, f in zip(unit.origin, step, strict=True)]
    shape = [min(n * f, whole - o) for n, f, whole, o in zip(unit.shape, step, finer, origin, strict=True)]
    return box_of(origin, shape)
