"""Opening: which format a source has, and the one function that opens it."""

from __future__ import annotations

import gzip
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vemosaic.errors import SettingsError, VolumeError
from vemosaic.volumes.arrays import unreadable
from vemosaic.volumes.geometry import Request, parse_voxel_size
from vemosaic.volumes.probing import check_range
from vemosaic.volumes.volume import Volume

HEAD_BYTES = 352
REMOTE_SCHEMES = ("s3://", "http://", "https://")


@dataclass(frozen=True)
class FileFormat:
    """How a single file is recognised by its first bytes, and the module whose ``open_file`` reads it."""

    name: str
    recognises: Callable[[bytes], bool]
    module: str


FILE_FORMATS = (
    FileFormat("TIFF", lambda head: head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "tiff"),
    FileFormat("HDF5", lambda head: head.startswith(b"\x89HDF\r\n\x1a\n"), "hdf5"),
    FileFormat("NumPy", lambda head: head.startswith(b"\x93NUMPY"), "numpy_file"),
    FileFormat("NIfTI", lambda head: head[344:348] == b"n+1\0" or head[4:8] == b"n+2\0", "nifti"),
    FileFormat("MRC", lambda head: head[208:211] == b"MAP", "mrc"),
    FileFormat("PNG", lambda head: head.startswith(b"\x89PNG"), "slices"),
)

# What a file is that is not read, and the way out.
REFUSED_FILES = (
    (b"\xff\xd8\xff", "is a JPEG image, which has lost detail", "give the original stack"),
    (b"PK\x03\x04", "is a zip archive", "unpack it and give the folder or file inside"),
    (b"\x1f\x8b", "is compressed with gzip", "unpack it with gunzip"),
)


def open_volume(
    source: Any,
    *,
    voxel_size: float | Sequence[float] | None = None,
    channel: int | None = None,
    labels: bool = False,
    missing_chunks: str = "error",
) -> Volume:
    """Open a volume of any supported format; nothing but metadata and a few probes are read.

    Parameters
    ----------
    source
        A path, an ``s3://``, ``https://`` or ``http://`` address (Zarr and N5), ``file.h5:/path/inside``,
        a NumPy array ``(Z, Y, X)`` or a ``zarr.Array``. An image ``(Y, X)`` is a volume of one slice.
    voxel_size
        In nm: one number, or three along z, y, x. It wins over what the file states, with a
        warning where they differ.
    channel
        Which channel to take, counted from 0; needed only where there are several.
    labels
        Read a label image or mask: bool and integers of any size are welcome, floating point is not.
    missing_chunks
        ``"error"``, or ``"fill"`` to read the absent chunks of a sparse Zarr or N5 array as its fill value.

    Returns
    -------
    Volume
        Axes z, y, x; voxel size and translation in nm; the pyramid's further levels in ``coarser``.

    Raises
    ------
    VolumeError
        If it cannot be read, holds no image of two or three dimensions, or voxels that float32 cannot hold.
    SettingsError
        If ``voxel_size`` or ``missing_chunks`` make no sense.

    Warns
    -----
    VoxelSizeWarning
        Where the given voxel size differs from the stated one.

    Examples
    --------
    >>> volume = open_volume(np.zeros((8, 16, 16), np.uint8), voxel_size=(50, 4.6, 4.6))
    >>> volume.shape, volume.voxel_size
    ((8, 16, 16), (50.0, 4.6, 4.6))
    """
    if missing_chunks not in ("error", "fill"):
        raise SettingsError("missing_chunks", f"{missing_chunks!r} is no choice", "take 'error' or 'fill'")
    request = Request(_name(source), parse_voxel_size(voxel_size), channel, labels, missing_chunks)
    volume = _open(source, request)
    if not labels:
        check_range(volume)
    return volume


def _name(source: Any) -> str:
    if isinstance(source, str | Path):
        return str(source)
    return f"{type(source).__module__.partition('.')[0]} array"


def _open(source: Any, request: Request) -> Volume:
    if isinstance(source, np.ndarray):
        return _opened_by("numpy_file", "open_array", source, request)
    if "zarr" in sys.modules and isinstance(source, sys.modules["zarr"].Array):
        return _opened_by("zarr_python", "open_array", source, request)
    if not isinstance(source, str | Path):
        raise VolumeError(request.source, f"is a {type(source).__name__}", "give a path, a NumPy array or a zarr.Array")
    location = str(source)
    if location.startswith(REMOTE_SCHEMES):
        return _opened_by("folders", "open_remote", location, request)
    if "://" in location and not location.startswith("file://"):
        raise VolumeError(location, "has a scheme that is not read", "use s3://, https:// or a local path")
    path = Path(location.removeprefix("file://")).expanduser()
    if path.is_dir():
        return _opened_by("folders", "open_folder", path, request)
    if path.exists():
        return _open_file(path, request)
    file, colon, inside = location.rpartition(":")
    if colon and Path(file).expanduser().is_file():
        return _opened_by("hdf5", "open_dataset", Path(file).expanduser(), inside, request)
    raise VolumeError(location, "does not exist", "check the path")


def _open_file(path: Path, request: Request) -> Volume:
    """Open a single file by what its first bytes say, whatever its name."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        if head.startswith(b"\x1f\x8b") and path.name.endswith(".nii.gz"):
            with gzip.open(path) as unpacked:
                head = unpacked.read(HEAD_BYTES)
    except (OSError, EOFError) as error:
        raise unreadable(path, error) from error
    if not head:
        raise VolumeError(path, "is an empty file", "copy or download it again")
    for known in FILE_FORMATS:
        if known.recognises(head):
            return _opened_by(known.module, "open_file", path, request)
    for start, problem, remedy in REFUSED_FILES:
        if head.startswith(start):
            raise VolumeError(path, problem, remedy)
    names = ", ".join(known.name for known in FILE_FORMATS)
    raise VolumeError(path, "has no format that is known here", f"convert it to one of: Zarr, N5, {names}")


def _opened_by(module: str, function: str, *arguments: Any) -> Volume:
    """Call one format's module, imported now: the libraries of all take seconds, and one is needed."""
    opened: Volume = getattr(importlib.import_module(f"vemosaic.volumes.{module}"), function)(*arguments)
    return opened
