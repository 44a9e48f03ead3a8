"""The table of classes: how much there is of each, in how many pieces, and how well it agrees with a reference."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from vemosaic.blocks.events import Listener, ignore
from vemosaic.blocks.files import write_atomically
from vemosaic.blocks.grid import units
from vemosaic.explorer.edited import EditedMap

MOST_VOXELS = 2**22
"""Of the level that an estimate is made from."""


def count_table(edited: EditedMap, listen: Listener = ignore) -> dict[str, Any]:
    """Count voxels and pieces of each class, and compare with the reference where there is one; kept with the run.

    Raises
    ------
    VemosaicError
        If what the edits need cannot be computed.
    """
    run = edited.run
    edited.complete(listen)
    pieces = edited.index(listen).table()
    labels = np.asarray(pieces["label"], np.int64)
    voxels = np.bincount(labels, weights=pieces["voxels"], minlength=256).astype(np.int64)
    table = _document(edited, voxels.tolist(), np.bincount(labels, minlength=256).tolist())
    if run.reference is not None:
        table["reference"] = _dice(edited)
    write_atomically(run.derived / f"table-{edited.key}.json", json.dumps(table).encode())
    edited.forget_index()
    return table


def kept_table(edited: EditedMap) -> dict[str, Any] | None:
    """Return what was counted of a state, if it was."""
    try:
        table: dict[str, Any] = json.loads((edited.run.derived / f"table-{edited.key}.json").read_bytes())
    except (OSError, ValueError):
        return None
    return table


def estimated_table(edited: EditedMap) -> dict[str, Any]:
    """Estimate the voxels of each class from a coarse level."""
    levels = edited.run.levels
    sizes = [math.prod(level.shape) for level in levels]
    level = next((n for n, size in enumerate(sizes) if size <= MOST_VOXELS), len(sizes) - 1)
    z, y, x = (slice(0, n) for n in levels[level].shape)
    counts = np.bincount(edited.read(level, (z, y, x)).ravel(), minlength=256)
    return _document(edited, np.round(counts * (sizes[0] / sizes[level])).astype(np.int64).tolist(), None)


def _document(edited: EditedMap, voxels: list[int], pieces: list[int] | None) -> dict[str, Any]:
    total = max(1, sum(voxels[1:]))
    volume = edited.run.voxel_volume()
    return {
        "key": edited.key,
        "exact": pieces is not None,
        "total": sum(voxels[1:]),
        "classes": [
            {
                "id": label,
                "voxels": count,
                "volume_um3": count * volume,
                "share": count / total,
                "pieces": pieces[label] if pieces is not None else None,
            }
            for label, count in enumerate(voxels)
            if label and count
        ],
    }


def _dice(edited: EditedMap) -> dict[str, dict[str, float]]:
    """Return the Dice coefficient of each structure of the reference with each class."""
    run = edited.run
    assert run.reference is not None
    names = run.reference_names
    counts = np.zeros((len(names) + 1, 256), np.int64)
    for unit in units(run.shape, (192, 192, 192)):
        structures = run.reference.read(unit.origin, unit.shape).astype(np.int64)
        counts += np.bincount((structures * 256 + edited[unit.slices]).ravel(), minlength=counts.size).reshape(
            counts.shape
        )
    counts[:, 0] = 0  # what was not mapped
    sizes = counts.sum(0)
    return {
        name: {
            str(label): round(float(2 * row[label] / (row.sum() + sizes[label])), 4) for label in np.flatnonzero(sizes)
        }
        for name, row in zip(names, counts[1:], strict=True)
    }
