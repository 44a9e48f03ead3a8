"""The embedding of every voxel, or how sure its clusters are, as an OME-Zarr 0.5 image with a channel axis.

A shard holds all channels of its box, so that a unit of work is one file with one writer. A chunk holds one
channel: whoever needs all channels reads the shard through in one go either way, while a viewer, which shows
one, reads an eighth of an eight-dimensional embedding; and values of one channel lie together, which
compresses better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vemosaic.blocks.files import FileStamp
from vemosaic.volumes.array_writing import SHARD, ShardedArray, chunk_shape
from vemosaic.volumes.ome_writing import finish, group_attributes, multiscale, unfinish
from vemosaic.volumes.volume import Shape, Triple

COMPRESSION_LEVEL = 1
"""Of zstd: embeddings are noise in their lower bits, and more effort buys next to nothing."""


class EmbeddingStore:
    """An image ``(c, z, y, x)``, float16 unless told otherwise, that is being written or has been.

    Attributes
    ----------
    path
        Folder of the store.
    channels
        Length of the embedding of one voxel.
    shape, shard
        Voxels of the whole and of a shard along z, y, x.
    """

    def __init__(self, path: Path, array: ShardedArray) -> None:
        self.path = path
        self.channels = array.shape[0]
        self.shape: Shape = array.shape[1:]  # type: ignore[assignment]
        self.shard: Shape = array.shard[1:]  # type: ignore[assignment]
        self._array = array

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        channels: int,
        shape: Sequence[int],
        shard: Shape = SHARD,
        dtype: npt.DTypeLike = np.float16,
        joining: bool = False,
    ) -> EmbeddingStore:
        """Create a store, or take up the same one; if it was finished, it is not until `finish` is called.

        Parameters
        ----------
        path
            Folder of the store, by habit ``embedding.ome.zarr``.
        channels
            Length of the embedding of one voxel.
        shape, shard
            Voxels of the whole and of a shard along z, y, x.
        dtype
            Of a number.
        joining
            Take part in writing a store that another process has created: nothing of it is taken back.

        Raises
        ------
        OutputError
            If the folder holds another embedding, the disk is full, or the folder cannot be written to.
        """
        if not joining:
            unfinish(path, ())
        array = ShardedArray.create(
            path / "0",
            shape=(channels, *shape),
            shard=(channels, *shard),
            chunk=(1, *chunk_shape(shard)),
            dtype=dtype,
            axes="czyx",
            compression_level=COMPRESSION_LEVEL,
        )
        return cls(path, array)

    @classmethod
    def open(cls, path: Path) -> EmbeddingStore:
        """Open a finished store for reading.

        Raises
        ------
        VolumeError
            If there is none, or it is not finished.
        """
        group_attributes(path)
        return cls(path, ShardedArray.open(path / "0"))

    def files(self, origin: Sequence[int], shape: Sequence[int]) -> list[Path]:
        """Return the files that hold a box of whole shards."""
        return self._array.files((0, *origin), (self.channels, *shape))

    def write(self, origin: Sequence[int], embedding: npt.NDArray[np.generic]) -> list[Path]:
        """Write a box of whole shards, clipped only at the border; returns the files, which are on disk.

        Parameters
        ----------
        origin
            First voxel along z, y, x.
        embedding : ndarray, (C, Z, Y, X)
            All channels, of the store's type.

        Raises
        ------
        OSError
            If the disk is full or the file cannot be written.
        """
        return self._array.write((0, *origin), embedding)

    def read(self, origin: Sequence[int], shape: Sequence[int]) -> npt.NDArray[Any]:
        """Read a box with all channels, ``(C, Z, Y, X)``.

        Raises
        ------
        VolumeError
            If a shard is missing or damaged.
        """
        return self._array.read((0, *origin), (self.channels, *shape))

    def finish(
        self,
        recorded: Mapping[Path, FileStamp],
        *,
        voxel_size: Triple,
        translation: Triple,
        name: str = "embedding",
        channels: Sequence[str] = (),
    ) -> None:
        """Check every shard against its record, and make the store an OME-Zarr image.

        Parameters
        ----------
        recorded
            What the done-records vouch for.
        voxel_size, translation
            In nm along z, y, x; the translation is that of the first voxel's centre.
        name
            Of the image.
        channels
            What viewers call the channels; nothing where there are none.

        Raises
        ------
        OutputError
            If a shard is missing or differs from its record.
        """
        image: dict[str, Any] = {"multiscales": [multiscale(name, "czyx", [("0", voxel_size, translation)])]}
        if channels:
            window = {"min": 0, "start": 0, "end": 255, "max": 255}
            image["omero"] = {
                "channels": [
                    {"label": label, "color": "FFFFFF", "active": number == 0, "window": window}
                    for number, label in enumerate(channels)
                ]
            }
        finish(self.path, [self._array], recorded, {"": image})
