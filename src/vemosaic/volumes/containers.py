"""Containers: the images that lie deeper in a folder, for the message that lists them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vemosaic.errors import VolumeError
from vemosaic.volumes.stores import AccessRefusedError, Store
from vemosaic.volumes.zarr_node import ZarrNode, read_node

DEPTH = 5
MOST_LISTED = 8
MOST_VISITED = 2000

# Where containers keep their images, tried where a store cannot be listed folder by folder.
CUSTOMARY = (
    *(f"{parent}em/fibsem-{kind}" for parent in ("", "recon-1/", "recon-2/") for kind in ("uint8", "uint16", "int16")),
    *(f"{parent}em/{kind}-uint8" for parent in ("", "recon-1/") for kind in ("sbem", "tem")),
    *("0", "1", "2", "s0", "raw", "volumes/raw"),
)


def refuse_container(source: str, store: Store, inside: list[str]) -> VolumeError:
    """Return the error for a folder that holds no image itself, with those found inside."""
    if not inside:
        remedy = "check the path; a server cannot be searched, so give the path of the image inside"
        if store.driver == "file":
            remedy = "check the path; vemosaic reads Zarr and N5 arrays and folders of numbered PNG or TIFF slices"
        return VolumeError(source, "holds no image that could be found", remedy)
    listed = ", ".join(inside[:MOST_LISTED]) + (", ..." if len(inside) > MOST_LISTED else "")
    return VolumeError(
        source,
        f"is no image itself but holds {len(inside)}: {listed}",
        f"give the path of one, as in {source.rstrip('/')}/{inside[0]}",
    )


def images_inside(store: Store, node: ZarrNode | None = None) -> list[str]:
    """Return the paths of the images and arrays inside a folder, relative to it.

    Local folders are searched; elsewhere the consolidated metadata and the customary places are looked up.
    """
    if store.driver == "file":
        return _search(Path(store.path))
    return _consolidated(store, node) or [path for path in CUSTOMARY if _is_image(store.child(path))]


def _search(root: Path) -> list[str]:
    """Walk a local folder, breadth first, never into an image."""
    found: list[str] = []
    folders = [root]
    for _ in range(DEPTH):
        below: list[Path] = []
        for folder in folders:
            try:
                children = sorted(entry for entry in folder.iterdir() if entry.is_dir())
            except PermissionError:
                continue
            for child in children:
                if _is_image(Store.parse(str(child))):
                    found.append(child.relative_to(root).as_posix())
                elif len(below) < MOST_VISITED:
                    below.append(child)
        folders = below
    return found


def _is_image(store: Store) -> bool:
    """Whether a folder is an array or declares a multiscale image."""
    try:
        node = read_node(store)
        attributes = store.read_json("attributes.json") if node is None else None
    except AccessRefusedError:
        return False
    if node is not None:
        return node.is_array or _declares_image(node.ome)
    return attributes is not None and ("dimensions" in attributes or _declares_image(attributes))


def _declares_image(attributes: dict[str, Any]) -> bool:
    return any(attributes.get(key) for key in ("multiscales", "scales", "downsamplingFactors"))


def _consolidated(store: Store, node: ZarrNode | None) -> list[str]:
    """Read the images from consolidated metadata: ``.zmetadata``, or inside ``zarr.json``."""
    if node is None:
        return []
    if node.zarr_format == 3:
        members = (node.metadata.get("consolidated_metadata") or {}).get("metadata") or {}
        groups = [
            path
            for path, member in members.items()
            if _declares_image((member.get("attributes") or {}).get("ome") or member.get("attributes") or {})
        ]
        arrays = [path for path, member in members.items() if member.get("node_type") == "array"]
        return _outermost(groups, arrays)
    try:
        members = (store.read_json(".zmetadata") or {}).get("metadata") or {}
    except AccessRefusedError:
        return []
    groups = [key.removesuffix("/.zattrs") for key, value in members.items() if _declares_image(value)]
    arrays = [key.removesuffix("/.zarray") for key in members if key.endswith("/.zarray")]
    return _outermost(groups, arrays)


def _outermost(groups: Iterable[str], arrays: Iterable[str]) -> list[str]:
    """Return the groups that are images, and the arrays that lie in none of them."""
    images = sorted(groups)
    return images + sorted(a for a in arrays if not any(a.startswith(f"{image}/") for image in images))
