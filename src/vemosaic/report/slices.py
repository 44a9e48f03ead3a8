"""Reads the voxels that the report shows: three planes and small patches, never the whole volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vemosaic.errors import SettingsError, VolumeError
from vemosaic.report.content import Clustering, RunContent, Sample
from vemosaic.volumes.labels import open_labels
from vemosaic.volumes.volume import Shape, Volume

PATCH = 24  # voxels
FIELD = 9  # voxels that the encoder sees, METHOD.md section 3
_STRIP = 8_000_000  # voxels read at a time
_COARSE = 32_000_000  # voxels of a pyramid level that may be read whole

Image = npt.NDArray[np.uint8]
Read = Callable[[Sequence[int], Sequence[int]], npt.NDArray[Any]]


class Reference(Protocol):
    """Reference classes on the lattice of the map, 0 for the rest that no mask names."""

    @property
    def class_names(self) -> Sequence[str]:
        """Name of each class, the rest first."""

    def read(self, origin: Sequence[int], shape: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Read the classes (Z, Y, X) of a box inside the volume."""


@dataclass(frozen=True)
class Plane:
    """One slice through the volume, reduced for display.

    Attributes
    ----------
    name
        ``"xy"``, ``"xz"`` or ``"yz"``: columns first, rows second, as a viewer names them.
    axis
        The axis that it is perpendicular to: 0, 1 or 2 for z, y, x.
    index
        Where it cuts that axis, in voxels.
    extent
        Height and width in nm.
    cuts
        Where the other two planes cut this one: fractions of its height and width.
    labels
        For each k the clusters, ``(H, W)``, 0 where nothing was mapped.
    raw
        ``(H, W)`` uint8 grey for display, or ``None``.
    reference
        ``(H, W)`` classes, or ``None``.
    """

    name: str
    axis: int
    index: int
    extent: tuple[float, float]
    cuts: tuple[float, float]
    labels: dict[int, Image]
    raw: Image | None = None
    reference: Image | None = None


@dataclass(frozen=True)
class Slices:
    """The three planes and what their grey values say.

    Attributes
    ----------
    planes
        xy, xz, yz.
    intensity
        For each k the mean raw grey value of each cluster in these planes, ``(k,)``, NaN where it is not in them.
    contrast
        The raw grey values shown as black and as white.
    """

    planes: list[Plane]
    intensity: dict[int, npt.NDArray[np.float64]]
    contrast: tuple[float, float]


@dataclass(frozen=True)
class Patch:
    """An xy patch round a sampled voxel: its place (z, y, x) and ``(24, 24)`` uint8 grey."""

    voxel: tuple[int, int, int]
    grey: Image


def label_levels(content: RunContent, k: int) -> tuple[Volume, ...]:
    """Open the pyramid of the map with k clusters, finest first; empty if it is not there or not finished."""
    try:
        labels = open_labels(content.labels_path, k).volume
    except (VolumeError, SettingsError):
        return ()
    return (labels, *labels.coarser)


