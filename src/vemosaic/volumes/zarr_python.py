"""Arrays opened with zarr-python and handed over as objects."""

from __future__ import annotations

from typing import Any

from vemosaic.volumes.arrays import ViewedArray
from vemosaic.volumes.axes import view_as_zyx
from vemosaic.volumes.folders import open_folder
from vemosaic.volumes.geometry import Level, Request, assemble
from vemosaic.volumes.volume import Volume
from vemosaic.volumes.zarr_array import axis_letters


def open_array(array: Any, request: Request) -> Volume:
    """Open a ``zarr.Array``: by its path where it lies in a local folder, as it is elsewhere."""
    from zarr.storage import LocalStore

    if isinstance(array.store, LocalStore):
        return open_folder(array.store.root / array.path, request)
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    view = view_as_zyx(request.source, axis_letters(names, array.shape), array.shape, request.channel)
    return assemble(request, "zarr.Array", [Level(ViewedArray(array, view, request.source))])
