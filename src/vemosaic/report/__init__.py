"""The report of a run: one HTML file that works offline."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import numpy as np

from vemosaic.blocks.files import write_atomically
from vemosaic.errors import VolumeError
from vemosaic.report.content import RunContent, read_run
from vemosaic.report.page import render
from vemosaic.report.parts import Parts
from vemosaic.report.projection import chosen_points, tsne
from vemosaic.report.slices import Reference, read_patches, read_slices
from vemosaic.report.sources import Sources, classes_at, find_again
from vemosaic.volumes.volume import Volume

__all__ = ["Reference", "write_report"]

_PATCHES = 900  # on the whole page
_PIXEL_BUDGET = 3.4e6  # bytes for slices, before base64


def write_report(run: Path, *, volume: Volume | None = None, reference: Reference | None = None) -> Path:
    """Write ``report.html`` into a run folder: what was mapped, how it looks, how good and how it was made.

    Parameters
    ----------
    run
        A folder that ``vemosaic run`` wrote.
    volume
        The raw volume on the lattice of the map. Without it the run's source and reference are opened again;
        where that fails the report is written without raw images or maps of errors, and says why.
    reference
        Reference classes on the same lattice, 0 for what no mask names; for maps of the errors.

    Returns
    -------
    Path
        The page, a few MB at most, whole or not there.

    Raises
    ------
    OutputError
        If ``run`` is not a run folder, one of its files is damaged, or the page cannot be written.
    VolumeError
        If a part of the map is missing or damaged, or ``volume`` has another shape.
    """
    content = read_run(run)
    if volume is None:
        sources = find_again(content)
        if reference is not None:
            sources = Sources(sources.volume, reference, sources.problems)
    elif volume.shape == content.shape:
        sources = Sources(volume, reference)
    else:
        raise VolumeError(
            volume.source,
            f"has {volume.shape} voxels (z, y, x), its map in {run} has {content.shape}",
            "give the volume at the voxel size of the map",
        )
    page = run / "report.html"
    write_atomically(page, render(_gather(content, sources)).encode("utf-8"))
    return page


def _gather(content: RunContent, sources: Sources) -> Parts:
    """Read and compute everything the page shows."""
    volume, reference, sample = sources.volume, sources.reference, content.sample
    class_names = list(reference.class_names) if reference else []
    pixels = _pixels(len(content.clusterings), max(0, len(class_names) - 1))
    slices = read_slices(content, volume, reference, pixels)
    columns = max(2, min(8, _PATCHES // sum(content.clusterings)))
    points = chosen_points(len(sample.voxel)) if sample else np.arange(0)
    return Parts(
        content=content,
        slices=slices,
        patches=read_patches(content, volume, slices.contrast, columns) if volume else {},
        points=points,
        places=tsne(sample.embedding[points]) if sample else None,
        class_names=class_names,
        classes=classes_at(reference, sample.voxel[points]) if reference and sample else None,
        problems=sources.problems,
    )


def _pixels(ks: int, structures: int) -> int:
    """Choose the longest side of a slice so that the page stays small however many maps it shows.

    A grey pixel takes about 0.9 bytes, one of a map 0.3, one of an error map 0.1; there are three slices.
    """
    per_pixel = 0.9 + ks * (0.3 + 0.1 * structures)
    return max(240, min(900, int(sqrt(_PIXEL_BUDGET / (3 * per_pixel)))))
