"""MRC volumes, memory-mapped; the header's voxel size is in ångström."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import mrcfile
import numpy as np

from vemosaic.errors import VolumeError
from vemosaic.volumes.arrays import MappedFile, ViewedArray, unreadable
from vemosaic.volumes.axes import view_as_zyx
from vemosaic.volumes.geometry import Level, Placement, Request, assemble
from vemosaic.volumes.volume import Volume

HEADER_BYTES = 1024
IMOD_STAMP = 1146047817
IMOD_STAMP_AT = 152
AXIS_LETTERS = {1: "x", 2: "y", 3: "z"}


def open_file(path: Path, request: Request) -> Volume:
    """Open an MRC file.

    Its origin is not used: programs disagree about its sign, and most leave rubbish in it.

    Raises
    ------
    VolumeError
        If it is damaged or cut short.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # surplus bytes at the end do no harm
            with mrcfile.mmap(path, mode="r") as mrc:
                if mrc.data is None:
                    raise VolumeError(path, "holds no voxels", "copy or download it again")
                dtype, shape = mrc.data.dtype, mrc.data.shape
                header = mrc.header
                offset = HEADER_BYTES + int(header.nsymbt)
                axes = [AXIS_LETTERS.get(int(m)) for m in (header.maps, header.mapr, header.mapc)]
                angstrom = {letter: float(mrc.voxel_size[letter]) for letter in "zyx"}
    except (ValueError, OSError) as error:
        raise unreadable(path, error) from error
    letters = "".join(a for a in axes if a) if sorted(map(str, axes)) == ["x", "y", "z"] else "zyx"
    letters = "?" * (len(shape) - 3) + letters[max(0, 3 - len(shape)) :]
    view = view_as_zyx(request.source, letters, shape, request.channel)
    stored = MappedFile(path, _imod_bytes(path, dtype), shape, offset)
    size = angstrom["z"] / 10, angstrom["y"] / 10, angstrom["x"] / 10
    placement = Placement(size) if min(size) > 0 else Placement()
    return assemble(request, "MRC", [Level(ViewedArray(stored, view, request.source), placement)])


def _imod_bytes(path: Path, dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """Return the true type of 8-bit data: signed by the standard, unsigned where IMOD's flags say so."""
    if dtype != np.int8:
        return dtype
    with path.open("rb") as file:
        file.seek(IMOD_STAMP_AT)
        block = file.read(8)
    for order in "<>":
        stamp, flags = struct.unpack(f"{order}ii", block)
        if stamp == IMOD_STAMP and not flags & 1:
            return np.dtype(np.uint8)
    return dtype
