"""Planes of everything that can be seen: grey values, maps, masks, what a classifier thinks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vemosaic.blocks.events import Listener
from vemosaic.blocks.files import write_atomically
from vemosaic.blocks.grid import Unit
from vemosaic.errors import SettingsError, VemosaicError
from vemosaic.explorer.layers import Bytes, Layer, mean_downsample
from vemosaic.explorer.opened import OpenedRun
from vemosaic.volumes.volume import Slices, Volume

MOST_PIXELS = 4096
PROBES = 48
PROBE = (4, 64, 64)


@dataclass(frozen=True)
class Window:
    """A part of a plane.

    Attributes
    ----------
    axis
        What it is perpendicular to: 0, 1, 2 for z, y, x.
    level
        Of the pyramid.
    box
        In voxels of that level, one voxel deep along the axis.
    """

    axis: int
    level: int
    box: Slices

    @classmethod
    def of(cls, run: OpenedRun, axis: int, index: int, level: int, rows: str | None, columns: str | None) -> Window:
        """Make a window of what a page asks for, clipped to the volume.

        Parameters
        ----------
        axis, level
            As above.
        index
            Along the axis, in voxels of the finest level.
        rows, columns
            ``"a:b"`` in voxels of the level, or everything.

        Raises
        ------
        SettingsError
            If there is no such plane, level or window.
        """
        if axis not in (0, 1, 2) or not 0 <= level < len(run.levels) or not 0 <= index < run.shape[axis]:
            raise SettingsError("slice", f"there is no plane {index} of axis {axis}, level {level}", "choose another")
        shape = run.levels[level].shape
        across = [a for a in range(3) if a != axis]
        cut = min(index // run.steps[level][axis], shape[axis] - 1)
        box = {axis: slice(cut, cut + 1)}
        for a, text in zip(across, (rows, columns), strict=True):
            box[a] = _range(text, shape[a])
        return cls(axis, level, (box[0], box[1], box[2]))

    @property
    def across(self) -> tuple[int, int]:
        """The axes of its rows and columns."""
        rows, columns = (a for a in range(3) if a != self.axis)
        return rows, columns

    def flat(self, voxels: Bytes) -> Bytes:
        """Take the axis that is one voxel deep from an array."""
        return np.ascontiguousarray(voxels.squeeze(self.axis))


def _range(text: str | None, length: int) -> slice:
    try:
        start, stop = (0, length) if text is None else (int(part) for part in text.split(":"))
    except ValueError as error:
        raise SettingsError("slice", f"{text!r} is no range", "write 0:512") from error
    start, stop = max(0, start), min(length, stop)
    if not 0 < stop - start <= MOST_PIXELS:
        raise SettingsError("slice", f"{text!r} holds no pixels of {length}, or too many", f"up to {MOST_PIXELS}")
    return slice(start, stop)


class Grey:
    """The raw volume as 8-bit grey over a fixed range, with coarser levels: quick to read in all three planes.

    Parameters
    ----------
    run
        A finished run.
    """

    def __init__(self, run: OpenedRun) -> None:
        self.run = run
        self.layer = Layer(run.derived / "grey.ome.zarr", run.levels)

    @cached_property
    def range(self) -> tuple[float, float]:
        """The raw values that are shown as 0 and 255.

        Raises
        ------
        VolumeError
            If the raw volume is no longer there.
        """
        path = self.run.derived / "grey.json"
        try:
            low, high = json.loads(path.read_bytes())
            return float(low), float(high)
        except (OSError, ValueError, TypeError):
            low, high = _spread(self.run.input.working)
            write_atomically(path, json.dumps([low, high]).encode())
            return low, high

    def write(self, listen: Listener) -> None:
        """Copy the volume; an interrupted copy goes on.

        Raises
        ------
        VolumeError
            If the raw volume is no longer there, or cannot be read.
        """
        raw = self.run.input.working

        def compute(unit: Unit, voxels: npt.NDArray[np.float32]) -> Bytes:
            return self._grey(voxels)

        self.layer.fill(
            read=lambda unit: raw.read(unit.origin, unit.shape),
            compute=compute,
            reduce=mean_downsample,
            listen=listen,
        )

    def read(self, level: int, box: Slices) -> Bytes:
        """Read a box of a level; until the copy is there, from the volume itself, every so many voxels.

        Raises
        ------
        VolumeError
            If it cannot be read.
        """
        if self.layer.finished:
            return self.layer.read(level, box)
        raw, step = self.run.input.working, self.run.steps[level]
        origin = [min(b.start * s, n - 1) for b, s, n in zip(box, step, raw.shape, strict=True)]
        stop = [min(b.stop * s, n) for b, s, n in zip(box, step, raw.shape, strict=True)]
        shape = [1 if b.stop - b.start == 1 else e - o for b, e, o in zip(box, stop, origin, strict=True)]
        voxels = raw.read(origin, shape)[:: step[0], :: step[1], :: step[2]]
        return self._grey(voxels)

    def _grey(self, voxels: npt.NDArray[np.float32]) -> Bytes:
        low, high = self.range
        return np.asarray(np.clip((voxels - low) * (255 / (high - low)) + 0.5, 0, 255), np.uint8)


def write_grey(path: Path, listen: Listener) -> None:
    """Copy the raw volume of a run as 8-bit grey: what a process of its own does, so that its memory is given back."""
    Grey(OpenedRun(path)).write(listen)


def _spread(raw: Volume) -> tuple[float, float]:
    """Choose the range that is shown: all of 8-bit volumes, else from the 0.1th to the 99.9th percentile of a probe."""
    if raw.dtype == np.uint8:
        return 0.0, 255.0
    rng = np.random.default_rng(0)
    shape = [min(p, n) for p, n in zip(PROBE, raw.shape, strict=True)]
    probes = [
        raw.read([int(rng.integers(0, n - s + 1)) for n, s in zip(raw.shape, shape, strict=True)], shape).ravel()
        for _ in range(PROBES)
    ]
    low, high = np.percentile(np.concatenate(probes), [0.1, 99.9])
    return float(low), float(high) if high > low else float(low) + 1.0


def reference_plane(run: OpenedRun, window: Window) -> Bytes:
    """Return the reference structures of a window: 0 for the rest, then the order of `OpenedRun.reference_names`.

    Raises
    ------
    SettingsError
        If the run has no reference.
    """
    if run.reference is None:
        raise SettingsError("reference", "this run has none", "give one with vemosaic evaluate")
    step = run.steps[window.level]
    places = [
        np.minimum(np.arange(b.start, b.stop) * s + s // 2, n - 1)
        for b, s, n in zip(window.box, step, run.shape, strict=True)
    ]
    origin = [int(p[0]) for p in places]
    fine = run.reference.read(origin, [int(p[-1]) - o + 1 for p, o in zip(places, origin, strict=True)])
    return window.flat(fine[np.ix_(*(p - o for p, o in zip(places, origin, strict=True)))])


def grey_at(run: OpenedRun, voxel: Sequence[int]) -> float | None:
    """Return the raw value of a voxel; ``None`` where the volume is no longer there."""
    if run.raw is None:
        return None
    try:
        return float(run.raw.read(voxel, (1, 1, 1))[0, 0, 0])
    except VemosaicError:
        return None
