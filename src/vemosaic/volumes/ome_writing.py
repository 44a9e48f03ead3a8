"""The last step that makes a folder of finished arrays an OME-Zarr 0.5 image: check, manifest, metadata.

Until then the groups have no metadata at all, and no reader takes the folder for an image.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vemosaic.blocks.files import FileStamp, differing, disk_errors, stamp, sync_folder, write_atomically
from vemosaic.errors import OutputError, VolumeError
from vemosaic.volumes.array_writing import ShardedArray

VERSION = "0.5"


def multiscale(
    name: str,
    axes: str,
    levels: Sequence[tuple[str, Sequence[float], Sequence[float]]],
    **more: object,
) -> dict[str, Any]:
    """Return an entry of ``multiscales``.

    Parameters
    ----------
    name
        Of the image.
    axes
        ``"zyx"`` or ``"czyx"``.
    levels
        Path, voxel size and translation in nm of each level, the finest first, the last two along z, y, x.
    **more
        Further entries.
    """
    channels = len(axes) - 3
    return {
        "name": name,
        "axes": [
            {"name": axis, "type": "channel"} if axis == "c" else {"name": axis, "type": "space", "unit": "nanometer"}
            for axis in axes
        ],
        "datasets": [
            {
                "path": path,
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1.0] * channels + [float(s) for s in voxel_size]},
                    {
                        "type": "translation",
                        "translation": [0.0] * channels + [float(t) for t in translation],
                    },
                ],
            }
            for path, voxel_size, translation in levels
        ],
        **more,
    }


def unfinish(store: Path, groups: Iterable[str]) -> None:
    """Take the metadata of its groups from a store, the root's first, so that it no longer looks finished.

    Parameters
    ----------
    store
        Folder of the store; need not exist.
    groups
        Paths of the groups below the root.
    """
    with disk_errors(store):
        for group in ("", *groups):
            file = store / group / "zarr.json"
            if file.exists():
                file.unlink()
                sync_folder(file.parent)
        manifest_path(store).unlink(missing_ok=True)


def finish(
    store: Path,
    arrays: Iterable[ShardedArray],
    recorded: Mapping[Path, FileStamp],
    groups: Mapping[str, Mapping[str, Any]],
) -> None:
    """Check every shard against its record, and write manifest and group metadata, the root's last.

    Parameters
    ----------
    store
        Folder of the store.
    arrays
        All arrays in it.
    recorded
        What the done-records vouch for; must name every shard.
    groups
        The ``ome`` attributes of each group by its path, the root's being ``""``.

    Raises
    ------
    OutputError
        If a shard is missing, has no record or differs from it, the disk is full, or the store cannot be
        written to.
    """
    arrays = list(arrays)
    shards = [file for array in arrays for file in array.all_files()]
    damaged = sorted(set(shards) - recorded.keys()) + differing({f: recorded[f] for f in shards if f in recorded})
    if damaged:
        raise OutputError(
            store,
            f"{len(damaged)} of {len(shards)} shards are missing or damaged (such as {damaged[0].relative_to(store)})",
            "run the same command again, which does only these anew",
        )
    for group in groups.keys() - {""}:
        write_atomically(store / group / "zarr.json", _group(groups[group]))
    metadata = [array.path / "zarr.json" for array in arrays]
    metadata += [store / group / "zarr.json" for group in groups if group]
    stamps = {file: recorded[file] for file in shards} | {file: stamp(file) for file in metadata}
    listed = {str(file.relative_to(store)): stamps[file]._asdict() for file in sorted(stamps)}
    content = json.dumps(listed, indent=1).encode()
    write_atomically(manifest_path(store), content)
    digest = hashlib.sha256(content).hexdigest()
    write_atomically(store / "zarr.json", _group(groups[""], vemosaic={"manifest_sha256": digest}))


def manifest_path(store: Path) -> Path:
    """Return where a store's manifest lies: beside it, as a file in it would be none that Zarr knows."""
    return store.with_name(f"{store.name}.manifest.json")


def listed_files(store: Path) -> dict[Path, FileStamp]:
    """Return what the manifest of a finished store says of its files: all but the root's ``zarr.json``.

    Raises
    ------
    VolumeError
        If the store is not finished, or its manifest is missing or is not the one written with it.
    """
    root = group_attributes(store)
    try:
        manifest = manifest_path(store).read_bytes()
        if hashlib.sha256(manifest).hexdigest() != root["vemosaic"]["manifest_sha256"]:
            raise ValueError
        return {store / name: FileStamp(**known) for name, known in json.loads(manifest).items()}
    except (OSError, ValueError, KeyError) as error:
        raise VolumeError(
            manifest_path(store), "is missing or damaged", "run again the command that made the store"
        ) from error


def damaged_files(store: Path) -> list[Path]:
    """Return those files of a finished store that are missing or differ from its manifest.

    Raises
    ------
    VolumeError
        If the store is not finished, or its manifest is missing or is not the one written with it.
    """
    return differing(listed_files(store))


def group_attributes(group: Path) -> dict[str, Any]:
    """Return the attributes of a group that `finish` wrote.

    Raises
    ------
    VolumeError
        If there is no such group.
    """
    try:
        attributes: dict[str, Any] = json.loads((group / "zarr.json").read_bytes())["attributes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VolumeError(
            group,
            "is not a finished OME-Zarr 0.5 store",
            "run again the command that makes it, which goes on",
        ) from error
    return attributes


def remove(store: Path) -> None:
    """Remove a store and its manifest, the root's metadata first."""
    unfinish(store, ())
    with disk_errors(store):
        if store.exists():
            shutil.rmtree(store)


def _group(ome: Mapping[str, Any], **more: object) -> bytes:
    attributes = {"ome": {"version": VERSION, **ome}, **more}
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}, indent=1).encode()
