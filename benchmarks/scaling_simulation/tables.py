"""The tables of docs/scaling.md, from the JSON, and their places in that page."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

SITES = {"slurm": "SLURM, shared file system", "s3": "spot instances, S3"}
MACHINES = {"cpu": "cores", "gpu": "GPUs (rate not measured)"}


def volume(voxels: float) -> str:
    """Return a number of voxels as people say it."""
    for size, name in ((1e15, "Pvoxel"), (1e12, "Tvoxel"), (1e9, "Gvoxel"), (1e6, "Mvoxel")):
        if voxels >= size:
            return f"{_short(voxels / size)} {name}"
    return f"{voxels:.0f} voxels"


def duration(hours: float) -> str:
    """Return a time in its handiest unit."""
    for size, name in ((24 * 365, "years"), (24.0, "days"), (1.0, "h"), (1 / 60, "min")):
        if hours >= 2 * size:
            return f"{_short(hours / size)} {name}"
    return f"{_short(hours * 3600)} s"


def size(bytes_: float) -> str:
    """Return a number of bytes in its handiest unit."""
    for unit, name in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if bytes_ >= unit:
            return f"{_short(bytes_ / unit)} {name}"
    return f"{bytes_:.0f} bytes"


def number(value: float) -> str:
    """Return a count, rounded to two digits where it is large."""
    for unit, name in ((1e9, " G"), (1e6, " M")):
        if value >= unit:
            return f"{_short(value / unit)}{name}"
    return f"{float(f'{value:.2g}'):,.0f}" if value >= 10 else f"{value:.2g}"


def dollars(value: float) -> str:
    """Return a sum, rounded to two digits."""
    return "0" if not value else f"{float(f'{value:.2g}'):,.0f}" if value >= 10 else f"{value:.2g}"


def _short(value: float) -> str:
    return f"{float(f'{value:.2g}'):,.0f}" if value >= 10 else f"{value:.2g}"


Row = Mapping[str, Any]
Columns = dict[str, Callable[[Row], str]]


def _table(rows: Sequence[Row], columns: Columns) -> str:
    head = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"
    lines = [f"| {' | '.join(column(row) for column in columns.values())} |" for row in rows]
    return "\n".join([head, *lines])


def _worker(row: Row) -> str:
    return f"{row['workers']:,} {MACHINES[row['machine']]}"


def _amount(row: Row, amount: float) -> str:
    if row["unit"] == "h":
        return duration(amount)
    if row["unit"] == "bytes":
        return size(amount)
    return f"{number(amount)} {row['unit']}"


def _map_columns(machine: str) -> Columns:
    return {
        "volume": lambda r: volume(r["voxels"]),
        MACHINES[machine]: lambda r: f"{r['workers']:,}",
        "time": lambda r: duration(r["hours"]),
        "of the ideal": lambda r: f"{number(100 * r['efficiency'])} %",
        "voxels/s": lambda r: number(r["voxels_per_second"]),
        "what binds": lambda r: r["bound"],
        "USD, computing": lambda r: dollars(r["usd_compute"]),
        "USD, requests": lambda r: dollars(r["usd_requests"]),
    }


COLUMNS: Columns = {
    "workers": lambda r: f"{_worker(r)}, {SITES[r['site']]}",
    "volume": lambda r: volume(r["voxels"]),
    "copies": lambda r: "yes" if r["speculate"] else "no",
    "units in a task": lambda r: str(r["batch"]),
    "edge of a unit": lambda r: str(r["edge"]),
    "input": lambda r: r["layout"],
    "what goes wrong": lambda r: r["fault"],
    "at the same time": lambda r: r["executor"],
    "time": lambda r: duration(r["hours"]),
    "of the ideal": lambda r: f"{100 * r['efficiency']:.1f} %",
    "units lost": lambda r: f"{100 * r['redone_share']:.2f} %",
    "units lost or done twice": lambda r: f"{100 * r['redone_share']:.2f} %",
    "read / volume": lambda r: f"{r['bytes_read_over_volume']:.1f}",
    "voxels/s": lambda r: number(r["voxels_per_second"]),
    "what binds": lambda r: r["bound"],
}

ABLATIONS = {
    "faults": ("what goes wrong", "of the ideal", "units lost"),
    "speculate": ("volume", "copies", "time", "of the ideal", "units lost or done twice"),
    "edge": ("workers", "edge of a unit", "read / volume", "time", "of the ideal", "units lost", "what binds"),
    "layout": ("workers", "edge of a unit", "input", "read / volume", "voxels/s", "time", "what binds"),
    "overlap": ("workers", "at the same time", "voxels/s", "time", "of the ideal", "what binds"),
    "batch": ("workers", "units in a task", "time", "of the ideal", "units lost", "what binds"),
}


def tables(document: Mapping[str, Any]) -> dict[str, str]:
    """Return every table as Markdown, by the name that marks its place in the page."""
    cases = document["cases"]
    made = {"answer": _answer(document)} | {
        f"map-{site}-{machine}": _table(
            [r for r in cases if (r["site"], r["machine"]) == (site, machine)], _map_columns(machine)
        )
        for site in SITES
        for machine in MACHINES
    }
    made["storage"] = _table(
        document["storage"],
        {
            "volume": lambda r: volume(r["voxels"]),
            "raw, compressed": lambda r: size(r["raw_bytes"]),
            "labels, k = 4 to 10": lambda r: size(r["labels_bytes"]),
            "their coarser levels": lambda r: size(r["coarser_levels_bytes"]),
            "label files": lambda r: number(r["label_files"]),
            "records": lambda r: f"{number(r['record_files'])} files, {size(r['records_bytes'])}",
            "manifest": lambda r: size(r["manifest_bytes"]),
            "sums, if `--fit stream`": lambda r: f"{number(r['sums_files'])} files, {size(r['sums_bytes'])}",
            "embedding, if stored": lambda r: size(r["embedding_bytes"]),
            "USD a month without it": lambda r: dollars(r["usd_per_month"]),
        },
    )
    made["last-passes"] = _table(
        document["last_passes"],
        {
            "volume": lambda r: volume(r["voxels"]),
            "pass": lambda r: r["pass"],
            "core-hours": lambda r: number(r["core_hours"]),
            "with 100 workers": lambda r: duration(r["hours_with_workers"]),
            "after a job array": lambda r: duration(r["hours_job_array"]),
        },
    )
    made["limits"] = _table(
        document["limits"],
        {
            "too much at": lambda r: volume(r["at_voxels"]),
            "what": lambda r: r["what"],
            "limit": lambda r: _amount(r, r["too_much"]),
            "1 Tvoxel": lambda r: _amount(r, r["sizes"][0]),
            "1 Pvoxel": lambda r: _amount(r, r["sizes"][1]),
        },
    )
    made["rates"] = _table(
        document["rates"],
        {
            "where": lambda r: SITES[r["site"]],
            "shared": lambda r: r["shared"],
            "voxels/s": lambda r: number(r["voxels_per_second"]),
            "busy with so many cores": lambda r: number(r["cores"]),
            MACHINES["gpu"]: lambda r: number(r["gpus"]),
        },
    )
    for name, columns in ABLATIONS.items():
        made[name] = _table(document["ablations"][name], {column: COLUMNS[column] for column in columns})
    made["parameters"] = _table(
        [{"name": name, **figure} for name, figure in document["parameters"].items()],
        {
            "name": lambda r: f"`{r['name']}`",
            "value": lambda r: _value(r["value"], r["unit"]),
            "from": lambda r: r["source"],
        },
    )
    return made


def _answer(document: Mapping[str, Any]) -> str:
    """Return the short answer for each volume."""
    lines = []
    for stored in document["storage"]:
        voxels = stored["voxels"]
        found = {(r["site"], r["machine"], r["workers"]): r for r in document["cases"] if r["voxels"] == voxels}
        cores, more, gpus, remote = (
            found[key]
            for key in (("slurm", "cpu", 100), ("slurm", "cpu", 1000), ("slurm", "gpu", 10), ("s3", "gpu", 10))
        )
        ending = [r for r in document["last_passes"] if r["voxels"] == voxels and r["always"]]
        with_workers, after_an_array = (
            sum(r[hours] for r in ending) for hours in ("hours_with_workers", "hours_job_array")
        )
        kept = stored["labels_bytes"] + stored["coarser_levels_bytes"]
        lines.append(
            f"- **{volume(voxels)}**: {duration(cores['hours'])} on 100 cores, {duration(more['hours'])} on 1,000 "
            f"({dollars(more['usd_compute'])} USD). {duration(gpus['hours'])} on 10 GPUs with a shared file system, "
            f"{duration(remote['hours'])} with S3, if a GPU did {volume(stated_gpu_rate(document))} a second, "
            f"which has not been measured. "
            f"Then {duration(with_workers)} of last passes with 100 workers, {duration(after_an_array)} after a job "
            f"array, by one process. {size(kept)} of labels."
        )
    return "\n".join(lines)


def stated_gpu_rate(document: Mapping[str, Any]) -> float:
    """Return the voxels per second that a GPU is taken to do."""
    return float(document["parameters"]["gpu_voxels_per_second"]["value"])


def _value(value: float, unit: str) -> str:
    return f"{f'{value:,.0f}' if value >= 1000 else f'{value:.3g}'} {unit}".strip()


def filled(page: str, made: Mapping[str, str]) -> str:
    """Return a page with each table between its marks, ``<!-- table NAME -->`` and ``<!-- end -->``.

    Raises
    ------
    KeyError
        If the page asks for a table that there is not.
    """
    return re.sub(
        r"<!-- table ([\w-]+) -->\n.*?<!-- end -->",
        lambda found: f"<!-- table {found[1]} -->\n\n{made[found[1]]}\n\n<!-- end -->",
        page,
        flags=re.S,
    )
