"""A volume: a lazy ZYX array that knows its voxel size and its place in space."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vemosaic.errors import VolumeError

Triple = tuple[float, float, float]
Shape = tuple[int, int, int]
Slices = tuple[slice, slice, slice]


class LazyArray(Protocol):
    """What every format gives: a shape (Z, Y, X), a dtype, and voxels on demand."""

    @property
    def shape(self) -> Shape:
        """Voxels along z, y, x."""

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of one voxel, in native byte order."""

    def __getitem__(self, box: Slices, /) -> npt.NDArray[np.generic]:
        """Read a box inside the array (three slices with start, stop and no step); safe to call from threads."""


@dataclass(frozen=True)
class Volume:
    """A lazy three-dimensional image with its place in space.

    Attributes
    ----------
    array
        The voxels, ``(Z, Y, X)``, read only when asked for.
    voxel_size
        Size of a voxel in nm along z, y, x; ``None`` where the file does not say.
    translation
        Position in nm of the centre of voxel (0, 0, 0) along z, y, x, as in OME-NGFF.
    source
        The path as the user gave it, for messages and for the record.
    format
        What was recognised, such as ``"OME-Zarr 0.4"``.
    coarser
        Further pyramid levels, each coarser than the one before; they have none of their own.
    """

    array: LazyArray
    voxel_size: Triple | None
    translation: Triple
    source: str
    format: str
    coarser: tuple[Volume, ...] = field(default=())

    @property
    def shape(self) -> Shape:
        """Voxels along z, y, x."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of one voxel."""
        return self.array.dtype

    def known_voxel_size(self) -> Triple:
        """Return the voxel size in nm.

        Raises
        ------
        VolumeError
            If the file does not say and nobody did.
        """
        if self.voxel_size is None:
            raise VolumeError(
                self.source,
                f"the file ({self.format}) does not say how large a voxel is",
                "give it in nm, as in --voxel-size 16 or --voxel-size 50,4.6,4.6 (z,y,x)",
            )
        return self.voxel_size

    def read(self, origin: Sequence[int], shape: Sequence[int]) -> npt.NDArray[np.float32]:
        """Read a box as float32, mirrored at the borders where it reaches outside the volume.

        Parameters
        ----------
        origin
            First voxel along z, y, x; may be negative.
        shape
            Voxels to read along z, y, x; may reach beyond the volume.

        Returns
        -------
        ndarray, (Z, Y, X), float32

        Raises
        ------
        VolumeError
            If a voxel is not a finite number.
        """
        inside = tuple(slice(max(0, o), min(n, o + s)) for o, s, n in zip(origin, shape, self.shape, strict=True))
        if all(b.start == o and b.stop == o + s for b, o, s in zip(inside, origin, shape, strict=True)):
            voxels = self.array[inside].astype(np.float32)  # type: ignore[index]
        else:
            voxels = self._read_mirrored(origin, shape)
        if self.dtype.kind == "f" and not np.isfinite(voxels).all():
            raise VolumeError(
                self.source,
                f"holds NaN or infinite voxels near {tuple(int(o) for o in origin)} (z, y, x)",
                "replace them with a number, for example the median, and run again",
            )
        return voxels

    def _read_mirrored(self, origin: Sequence[int], shape: Sequence[int]) -> npt.NDArray[np.float32]:
        """Read a box that reaches outside: the smallest inner box that its mirror images need, once."""
        indices = [mirrored(np.arange(o, o + s), n) for o, s, n in zip(origin, shape, self.shape, strict=True)]
        needed = tuple(slice(int(i.min()), int(i.max()) + 1) for i in indices)
        voxels = self.array[needed].astype(np.float32)  # type: ignore[index]
        return np.ascontiguousarray(voxels[np.ix_(*(i - b.start for i, b in zip(indices, needed, strict=True)))])

    def identity(self) -> str:
        """Return a short hash that tells this volume from another: its geometry and 64 probed boxes.

        It is cheap on a terabyte and notices a changed file, though not every changed voxel. An array that has an
        identity of its own is asked for that.
        """
        own = getattr(self.array, "identity", None)
        if own is not None:
            return str(own())
        digest = hashlib.sha256()
        digest.update(json.dumps([list(self.shape), str(self.dtype), self.voxel_size, list(self.translation)]).encode())
        rng = np.random.default_rng(0)
        for _ in range(64):
            edges = (2, 64, 64)  # flat, as files are often stored slice by slice
            origin = [int(rng.integers(0, max(1, n - e + 1))) for n, e in zip(self.shape, edges, strict=True)]
            box = tuple(slice(o, min(n, o + e)) for o, n, e in zip(origin, self.shape, edges, strict=True))
            digest.update(np.ascontiguousarray(self.array[box]).tobytes())  # type: ignore[index]
        return digest.hexdigest()[:16]


def mirrored(index: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
    """Fold indices outside ``0..length-1`` back inside, the border voxel not repeated (any distance)."""
    if length == 1:
        return np.zeros_like(index)
    period = 2 * (length - 1)
    index = np.abs(index) % period
    return np.minimum(index, period - index)
