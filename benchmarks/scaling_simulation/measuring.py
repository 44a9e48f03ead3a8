"""What the simulation needs to know of vemosaic itself: rates of its passes and sizes of its files, on this machine.

Times are those that the processor spent (all threads of this process), so that rates are those of one core, and do not
depend on what else the machine does; waiting for the disk is not in them.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vemosaic.blocks import FileStamp, Ledger, units
from vemosaic.clustering import Statistics, statistics_of
from vemosaic.colours import palette
from vemosaic.embedding_sample import EmbeddingSample
from vemosaic.fitting import begin_clusters
from vemosaic.volumes.array_writing import SHARD
from vemosaic.volumes.labels import LabelStore, open_labels
from vemosaic.volumes.ome_writing import damaged_files, manifest_path
from vemosaic.volumes.pyramid import build_pyramid

KS = (4, 5, 6, 7, 8, 9, 10)
EDGE = 2 * SHARD[0]
"""Voxels along each axis of the store that the passes are timed on."""

DIMENSIONS = 6
"""Of what describes a voxel by default, `Settings.dimensions`."""

TIMES = 2
"""Every time is the shortest of so many."""


def measure(run: Path, raw: Path, embed: Mapping[str, Any]) -> dict[str, Any]:
    """Measure what a map costs beside the embedding.

    Parameters
    ----------
    run
        A finished run of a real volume with k = 4 to 10: its labels are what is compressed.
    raw
        Folder of a compressed Zarr array of real voxels, uint8.
    embed
        What ``vemosaic bench embed VOLUME --json`` printed.

    Returns
    -------
    dict
        Rates in voxels or bytes per second of one core, sizes in bytes, times in seconds of one core.
    """
    images = {k: open_labels(run / "segmentation.ome.zarr", k) for k in KS}
    labels = {k: image.volume.read((0, 0, 0), image.volume.shape).astype(np.uint8) for k, image in images.items()}
    fine, coarse = _label_bytes(run / "segmentation.ome.zarr")
    return {
        "voxels_per_second_per_core": embed["described_voxels_per_second"] / embed["machine"]["cores"],
        "label_bytes_per_voxel": fine,
        "coarser_levels_over_finest_bytes": coarse,
        "raw_bytes_per_voxel": _raw_bytes(raw),
        **passes({k: _tiled(labels[k]) for k in KS}),
        **sums(),
        "memory_bytes_per_unit": _memory(lambda: units((40, 40, 40), (2, 2, 2))) / 8_000,
        "memory_bytes_per_waiting_file": _waiting(8_000),
        "dask_seconds_per_task": _dask_overhead(),
        "machine": {
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "python": platform.python_version(),
        },
    }


def _label_bytes(store: Path) -> tuple[float, float]:
    """Compressed bytes of the finest levels of all k for each voxel, and those of all coarser levels over them."""
    finest = coarser = 0
    for k in KS:
        for file in (store / "labels" / f"k{k}").rglob("c/*/*/*"):
            if file.relative_to(store).parts[2] == "0":
                finest += file.stat().st_size
            else:
                coarser += file.stat().st_size
    shape = json.loads((store / "labels" / f"k{KS[0]}" / "0" / "zarr.json").read_bytes())["shape"]
    return finest / float(np.prod(shape)), coarser / finest


def _raw_bytes(array: Path) -> float:
    shape = json.loads((array / ".zarray").read_bytes())["shape"]
    chunks = [file for file in array.rglob("*") if file.is_file() and not file.name.startswith(".")]
    return sum(file.stat().st_size for file in chunks) / float(np.prod(shape))


def _tiled(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Repeat real labels in mirror images to a cube."""
    return np.pad(labels[:EDGE, :EDGE, :EDGE], [(0, max(0, EDGE - n)) for n in labels.shape], mode="symmetric")


