"""The benchmarks by name, and the one function that runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vemosaic.bench.clustering import bench_cluster
from vemosaic.bench.conditions import ALONE, Conditions, Teams
from vemosaic.bench.embedding import bench_embed, bench_patches
from vemosaic.bench.end_to_end import bench_end_to_end
from vemosaic.bench.peaks import machine
from vemosaic.bench.scaling import bench_scaling
from vemosaic.bench.storage import bench_io
from vemosaic.bench.training import bench_train
from vemosaic.bench.views import bench_views
from vemosaic.datasets.phantom import phantom_cell
from vemosaic.devices import Precision, arithmetic
from vemosaic.errors import SettingsError
from vemosaic.models.settings import ModelSettings
from vemosaic.settings import choose_device
from vemosaic.volumes import at_voxel_size, open_volume
from vemosaic.volumes.resampling import WorkingSize

BENCHMARKS: dict[str, Callable[[Conditions], dict[str, Any]]] = {
    "embed": bench_embed,
    "train": bench_train,
    "cluster": bench_cluster,
    "io": bench_io,
    "end-to-end": bench_end_to_end,
    "scaling": bench_scaling,
    "patches": bench_patches,
    "views": bench_views,
}


def measure(
    what: str,
    source: str | None = None,
    voxel_size: tuple[float, ...] | None = None,
    working: WorkingSize = None,
    seconds: float = 20.0,
    settings: ModelSettings | None = None,
    device: str = "cpu",
    *,
    folder: Path | None = None,
    voxels: tuple[int, ...] = (),
    teams: Teams = ALONE,
    trained: Path | None = None,
    memory: int | None = None,
    precision: Precision = "auto",
) -> dict[str, Any]:
    """Run one benchmark and return its figures.

    Parameters
    ----------
    what
        ``"embed"``: the dense view, beside the paper's encoder patch by patch. ``"train"``: anchors a second.
        ``"cluster"``: from embeddings to labels. ``"io"``: reading a store and writing a map. ``"end-to-end"``: from a
        store to a map. ``"scaling"``: the same for several sizes and executors. ``"patches"``: voxels a second of a
        preset that works patch by patch. ``"views"``: the largest difference between patch view and dense view.
    source
        A volume; a phantom cell where None.
    voxel_size
        In nm, if the file lacks it.
    working
        Voxel size in nm to work at; None for the volume's own.
    seconds
        Least time to measure for; a map takes as long as it takes.
    settings
        A preset; the `default` one where None.
    device
        Where to compute.
    folder
        Where temporary data of ``"io"``, ``"end-to-end"`` and ``"scaling"`` go; the system's folder for them where
        None. They are removed at the end.
    voxels
        To how many voxels the same three repeat the volume; several for ``"scaling"``.
    teams
        Who maps, in ``"end-to-end"`` the last one, in ``"scaling"`` all; the first is this process alone.
    trained
        A model for ``"end-to-end"`` and ``"scaling"``; an untrained one where None.
    memory
        Most bytes that the same two may hold; None for any.
    precision
        Of the networks in ``"train"``, ``"embed"``, ``"end-to-end"`` and ``"scaling"``.

    Returns
    -------
    dict
        JSON-able. ``bound`` names what limits the work at the measured ``peaks`` of the machine: ``"arithmetic"``,
        ``"memory traffic"`` or ``"disk"``; ``share_of_bound`` is the share of the rate that this allows. Of GPUs whose
        data sheet is known, ``data_sheet`` says the same of what that promises.

    Raises
    ------
    SettingsError
        If there is no such benchmark, it is not one for that preset, or the memory is too little.
    OutputError
        If the folder has too little free space.
    VolumeError
        If the volume cannot be read.
    """
    if what not in BENCHMARKS:
        raise SettingsError("bench", f"there is no benchmark {what!r}", f"choose one of {', '.join(BENCHMARKS)}")
    computing = choose_device(device)
    arithmetic(precision, computing)  # or it is refused now
    opened = (
        open_volume(phantom_cell().raw, voxel_size=16.0)
        if source is None
        else open_volume(source, voxel_size=voxel_size)
    )
    volume = at_voxel_size(opened, working)
    conditions = Conditions(
        volume, seconds, settings or ModelSettings(), computing, folder, voxels, teams, trained, memory, precision
    )
    return {
        "benchmark": what,
        "volume": public_name(source) if source else "phantom",
        "shape": list(volume.shape),
        **BENCHMARKS[what](conditions),
        "machine": machine(),
    }


def public_name(source: str) -> str:
    """Name a volume without saying where it lies on this machine; an address stays whole."""
    source = source.removeprefix("file://")
    if "://" in source:
        return source
    path, *within = source.split(":/", 1)
    return ":/".join([path.rstrip("/").rpartition("/")[2], *within])
