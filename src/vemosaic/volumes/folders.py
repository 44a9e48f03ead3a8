"""Folders, local and remote: Zarr, N5, or numbered slices."""

from __future__ import annotations

from pathlib import Path

from vemosaic.errors import VolumeError
from vemosaic.volumes import n5, zarr_array
from vemosaic.volumes.containers import images_inside, refuse_container
from vemosaic.volumes.geometry import Request
from vemosaic.volumes.stores import AccessRefusedError, Store
from vemosaic.volumes.volume import Volume
from vemosaic.volumes.zarr_node import read_node

SINGLE_FILES = (".tif", ".tiff", ".h5", ".hdf5", ".mrc", ".rec", ".nii", ".nii.gz", ".npy", ".zip")


def open_folder(path: Path, request: Request) -> Volume:
    """Open a local folder: a Zarr or N5 store, else slices.

    Raises
    ------
    VolumeError
        If it is neither; the message lists the images further down.
    """
    store = Store.parse(str(path))
    volume = _open_store(store, request)
    if volume is not None:
        return volume
    from vemosaic.volumes import slices

    if files := slices.slice_files(path):
        return slices.open_files(path, files, request)
    raise refuse_container(request.source, store, images_inside(store))


def open_remote(address: str, request: Request) -> Volume:
    """Open a Zarr or N5 store in S3 or on a web server.

    Raises
    ------
    VolumeError
        If there is none, or it may not be read.
    """
    if address.rstrip("/").lower().endswith(SINGLE_FILES):
        raise VolumeError(
            address, "is a single file, and only Zarr and N5 are read over the network", "download it first"
        )
    store = Store.parse(address)
    volume = _open_store(store, request)
    if volume is not None:
        return volume
    raise refuse_container(request.source, store, images_inside(store))


def _open_store(store: Store, request: Request) -> Volume | None:
    """Open a folder that has the metadata of Zarr or N5; ``None`` for one that has neither."""
    refused: AccessRefusedError | None = None
    try:
        node = read_node(store)
    except AccessRefusedError as error:
        node, refused = None, error
    if node is not None:
        return zarr_array.open_node(node, request)
    attributes = store.read_json("attributes.json")
    if attributes is not None:
        return n5.open_folder(store, attributes, request)
    if refused is not None:
        raise refused
    return None
