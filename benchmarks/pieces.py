"""How fast pieces are found: a select of 5 Mvoxel across blocks, the index of 140 Mvoxel, and what it then answers.

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/pieces.py

The labels are made here and stored as those of a run are: eight classes of texture-like blobs, and through them one
gyroid network of about 5 Mvoxel that winds through every block of its region. Results go to
benchmarks/results/pieces.json. Times are of one process, medians where a thing is done often.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cc3d
import numpy as np
from scipy import ndimage

from vemosaic import __version__
from vemosaic.blocks import units
from vemosaic.pieces import build_index, open_index, select
from vemosaic.volumes.array_writing import SHARD, ShardedArray, chunk_shape

NETWORK = 9
PERIOD = 64.0
RESULTS = Path(__file__).parent / "results"


def gyroid(origin: tuple[int, ...], shape: tuple[int, ...], region: int) -> np.ndarray:
    """Return where a network of tubes runs in a box (Z, Y, X), within the first ``region`` voxels of each axis."""
    z, y, x = (
        (2 * np.pi / PERIOD * (np.arange(n) + o)).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, (o, n) in enumerate(zip(origin, shape, strict=True))
    )
    tubes = np.sin(x) * np.cos(y) + np.sin(y) * np.cos(z) + np.sin(z) * np.cos(x) > 1.05
    end = 2 * np.pi / PERIOD * region
    return tubes & (z < end) & (y < end) & (x < end)


def store(folder: Path, edge: int, region: int) -> None:
    """Write the labels, shard by shard."""
    rng = np.random.default_rng(0)
    fields = [ndimage.gaussian_filter(rng.standard_normal(SHARD, np.float32), 4, mode="wrap") for _ in range(8)]
    tile = (np.argmax(fields, axis=0) + 1).astype(np.uint8)
    array = ShardedArray.create(
        folder, shape=(edge,) * 3, shard=SHARD, chunk=chunk_shape(SHARD), dtype=np.uint8, axes="zyx"
    )
    for block in units((edge,) * 3, SHARD):
        labels = tile[tuple(slice(n) for n in block.shape)].copy()
        labels[gyroid(block.origin, block.shape, region)] = NETWORK
        array.write(block.origin, labels)


def timed(action: Callable[[], Any], times: int = 1) -> tuple[float, Any]:
    """Return the median of the seconds that an action takes, and what it returned."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        result = action()
        seconds.append(time.perf_counter() - start)
    return round(statistics.median(seconds), 4), result


def measure(folder: Path, edge: int, region: int) -> dict[str, Any]:
    """Make the labels, and measure everything on them."""
    writer = get_context("spawn").Process(target=store, args=(folder / "labels", edge, region))  # its memory is its own
    writer.start()
    writer.join()
    labels = ShardedArray.open(folder / "labels")
    start = (np.argwhere(gyroid((64, 64, 64), (64, 64, 64), region))[-1] + 64).tolist()  # away from loose ends
    plane = (slice(edge // 4, edge // 4 + 1), slice(0, edge), slice(0, edge))

    select_seconds, network = timed(lambda: select(labels, start), times=5)
    selection_plane, _ = timed(lambda: network.mask(plane), times=5)
    settings: dict[str, Any] = {"identity": "benchmark"}
    build_seconds, index = timed(lambda: build_index(labels, folder / "pieces", **settings))
    open_seconds, opened = timed(lambda: open_index(labels, folder / "pieces", **settings), times=3)
    rng = np.random.default_rng(1)
    voxels = rng.integers(0, edge, (100, 3)).tolist()
    where = iter(voxels)
    piece_at, _ = timed(lambda: opened.piece_at(next(where)), times=len(voxels))
    number = opened.piece_at(start)
    piece = opened.piece(number)
    assert (piece.size, piece.voxel) == (network.size, network.voxel)
    cold_plane, mask = timed(lambda: opened.mask(number, plane))
    assert np.array_equal(mask, network.mask(plane))
    chosen = opened.selection(number)
    chosen.mask(plane)
    warm_plane, _ = timed(lambda: chosen.mask(plane), times=5)
    box = tuple(slice(v, v + 8) for v in start)
    update_seconds, _ = timed(lambda: opened.updated(labels, [box]))
    files = sum(file.stat().st_size for file in (folder / "pieces").rglob("*") if file.is_file())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # before anything is read as a whole

    read_seconds, whole = timed(lambda: labels[tuple(slice(0, edge) for _ in range(3))])
    cc3d_seconds, (_, count) = timed(lambda: cc3d.connected_components(whole, connectivity=6, return_N=True))
    assert count == index.count
    return {
        "shape": [edge] * 3,
        "pieces": index.count,
        "selected_voxels": network.size,
        "selected_blocks": len(network.boxes),
        "select_seconds": select_seconds,
        "selection_plane_seconds": selection_plane,
        "build_seconds": build_seconds,
        "build_voxels_per_second": round(edge**3 / build_seconds),
        "open_seconds": open_seconds,
        "piece_at_seconds": piece_at,
        "plane_seconds": {"first": cold_plane, "again": warm_plane},
        "update_one_block_seconds": update_seconds,
        "index_bytes": files,
        "peak_memory": memory,
        "whole": {"read_seconds": read_seconds, "cc3d_seconds": cc3d_seconds},
    }


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edge", type=int, default=520, help="voxels along each axis")
    parser.add_argument("--region", type=int, default=320, help="of the network, from the first voxel on")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vemosaic-") as folder:
        measured = measure(Path(folder), chosen.edge, chosen.region)
    machine = {
        "cores": len(os.sched_getaffinity(0)),
        "processor": platform.machine(),
        "load": round(os.getloadavg()[0], 1),  # of the whole machine, this process among it
        "python": platform.python_version(),
        "vemosaic": __version__,
    }
    text = json.dumps({"benchmark": "pieces", **measured, "machine": machine}, indent=1)
    (RESULTS / "pieces.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
