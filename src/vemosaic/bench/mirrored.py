"""Large volumes from small ones: repeated in mirror images, as an OME-Zarr store that is removed afterwards."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from vemosaic.blocks.files import FileStamp, disk_errors, stamp
from vemosaic.blocks.grid import units
from vemosaic.embedding import TILE
from vemosaic.errors import OutputError, SettingsError
from vemosaic.held_signal import HeldSignal
from vemosaic.settings import Settings
from vemosaic.volumes.array_writing import SHARD, ShardedArray, chunk_shape
from vemosaic.volumes.ome_writing import finish, multiscale
from vemosaic.volumes.volume import Shape, Volume

FEWEST = 32**3
"""Voxels of the smallest store."""


@contextmanager
def scratch(folder: Path | None, needed: int) -> Iterator[Path]:
    """Make a temporary folder, and remove it and all in it at the end.

    Parameters
    ----------
    folder
        Where; it is created if missing, and stays. The system's folder for temporary files where None.
    needed
        Bytes that will be written to it at most.

    Raises
    ------
    OutputError
        If there is not so much free space, or the folder cannot be written to.
    """
    parent = Path(tempfile.gettempdir()) if folder is None else folder
    with disk_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(parent).free
        if free < needed:
            raise OutputError(
                parent,
                f"has {free / 1e9:.3g} GB free where up to {needed / 1e9:.3g} GB are needed",
                "name a folder on a larger disk with --out, or ask for fewer --voxels",
            )
        made = Path(tempfile.mkdtemp(prefix="vemosaic-bench-", dir=parent))
    try:
        yield made
    finally:
        with HeldSignal(signal.SIGTERM), HeldSignal(signal.SIGINT):  # `timeout` sends two, and people press twice
            shutil.rmtree(made, ignore_errors=True)


def bytes_needed(volume: Volume, voxels: int) -> int:
    """Bytes of a store of so many voxels and of its maps with their pyramids, as if nothing could be compressed."""
    return voxels * volume.dtype.itemsize + voxels * len(Settings().clusters) * 8 // 7


def whole_tiles(voxels: int) -> Shape:
    """Return a shape near a cube of about so many voxels, of whole tiles: a border costs more than what lies within.

    Raises
    ------
    SettingsError
        If it is fewer than 32 x 32 x 32.
    """
    if voxels < FEWEST:
        raise SettingsError("--voxels", f"{voxels:,} are too few", f"ask for {FEWEST:,} or more")
    edge = min(TILE, round(voxels ** (1 / 3)))
    tiles = voxels / edge**3
    z = max(1, round(tiles ** (1 / 3)))
    y = max(1, round((tiles / z) ** (1 / 2)))
    x = max(1, round(tiles / (z * y)))
    return z * edge, y * edge, x * edge


def write_mirrored(volume: Volume, shape: Shape, store: Path) -> list[Path]:
    """Write a volume, cut or repeated in mirror images to a shape, as OME-Zarr 0.5; return the files of its voxels.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written to.
    VolumeError
        If the volume cannot be read, or its voxel size is not known.
    """
    layout = multiscale("raw", "zyx", [("0", volume.known_voxel_size(), volume.translation)])
    array = ShardedArray.create(
        store / "0", shape=shape, shard=SHARD, chunk=chunk_shape(SHARD), dtype=volume.dtype, axes="zyx"
    )
    recorded: dict[Path, FileStamp] = {}
    with disk_errors(store):
        for unit in units(shape, SHARD):
            voxels = np.asarray(volume.read(unit.origin, unit.shape), volume.dtype)
            recorded |= {file: stamp(file) for file in array.write(unit.origin, voxels)}
    finish(store, [array], recorded, {"": {"multiscales": [layout]}})
    return sorted(recorded)
