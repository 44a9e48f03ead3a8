"""A link that opens the run in neuroglancer: raw volume, unsupervised map and edited map, in their places and colours.

What neuroglancer reads of it is told in its documentation of data sources (``URL|zarr3:``) and of segmentation layers
(https://neuroglancer-docs.web.app, https://github.com/google/neuroglancer).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np

from vemosaic.errors import VemosaicError
from vemosaic.explorer.open_stores import OpenStores
from vemosaic.explorer.opened import OpenedRun
from vemosaic.explorer.product import default_place, written
from vemosaic.explorer.security import LOOPBACK
from vemosaic.explorer.session import Session
from vemosaic.explorer.state import EditState
from vemosaic.volumes.labels import Colour, LabelImage, open_labels
from vemosaic.volumes.ome_zarr import multiscale_of
from vemosaic.volumes.stores import Store
from vemosaic.volumes.zarr_node import ZarrNode, read_node

VIEW = 400
"""Pixels that neuroglancer has for a plane, about."""

SITE = "https://neuroglancer-demo.appspot.com"
VERSIONS = ("0.4", "0.5")
UNITS = ("angstrom", "picometer", "nanometer", "micrometer", "millimeter", "meter")
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "float32")
CODECS = ("blosc", "bytes", "crc32c", "gzip", "sharding_indexed", "transpose", "zlib", "zstd")
"""What neuroglancer decodes of Zarr."""

ALLOWED = (
    "the link works while this server runs; Chrome may ask whether the site may reach this device; "
    "whoever has the link and reaches the server can read these images"
)
BLOCKED = (
    "browsers let an https site read from their own machine's address only: "
    "forward the port (ssh -L) and ask for the link on the page there"
)


@dataclass(frozen=True)
class _Segment:
    """A label as neuroglancer shows it."""

    name: str
    colour: Colour
    hidden: bool = False


def link(
    session: Session, stores: OpenStores, server: str, voxel: tuple[int, int, int] | None = None
) -> dict[str, str]:
    """Open what a run can show, and make the link that shows it.

    Parameters
    ----------
    session
        The open run.
    stores
        Hands out the files.
    server
        Address of the server as the browser reaches it, such as ``http://127.0.0.1:8765``.
    voxel
        Where the crosshair stands, z, y, x; the middle of the volume where not given.

    Returns
    -------
    dict
        ``link``, and ``note``: what it shows, and what it does not and why.

    Raises
    ------
    SettingsError
        If the voxel lies outside the volume.
    VemosaicError
        If a map cannot be read.
    """
    run = session.run
    if voxel is None:
        z, y, x = (n // 2 for n in run.shape)
        voxel = z, y, x
    session.check_inside(voxel)
    with session.lock:
        state = session.state
    found = [_raw_layer(session, stores, server), _cluster_layer(run, state.k, stores, server)]
    found.append(_edited_layer(run, state, stores, server))
    layers = [layer for layer, _ in found if layer is not None]
    if found[-1][0] is not None:
        layers[-2]["visible"] = False  # one map at a time: the edited one
    place = [v + t / s for v, t, s in zip(voxel, run.translation, run.voxel_size, strict=True)]
    shown = {
        "dimensions": {a: [s * 1e-9, "m"] for a, s in zip("xyz", reversed(run.voxel_size), strict=True)},
        "position": place[::-1],
        "crossSectionScale": min(1.0, max(run.shape) / VIEW),  # voxels in a pixel
        "layers": layers,
        "selectedLayer": {"layer": layers[-1]["name"], "visible": True},
        "layout": "4panel",
    }
    fragment = quote(json.dumps(shown, separators=(",", ":")), safe="")
    site = stores.site if urlsplit(stores.site).path else f"{stores.site}/"
    notes = [*(note for _, note in found if note), ALLOWED]
    if site.startswith("https:") and urlsplit(server).hostname not in LOOPBACK:
        notes.append(BLOCKED)
    return {"link": f"{site}#!{fragment}", "note": " ".join(f"{note[0].upper()}{note[1:]}." for note in notes)}


def _raw_layer(session: Session, stores: OpenStores, server: str) -> tuple[dict[str, Any] | None, str]:
    """Return the layer of the raw volume or else of its 8-bit copy, and what to say of it."""
    grey = session.grey
    node = _readable(session.run)
    if node is not None:
        low, high = grey.range
        source = f"{server}{stores.open('raw', Path(node.store.path))}|zarr{node.zarr_format}:"
        note = "the raw volume is the file itself"
    elif grey.layer.finished:
        low, high = 0.0, 255.0
        source = f"{server}{stores.open('grey', grey.layer.path)}|zarr3:"
        note = "the raw volume is shown as 8-bit grey, as on the page"
    elif session.run.raw is None:
        return None, f"the raw volume is not shown: {session.run.no_raw}"
    else:
        return None, "the raw volume is not shown, as its 8-bit copy has not been made yet: ask for a link again later"
    controls = {"normalized": {"range": [low, high]}}
    return {"type": "image", "name": "raw", "source": source, "shaderControls": controls}, note


def _cluster_layer(run: OpenedRun, k: int, stores: OpenStores, server: str) -> tuple[dict[str, Any], str]:
    address = f"{server}{stores.open('clusters', run.folder.segmentation)}labels/k{k}/"
    return _segmentation(f"{k} clusters", address, _as_written(run.map(k)), stores, server), ""


def _edited_layer(
    run: OpenedRun, state: EditState, stores: OpenStores, server: str
) -> tuple[dict[str, Any] | None, str]:
    about, place = written(run), default_place(run)
    if about is None:
        return None, "the edited map is not shown, as it has not been written yet: apply it and ask for a link again"
    labels = open_labels(place)
    address = f"{server}{stores.open('edited', place)}labels/k{labels.k}/"
    if about["key"] == state.key:
        segments = {
            i: _Segment(c.name, c.colour, c.hidden) for i, c in sorted(state.classes.items()) if c.merged_into is None
        }
        note = "the edited map is the one of now"
    else:
        segments = _as_written(labels)
        note = "the edited map is an earlier one: apply it again to see the last edits"
    return _segmentation("edited", address, segments, stores, server), note


def _as_written(labels: LabelImage) -> dict[int, _Segment]:
    return {i: _Segment(*about) for i, about in enumerate(zip(labels.names, labels.colours, strict=True), start=1)}


def _segmentation(
    name: str, address: str, segments: Mapping[int, _Segment], stores: OpenStores, server: str
) -> dict[str, Any]:
    """Return a layer of labels with their colours, and beside the labels a source of their names."""
    properties = {
        "@type": "neuroglancer_segment_properties",
        "inline": {
            "ids": [str(i) for i in segments],
            "properties": [{"id": "label", "type": "label", "values": [s.name for s in segments.values()]}],
        },
    }
    names = stores.publish(f"names/{name.replace(' ', '-')}/info", json.dumps(properties).encode())
    return {
        "type": "segmentation",
        "name": name,
        "source": [
            f"{address}|zarr3:",
            f"{server}{names.removesuffix('info')}|neuroglancer-precomputed:",
        ],
        "segments": [f"!{i}" if s.hidden else str(i) for i, s in segments.items()],
        "segmentColors": {str(i): f"#{bytes(s.colour).hex()}" for i, s in segments.items()},
        "selectedAlpha": 0.4,
        "tab": "segments",
    }


def _readable(run: OpenedRun) -> ZarrNode | None:
    """Return the group of the raw volume where it is a local OME-Zarr that neuroglancer reads and puts in its place.

    That is one of axes z, y, x whose metadata say the voxel size, and not the user.
    """
    about = run.folder.record["inputs"][0]
    if about["given"]["voxel_size"] is not None:
        return None
    try:
        store = Store.parse(about["source"])
        node = read_node(store) if store.driver == "file" else None
        multiscale = multiscale_of(node) if node else None
        if node is None or multiscale is None or run.raw is None:
            return None
        version = node.ome.get("version") or multiscale.get("version")
        axes: Sequence[Any] = multiscale["axes"]
        named = [axis["name"] for axis in axes] == list("zyx") and all(axis["unit"] in UNITS for axis in axes)
        arrays = [read_node(store.child(dataset["path"])) for dataset in multiscale["datasets"]]
        decodes = all(array is not None and _decodes(array) for array in arrays)
    except (VemosaicError, KeyError, TypeError, AttributeError):
        return None
    return node if version in VERSIONS and named and decodes else None


def _decodes(array: ZarrNode) -> bool:
    """Tell whether neuroglancer decodes an array."""
    metadata = array.metadata
    if array.zarr_format == 3:
        return metadata["data_type"] in DTYPES and _known(metadata["codecs"])
    compressor = metadata["compressor"]
    known = compressor is None or compressor["id"] in CODECS
    return known and np.dtype(metadata["dtype"]).name in DTYPES and not metadata.get("filters")


def _known(codecs: Sequence[Mapping[str, Any]]) -> bool:
    return all(c["name"] in CODECS and _known(c.get("configuration", {}).get("codecs", [])) for c in codecs)
