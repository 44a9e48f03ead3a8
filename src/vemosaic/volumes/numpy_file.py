"""NumPy arrays and ``.npy`` files (memory-mapped, never unpickled)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from vemosaic.errors import VolumeError
from vemosaic.volumes.arrays import Indexable, MappedFile, ViewedArray, unreadable
from vemosaic.volumes.axes import view_as_zyx
from vemosaic.volumes.geometry import Level, Request, assemble
from vemosaic.volumes.volume import Volume


def open_array(array: npt.NDArray[np.generic], request: Request) -> Volume:
    """Wrap an array in memory, ``(Z, Y, X)``."""
    return unnamed(array, request, "NumPy array")


def open_file(path: Path, request: Request) -> Volume:
    """Open a ``.npy`` file, ``(Z, Y, X)``."""
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        if "Object arrays" in str(error) or "Python objects" in str(error):
            raise VolumeError(
                path, "holds Python objects, which are never loaded", "save it as an array of numbers"
            ) from error
        raise unreadable(path, error) from error
    except (OSError, EOFError) as error:
        raise unreadable(path, error) from error
    order: Literal["C", "F"] = "F" if mapped.flags.f_contiguous and not mapped.flags.c_contiguous else "C"
    stored = MappedFile(path, mapped.dtype, mapped.shape, mapped.offset, order)
    return unnamed(stored, request, "NumPy file")


def unnamed(stored: Indexable, request: Request, format_name: str) -> Volume:
    """Build the volume of an array whose axes have no names: the last three are z, y, x."""
    rank = len(stored.shape)
    letters = "?" * (rank - 3) + "zyx"[max(0, 3 - rank) :]
    view = view_as_zyx(request.source, letters, stored.shape, request.channel)
    return assemble(request, format_name, [Level(ViewedArray(stored, view, request.source))])
