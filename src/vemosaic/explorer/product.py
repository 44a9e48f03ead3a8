"""The edited map on disk: a label store of the same layout as the run's own, written shard by shard."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from vemosaic.blocks.events import Listener, ignore
from vemosaic.blocks.executor import process
from vemosaic.blocks.files import disk_errors, write_atomically
from vemosaic.blocks.grid import Unit, units
from vemosaic.blocks.records import Ledger, fingerprint
from vemosaic.errors import OutputError, VolumeError
from vemosaic.explorer.edited import Derived, EditedMap
from vemosaic.explorer.layers import Bytes
from vemosaic.explorer.opened import OpenedRun
from vemosaic.explorer.state import EditState
from vemosaic.volumes.labels import LabelStore
from vemosaic.volumes.ome_writing import damaged_files, remove, unfinish
from vemosaic.volumes.pyramid import build_pyramid

EDITED = "edited.ome.zarr"


def default_place(run: OpenedRun) -> Path:
    """Return where a run's edited map lies."""
    return run.path / EDITED


def written(run: OpenedRun) -> dict[str, Any] | None:
    """Return what the edited map of a run holds: ``number`` of the last line, ``key`` of its labels, ``path``."""
    place = default_place(run)
    try:
        about = json.loads((_records(run, place) / "about.json").read_bytes())
        there = (place / "zarr.json").exists()
    except (OSError, ValueError):
        return None
    return {"number": about["number"], "key": about["key"], "path": EDITED} if there else None


def write_edited(
    derived: Derived, state: EditState, number: int, *, out: Path | None = None, listen: Listener = ignore
) -> Path:
    """Write the edited map of a state, classes as labels; an interrupted writing goes on.

    Parameters
    ----------
    derived
        What has been computed of the run; what is missing is computed first.
    state
        Whose map.
    number
        Of the journal's last line, for the record.
    out
        Folder of the store; ``edited.ome.zarr`` in the run where not given.
    listen
        Hears of all stages.

    Returns
    -------
    Path
        The store: ``labels/kN`` with N the largest class id, and coarser levels, colours and names.

    Raises
    ------
    OutputError
        If the disk is full, or `out` is something that this function has not made.
    VemosaicError
        If what the edits need cannot be computed, such as for want of the raw volume.
    """
    run = derived.run
    place = default_place(run) if out is None else out.absolute()
    records = _records(run, place)
    edited = EditedMap.of(derived, state)
    edited.complete(listen)
    with derived.turn(records.name, listen):
        _write(edited, state, number, place, records, listen)
    return place


def _write(edited: EditedMap, state: EditState, number: int, place: Path, records: Path, listen: Listener) -> None:
    run, top = edited.run, max(state.classes)
    mark = fingerprint("edited", run.identity, state.key, top)
    names = [_name(state, i) for i in range(1, top + 1)]
    colours = [state.classes[i].colour for i in range(1, top + 1)]
    about = {"number": number, "key": state.key, "names": names, "colours": [list(c) for c in colours]}
    if _holds(place, records, mark, about):
        return
    _take_up(run, place, records, mark)
    store = LabelStore.create(place, ks=[top], shape=run.shape, voxel_size=run.voxel_size, translation=run.translation)
    ledger = Ledger(
        records, "edited", mark, owns=lambda unit: store.files(top, 0, unit.origin, unit.shape), root=place.parent
    )

    def write(unit: Unit, labels: Bytes) -> None:
        store.write(top, 0, unit.origin, labels)

    process(
        units(run.shape, store.shard),
        read=lambda unit: edited[unit.slices],
        compute=lambda unit, labels: labels,
        write=write,
        ledger=ledger,
        listen=listen,
        read_ahead=1,
        write_behind=1,
    )
    recorded = ledger.recorded(units(run.shape, store.shard))
    recorded |= build_pyramid(store, records=records, fingerprint=mark, listen=listen)
    store.finish(recorded, default_k=top, colours={top: colours}, names={top: names}, name="edited")
    write_atomically(records / "about.json", json.dumps(about).encode())


def _records(run: OpenedRun, place: Path) -> Path:
    """Return the folder of the records of a store, wherever that is."""
    name = hashlib.sha256(str(place.relative_to(run.path) if place.is_relative_to(run.path) else place).encode())
    return run.derived / f"edited-{name.hexdigest()[:12]}"


def _name(state: EditState, number: int) -> str:
    known = state.classes[number]
    if known.merged_into is None:
        return known.name
    return f"{known.name} (merged into {state.classes[state.root(number)].name})"


def _holds(place: Path, records: Path, mark: str, about: dict[str, Any]) -> bool:
    """Tell whether a store is whole and the one that is to be written."""
    try:
        if (records / "mark").read_text() != mark:
            return False
        known = json.loads((records / "about.json").read_bytes())
        whole = not damaged_files(place)
    except (OSError, ValueError, VolumeError):
        return False
    if not whole or any(known[n] != about[n] for n in ("names", "colours")):
        return False
    write_atomically(records / "about.json", json.dumps(about).encode())
    return True


def _take_up(run: OpenedRun, place: Path, records: Path, mark: str) -> None:
    """Keep of a store the shards that were begun under this mark, remove all else; metadata are written anew."""
    begun = records / "mark"
    known = begun.read_text() if begun.exists() else None
    (records / "about.json").unlink(missing_ok=True)
    if known == mark:
        unfinish(place, ())
        with disk_errors(place):
            for metadata in (*place.glob("labels/zarr.json"), *place.glob("labels/**/zarr.json")):
                metadata.unlink(missing_ok=True)
        return
    if place.exists() and known is None and place != default_place(run):
        raise OutputError(place, "is there already", "remove it or choose another name")
    remove(place)
    write_atomically(begun, mark.encode())
