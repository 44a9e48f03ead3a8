"""Export of a finished map to OME-Zarr 0.4, which ilastik, MoBIE and other tools before Zarr v3 read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tensorstore as ts

from vemosaic.blocks.files import disk_errors, write_atomically
from vemosaic.blocks.grid import units
from vemosaic.errors import OutputError
from vemosaic.volumes.array_writing import CHUNK, ShardedArray, os_errors
from vemosaic.volumes.labels import open_labels
from vemosaic.volumes.ome_writing import group_attributes

VERSION = "0.4"


def export_v04(path_in: str | Path, path_out: str | Path) -> None:
    """Copy a finished label store to Zarr v2, one file for each chunk of 64 cubed; metadata come last.

    Parameters
    ----------
    path_in
        A label store.
    path_out
        Folder of the copy, which must not exist.

    Raises
    ------
    VolumeError
        If ``path_in`` is not a finished label store, or is damaged.
    OutputError
        If ``path_out`` exists or cannot be written to.
    """
    path_in, path_out = Path(path_in), Path(path_out)
    if path_out.exists():
        raise OutputError(path_out, "is there already", "remove it or choose another name")
    ks = open_labels(path_in).ks
    groups = {group: group_attributes(path_in / group)["ome"] for group in ("labels", *(f"labels/k{k}" for k in ks))}
    with disk_errors(path_out):
        for k in ks:
            for dataset in groups[f"labels/k{k}"]["multiscales"][0]["datasets"]:
                place = f"labels/k{k}/{dataset['path']}"
                _copy_array(ShardedArray.open(path_in / place), path_out / place)
        for group, ome in [*groups.items(), ("", group_attributes(path_in)["ome"])]:
            _write_group(path_out / group, ome)


def _copy_array(source: ShardedArray, path: Path) -> None:
    spec = {
        "driver": "zarr",
        "kvstore": {"driver": "file", "path": f"{path}/"},
        "metadata": {
            "shape": list(source.shape),
            "chunks": [CHUNK] * 3,
            "dtype": "|u1",
            "fill_value": 0,
            "compressor": {"id": "blosc", "cname": "zstd", "clevel": 5, "shuffle": 1},
            "dimension_separator": "/",
        },
        "store_data_equal_to_fill_value": True,
    }
    with os_errors():
        copy = ts.open(spec, create=True).result()
        for unit in units(source.shape, [-(-s // CHUNK) * CHUNK for s in source.shard]):
            copy[unit.slices].write(source[unit.slices]).result()


def _write_group(group: Path, ome: dict[str, Any]) -> None:
    """Write attributes of 0.5 as those of 0.4, where the version stands in each object."""
    attributes = {key: value for key, value in ome.items() if key != "version"}
    for image in attributes.get("multiscales", []):
        image["version"] = VERSION
    for key in ("image-label", "omero"):
        if key in attributes:
            attributes[key]["version"] = VERSION
    write_atomically(group / ".zattrs", json.dumps(attributes, indent=1).encode())
    write_atomically(group / ".zgroup", json.dumps({"zarr_format": 2}).encode())
