"""HDF5 datasets, ``file.h5:/path``, with the attributes of ilastik, Fiji, PlantSeg and CREMI."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from vemosaic.errors import VolumeError
from vemosaic.volumes.arrays import ViewedArray, unreadable
from vemosaic.volumes.axes import view_as_zyx
from vemosaic.volumes.conventions import from_element_size, from_resolution
from vemosaic.volumes.geometry import Level, Placement, Request, assemble
from vemosaic.volumes.volume import Volume
from vemosaic.volumes.zarr_array import axis_letters


class Hdf5Dataset:
    """A dataset in a file that stays open for reading (h5py locks); pickles as its path.

    Parameters
    ----------
    path
        The file.
    name
        The dataset inside.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self._dataset = h5py.File(path, "r", locking="best-effort")[name]
        self.shape: tuple[int, ...] = self._dataset.shape
        self.dtype: np.dtype[np.generic] = self._dataset.dtype

    def __getitem__(self, index: Any, /) -> npt.NDArray[np.generic]:
        """Read a box given by one slice or integer for each axis."""
        try:
            return np.asarray(self._dataset[index])
        except OSError as error:
            if "filter" in str(error):
                raise VolumeError(
                    f"{self.path}:{self.name}",
                    "is compressed with a filter that is not installed",
                    "pip install hdf5plugin, or rewrite it with gzip",
                ) from error
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        return Hdf5Dataset, (self.path, self.name)


def open_file(path: Path, request: Request) -> Volume:
    """Open the only volume in a file.

    Raises
    ------
    VolumeError
        If there are several, which the message lists, or none.
    """
    names = _volumes_inside(path)
    if len(names) != 1:
        found = f"{len(names)} volumes: {', '.join(names[:8])}" if names else "no volume"
        example = names[0] if names else "/path"
        raise VolumeError(path, f"holds {found}", f"name the dataset to use, as in {path}:{example}")
    return open_dataset(path, names[0], request)


def open_dataset(path: Path, inside: str, request: Request) -> Volume:
    """Open one dataset of a file.

    Raises
    ------
    VolumeError
        If there is none of that name, or the file is damaged or no HDF5.
    """
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            found = file.get(inside)
            if not isinstance(found, h5py.Dataset):
                names = ", ".join(_volumes_inside(path)[:8]) or "none"
                raise VolumeError(f"{path}:{inside}", "is no dataset", f"choose one of those inside ({names})")
            attributes = dict(found.attrs)
            dimensions = [dimension.label for dimension in found.dims]
        stored = Hdf5Dataset(path, inside)
    except OSError as error:
        raise unreadable(path, error) from error
    letters = _ilastik_axes(attributes, stored.shape) or axis_letters(dimensions, stored.shape)
    view = view_as_zyx(request.source, letters, stored.shape, request.channel)
    placement = from_element_size(attributes)
    if placement is None and request.voxel_size is None:
        placement = from_resolution(request.source, attributes, reverse=False)
    return assemble(request, "HDF5", [Level(ViewedArray(stored, view, request.source), placement or Placement())])


def _volumes_inside(path: Path) -> list[str]:
    """Return the names of all datasets with at least three axes."""
    names: list[str] = []

    def note(name: str, found: object) -> None:
        if isinstance(found, h5py.Dataset) and found.ndim >= 3:
            names.append(f"/{name}")

    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            file.visititems(note)
    except (OSError, RuntimeError) as error:
        raise unreadable(path, error) from error
    return names


def _ilastik_axes(attributes: Mapping[str, Any], shape: tuple[int, ...]) -> str | None:
    """Return the axes that ilastik (vigra) writes as JSON into ``axistags``."""
    try:
        keys = [str(axis["key"]) for axis in json.loads(attributes["axistags"])["axes"]]
    except (KeyError, TypeError, ValueError):
        return None
    letters = "".join(key if key and key in "zyxct" else "?" for key in keys)
    return letters if len(letters) == len(shape) else None
