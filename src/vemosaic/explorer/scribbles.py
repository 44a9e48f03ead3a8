"""From brush strokes to voxels with a class, and from a painted label image to strokes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from vemosaic.errors import SettingsError
from vemosaic.explorer import acts
from vemosaic.explorer.layers import Bytes
from vemosaic.explorer.opened import OpenedRun
from vemosaic.explorer.views import Window
from vemosaic.volumes.volume import Shape, Volume

Places = npt.NDArray[np.int64]


def painted(
    strokes: Sequence[acts.Scribble], shape: Shape, roots: Mapping[int, int] | None = None
) -> tuple[Places, Bytes]:
    """Return the voxels that strokes leave painted, and their classes.

    Parameters
    ----------
    strokes
        In the order in which they were painted: the last one counts, and class 0 erases.
    shape
        Of the volume.
    roots
        What each class has been merged into.

    Returns
    -------
    places : ndarray, (N, 3), int64
        z, y, x, in C order.
    classes : ndarray, (N,), uint8
    """
    flat = [_flat(stroke, shape) for stroke in strokes]
    if not flat:
        return np.empty((0, 3), np.int64), np.empty(0, np.uint8)
    labels = [np.full(len(f), s.class_, np.uint8) for f, s in zip(flat, strokes, strict=True)]
    last_first = np.concatenate(flat)[::-1]
    places, where = np.unique(last_first, return_index=True)
    classes = np.concatenate(labels)[::-1][where]
    places, classes = places[classes > 0], classes[classes > 0]
    table = np.arange(256, dtype=np.uint8)
    for number, root in (roots or {}).items():
        table[number] = root
    return np.stack(np.unravel_index(places, shape), 1).astype(np.int64), table[classes]


def plane_of(places: Places, classes: Bytes, window: Window, run: OpenedRun) -> Bytes:
    """Return the painted classes of a window, ``(rows, columns)``, 0 where nothing is painted.

    At a coarser level, a pixel is painted where any voxel that it covers is.
    """
    step = run.steps[window.level]
    box = window.box
    low, high = np.array([b.start for b in box]), np.array([b.stop for b in box])
    coarse = places // step
    here = np.all((coarse >= low) & (coarse < high), axis=1)
    plane = np.zeros(high - low, np.uint8)
    plane[tuple((coarse[here] - low).T)] = classes[here]
    return window.flat(plane)


def strokes_of(labels: Volume, shape: Shape) -> Iterator[tuple[int, acts.Scribble]]:
    """Turn a painted label image into strokes, plane by plane along z; the class of each is its label.

    Raises
    ------
    SettingsError
        If the image has another shape than the map, or labels above 255.
    VolumeError
        If it cannot be read.
    """
    if labels.shape != shape:
        raise SettingsError(
            labels.source,
            f"has {' x '.join(map(str, labels.shape))} voxels, the map has {' x '.join(map(str, shape))} (z, y, x)",
            "paint on the lattice of the map, segmentation.ome.zarr",
        )
    for z in range(shape[0]):
        plane = np.asarray(labels.array[slice(z, z + 1), slice(0, shape[1]), slice(0, shape[2])])[0]
        for label in np.unique(plane[plane != 0]).tolist():
            if not 0 < label <= 255:
                raise SettingsError(labels.source, f"holds label {label}", "use labels of 1 to 255, 0 for nothing")
            yield label, acts.Scribble(axis=0, index=z, runs=_runs(plane == label), **{"class": label})


@lru_cache(maxsize=10_000)
def _flat(stroke: acts.Scribble, shape: Shape) -> Places:
    """Return the flat places of a stroke's voxels."""
    strides = (shape[1] * shape[2], shape[2], 1)
    rows, columns = (a for a in range(3) if a != stroke.axis)
    runs = np.array(stroke.runs, np.int64)
    starts = stroke.index * strides[stroke.axis] + runs[:, 0] * strides[rows] + runs[:, 1] * strides[columns]
    lengths = runs[:, 2]
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.asarray(np.repeat(starts, lengths) + within * strides[columns], np.int64)


def _runs(plane: npt.NDArray[np.bool_]) -> tuple[tuple[int, int, int], ...]:
    """Return the runs of a plane's true pixels: row, first column, length."""
    edges = np.diff(np.pad(plane.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    return tuple((int(r), int(a), int(e - a)) for r, a, e in zip(rows, starts, ends, strict=True))
