"""NIfTI volumes: axes x, y, z become z, y, x; the header's zooms and units give the voxel size."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import weakref
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError

from vemosaic.errors import VolumeError
from vemosaic.volumes.arrays import MappedFile, ViewedArray, truncated, unreadable
from vemosaic.volumes.axes import view_as_zyx
from vemosaic.volumes.geometry import ORIGIN, Level, Placement, Request, assemble
from vemosaic.volumes.units import nanometres
from vemosaic.volumes.volume import Volume

STORED_AXES = "xyztc"
UNITS = {"meter": "m", "mm": "mm", "micron": "um"}


class NiftiImage:
    """Voxels of a NIfTI file, mapped and scaled by the header's slope; pickles as its path.

    Parameters
    ----------
    path
        ``.nii``, or ``.nii.gz``, which is unpacked to a temporary file once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        plain = path
        if path.name.endswith(".gz"):
            plain = _unpacked(path)
            weakref.finalize(self, plain.unlink, missing_ok=True)
        proxy = nibabel.load(plain).dataobj  # the header itself no longer knows offset and slope
        self.shape: tuple[int, ...] = tuple(int(n) for n in proxy.shape)
        needed = proxy.offset + proxy.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))
        if plain.stat().st_size < needed:
            raise truncated(path, plain.stat().st_size, needed)
        self._stored = MappedFile(plain, proxy.dtype, self.shape, proxy.offset, "F")
        self._slope, self._intercept = float(proxy.slope), float(proxy.inter)
        self._scaled = (self._slope, self._intercept) != (1.0, 0.0)
        self.dtype: np.dtype[np.generic] = np.dtype(np.float32) if self._scaled else self._stored.dtype

    def __getitem__(self, index: Any, /) -> npt.NDArray[Any]:
        """Read a box given by one slice or integer for each axis."""
        voxels: npt.NDArray[Any] = self._stored[index]
        return (voxels * self._slope + self._intercept).astype(np.float32) if self._scaled else voxels

    def __reduce__(self) -> tuple[Any, ...]:
        return NiftiImage, (self.path,)


def open_file(path: Path, request: Request) -> Volume:
    """Open a NIfTI file.

    Raises
    ------
    VolumeError
        If it is damaged or cut short.
    """
    try:
        header = nibabel.load(path).header
        affine = np.asarray(header.get_best_affine())
        stored = NiftiImage(path)
    except VolumeError:
        raise
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError) as error:
        raise unreadable(path, error) from error
    rank = len(stored.shape)
    letters = STORED_AXES[:rank] + "?" * (rank - len(STORED_AXES))
    view = view_as_zyx(request.source, letters, stored.shape, request.channel)
    factor = nanometres(UNITS.get(header.get_xyzt_units()[0]))
    zooms = [float(zoom) for zoom in header.get_zooms()[2::-1]]
    placement = Placement()
    if len(zooms) == 3 and min(zooms) > 0 and factor is not None:
        z, y, x = (zoom * factor for zoom in zooms)
        placement = Placement((z, y, x), _translation(affine, factor))
    return assemble(request, "NIfTI", [Level(ViewedArray(stored, view, request.source), placement)])


def _translation(affine: npt.NDArray[np.float64], factor: float) -> tuple[float, float, float]:
    """Return the offset of an affine that neither turns nor mirrors; other orientations are left behind."""
    turn = affine[:3, :3]
    if not np.array_equal(turn, np.diag(np.diag(turn))) or (np.diag(turn) <= 0).any():
        return ORIGIN
    x, y, z = (float(t) * factor for t in affine[:3, 3])
    return z, y, x


def _unpacked(path: Path) -> Path:
    """Unpack a gzip file: reading boxes from one would unpack everything before them, each time."""
    with gzip.open(path) as packed, tempfile.NamedTemporaryFile(suffix=".nii", delete=False) as plain:
        try:
            shutil.copyfileobj(packed, plain)
        except BaseException:
            Path(plain.name).unlink()
            raise
    return Path(plain.name)