def passes(cubes: Mapping[int, npt.NDArray[np.uint8]]) -> dict[str, float]:
    """Time what follows the embedding, one pass after the other: writing, coarser levels, reading records, verifying.

    Parameters
    ----------
    cubes
        Labels of each k, ``(Z, Y, X)``, all of one shape.
    """
    shape = next(iter(cubes.values())).shape
    voxels = float(np.prod(shape) * len(cubes))
    work = units(shape, SHARD)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        store = LabelStore.create(
            root / "map.ome.zarr", ks=list(cubes), shape=shape, voxel_size=(8, 8, 8), translation=(0, 0, 0)
        )
        ledger = Ledger(
            root / "records",
            "map",
            "mark",
            owns=lambda unit: [file for k in cubes for file in store.files(k, 0, unit.origin, unit.shape)],
            root=root,
        )

        def write() -> None:
            for unit in work:
                ledger.begin(unit)
                for k, cube in cubes.items():
                    store.write(k, 0, unit.origin, np.ascontiguousarray(cube[unit.slices]))

        def build() -> dict[Path, FileStamp]:
            shutil.rmtree(root / "records" / "pyramid-level-1", ignore_errors=True)
            shutil.rmtree(root / "records" / "pyramid-level-2", ignore_errors=True)
            return build_pyramid(store, records=root / "records", fingerprint="mark")

        writing = _shortest(write)
        for unit in work:
            ledger.complete(unit, {str(k): np.bincount(cubes[k][unit.slices].ravel())[1:].tolist() for k in cubes})
        figures = {
            "write_voxels_per_second": voxels / writing,
            "record_read_seconds": _shortest(lambda: [ledger.recorded(work) for _ in range(50)]) / 50 / len(work),
            "pyramid_voxels_per_second": voxels / _shortest(build),
        }
        recorded = ledger.recorded(work) | build()
        store.finish(recorded, default_k=min(cubes), colours={k: palette(k) for k in cubes})
        written = sum(known.size for known in recorded.values())
        manifest = manifest_path(store.path).read_bytes()
        return figures | {
            "verify_bytes_per_second": written / _shortest(lambda: damaged_files(store.path)),
            "record_bytes": float(next((root / "records" / "map").glob("*.json")).stat().st_size),
            "manifest_bytes_per_file": len(manifest) / len(json.loads(manifest)),
            "memory_bytes_per_file": _memory(lambda: ledger.recorded(work)) / (len(work) * len(cubes)),
        }


def sums() -> dict[str, float]:
    """Size of the file that `--fit stream` keeps of a shard, and the time to read one and add it to the others."""
    points = np.random.default_rng(0).normal(size=(2_000, DIMENSIONS)).astype(np.float32)
    sample = EmbeddingSample(np.zeros((len(points), 3), np.int64), points, points[:, 0])
    found = statistics_of(torch.from_numpy(points), begin_clusters(sample, KS))
    kept, times = found.to_bytes(), 200

    def merge() -> None:
        merged = found
        for _ in range(times):
            merged = merged.merge(Statistics.from_bytes(kept))

    return {"statistics_bytes": float(len(kept)), "statistics_merge_seconds": _shortest(merge) / times}


def _waiting(files: int) -> float:
    """Bytes that each file takes which is given to a pool of threads, before one of them is free for it."""
    begin = Event()
    with ThreadPoolExecutor(1) as pool:
        try:
            return _memory(lambda: pool.map(lambda _: begin.wait(), range(files))) / files
        finally:
            begin.set()


def _memory(make: Callable[[], object]) -> int:
    """Bytes that what a function returns takes in memory."""
    tracemalloc.start()
    try:
        kept = make()
        taken, _ = tracemalloc.get_traced_memory()
        del kept
        return taken
    finally:
        tracemalloc.stop()


def _shortest(act: Callable[[], object]) -> float:
    times = []
    for _ in range(TIMES):
        start = time.process_time()
        act()
        times.append(time.process_time() - start)
    return min(times)


def _nothing(number: int) -> int:
    return number


def _dask_overhead(tasks: int = 4_000) -> float:
    """Seconds of Dask's scheduler and client on a task which does nothing; two worker processes of one thread each."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        client.gather(client.map(_nothing, range(100)))
        marks = iter(range(TIMES))

        def submit() -> None:
            first = 1_000_000 * (1 + next(marks))
            client.gather(client.map(_nothing, range(first, first + tasks)))

        return _shortest(submit) / tasks
