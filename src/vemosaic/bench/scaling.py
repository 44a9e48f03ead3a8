"""How time and memory grow with the volume, and what further workers bring."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vemosaic.bench.bounds import bounded
from vemosaic.bench.conditions import Conditions
from vemosaic.bench.end_to_end import map_cost, map_store, saved_model
from vemosaic.bench.mirrored import bytes_needed, scratch, whole_tiles, write_mirrored
from vemosaic.bench.peaks import drop_from_cache, measure_peaks
from vemosaic.blocks.apart import apart
from vemosaic.blocks.executors import Executor
from vemosaic.volumes import open_volume

VOXELS = (4_000_000, 16_000_000, 64_000_000)


def bench_scaling(conditions: Conditions) -> dict[str, Any]:
    """Map a volume, repeated in mirror images to several sizes, by each executor in turn.

    Each map is made in a process of its own, as a user's is: its memory is not that which another one has left.
    """
    volume = conditions.volume
    shapes = sorted({whole_tiles(voxels) for voxels in conditions.voxels or VOXELS}, key=math.prod)
    needed = bytes_needed(volume, math.prod(shapes[-1]))
    runs: list[dict[str, Any]] = []
    costs = []
    with scratch(conditions.folder, needed) as folder:
        peaks_before = measure_peaks(conditions.device, folder)
        model = saved_model(conditions, folder)
        for shape in shapes:
            with scratch(folder, 0) as place:
                files = write_mirrored(volume, shape, place / "raw.ome.zarr")
                stored = open_volume(str(place / "raw.ome.zarr"))
                _, described = conditions.embedders(stored)
                for name, team in conditions.teams.items():
                    drop_from_cache(files)
                    with scratch(place, 0) as out:
                        facts = apart(map_by, team, out / "run", model, replace(conditions, volume=stored, teams={}))
                        cost = map_cost(described, stored, files, facts["bytes_written"])
                    runs.append({"executor": name, **facts})
                    costs.append(cost)
        peaks = peaks_before.best(measure_peaks(conditions.device, folder))
    for facts, cost in zip(runs, costs, strict=True):
        facts |= bounded(facts["voxels_per_second"], cost, peaks.of(conditions.arithmetic))
    return {
        "runs": runs,
        "growth": [
            {"executor": name, "stages": stages, **growth(own, stages.split(" + "))}
            for name in conditions.teams
            for own in [[r for r in runs if r["executor"] == name]]
            for stages in ("fit + map", "map")
            if len(own) > 1
        ],
        "efficiency": efficiencies(runs),
        "device": conditions.device.type,
        "precision": conditions.arithmetic,
        "peaks": peaks.to_json(),
    }


def map_by(
    team: Callable[[], AbstractContextManager[Executor]], out: Path, model: Path, conditions: Conditions
) -> dict[str, Any]:
    """Map the volume of the conditions by an executor that is opened for it: see `map_store`."""
    with team() as executor:
        return map_store(conditions.volume, out, model, executor, conditions)


def growth(runs: Sequence[dict[str, Any]], stages: Sequence[str]) -> dict[str, Any]:
    """Fit the time of some stages against the voxels of two or more runs, the smallest first.

    Returns
    -------
    dict
        The line t = a + b n with the least relative errors: ``constant_seconds`` a, ``seconds_per_gigavoxel`` b, and
        its ``largest_residual``, relative. ``deviation_from_linear``: by how much the largest volume takes longer a
        voxel than the smallest one, relative. ``peak_memory_ratio``: the most memory of the largest over that of the
        smallest; None where the system does not tell.
    """
    voxels = np.array([run["voxels"] for run in runs], float)
    seconds = np.array([sum(run["seconds"][stage] for stage in stages) for run in runs])
    rows = np.stack([np.ones_like(voxels), voxels], 1) / seconds[:, None]
    (constant, slope), *_ = np.linalg.lstsq(rows, np.ones_like(seconds))
    memory = [[run["peak_memory_gb"].get(stage) for stage in stages] for run in (runs[0], runs[-1])]
    least, most = (None if None in peaks else max(peaks) for peaks in memory)
    each = seconds / voxels
    return {
        "constant_seconds": float(constant),
        "seconds_per_gigavoxel": float(slope * 1e9),
        "largest_residual": float(np.abs((constant + slope * voxels) / seconds - 1).max()),
        "deviation_from_linear": float(each[-1] / each[0] - 1),
        "peak_memory_ratio": most / least if most and least else None,
    }


def efficiencies(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Hold every executor against the first one on the same volume: rates of all and of the map, and the labels."""
    alone = {run["voxels"]: run for run in runs if run["executor"] == runs[0]["executor"]}
    return [
        {
            "executor": run["executor"],
            "voxels": run["voxels"],
            "efficiency": run["voxels_per_second"] / first["voxels_per_second"],
            "map_efficiency": run["map_voxels_per_second"] / first["map_voxels_per_second"],
            "same_labels": run["labels_sha256"] == first["labels_sha256"],
        }
        for run in runs
        for first in [alone[run["voxels"]]]
        if run is not first
    ]
