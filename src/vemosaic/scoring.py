"""Maps on disk, scored against a reference segmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vemosaic.blocks.events import Listener, StageEnded, StageStarted, UnitDone, ignore
from vemosaic.blocks.grid import units
from vemosaic.errors import VolumeError
from vemosaic.evaluation import Reference, Scope, evaluate, open_reference
from vemosaic.volumes import open_volume
from vemosaic.volumes.array_writing import SHARD
from vemosaic.volumes.labels import open_labels
from vemosaic.volumes.volume import Volume


def score_labels(
    path: Path, reference: Reference, k: int | None = None, listen: Listener = ignore, scope: Scope | None = None
) -> list[dict[str, Any]]:
    """Score one map of a label store, or each where `k` is None; the voxels and classes of a scope, where given."""
    wanted = open_labels(path).ks if k is None else (k,)
    return [
        evaluate(
            open_labels(path, k).volume.array, reference, k, scope=scope, progress=_progress(f"score k={k}", listen)
        )
        for k in wanted
    ]


def score_file(
    path: Path, specs: Sequence[str], k: int | None = None, voxel_size: tuple[float, ...] | None = None
) -> list[dict[str, Any]]:
    """Score a map of ours, or a label image of any format with labels 1 to k, against a reference segmentation.

    Parameters
    ----------
    path
        The map.
    specs
        As of `vemosaic.evaluation.open_reference`.
    k
        Which map of ours, all if not given; or how many clusters a label image has, its largest label if not given.
    voxel_size
        Of a label image whose file does not say, in nm.

    Raises
    ------
    VolumeError, ReferenceMaskError
        If one of them cannot be read, or they do not lie over each other.
    """
    try:
        volume = open_labels(path).volume
    except VolumeError:
        return [_score_label_image(open_volume(path, labels=True, voxel_size=voxel_size), specs, k)]
    return score_labels(path, open_reference(specs, volume), k)


def _score_label_image(labels: Volume, specs: Sequence[str], k: int | None) -> dict[str, Any]:
    reference = open_reference(specs, labels)
    largest = largest_label(labels)
    if largest < 1 or (k is not None and k < largest):
        raise VolumeError(labels.source, f"holds labels up to {largest}", "give a map with labels 1 to k, and its k")
    return evaluate(labels.array, reference, largest if k is None else k)


def largest_label(labels: Volume) -> int:
    """Return the largest label of a volume, read block by block."""
    return max(int(labels.array[unit.slices].max()) for unit in units(labels.shape, SHARD))


def _progress(stage: str, listen: Listener) -> Callable[[int, int], None]:
    """Turn the progress of an evaluation, in blocks, into events."""

    def tell(done: int, total: int) -> None:
        if done == 1:
            listen(StageStarted(stage, total, unit_name="block"))
        listen(UnitDone(stage, 1))
        if done == total:
            listen(StageEnded(stage))

    return tell
