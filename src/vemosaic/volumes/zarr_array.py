"""Zarr folders: an image, one of its levels, a plain array, or a container of them."""

from __future__ import annotations

from typing import Any

from vemosaic.volumes.axes import view_as_zyx
from vemosaic.volumes.containers import images_inside, refuse_container
from vemosaic.volumes.conventions import (
    from_element_size,
    from_pixel_resolution,
    from_resolution,
    from_transform,
)
from vemosaic.volumes.geometry import Level, Placement, Request, assemble
from vemosaic.volumes.ome_zarr import multiscale_of, open_image
from vemosaic.volumes.stores import AccessRefusedError, ChunkedArray
from vemosaic.volumes.volume import Volume
from vemosaic.volumes.zarr_node import ZarrNode, read_node

ANCESTORS = 3  # how far up the group that declares an array as its level is looked for


def open_node(node: ZarrNode, request: Request) -> Volume:
    """Open what lies in a Zarr folder.

    Raises
    ------
    VolumeError
        If it is a group without an image of its own; the message lists the images inside.
    """
    if node.is_array:
        return _open_level(node, request) or _open_plain(node, request)
    multiscale = multiscale_of(node)
    if multiscale is not None:
        return open_image(node, multiscale, request)
    raise refuse_container(request.source, node.store, images_inside(node.store, node))


def _open_level(node: ZarrNode, request: Request) -> Volume | None:
    """Open an array as a level of the image that a group above declares, if one does."""
    for store, path in node.store.ancestors()[:ANCESTORS]:
        try:
            group = read_node(store)
        except AccessRefusedError:
            continue
        multiscale = None if group is None else multiscale_of(group)
        if group is None or multiscale is None:
            continue
        declared = [d["path"] for d in multiscale.get("datasets", ()) if str(d.get("path", "")).strip("/") == path]
        if declared:
            return open_image(group, multiscale, request, only=declared[0])
    return None


def _open_plain(node: ZarrNode, request: Request) -> Volume:
    letters = axis_letters(node.metadata.get("dimension_names") or node.attributes.get("_ARRAY_DIMENSIONS"), node.shape)
    view = view_as_zyx(request.source, letters, node.shape, request.channel)
    array = ChunkedArray(node.driver, node.store, view, request)
    placement = (
        from_transform(node.attributes.get("transform"))
        or from_pixel_resolution(node.attributes)
        or from_element_size(node.attributes)
        or (from_resolution(request.source, node.attributes, reverse=False) if request.voxel_size is None else None)
        or Placement()
    )
    return assemble(request, f"Zarr v{node.zarr_format} array", [Level(array, placement)])


def axis_letters(names: Any, shape: tuple[int, ...]) -> str:
    """Return one letter for each axis: from its name where z, y, x are all named, else by position."""
    if isinstance(names, list | tuple) and len(names) == len(shape):
        letters = [str(name).lower()[:1] for name in names]
        if sorted(letter for letter in letters if letter in "zyx") == ["x", "y", "z"]:
            return "".join(letter if letter and letter in "zyxct" else "?" for letter in letters)
    rank = len(shape)
    return "?" * (rank - 3) + "zyx"[max(0, 3 - rank) :]
