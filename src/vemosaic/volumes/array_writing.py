"""Sharded Zarr v3 arrays in which every chunk carries a checksum, written shard by shard."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorstore as ts

from vemosaic.blocks.files import disk_errors
from vemosaic.errors import OutputError, VolumeError

CHUNK = 64
"""Edge in voxels of a chunk, the least that is read and decompressed."""

SHARD = (192, 192, 192)
"""Voxels of a shard, one file and the least that is written, along z, y, x."""


class ShardedArray:
    """An array on the local disk whose files are its shards.

    Every chunk is compressed by zstd with its checksum, the index of a shard has a CRC-32C, shards that hold
    only zeros are stored all the same, and a missing one is an error rather than zeros. Writing the same
    voxels gives the same bytes.

    Use `create` or `open`.

    Attributes
    ----------
    path
        Folder of the array.
    shape, shard
        Elements of the array and of one shard along each axis.
    dtype
        Type of one element.
    """

    def __init__(self, path: Path, store: Any) -> None:
        self.path = path
        self.shape: tuple[int, ...] = tuple(store.shape)
        self.shard: tuple[int, ...] = tuple(store.chunk_layout.write_chunk.shape)
        self.dtype: np.dtype[np.generic] = np.dtype(store.dtype.numpy_dtype)
        self._store = store

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        shape: Sequence[int],
        shard: Sequence[int],
        chunk: Sequence[int],
        dtype: npt.DTypeLike,
        axes: str,
        compression_level: int = 3,
    ) -> ShardedArray:
        """Create an array, or take up the one that is there if it is the same.

        Parameters
        ----------
        path
            Folder of the array; folders above it are created.
        shape, shard, chunk
            Elements along each axis; a shard is a whole number of chunks.
        dtype
            A plain number type.
        axes
            One letter for each axis, such as ``"zyx"``.
        compression_level
            Of zstd.

        Raises
        ------
        OutputError
            If another array lies there, the disk is full, or the folder cannot be written to.
        """
        endian = {} if np.dtype(dtype).itemsize == 1 else {"configuration": {"endian": "little"}}
        zstd = {"level": compression_level, "checksum": True}
        sharding = {
            "chunk_shape": list(chunk),
            "codecs": [{"name": "bytes", **endian}, {"name": "zstd", "configuration": zstd}],
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
            "index_location": "end",
        }
        metadata = {
            "shape": list(shape),
            "data_type": np.dtype(dtype).name,
            "fill_value": 0,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shard)}},
            "chunk_key_encoding": {"name": "default"},
            "dimension_names": list(axes),
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        }
        if any(s % c for s, c in zip(shard, chunk, strict=True)):
            raise ValueError(f"a shard of {tuple(shard)} is no whole number of chunks of {tuple(chunk)}")
        try:
            with disk_errors(path), os_errors():
                store = ts.open(_spec(path) | {"metadata": metadata}, create=True, open=True).result()
        except ValueError as error:
            raise OutputError(
                path, "holds another array, or a damaged one", "remove it or choose another output folder"
            ) from error
        return cls(path, store)

    @classmethod
    def open(cls, path: Path) -> ShardedArray:
        """Open an array that `create` made.

        Raises
        ------
        VolumeError
            If there is none.
        """
        try:
            return cls(path, ts.open(_spec(path), open=True).result())
        except ValueError as error:
            raise VolumeError(
                path, "is no Zarr v3 array, or a damaged one", "run again the command that made it"
            ) from error

    def write(self, origin: Sequence[int], values: npt.NDArray[np.generic]) -> list[Path]:
        """Write whole shards; they are on disk when this returns.

        Parameters
        ----------
        origin
            First element along each axis, at a corner of a shard.
        values
            Whole shards, clipped only at the border of the array.

        Returns
        -------
        list of Path
            The files written.

        Raises
        ------
        OSError
            If the disk is full or the file cannot be written.
        ValueError
            If the box is not aligned to the shards, or the values have another type.
        """
        files = self.files(origin, values.shape)
        if values.dtype != self.dtype:
            raise ValueError(f"{self.path} holds {self.dtype}, not {values.dtype}")
        with os_errors():
            self._store[_box(origin, values.shape)].write(values).result()
        return files

    def read(self, origin: Sequence[int], shape: Sequence[int]) -> npt.NDArray[Any]:
        """Read a box inside the array.

        Raises
        ------
        VolumeError
            If a shard is missing or fails its checksum.
        """
        return self[_box(origin, shape)]

    def __getitem__(self, box: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Read a box given as slices, as `read` does."""
        try:
            values: npt.NDArray[Any] = self._store[box].read().result()
        except ValueError as error:
            raise VolumeError(
                self.path,
                _first_line(error),
                "run again the command that made it, which mends what is damaged",
            ) from error
        return values

    def files(self, origin: Sequence[int], shape: Sequence[int]) -> list[Path]:
        """Return the files that hold a box, which must be aligned to the shards (in C order)."""
        extents = zip(origin, shape, self.shape, self.shard, strict=True)
        if any(o % s or o + n > whole or ((o + n) % s and o + n < whole) for o, n, whole, s in extents):
            raise ValueError(f"the box at {tuple(origin)} of {tuple(shape)} is not made of shards of {self.shard}")
        shards = (range(o // s, -(-(o + n) // s)) for o, n, s in zip(origin, shape, self.shard, strict=True))
        return [self.path.joinpath("c", *map(str, index)) for index in itertools.product(*shards)]

    def all_files(self) -> list[Path]:
        """Return the files of the whole array."""
        return self.files((0,) * len(self.shape), self.shape)


def chunk_shape(shard: Sequence[int]) -> tuple[int, ...]:
    """Return the chunk for a shard: `CHUNK` along each axis where that divides the shard, else the shard."""
    return tuple(CHUNK if s % CHUNK == 0 else s for s in shard)


@contextmanager
def os_errors() -> Iterator[None]:
    """Turn tensorstore's errors of the operating system, which it raises as ValueError, into OSError."""
    try:
        yield
    except ValueError as error:
        number = re.search(r"os_error_code='(\d+)'", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def _spec(path: Path) -> dict[str, Any]:
    return {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": f"{path}/"},
        "store_data_equal_to_fill_value": True,
        "fill_missing_data_reads": False,
    }


def _box(origin: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(o, o + n) for o, n in zip(origin, shape, strict=True))


def _first_line(error: Exception) -> str:
    return str(error).split(" [")[0].splitlines()[0]