def informative_place(levels: Sequence[Volume], content: RunContent, k: int) -> Shape:
    """Choose the voxel (z, y, x) whose three planes show the most even mixture of clusters.

    Only the middle 60 % of each axis is looked at, in the coarsest pyramid level; the centre is chosen where
    that is not there or too large.
    """
    shape = content.shape
    if not levels or prod(levels[-1].shape) > _COARSE:
        z, y, x = (n // 2 for n in shape)
        return z, y, x
    depth, height, width = levels[-1].shape
    coarse = levels[-1].array[:depth, :height, :width]
    place = []
    for axis, n in enumerate(shape):
        others = tuple(a for a in range(3) if a != axis)
        counts = np.stack([(coarse == label).sum(axis=others) for label in range(1, k + 1)])  # (k, planes)
        share = counts / np.maximum(counts.sum(axis=0), 1)
        entropy = -(share * np.log(np.maximum(share, 1e-12))).sum(axis=0)
        middle = np.arange(len(entropy)) + 0.5
        entropy[np.abs(middle / len(entropy) - 0.5) > 0.3] = -1
        factor = _factor(levels[-1], content, axis)
        place.append(min(n - 1, int((int(entropy.argmax()) + 0.5) * factor)))
    z, y, x = place
    return z, y, x


def read_slices(content: RunContent, volume: Volume | None, reference: Reference | None, pixels: int) -> Slices:
    """Read three planes through the most informative place.

    Parameters
    ----------
    content
        The run.
    volume
        The raw volume on the lattice of the map, or ``None``.
    reference
        Classes on the lattice of the map, or ``None``.
    pixels
        Longest side of what is shown; longer planes are reduced (raw by means, labels by their central voxel).
    """
    shape, k = content.shape, content.best_k
    levels = {k: label_levels(content, k) for k in content.clusterings}
    place = informative_place(levels[k], content, k)
    raws: list[npt.NDArray[np.float32] | None] = []
    planes = []
    for name, axis in (("xy", 0), ("xz", 1), ("yz", 2)):
        rows, columns = (a for a in range(3) if a != axis)
        steps = ceil(shape[rows] / pixels), ceil(shape[columns] / pixels)
        raws.append(None if volume is None else _read_plane(volume.read, shape, axis, place[axis], steps, mean=True))
        planes.append(
            Plane(
                name=name,
                axis=axis,
                index=place[axis],
                extent=(
                    shape[rows] * content.voxel_size[rows],
                    shape[columns] * content.voxel_size[columns],
                ),
                cuts=(
                    (place[rows] + 0.5) / shape[rows],
                    (place[columns] + 0.5) / shape[columns],
                ),
                labels={
                    k: _label_plane(pyramid, content, axis, place[axis], steps)
                    for k, pyramid in levels.items()
                    if pyramid
                },
                reference=None
                if reference is None
                else _read_plane(reference.read, shape, axis, place[axis], steps, mean=False),
            )
        )
    return _with_grey(planes, raws, list(content.clusterings))


def _with_grey(planes: list[Plane], raws: list[npt.NDArray[np.float32] | None], ks: list[int]) -> Slices:
    """Add the raw planes as 8-bit grey of one common contrast, and the clusters' mean grey values."""
    read = [raw for raw in raws if raw is not None]
    if not read:
        return Slices(planes, intensity={}, contrast=(0.0, 0.0))
    low, high = np.percentile(np.concatenate([raw.ravel() for raw in read]), [0.5, 99.5])
    contrast = (float(low), float(high))
    intensity = {}
    for k in ks:
        if not all(k in plane.labels for plane in planes):
            continue
        labels = np.concatenate([plane.labels[k].ravel() for plane in planes])
        values = np.concatenate([raw.ravel() for raw in read])
        counts = np.bincount(labels, minlength=k + 1)[1 : k + 1]
        sums = np.bincount(labels, weights=values, minlength=k + 1)[1 : k + 1]
        intensity[k] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    shown = [
        replace(plane, raw=None if raw is None else as_grey(raw, contrast))
        for plane, raw in zip(planes, raws, strict=True)
    ]
    return Slices(shown, intensity, contrast)


def as_grey(raw: npt.NDArray[np.float32], contrast: tuple[float, float]) -> Image:
    """Turn raw values into 8-bit grey, clipped at the contrast's ends."""
    low, high = contrast
    grey = np.clip((raw - low) * (255 / max(high - low, 1e-6)), 0, 255)
    return np.asarray(grey.round(), dtype=np.uint8)


def _read_plane(
    read: Read, shape: Shape, axis: int, index: int, steps: tuple[int, int], *, mean: bool
) -> npt.NDArray[Any]:
    """Read a plane in strips and reduce it by whole steps: by means, or to each step's central voxel."""
    rows, columns = (a for a in range(3) if a != axis)
    step, across = steps
    height = max(1, _STRIP // (shape[columns] * step)) * step
    strips = []
    for top in range(0, shape[rows], height):
        origin, size = [0, 0, 0], list(shape)
        origin[axis], size[axis] = index, 1
        origin[rows], size[rows] = top, min(height, shape[rows] - top)
        strip = np.asarray(read(origin, size)).squeeze(axis)
        if mean:
            strip = _means(_means(strip, step, 0), across, 1)
        else:
            strip = strip[np.ix_(_centres(strip.shape[0], step), _centres(strip.shape[1], across))]
        strips.append(strip)
    return np.concatenate(strips)


def _label_plane(
    pyramid: Sequence[Volume], content: RunContent, axis: int, index: int, steps: tuple[int, int]
) -> Image:
    """Read a plane of labels from the coarsest level that is still as fine as what is shown."""
    rows, columns = (a for a in range(3) if a != axis)
    level = next(
        level
        for level in reversed(pyramid)
        if level is pyramid[0]
        or (_factor(level, content, rows) <= steps[0] and _factor(level, content, columns) <= steps[1])
    )
    box = [slice(0, n) for n in level.shape]
    cut = min(index // _factor(level, content, axis), level.shape[axis] - 1)
    box[axis] = slice(cut, cut + 1)
    plane = level.array[box[0], box[1], box[2]].squeeze(axis)
    picks = [
        np.minimum(_centres(content.shape[a], step) // _factor(level, content, a), level.shape[a] - 1)
        for a, step in zip((rows, columns), steps, strict=True)
    ]
    return plane[np.ix_(*picks)].astype(np.uint8)


def _factor(level: Volume, content: RunContent, axis: int) -> int:
    """Return how many voxels of the map make one of a coarser level."""
    return max(1, round(level.known_voxel_size()[axis] / content.voxel_size[axis]))


def _centres(n: int, step: int) -> npt.NDArray[np.int64]:
    return np.minimum(np.arange(0, n, step) + step // 2, n - 1)


def _means(plane: npt.NDArray[Any], step: int, axis: int) -> npt.NDArray[Any]:
    if step == 1:
        return plane
    starts = np.arange(0, plane.shape[axis], step)
    counts = np.diff(np.append(starts, plane.shape[axis]))
    sums = np.add.reduceat(plane, starts, axis=axis)
    return sums / (counts[:, None] if axis == 0 else counts)


def nearest_voxels(clustering: Clustering, sample: Sample, columns: int) -> list[list[int]]:
    """Find for each cluster the sampled voxels nearest to its centre.

    A voxel whose patch would mostly repeat one already chosen (closer than half a patch) comes only after all
    others.

    Returns
    -------
    list of k lists of at most ``columns`` indices into the sample
    """
    labels = sample.clusters[clustering.k]
    found = []
    for label, centre in enumerate(clustering.centres, start=1):
        members = np.flatnonzero(labels == label)
        distance = np.linalg.norm(sample.embedding[members] - centre, axis=1)
        ordered = members[np.argsort(distance, kind="stable")][: 50 * columns]
        apart: list[int] = []
        repeats: list[int] = []
        for i in ordered.tolist():
            gaps = np.abs(sample.voxel[apart] - sample.voxel[i]).max(axis=1, initial=0)
            (repeats if len(apart) and gaps.min() < PATCH // 2 else apart).append(i)
        found.append((apart + repeats)[:columns])
    return found


def read_patches(
    content: RunContent, volume: Volume, contrast: tuple[float, float], columns: int
) -> dict[int, list[list[Patch]]]:
    """Read for each k and cluster the xy patches nearest to the cluster's centre (none without a sample)."""
    sample = content.sample
    if sample is None:
        return {}
    cache: dict[int, Patch] = {}

    def patch(i: int) -> Patch:
        if i not in cache:
            z, y, x = sample.voxel[i].tolist()
            grey = volume.read((z, y - PATCH // 2, x - PATCH // 2), (1, PATCH, PATCH))[0]
            cache[i] = Patch((z, y, x), as_grey(grey, contrast))
        return cache[i]

    return {
        k: [[patch(i) for i in row] for row in nearest_voxels(clustering, sample, columns)]
        for k, clustering in content.clusterings.items()
        if k in sample.clusters
    }
