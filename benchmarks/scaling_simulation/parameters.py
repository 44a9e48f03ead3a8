"""Every figure that the estimates rest on, with its unit and its source: measured, counted, cited or assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A number that can be doubted: its unit, and where it comes from."""

    value: float
    unit: str
    source: str


S3_RATES = "cited: Amazon S3 user guide, request rates for each prefix"
CHOSEN = "assumed"

GIVEN = {
    # the work
    "unit_edge": Figure(192, "voxels", "a shard, volumes/array_writing.py"),
    "halo": Figure(10, "voxels", "the default preset with its smoothing, Embedder.halo"),
    "label_images": Figure(7, "", "k = 4 to 10"),
    "input_chunk_edge": Figure(64, "voxels", "assumed: what is read and decompressed at least; in S3 a request each"),
    "input_file_edge": Figure(64, "voxels", "assumed: every chunk is a file of its own, as in N5 and Zarr 2"),
    "embedding_bytes_per_voxel": Figure(16, "bytes", "8 dimensions, float16, uncompressed; stored only if asked for"),
    "operations_per_label_file": Figure(6, "", "counted in blocks/records.py; tensorstore's lock and rename assumed"),
    "operations_per_record": Figure(5, "", "counted in blocks/records.py"),
    "verifying_threads": Figure(4, "", "blocks/files.py"),
    # workers
    "gpu_voxels_per_second": Figure(150e6, "voxels/s", "a target that has NOT been measured"),
    "gpu_worker_cores": Figure(8, "cores", CHOSEN),
    "unit_time_spread": Figure(0.2, "", "assumed: standard deviation of the logarithm of a unit's time"),
    "slow_workers": Figure(0.05, "", "assumed: share of workers on slow nodes"),
    "slow_factor": Figure(2, "", "assumed: how many times longer these compute"),
    "last_process_cores": Figure(
        3, "cores", "assumed: coarser levels by one process, which reads, computes and writes at once"
    ),
    # SLURM and its shared file system
    "slurm_failures_per_hour": Figure(0.01, "1/h", "assumed: deaths of one worker"),
    "slurm_wall_time": Figure(24, "h", CHOSEN),
    "slurm_restart": Figure(300, "s", "assumed: until another job takes the place of a lost one"),
    "slurm_task_overhead": Figure(0.001, "s", "assumed: one scheduler process hands out units"),
    "slurm_bandwidth": Figure(10e9, "bytes/s", "assumed: what the shared file system gives to this run"),
    "slurm_reads_per_second": Figure(20_000, "1/s", "assumed: files opened"),
    "slurm_writes_per_second": Figure(10_000, "1/s", "assumed: files created, renamed, removed"),
    "slurm_latency": Figure(0.001, "s", CHOSEN),
    "slurm_array_size": Figure(1001, "tasks", "cited: slurm.schedmd.com/job_array.html, the default MaxArraySize"),
    # spot instances and S3
    "s3_failures_per_hour": Figure(0.05, "1/h", "assumed: spot instances taken back, failures"),
    "s3_restart": Figure(180, "s", CHOSEN),
    "s3_bandwidth": Figure(50e9, "bytes/s", "assumed: the sum over all instances"),
    "s3_reads_per_second": Figure(5_500, "1/s", S3_RATES),
    "s3_writes_per_second": Figure(3_500, "1/s", S3_RATES),
    "s3_prefixes": Figure(1, "", "assumed: S3 splits a busy key range by itself, in time"),
    "s3_latency": Figure(0.1, "s", "cited: Amazon S3 user guide, 100 to 200 ms"),
    "link": Figure(1e9, "bytes/s", "assumed: network of one worker"),
    # what is too much
    "longest_pass": Figure(24, "h", "assumed: a last pass by one process must end within it"),
    "files_in_a_folder": Figure(1e6, "files", "assumed: more are slow to list"),
    "files_in_all": Figure(10e6, "files", "assumed: a usual quota of a project"),
    "memory": Figure(16e9, "bytes", "assumed: of the process that ends the run"),
    "document": Figure(1e9, "bytes", "assumed: a JSON file larger than that is no longer read at once"),
    # prices
    "usd_per_core_hour": Figure(0.05, "USD", CHOSEN),
    "usd_per_gpu_hour": Figure(5.0, "USD", "assumed, its cores included; offers of early 2026 run from 2 to 7"),
    "usd_per_tb_month": Figure(23.0, "USD", "assumed: list price of S3 Standard"),
    "usd_per_1000_reads": Figure(0.0004, "USD", "assumed: list price of S3 GET"),
    "usd_per_1000_writes": Figure(0.005, "USD", "assumed: list price of S3 PUT"),
}

STORE = "7 maps of 384 x 384 x 384 voxels"

MEASURED = {
    "voxels_per_second_per_core": ("voxels/s", "`vemosaic bench embed`, words and smoothing, two threads, halved"),
    "label_bytes_per_voxel": ("bytes", "EPFL at 15 nm, all seven maps"),
    "coarser_levels_over_finest_bytes": ("", "the same, its one coarser level"),
    "raw_bytes_per_voxel": ("bytes", "FlyEM medulla a, 10 nm, zstd"),
    "write_voxels_per_second": ("voxels/s", f"LabelStore.write, {STORE}"),
    "record_read_seconds": ("s", f"Ledger.recorded, {STORE}"),
    "pyramid_voxels_per_second": ("voxels/s", f"build_pyramid, voxels of the finest level, {STORE}"),
    "verify_bytes_per_second": ("bytes/s", f"damaged_files, {STORE}"),
    "record_bytes": ("bytes", "of a unit with 7 files, its counts of voxels included"),
    "statistics_bytes": ("bytes", "Statistics.to_bytes, k-means, k = 4 to 10, 6 dimensions"),
    "statistics_merge_seconds": ("s", "Statistics.from_bytes and merge, the same"),
    "manifest_bytes_per_file": ("bytes", f"{STORE}"),
    "memory_bytes_per_file": ("bytes", "path and hash, traced"),
    "memory_bytes_per_waiting_file": (
        "bytes",
        "of one that waits to be hashed, as ThreadPoolExecutor.map holds it, traced",
    ),
    "memory_bytes_per_unit": ("bytes", "traced"),
    "dask_seconds_per_task": ("s", "Dask's scheduler and client, 4,000 empty tasks on two worker processes"),
}


def parameters(measured: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return all figures by name, the measured ones included, as JSON holds them."""
    taken = {name: Figure(measured[name], unit, f"measured: {how}") for name, (unit, how) in MEASURED.items()}
    return {name: asdict(figure) for name, figure in (GIVEN | taken).items()}


def values(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the bare numbers of what `parameters` gave."""
    return {name: figure["value"] for name, figure in figures.items()}
