"""Geometry: from what a file states and a user gives to volumes with their place in space."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vemosaic.errors import SettingsError, VolumeError
from vemosaic.volumes.volume import LazyArray, Triple, Volume

ORIGIN: Triple = (0.0, 0.0, 0.0)
LIKE = 1.25  # voxel sizes that differ by no more show the same textures


class VoxelSizeWarning(UserWarning):
    """A voxel size that was overruled, taken by convention because no unit is named, or unlike that of a model."""


@dataclass(frozen=True)
class Placement:
    """Where a file says that an array lies.

    Attributes
    ----------
    scale
        Voxel size along z, y, x; ``None`` where the file has none.
    translation
        Centre of the first voxel along z, y, x.
    in_nm
        Whether both are in nm. Where it is false the file names no unit, and only ratios mean something.
    """

    scale: Triple | None = None
    translation: Triple = ORIGIN
    in_nm: bool = True


@dataclass(frozen=True)
class Level:
    """One array of an image, with what the file says about it."""

    array: LazyArray
    placement: Placement = Placement()


@dataclass(frozen=True)
class Request:
    """What the user asked ``open_volume`` for, passed to every format.

    Attributes
    ----------
    source
        The path as given, for messages and for the record.
    voxel_size
        In nm along z, y, x; ``None`` where the file is to say.
    channel
        Counted from 0; ``None`` where there is only one.
    labels
        Whether the voxels are labels rather than intensities.
    missing_chunks
        ``"error"`` or ``"fill"``.
    """

    source: str
    voxel_size: Triple | None = None
    channel: int | None = None
    labels: bool = False
    missing_chunks: str = "error"


def parse_voxel_size(given: object) -> Triple | None:
    """Return a voxel size in nm along z, y, x from a number or three.

    Raises
    ------
    SettingsError
        If it is anything else, or not positive and finite.
    """
    if given is None:
        return None
    try:
        sizes = [float(size) for size in np.atleast_1d(np.asarray(given, dtype=float))]
    except (TypeError, ValueError):
        sizes = []
    if len(sizes) == 1:
        sizes *= 3
    if len(sizes) != 3 or not all(math.isfinite(size) and size > 0 for size in sizes):
        raise SettingsError(
            "voxel size",
            f"{given!r} is not a size",
            "give one number in nm, or three along z,y,x, as in 16 or 50,4.6,4.6",
        )
    return sizes[0], sizes[1], sizes[2]


def assemble(request: Request, format_name: str, levels: Sequence[Level]) -> Volume:
    """Build the volume from its levels, finest first, with the user's voxel size where one was given.

    The user's voxel size is that of the finest level; those of the others follow in proportion.

    Raises
    ------
    VolumeError
        If an array is empty or of a type that cannot be used.
    """
    for level in levels:
        check_array(request, level.array)
    placements = [level.placement for level in levels]
    if request.voxel_size is not None:
        placements = _overruled(request, placements)
    volumes = [
        Volume(
            array=level.array,
            voxel_size=placement.scale if placement.in_nm else None,
            translation=placement.translation if placement.in_nm else ORIGIN,
            source=request.source,
            format=format_name,
        )
        for level, placement in zip(levels, placements, strict=True)
    ]
    finest, *coarser = volumes
    return replace(finest, coarser=tuple(v for v in coarser if v.voxel_size is not None))


def _overruled(request: Request, placements: Sequence[Placement]) -> list[Placement]:
    """Put the user's voxel size in the place of what the file states."""
    given = request.voxel_size
    assert given is not None
    first = placements[0]
    if first.scale is None:
        return [Placement(given, first.translation if first.in_nm else ORIGIN), *placements[1:]]
    if first.in_nm and not np.allclose(first.scale, given, rtol=1e-3):
        warnings.warn(
            f"{request.source}: states a voxel size of {_listed(first.scale)} nm (z, y, x); "
            f"the given {_listed(given)} nm is used",
            VoxelSizeWarning,
            stacklevel=2,
        )
    ratio = np.divide(given, first.scale)
    start = np.asarray(first.translation)
    origin = start if first.in_nm else start * ratio
    return [
        Placement(
            None if p.scale is None else _triple(np.multiply(p.scale, ratio)),
            _triple(origin + (np.asarray(p.translation) - start) * ratio),
        )
        for p in placements
    ]


def check_array(request: Request, array: LazyArray) -> None:
    """Refuse arrays that hold nothing, or voxels that are no real numbers.

    Raises
    ------
    VolumeError
        For an axis of length zero and for bool (unless labels are read), complex and structured voxels.
    """
    if 0 in array.shape:
        raise VolumeError(
            request.source,
            f"is empty: its shape is {' x '.join(map(str, array.shape))} (z, y, x)",
            "check how it was written",
        )
    allowed = "buif" if not request.labels else "bui"
    if array.dtype.kind == "b" and not request.labels:
        raise VolumeError(
            request.source,
            "holds true and false, which is a mask and not an image",
            "give the grey values; a mask is given with --reference",
        )
    if array.dtype.kind not in allowed:
        wanted = "integers" if request.labels else "integers or floating-point numbers"
        raise VolumeError(
            request.source, f"holds voxels of type {array.dtype}", f"convert it to {wanted} of 8 to 32 bits"
        )


def _listed(size: Triple) -> str:
    return " x ".join(f"{s:g}" for s in size)


def _triple(values: np.typing.NDArray[np.float64]) -> Triple:
    z, y, x = (float(v) for v in values)
    return z, y, x


def compare_voxel_sizes(volume: Volume, known: Sequence[Sequence[float]]) -> None:
    """Warn if the voxels of a volume differ by more than a quarter from all sizes (nm, z y x) that a model knows."""
    size = volume.voxel_size
    if size is not None and known and not is_like(volume, known):
        advised = worked_at(known[0], volume.shape[0])
        warnings.warn(
            f"{volume.source}: its voxels of {_times(size)} nm (z, y, x) are unlike the {_times(known[0])} nm of the "
            f"model, so that it may mistake textures: give --working-voxel-size {advised:g}, or at_voxel_size in "
            "Python; where the volume is coarser than that, train on it",
            VoxelSizeWarning,
            stacklevel=3,
        )


def worked_at(voxel_size: Sequence[float], slices: int | None) -> float:
    """Return the working voxel size that led to voxels of this size (nm, z y x); a single slice keeps its thickness."""
    return min(voxel_size[1:] if slices == 1 else voxel_size)


def is_like(volume: Volume, known: Sequence[Sequence[float]]) -> bool:
    """Whether the voxels of a volume differ by no more than a quarter from one of these sizes in nm, z y x.

    A single slice is compared within the slice.
    """
    first = 1 if volume.shape[0] == 1 else 0
    size: Sequence[float] = volume.known_voxel_size()
    return any(
        all(max(a / b, b / a) <= LIKE for a, b in zip(size[first:], other[first:], strict=True)) for other in known
    )


def _times(size: Sequence[float]) -> str:
    return " x ".join(f"{s:g}" for s in size)
