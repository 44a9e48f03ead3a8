"""What grows with the volume: storage, the last passes, and where each of them is too much. Plain arithmetic."""

from __future__ import annotations

from typing import Any

from scaling_simulation.cluster import Work
from scaling_simulation.estimates import HOUR, VOLUMES, Case, Parameters, capacities

TB = 1e12

LAST_WORKERS = 100
"""Cores that the last passes are told for."""

ADDING = "adding up the sums of `--fit stream`"


def storage(voxels: float, p: Parameters) -> dict[str, float]:
    """Return bytes and files of everything that a map reads and leaves, and what the bytes cost a month."""
    units = voxels / p["unit_edge"] ** 3
    finest = voxels * p["label_bytes_per_voxel"]
    shards = p["label_images"] * units * (1 + 1 / 7)
    sizes = {
        "raw": voxels * p["raw_bytes_per_voxel"],
        "labels": finest,
        "coarser_levels": finest * p["coarser_levels_over_finest_bytes"],
        "records": units * p["record_bytes"],
        "manifest": shards * p["manifest_bytes_per_file"],
        "sums": units * p["statistics_bytes"],
    }
    kept = sizes["raw"] + sizes["labels"] + sizes["coarser_levels"]
    return {
        "voxels": voxels,
        **{f"{name}_bytes": size for name, size in sizes.items()},
        "embedding_bytes": voxels * p["embedding_bytes_per_voxel"],
        "label_files": shards,
        "record_files": units * (1 + p["label_images"] / 7),
        "sums_files": 2 * units,
        "usd_per_month": kept / TB * p["usd_per_tb_month"],
    }


def coarser_work(p: Parameters) -> Work:
    """Return what a shard of a coarser level costs, on average: eight of the level before it are read."""
    voxels = 7 * p["unit_edge"] ** 3  # of the finest level, for each shard of all levels that follow
    finest = voxels * p["label_bytes_per_voxel"] / p["label_images"]
    coarser = finest * p["coarser_levels_over_finest_bytes"]
    return Work(
        compute=voxels / p["pyramid_voxels_per_second"],
        bytes_in=finest + coarser,
        bytes_out=coarser,
        requests_in=8,
        requests_out=p["operations_per_label_file"],
    )


def verifying(files: float, size: float, p: Parameters) -> float:
    """Return the seconds in which the threads of one process hash so many files, of so many bytes in all."""
    by_threads = files * p["slurm_latency"] + size / p["verify_bytes_per_second"]
    return max(size / p["link"], by_threads / p["verifying_threads"])


def last_passes(voxels: float, p: Parameters) -> list[dict[str, Any]]:
    """Return what one process does beside the map, or its workers do after it, on a shared file system.

    Hours are those of a run with 100 workers on cores (a Dask cluster), and of the last command of a job array, which
    has none: it verifies what the jobs have left before it begins, and once more at the end, as every run does.
    """
    sizes, work = storage(voxels, p), coarser_work(p)
    units = voxels / p["unit_edge"] ** 3
    coarser_units = p["label_images"] * units / 7
    coarser = coarser_units * work.compute
    on_dask = Case("slurm", "cpu", LAST_WORKERS, voxels, reads_ahead=False, writes_behind=False)
    pace = min(capacities(on_dask, p, work).values())
    finest_files = p["label_images"] * units
    written = sizes["labels_bytes"] + sizes["coarser_levels_bytes"]
    at_the_end = verifying(sizes["label_files"], written, p)
    before = verifying(finest_files, sizes["labels_bytes"], p)
    # Records of the map are read for hashes and again for counts, one after the other; before, by several threads.
    patience = p["record_read_seconds"] + p["slurm_latency"]
    records = (2 * units + coarser_units) * patience
    adding = units * (patience + p["slurm_latency"] + p["statistics_merge_seconds"])
    passes = {  # core-seconds, seconds with workers, seconds of the last command of a job array
        "coarser levels": (coarser, coarser_units / pace, coarser / p["last_process_cores"]),
        "verifying every file": (written / p["verify_bytes_per_second"], at_the_end, at_the_end + before),
        "reading the records": (
            (2 * units + coarser_units) * p["record_read_seconds"],
            records,
            records + units * patience / p["verifying_threads"],
        ),
        ADDING: (units * (p["record_read_seconds"] + p["statistics_merge_seconds"]), adding, adding),
    }
    return [
        {
            "voxels": voxels,
            "pass": name,
            "core_hours": cores / HOUR,
            "hours_with_workers": with_workers / HOUR,
            "hours_job_array": job_array / HOUR,
            "always": name != ADDING,
        }
        for name, (cores, with_workers, job_array) in passes.items()
    ]


def limits(p: Parameters) -> list[dict[str, Any]]:
    """Return what grows with the volume, its size for both volumes, and the volume at which it is too much."""
    sizes, a_unit = storage(1.0, p), 1 / p["unit_edge"] ** 3
    passes = {row["pass"]: row for row in last_passes(1.0, p)}
    a_file = p["memory_bytes_per_file"] + p["memory_bytes_per_waiting_file"]
    memory = sizes["label_files"] * a_file + a_unit * p["memory_bytes_per_unit"]
    each = [  # what, its size for one voxel, too much of it, its unit
        ("tasks of a SLURM array, one for each unit", a_unit, p["slurm_array_size"], "tasks"),
        ("files, labels and records", sizes["label_files"] + sizes["record_files"], p["files_in_all"], "files"),
        ("coarser levels by one process", passes["coarser levels"]["hours_job_array"], p["longest_pass"], "h"),
        ("verifying by one process", passes["verifying every file"]["hours_with_workers"], p["longest_pass"], "h"),
        ("reading the records", passes["reading the records"]["hours_with_workers"], p["longest_pass"], "h"),
        ("done-records in one folder", a_unit, p["files_in_a_folder"], "files"),
        ("manifest", sizes["manifest_bytes"], p["document"], "bytes"),
        ("memory for units, files and hashes", memory, p["memory"], "bytes"),
    ]
    found = [
        {
            "what": what,
            "unit": unit,
            "sizes": [voxels * amount for voxels in VOLUMES],
            "too_much": most,
            "at_voxels": most / amount,
        }
        for what, amount, most, unit in each
    ]
    return sorted(found, key=lambda row: row["at_voxels"])
