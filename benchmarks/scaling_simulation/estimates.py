"""From parameters to time and cost of a map, by the simulation, and what each part of it could do by itself."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from scaling_simulation.cluster import Outcome, Scheduler, Store, Work, Workers, simulate

Parameters = Mapping[str, float]

SITES = ("slurm", "s3")
MACHINES = ("cpu", "gpu")
WORKERS = (10, 100, 1000)
VOLUMES = (1e12, 1e15)
SEEDS = (0, 1, 2)
HOUR = 3600.0

LEAST_SIMULATED = 5_000
SIMULATED_PER_WORKER = 20
"""Of a longer run so many units are simulated; the others take what they took in the middle of those."""


@dataclass(frozen=True)
class Case:
    """One way to map one volume.

    Attributes
    ----------
    site
        ``"slurm"``: jobs with a wall time on a shared file system. ``"s3"``: spot instances, input and output in S3.
    machine
        What a worker is: ``"cpu"``, one core; ``"gpu"``, one GPU with some cores.
    workers
        How many.
    voxels
        Of the volume.
    edge
        Of a unit, in voxels.
    batch, speculate
        See `Scheduler`.
    reads_ahead, writes_behind
        See `Workers`.
    """

    site: str
    machine: str
    workers: int
    voxels: float
    edge: int = 192
    batch: int = 1
    speculate: bool = False
    reads_ahead: bool = True
    writes_behind: bool = True

    @property
    def units(self) -> int:
        """How many units the volume has, borders left aside."""
        return math.ceil(self.voxels / self.edge**3)


_simulated = functools.cache(simulate)  # volumes of which the same number of units is simulated share it


def chunks_read(edge: int, halo: int, chunk: int) -> float:
    """Return how many chunks of the input a unit with its halo touches along one axis, on average."""
    period = math.lcm(edge, chunk) // edge
    touched = [
        math.ceil(((i + 1) * edge + halo) / chunk) - math.floor((i * edge - halo) / chunk) for i in range(period)
    ]
    return statistics.mean(touched)


def unit_work(case: Case, p: Parameters) -> Work:
    """Return what one unit costs."""
    voxels = float(case.edge**3)
    chunks = chunks_read(case.edge, int(p["halo"]), int(p["input_chunk_edge"])) ** 3
    files = chunks_read(case.edge, int(p["halo"]), int(p["input_file_edge"])) ** 3
    compressing = p["label_images"] * voxels / p["write_voxels_per_second"]
    computing = voxels / p["voxels_per_second_per_core"]
    on_gpu = case.machine == "gpu"
    return Work(
        compute=voxels / p["gpu_voxels_per_second"] if on_gpu else computing + compressing,
        spread=p["unit_time_spread"],
        encode=compressing / p["gpu_worker_cores"] if on_gpu else 0.0,
        bytes_in=chunks * p["input_chunk_edge"] ** 3 * p["raw_bytes_per_voxel"],
        bytes_out=voxels * p["label_bytes_per_voxel"],
        requests_in=files if case.site == "slurm" else chunks,
        requests_out=p["label_images"] * (p["operations_per_label_file"] if case.site == "slurm" else 1),
    )


def site(case: Case, p: Parameters) -> tuple[Workers, Store, Scheduler]:
    """Return who computes, where the data lies, and who hands out the units."""
    on_slurm = case.site == "slurm"
    prefixes = 1 if on_slurm else p["s3_prefixes"]
    workers = Workers(
        case.workers,
        failures_per_hour=p[f"{case.site}_failures_per_hour"],
        wall_time=p["slurm_wall_time"] * HOUR if on_slurm else math.inf,
        restart=p[f"{case.site}_restart"],
        slow_share=p["slow_workers"],
        slow_factor=p["slow_factor"],
        reads_ahead=case.reads_ahead,
        writes_behind=case.writes_behind,
    )
    store = Store(
        bandwidth=p[f"{case.site}_bandwidth"],
        link=p["link"],
        reads_per_second=prefixes * p[f"{case.site}_reads_per_second"],
        writes_per_second=prefixes * p[f"{case.site}_writes_per_second"],
        latency=p[f"{case.site}_latency"],
    )
    scheduler = Scheduler(
        overhead=p["slurm_task_overhead"] if on_slurm else p["dask_seconds_per_task"],
        batch=case.batch,
        record_requests=p["operations_per_record"] if on_slurm else 1,
        speculate=case.speculate,
    )
    return workers, store, scheduler


def capacities(case: Case, p: Parameters, work: Work | None = None) -> dict[str, float]:
    """Return how many units a second each part could do by itself, units of the map if no other; the least binds."""
    work, (workers, store, scheduler) = work or unit_work(case, p), site(case, p)
    slow = 1 + workers.slow_share * (1 / workers.slow_factor - 1)
    read, written = (store.latency + size / store.link for size in (work.bytes_in, work.bytes_out))
    computed = work.compute / slow
    in_turn = (0 if case.reads_ahead else read) + computed + (0 if case.writes_behind else work.encode + written)
    writes = work.requests_out + scheduler.record_requests / case.batch
    return {
        "computing": case.workers / computed,
        "one thing after the other": math.inf if in_turn == computed else case.workers / in_turn,
        "compressing": case.workers / work.encode if work.encode else math.inf,
        "a worker's network": case.workers / max(read, written),
        "bandwidth of the store": store.bandwidth / (work.bytes_in + work.bytes_out),
        "reads from the store": store.reads_per_second / work.requests_in,
        "writes to the store": store.writes_per_second / writes,
        "scheduler": case.batch / scheduler.overhead,
    }


def map_time(case: Case, p: Parameters, seed: int) -> tuple[float, Outcome]:
    """Return the seconds of a map, and what was simulated of it."""
    workers, store, scheduler = site(case, p)
    simulated = simulated_units(case)
    outcome = _simulated(simulated, unit_work(case, p), workers, store, scheduler, seed)
    return outcome.seconds + (case.units - simulated) / outcome.rate, outcome


def estimate(case: Case, p: Parameters) -> dict[str, Any]:
    """Return time and cost of one case, the mean of three seeds."""
    work = unit_work(case, p)
    runs = [map_time(case, p, seed) for seed in SEEDS]
    hours = statistics.mean(seconds for seconds, _ in runs) / HOUR
    capacity = capacities(case, p)
    price = p[f"usd_per_{'gpu' if case.machine == 'gpu' else 'core'}_hour"]
    requests = case.units * (
        work.requests_in * p["usd_per_1000_reads"] + (work.requests_out + 1) * p["usd_per_1000_writes"]
    )
    return {
        "site": case.site,
        "machine": case.machine,
        "workers": case.workers,
        "voxels": case.voxels,
        "edge": case.edge,
        "batch": case.batch,
        "speculate": case.speculate,
        "units": case.units,
        "hours": hours,
        "hours_range": [min(s for s, _ in runs) / HOUR, max(s for s, _ in runs) / HOUR],
        "efficiency": case.units * work.compute / case.workers / (hours * HOUR),
        "bound": min(capacity, key=lambda name: capacity[name]),
        "voxels_per_second": case.voxels / (hours * HOUR),
        "redone_share": statistics.mean(o.computed / simulated_units(case) - 1 for _, o in runs),
        "usd_compute": case.workers * hours * price,
        "usd_requests": requests / 1000 if case.site == "s3" else 0.0,
        "bytes_read_over_volume": work.bytes_in / (case.edge**3 * p["raw_bytes_per_voxel"]),
    }


def simulated_units(case: Case) -> int:
    """Return how many units of a case are simulated one by one: all, where its last ones are what matters."""
    if case.speculate or case.batch > 1:
        return case.units
    return min(case.units, max(LEAST_SIMULATED, SIMULATED_PER_WORKER * case.workers))


def rates(p: Parameters) -> list[dict[str, Any]]:
    """Return, for what all workers share, the voxels a second that it bears, and how many workers that is."""
    found = []
    for name in SITES:
        whole = {machine: capacities(Case(name, machine, 1, 1e12), p) for machine in MACHINES}
        for shared in ("reads from the store", "writes to the store", "bandwidth of the store", "scheduler"):
            bears = whole["cpu"][shared]
            found.append(
                {
                    "site": name,
                    "shared": shared,
                    "voxels_per_second": bears * p["unit_edge"] ** 3,
                    "cores": bears / whole["cpu"]["computing"],
                    "gpus": bears / min(whole["gpu"]["computing"], whole["gpu"]["compressing"]),
                }
            )
    return found


EXECUTORS = (
    ("reading, computing and writing", True, True),
    ("reading and computing, then writing", True, False),
    ("nothing", False, False),
)
"""What a worker does at the same time: whether it reads the next unit and writes the one before while it computes."""

HARMLESS = {"unit_time_spread": 0, "slow_workers": 0, "slurm_failures_per_hour": 0, "slurm_wall_time": math.inf}

FAULTS: dict[str, dict[str, float]] = {
    "nothing goes wrong": {},
    "unit times vary": {"unit_time_spread": 0.2},
    "1 worker of 20 at half speed": {"slow_workers": 0.05},
    "a death in 100 worker-hours": {"slurm_failures_per_hour": 0.01},
    "a death in every worker-hour": {"slurm_failures_per_hour": 1.0},
    "wall time 24 h": {"slurm_wall_time": 24},
    "wall time 1 h": {"slurm_wall_time": 1},
}
"""What may go wrong, one thing at a time: what is changed of `HARMLESS`."""


def ablations(p: Parameters) -> dict[str, list[dict[str, Any]]]:
    """Return what faults cost, and what other units, inputs, copies of the last units and larger tasks are worth."""
    cores, gpus = Case("slurm", "cpu", 1000, 1e12), Case("slurm", "gpu", 100, 1e12)
    on_s3 = Case("s3", "gpu", 100, 1e12)
    alone, remote = Case("slurm", "gpu", 4, 1e12), Case("s3", "gpu", 2, 1e12)  # too few to wait for each other
    layouts = (("chunks of 64", 64, 64), ("chunks of 128", 128, 128), ("chunks of 64 in shards of 512", 64, 512))
    return {
        "faults": [
            estimate(cores, {**p, **HARMLESS, **changed}) | {"fault": fault} for fault, changed in FAULTS.items()
        ],
        "edge": [
            estimate(replace(case, edge=edge), p) for case in (cores, gpus, on_s3) for edge in (96, 192, 288, 384)
        ],
        "layout": [
            estimate(replace(case, edge=edge), {**p, "input_chunk_edge": chunk, "input_file_edge": file})
            | {"layout": layout}
            for case in (gpus, on_s3)
            for edge in (192, 384)
            for layout, chunk, file in layouts
        ],
        "speculate": [
            estimate(replace(cores, voxels=voxels, speculate=on), p) for voxels in (1e12, 1e11) for on in (False, True)
        ],
        "overlap": [
            estimate(replace(case, reads_ahead=reads_ahead, writes_behind=writes_behind), p) | {"executor": executor}
            for case in (cores, alone, remote)
            for executor, reads_ahead, writes_behind in EXECUTORS
        ],
        "batch": [estimate(replace(case, batch=batch), p) for case in (cores, gpus) for batch in (1, 8, 64)],
    }
