"""Lazy arrays over anything that is indexed like NumPy, and over plain bytes in a file."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from vemosaic.errors import VolumeError
from vemosaic.volumes.axes import AxisView
from vemosaic.volumes.volume import Shape, Slices

CACHE_BYTES = 128 * 2**20


class Indexable(Protocol):
    """A stored array of any rank: NumPy, HDF5, Zarr, pages of a TIFF."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each stored axis."""

    @property
    def dtype(self) -> Any:
        """Type of one voxel, in any byte order."""

    def __getitem__(self, index: Any, /) -> Any:
        """Read a box given by one slice or integer for each stored axis."""


class ViewedArray:
    """A stored array seen as ``(Z, Y, X)``, in native byte order.

    Parameters
    ----------
    stored
        Array of any rank, safe to read from threads.
    view
        Which of its axes are z, y, x.
    source
        For messages.
    """

    def __init__(self, stored: Indexable, view: AxisView, source: str) -> None:
        self._stored = stored
        self._view = view
        self._source = source
        z, y, x = view.zyx(stored.shape, absent=1)
        self.shape: Shape = (int(z), int(y), int(x))
        self.dtype: np.dtype[np.generic] = np.dtype(stored.dtype).newbyteorder("=")

    def __getitem__(self, box: Slices, /) -> npt.NDArray[np.generic]:
        """Read a box inside the array.

        Raises
        ------
        VolumeError
            If the file cannot be read there.
        """
        try:
            voxels = np.asarray(self._stored[self._view.index(box)])
        except VolumeError:
            raise
        except Exception as error:  # each library has its own, and all mean that the file is damaged
            raise unreadable(self._source, error, box) from error
        return self._view.as_zyx(voxels, self.dtype)


class MappedFile:
    """Voxels that lie in a file as they are, mapped into memory when first read; pickles as its path.

    Parameters
    ----------
    path
        The file.
    dtype, shape, order
        What lies there.
    offset
        Its first byte.

    Raises
    ------
    VolumeError
        If the file is shorter than that.
    """

    def __init__(
        self,
        path: Path,
        dtype: npt.DTypeLike,
        shape: tuple[int, ...],
        offset: int,
        order: Literal["C", "F"] = "C",
    ) -> None:
        self.path, self.shape, self.offset, self.order = path, shape, offset, order
        self.dtype: np.dtype[np.generic] = np.dtype(dtype)
        needed = offset + self.dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        size = path.stat().st_size
        if size < needed:
            raise truncated(path, size, needed)
        self._mapped = (
            np.memmap(path, self.dtype, "r", offset, shape, order) if 0 not in shape else np.empty(shape, dtype)
        )

    def __getitem__(self, index: Any, /) -> npt.NDArray[np.generic]:
        return np.array(self._mapped[index])

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedFile, (self.path, self.dtype, self.shape, self.offset, self.order)


class RecentlyRead:
    """The pages that were read last, decoded, up to a number of bytes; safe to use from threads.

    Parameters
    ----------
    read
        Decodes a page, given its number.
    limit
        Bytes to keep; one page is kept even where it is larger.
    """

    def __init__(self, read: Callable[[int], npt.NDArray[np.generic]], limit: int = CACHE_BYTES) -> None:
        self._read, self._limit = read, limit
        self._pages: OrderedDict[int, npt.NDArray[np.generic]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, number: int) -> npt.NDArray[np.generic]:
        """Return a page, decoding it if it is not kept."""
        with self._lock:
            if number in self._pages:
                self._pages.move_to_end(number)
                return self._pages[number]
        page = self._read(number)
        with self._lock:
            self._pages[number] = page
            while len(self._pages) > 1 and len(self._pages) * page.nbytes > self._limit:
                self._pages.popitem(last=False)
        return page


def truncated(source: object, size: int, needed: int) -> VolumeError:
    """Return the error for a file that ends too early; sizes in bytes."""
    return VolumeError(
        source,
        f"is cut short: {size:,} bytes of at least {needed:,}",
        "copy or download it again",
    )


def unreadable(source: object, error: Exception, box: Slices | None = None) -> VolumeError:
    """Return the error for a file that a library gave up on, in one line."""
    where = "" if box is None else f" at voxel {tuple(int(b.start) for b in box)} (z, y, x)"
    said = " ".join(str(error).split()) or type(error).__name__
    return VolumeError(source, f"cannot be read{where} ({said[:300]})", "copy or download it again")
