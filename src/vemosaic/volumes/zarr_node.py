"""Zarr metadata, versions 2 and 3: what a folder is, read as JSON and never opened for writing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vemosaic.volumes.stores import AccessRefusedError, Store


@dataclass(frozen=True)
class ZarrNode:
    """A Zarr array or group.

    Attributes
    ----------
    store
        Its folder.
    zarr_format
        2 or 3.
    metadata
        ``zarr.json``, or ``.zarray`` or ``.zgroup``.
    attributes
        What users and conventions have added.
    """

    store: Store
    zarr_format: int
    metadata: dict[str, Any]
    attributes: dict[str, Any]

    @property
    def is_array(self) -> bool:
        """Whether it holds voxels itself."""
        return "shape" in self.metadata

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each stored axis; of arrays only."""
        return tuple(int(n) for n in self.metadata["shape"])

    @property
    def driver(self) -> str:
        """Name of the tensorstore driver that reads it."""
        return "zarr3" if self.zarr_format == 3 else "zarr"

    @property
    def ome(self) -> dict[str, Any]:
        """The OME-NGFF part of the attributes: all of them up to 0.4, those under ``ome`` since 0.5."""
        ome = self.attributes.get("ome")
        return ome if isinstance(ome, dict) else self.attributes


def read_node(store: Store) -> ZarrNode | None:
    """Return what Zarr metadata a folder has, or ``None`` where it has none.

    Raises
    ------
    VolumeError
        If the store refuses every key, does not answer, or the metadata are no JSON.
    """
    refused: AccessRefusedError | None = None
    found: dict[str, dict[str, Any]] = {}
    for key in ("zarr.json", ".zarray", ".zgroup", ".zattrs"):
        try:
            content = store.read_json(key)
        except AccessRefusedError as error:
            refused = error  # a bucket that may not be listed refuses absent keys as well
            continue
        if content is not None:
            found[key] = content
        if key == "zarr.json" and content is not None:
            return ZarrNode(store, 3, content, content.get("attributes") or {})
    if refused is not None and not found:
        raise refused
    if not found:
        return None
    return ZarrNode(store, 2, found.get(".zarray") or found.get(".zgroup") or {}, found.get(".zattrs") or {})
