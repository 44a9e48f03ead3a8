"""How fast volumes are read from disk, and maps written to it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from vemosaic.bench.bounds import Cost, bounded
from vemosaic.bench.conditions import Conditions
from vemosaic.bench.mirrored import bytes_needed, scratch, whole_tiles, write_mirrored
from vemosaic.bench.peaks import drop_from_cache, measure_peaks
from vemosaic.blocks.grid import Unit, units
from vemosaic.embedding import Embedder
from vemosaic.settings import Settings
from vemosaic.volumes import open_volume
from vemosaic.volumes.array_writing import SHARD
from vemosaic.volumes.labels import LabelStore
from vemosaic.volumes.volume import Volume

VOXELS = 16_000_000


def bench_io(conditions: Conditions) -> dict[str, Any]:
    """Read an OME-Zarr store unit by unit with the halo that a map needs, and write labels for k = 4 to 10.

    What is read was dropped from the system's cache before, where the system lets us.
    """
    volume = conditions.volume
    shape = whole_tiles(conditions.voxels[0] if conditions.voxels else VOXELS)
    with scratch(conditions.folder, bytes_needed(volume, math.prod(shape))) as folder:
        peaks_before = measure_peaks(conditions.device, folder)
        files = write_mirrored(volume, shape, folder / "raw.ome.zarr")
        stored = open_volume(str(folder / "raw.ome.zarr"))
        _, embedder = conditions.embedders()
        boxes = units(shape, SHARD)
        halos, reading, reading_cost = read_units(stored, embedder, boxes, files, conditions.seconds / 2)
        writing, writing_cost = write_units(stored, folder / "map.ome.zarr", boxes, conditions.seconds / 2)
        peaks = peaks_before.best(measure_peaks(conditions.device, folder))
    read = bounded(reading, reading_cost, peaks)
    decoded = reading * halos * volume.dtype.itemsize
    return {
        "voxels": math.prod(shape),
        "read": {**read, "decoded_gb_per_second": decoded / 1e9},
        "write": {"clusters": list(Settings().clusters), **bounded(writing, writing_cost, peaks)},
        "peaks": peaks.to_json(),
    }


def read_units(
    volume: Volume, embedder: Embedder, boxes: Sequence[Unit], files: Sequence[Path], seconds: float
) -> tuple[float, float, Cost]:
    """Read whole passes over a store for at least so long.

    Returns
    -------
    decoded : float
        Voxels decoded for each voxel of the store: more than one, as units share their halos.
    rate : float
        Voxels a second.
    cost : Cost
        Of a voxel: its share of the files; and in memory what is decoded, written once, read, written as float32.
    """
    decoded = sum(
        math.prod(
            min(n, o + s + h) - max(0, o - h)
            for o, s, h, n in zip(box.origin, box.shape, embedder.halo, volume.shape, strict=True)
        )
        for box in boxes
    )
    passes, spent = 0, 0.0
    while spent < seconds or not passes:
        drop_from_cache(files)
        start = time.perf_counter()
        for box in boxes:
            embedder.read(volume, box)
        spent += time.perf_counter() - start
        passes += 1
    voxels = math.prod(volume.shape)
    stored = sum(file.stat().st_size for file in files)
    cost = Cost(traffic=(2 * volume.dtype.itemsize + 4) * decoded, read=stored).per(voxels)
    return decoded / voxels, passes * voxels / spent, cost


def write_units(volume: Volume, place: Path, boxes: Sequence[Unit], seconds: float) -> tuple[float, Cost]:
    """Write labels shard by shard, for so long or until the store is full; return voxels a second, and what one costs.

    They are on the disk when it is told.
    """
    ks = Settings().clusters
    store = LabelStore.create(
        place, ks=ks, shape=volume.shape, voxel_size=volume.known_voxel_size(), translation=volume.translation
    )
    voxels, written, spent = 0, 0, 0.0
    for box in boxes:
        labels = smooth_labels(volume, box, ks)
        start = time.perf_counter()
        files = [file for k in ks for file in store.write(k, 0, box.origin, labels[k])]
        spent += time.perf_counter() - start
        voxels += box.voxels
        written += sum(file.stat().st_size for file in files)
        if spent > seconds:
            break
    return voxels / spent, Cost(traffic=len(ks) * voxels + written, written=written).per(voxels)


def smooth_labels(volume: Volume, box: Unit, ks: Sequence[int]) -> dict[int, npt.NDArray[np.uint8]]:
    """Return labels that are about as hard to compress as those of a map: smoothed intensities, cut into k parts."""
    smoothed = ndimage.gaussian_filter(volume.read(box.origin, box.shape), Settings().smoothing)
    ranks = np.quantile(smoothed[::4, ::4, ::4], np.linspace(0, 1, 64)[1:-1])
    parts = np.searchsorted(ranks, smoothed)  # 0..62
    return {k: (1 + parts * k // 63).astype(np.uint8) for k in ks}
