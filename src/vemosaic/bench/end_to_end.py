"""How long a volume takes from the raw store to its map, beside the embedding alone."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vemosaic.bench.bounds import Cost, bounded
from vemosaic.bench.clustering import KS
from vemosaic.bench.conditions import Conditions
from vemosaic.bench.counting import assigning_cost
from vemosaic.bench.embedding import box_cost, dense_job, first_shard, first_tiles
from vemosaic.bench.mirrored import bytes_needed, scratch, whole_tiles, write_mirrored
from vemosaic.bench.peaks import drop_from_cache, measure_peaks
from vemosaic.bench.timing import rates
from vemosaic.blocks.executors import Executor
from vemosaic.embedding import Embedder
from vemosaic.errors import SettingsError
from vemosaic.memory import fit_budget
from vemosaic.pipeline import run
from vemosaic.settings import Settings
from vemosaic.volumes import open_volume
from vemosaic.volumes.ome_writing import group_attributes, listed_files
from vemosaic.volumes.volume import Volume

VOXELS = 16_000_000


def bench_end_to_end(conditions: Conditions) -> dict[str, Any]:
    """Map a volume, repeated in mirror images, for k = 4 to 10 as `run` does, training left out.

    The embedding alone is timed on one tile in the same process, half of the time before and half of it after.
    """
    if len(conditions.teams) > 2 or len(conditions.voxels) > 1:
        raise SettingsError("bench end-to-end", "takes one size and one number of workers", "use bench scaling")
    name, team = list(conditions.teams.items())[-1]
    volume, device = conditions.volume, conditions.device
    shape = whole_tiles(conditions.voxels[0] if conditions.voxels else VOXELS)
    with scratch(conditions.folder, bytes_needed(volume, math.prod(shape))) as folder:
        peaks_before = measure_peaks(device, folder)
        files = write_mirrored(volume, shape, folder / "raw.ome.zarr")
        model = saved_model(conditions, folder)
        stored = open_volume(str(folder / "raw.ome.zarr"))
        plain, described = conditions.embedders(stored)
        jobs = [dense_job(plain, stored, first_tiles(stored)), dense_job(described, stored, first_shard(stored))]
        before = rates(jobs, conditions.seconds / 2, device)
        drop_from_cache(files)
        with team() as executor:
            facts = map_store(stored, folder / "run", model, executor, conditions)
        cost = map_cost(described, stored, files, facts["bytes_written"])
        after = rates(jobs, conditions.seconds / 2, device)
        peaks = peaks_before.best(measure_peaks(device, folder))
    embedding, describing = (harmonic_mean(pair) for pair in zip(before, after, strict=True))
    rate = facts["voxels_per_second"]
    return {
        "executor": name,
        **facts,
        **bounded(rate, cost, peaks.of(conditions.arithmetic)),
        "embedding_voxels_per_second": embedding,
        "embedding_before_and_after": [before[0], after[0]],
        "share_of_embedding": rate / embedding,
        "described_voxels_per_second": describing,
        "share_of_described": rate / describing,
        "clusters": list(KS),
        "device": device.type,
        "precision": conditions.arithmetic,
        "peaks": peaks.to_json(),
    }


def map_cost(described: Embedder, volume: Volume, files: Sequence[Path], written: int) -> Cost:
    """Return what a voxel of a map costs: described by words and smoothed, assigned, read and written.

    Parameters
    ----------
    described
        With words, smoothing and diffusion as in a run.
    volume
        Of whole tiles.
    files
        That hold it.
    written
        Bytes of the map.
    """
    computing = box_cost(described, first_shard(volume)) + assigning_cost(described.channels, KS)
    read = sum(file.stat().st_size for file in files)
    return computing + Cost(read=read, written=written).per(math.prod(volume.shape))


def saved_model(conditions: Conditions, folder: Path) -> Path:
    """Return the file of the model to map with; an untrained one is saved to a folder."""
    if conditions.trained is not None:
        return conditions.trained
    conditions.model().save(folder / "model.safetensors")
    return folder / "model.safetensors"


def map_store(volume: Volume, out: Path, model: Path, executor: Executor, conditions: Conditions) -> dict[str, Any]:
    """Map a stored volume with a model, and say how it went.

    Parameters
    ----------
    volume
        As `open_volume` opened it.
    out
        Folder of the run.
    model
        To embed with.
    executor
        Who maps.
    conditions
        Device, precision and memory.

    Returns
    -------
    dict
        ``voxels_per_second`` from the raw store to all labels with their pyramids, the sampling and the clustering
        included and the report not; ``seconds`` and ``peak_memory_gb``, of the leading process, by stage;
        ``projected_memory_gb``, what the run said before that it might hold; the bytes of the map; and the hash of its
        manifest, which lists a hash for every file of it.
    """
    begun = time.perf_counter()
    settings = Settings(working_voxel_size=None, precision=conditions.precision)
    device, memory = conditions.device.type, conditions.memory
    job = run(volume.source, out, settings, model=model, device=device, executor=executor, memory=memory)
    whole = time.perf_counter() - begun
    record, store = job.folder.record, job.folder.segmentation
    seconds = record["timings"]
    voxels = math.prod(volume.shape)
    return {
        "voxels": voxels,
        "shape": list(volume.shape),
        "voxels_per_second": voxels / (seconds["fit"] + seconds["map"]),
        "map_voxels_per_second": voxels / seconds["map"],
        "seconds": {**seconds, "whole": whole},
        "peak_memory_gb": {stage: peak / 1e9 for stage, peak in record["peak_memory"].items() if peak is not None},
        "projected_memory_gb": fit_budget(job.settings, volume.shape, memory, executor).peak / 1e9,
        "bytes_written": sum(known.size for known in listed_files(store).values()),
        "labels_sha256": group_attributes(store)["vemosaic"]["manifest_sha256"],
    }


def harmonic_mean(pair: tuple[float, float]) -> float:
    """Return the rate over two equal amounts of work."""
    first, second = pair
    return 2 / (1 / first + 1 / second)
