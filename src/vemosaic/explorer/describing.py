"""What a page is told of a session: one document, a few kB, that answers in milliseconds."""

from __future__ import annotations

from typing import Any

import numpy as np

from vemosaic.explorer import scatter
from vemosaic.explorer.chores import Chores
from vemosaic.explorer.exporting import FORMATS, MESHES
from vemosaic.explorer.opened import OpenedRun
from vemosaic.explorer.product import written
from vemosaic.explorer.scribbles import painted
from vemosaic.explorer.session import Session
from vemosaic.explorer.state import EditState, Repieced, told


def describe(session: Session, chores: Chores) -> dict[str, Any]:
    """Return all that a page needs beside voxels and dots."""
    with session.lock:
        state, edited, number = session.state, session.edited(), session.number
        undoable, redoable = session.history.undoable, session.history.redoable
        pending = _pending(session)
    return {
        "run": about_run(session.run),
        "number": number,
        "key": state.key,
        "k": state.k,
        "classes": _classes(state),
        "undo": told(*undoable) if undoable else None,
        "redo": told(*redoable) if redoable else None,
        "scribbles": _scribbles(state, session.run),
        "pending": pending,
        "incomplete": bool(edited.missing()),
        "ready": {
            "texture": session.derived.texture.finished,
            "grey": session.grey.layer.finished,
            "layout": "pca" if scatter.kept_layout(session.run) is None else "tsne",
        },
        "dots": len(session.run.sample.voxel),
        "applied": written(session.run),
        "jobs": [job.describe() for job in chores.jobs.all()],
        "commands": {name: chores.command(name) for name in ("apply", "explore")},
    }


def about_run(run: OpenedRun) -> dict[str, Any]:
    """Return what does not change while a run is open."""
    return {
        "name": run.path.name.removesuffix(".vemosaic"),
        "path": str(run.path),
        "input": run.folder.record["inputs"][0]["source"],
        "shape": list(run.shape),
        "voxel_size": list(run.voxel_size),
        "translation": list(run.translation),
        "levels": [
            {"shape": list(level.shape), "step": list(step)} for level, step in zip(run.levels, run.steps, strict=True)
        ],
        "ks": list(run.ks),
        "default_k": run.default_k,
        "reference": run.reference_names,
        "no_raw": run.no_raw,
    }


def commands(chores: Chores) -> dict[str, Any]:
    """Return the command lines that do what the page's buttons do."""
    exports = {to: f"--to {to}" + (" --class CLASS" if to in MESHES else "") for to in FORMATS}
    return {
        "explore": chores.command("explore"),
        "apply": chores.command("apply"),
        "classify": chores.command("classify", "--scribbles labels.ome.zarr"),
        "export": {to: chores.command("export", options) for to, options in exports.items()},
    }


def _classes(state: EditState) -> list[dict[str, Any]]:
    return [
        {
            "id": number,
            "name": known.name,
            "colour": list(known.colour),
            "hidden": known.hidden,
            "clusters": list(known.clusters),
            "merged_into": None if known.merged_into is None else state.root(number),
        }
        for number, known in sorted(state.classes.items())
    ]


def _scribbles(state: EditState, run: OpenedRun) -> dict[str, Any]:
    _, classes = painted(state.scribbles, run.shape, state.roots)
    counts = np.bincount(classes, minlength=1)
    return {
        "key": state.scribbles_key,
        "voxels": {str(c): int(counts[c]) for c in np.flatnonzero(counts) if c},
        "planes": sorted({(s.axis, s.index) for s in state.scribbles}),
    }


def _pending(session: Session) -> list[int]:
    """Return the numbers of the lines whose effect on the labels is still being computed and is not shown."""
    unseen = {
        step.key for number in session.edited().unseen() if isinstance(step := session.edited().steps[number], Repieced)
    }
    if not unseen:
        return []
    waiting = []
    for number, state in session.history.numbered():
        for done in state.steps[-1:]:
            if isinstance(done, Repieced) and done.key in unseen:
                unseen.discard(done.key)
                waiting.append(number)
    return waiting
