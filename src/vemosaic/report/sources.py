"""Finds the raw volume and the reference of a run again, for a report written after it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vemosaic.errors import VemosaicError, VolumeError
from vemosaic.evaluation.reference import open_reference
from vemosaic.report.content import RunContent
from vemosaic.report.slices import Reference
from vemosaic.volumes import VoxelSizeWarning, at_voxel_size, open_volume
from vemosaic.volumes.volume import Volume

CELL = 32


@dataclass(frozen=True)
class Sources:
    """What lies behind a map.

    Attributes
    ----------
    volume
        The raw volume on the lattice of the map, or ``None``.
    reference
        Reference classes on that lattice, or ``None``.
    problems
        Why one of them is missing that the run had; sentences for the reader.
    """

    volume: Volume | None
    reference: Reference | None
    problems: tuple[str, ...] = ()


def find_again(content: RunContent) -> Sources:
    """Open the run's source and its reference again, each if that can be done."""
    try:
        original, volume = _volume(content)
    except VemosaicError as error:
        return Sources(None, None, (f"The raw images are not shown: {error}.",))
    specs = [str(spec) for spec in content.record.get("reference") or []]
    if not specs:
        return Sources(volume, None)
    try:
        opened = open_reference(specs, volume, source=original)
        return Sources(volume, opened.merge(content.record.get("reference_merge") or {}))
    except VemosaicError as error:
        return Sources(volume, None, (f"Errors are not mapped: {error}.",))


def _volume(content: RunContent) -> tuple[Volume, Volume]:
    """Open the source as it was, and at the voxel size of the map.

    Raises
    ------
    VemosaicError
        If that cannot be done, or it is not the volume that was mapped.
    """
    item = content.record["inputs"][0]
    source = str(item.get("source", ""))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VoxelSizeWarning)  # the run warned about it
        original = open_volume(source, voxel_size=item.get("voxel_size"))
    volume = at_voxel_size(original, min(content.voxel_size))
    if volume.shape != content.shape:
        raise VolumeError(
            source,
            f"it has {volume.shape} voxels (z, y, x) at the size of the map, what was mapped had {content.shape}",
            "put the volume that was mapped back in its place",
        )
    return original, volume


def classes_at(reference: Reference, voxels: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Read the class of single voxels ``(N, 3)``, box by box: a sample lies in a few dozen cells."""
    classes = np.zeros(len(voxels), np.uint8)
    cells, cell_of = np.unique(voxels // CELL, axis=0, return_inverse=True)
    for number in range(len(cells)):
        members = np.flatnonzero(cell_of.ravel() == number)
        low = voxels[members].min(axis=0)
        box = reference.read(low.tolist(), (voxels[members].max(axis=0) - low + 1).tolist())
        classes[members] = box[tuple((voxels[members] - low).T)]
    return classes
