"""Taking the edited map away: OME-Zarr 0.5 and 0.4, TIFF, a table of pieces, meshes."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from vemosaic.blocks.events import Listener, StageEnded, StageStarted, UnitDone, ignore
from vemosaic.blocks.files import disk_errors, write_atomically
from vemosaic.blocks.grid import units
from vemosaic.errors import OutputError, SettingsError
from vemosaic.explorer.edited import Derived, EditedMap
from vemosaic.explorer.product import write_edited
from vemosaic.explorer.state import EditState
from vemosaic.volumes.array_writing import CHUNK
from vemosaic.volumes.export import export_v04
from vemosaic.volumes.labels import open_labels
from vemosaic.volumes.volume import Volume

MESHES = ("stl", "ply", "obj")
FORMATS = ("ome-zarr", "ome-zarr-0.4", "tiff", "csv", *MESHES)
MESH_BLOCK = 192


def export(
    derived: Derived,
    state: EditState,
    number: int,
    to: str,
    *,
    class_id: int | None = None,
    out: Path | None = None,
    listen: Listener = ignore,
) -> Path:
    """Write the edited map in another form; what is there already under the same name is replaced.

    Parameters
    ----------
    derived, state, number
        As in `write_edited`.
    to
        One of `FORMATS`.
    class_id
        Of a mesh.
    out
        The file or folder; in the run's folder ``exports`` where not given.
    listen
        Hears of all stages.

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    SettingsError
        If there is no such format or class.
    VemosaicError
        If the map cannot be written.
    """
    if to not in FORMATS:
        raise SettingsError("--to", f"{to!r} is no format", f"choose one of {', '.join(FORMATS)}")
    known = state.classes.get(class_id or 0)
    if to in MESHES and (known is None or known.merged_into is not None):
        raise SettingsError("--class", f"{class_id} is no class", "name the class that the mesh is of")
    place = out or derived.run.path / "exports" / _file_name(state, to, class_id)
    if to == "ome-zarr":
        return write_edited(derived, state, number, out=out, listen=listen)
    with disk_errors(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
    if to == "csv":
        write_atomically(place, _table(derived, state, listen))
        return place
    labels = open_labels(write_edited(derived, state, number, listen=listen)).volume
    partial = place.with_name(f".{place.name}.partial")
    if partial.is_dir():
        shutil.rmtree(partial)
    if to == "ome-zarr-0.4":
        export_v04(labels.source, partial)
    elif to == "tiff":
        _write_tiff(labels, partial, listen)
    else:
        assert class_id is not None
        _write_mesh(labels, class_id, to, partial, listen)
    with disk_errors(place.parent):
        if place.is_dir():
            shutil.rmtree(place)
        partial.rename(place)
    return place


def _file_name(state: EditState, to: str, class_id: int | None) -> str:
    if class_id is not None and to in MESHES:
        name = re.sub(r"[^\w-]+", "_", state.classes[class_id].name).strip("_")[:60]
        return f"{name or 'class'}-{class_id}.{to}"
    return {"tiff": "edited.ome.tif", "csv": "pieces.csv", "ome-zarr-0.4": "edited-v04.ome.zarr"}.get(to, "edited")


def _write_tiff(labels: Volume, place: Path, listen: Listener) -> None:
    """Write labels as OME-TIFF, slice by slice, compressed."""
    size = [s / 1000 for s in labels.known_voxel_size()]
    metadata = {
        "axes": "ZYX",
        **{f"PhysicalSize{a}": s for a, s in zip("ZYX", size, strict=True)},
        **{f"PhysicalSize{a}Unit": "µm" for a in "ZYX"},
    }

    def slices() -> Iterator[npt.NDArray[Any]]:
        depth, height, width = labels.shape
        listen(StageStarted("tiff", depth, unit_name="slice"))
        for start in range(0, depth, CHUNK):
            stop = min(start + CHUNK, depth)
            yield from labels.array[slice(start, stop), slice(0, height), slice(0, width)]
            listen(UnitDone("tiff", stop - start))
        listen(StageEnded("tiff"))

    with disk_errors(place.parent):
        tifffile.imwrite(
            place,
            slices(),
            shape=labels.shape,
            dtype=np.uint8,
            ome=True,
            bigtiff=np.prod(labels.shape) > 2**31,
            compression="zlib",
            photometric="minisblack",
            metadata=metadata,
        )


def _table(derived: Derived, state: EditState, listen: Listener) -> bytes:
    """List all pieces: class, voxels, volume, bounding box, whether they reach the border."""
    edited = EditedMap.of(derived, state)
    edited.complete(listen)
    columns = edited.index(listen).table()
    names = list(columns)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names[:2], "class", "volume_um3", *names[2:]])
    volume = derived.run.voxel_volume()
    for row in zip(*(columns[name].tolist() for name in names), strict=True):
        values = dict(zip(names, row, strict=True))
        name = _harmless(state.classes[values["label"]].name)
        writer.writerow([*row[:2], name, f"{values['voxels'] * volume:.6g}", *map(_plain, row[2:])])
    return text.getvalue().encode()


def _harmless(name: str) -> str:
    """Keep spreadsheets from taking a name for a formula."""
    return f"'{name}" if name[0] in "=+-@\t\r" else name


def _plain(value: object) -> object:
    return int(value) if isinstance(value, bool) else value


def _write_mesh(labels: Volume, class_id: int, kind: str, place: Path, listen: Listener) -> None:
    """Write the surface of a class, x, y, z in micrometres, block by block by marching cubes."""
    import trimesh
    from skimage.measure import marching_cubes

    size, start = np.array(labels.known_voxel_size()) / 1000, np.array(labels.translation) / 1000
    work = units(labels.shape, (MESH_BLOCK,) * 3)
    vertices: list[npt.NDArray[np.float64]] = []
    faces: list[npt.NDArray[np.int64]] = []
    count = 0
    listen(StageStarted("mesh", sum(unit.voxels for unit in work)))
    for unit in work:
        inside = _with_border(labels, unit.origin, unit.shape) == class_id
        if inside.any() and not inside.all():
            found, triangles, _, _ = marching_cubes(inside.astype(np.float32), 0.5, allow_degenerate=False)
            vertices.append(found + np.array(unit.origin) - 1)
            faces.append(triangles.astype(np.int64) + count)
            count += len(found)
        listen(UnitDone("mesh", unit.voxels))
    listen(StageEnded("mesh"))
    if not vertices:
        raise SettingsError(f"class {class_id}", "holds no voxels", "choose another class")
    places = np.concatenate(vertices) * size + start
    mesh = trimesh.Trimesh(places[:, ::-1], np.concatenate(faces), process=True)
    content = mesh.export(file_type=kind)
    write_atomically(place, content if isinstance(content, bytes) else str(content).encode())


def _with_border(labels: Volume, origin: Sequence[int], shape: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Read a block and the voxel before it, and after it at the end of the volume, zeros outside.

    Marching cubes makes the surface between voxels: with one voxel shared, neighbouring blocks meet without a gap.
    """
    ends = [o + n for o, n in zip(origin, shape, strict=True)]
    low = [max(0, o - 1) for o in origin]
    read = np.asarray(labels.array[tuple(slice(a, e) for a, e in zip(low, ends, strict=True))])  # type: ignore[index]
    padding = [(int(o == 0), int(e == n)) for o, e, n in zip(origin, ends, labels.shape, strict=True)]
    return np.pad(read, padding)


def find_class(state: EditState, named: str) -> int:
    """Return the class of a name or an id.

    Raises
    ------
    SettingsError
        If there is none, or several have that name.
    """
    shown = {i: c.name for i, c in state.classes.items() if c.merged_into is None}
    found = [i for i, name in shown.items() if name == named]
    if not found and named.isdigit() and int(named) in shown:
        found = [int(named)]
    if len(found) != 1:
        several = "several classes are called so" if found else "there is no such class"
        listed = ", ".join(f"{i} ({name})" for i, name in shown.items())
        raise SettingsError(f"--class {named}", several, f"give one of {listed}")
    return found[0]


def check_free(place: Path) -> None:
    """Check that nothing lies at a place that a user has named.

    Raises
    ------
    OutputError
        If something does.
    """
    if place.exists():
        raise OutputError(place, "is there already", "remove it or choose another name")
