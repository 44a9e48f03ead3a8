"""The working voxel size: the pyramid level to work on, resampled on the fly where none fits."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vemosaic.errors import SettingsError
from vemosaic.volumes.volume import LazyArray, Shape, Slices, Triple, Volume

WorkingSize = float | Literal["auto"] | None
"""Voxel size to work at: in nm, one that is chosen, or the volume's own."""

WORKING = 16.0
"""Voxel size in nm that is chosen."""

SAME = 0.01  # sizes this close are one size
NEAR = 0.05  # a level this close to the target is taken as it is
SLAB_VOXELS = 2**23  # input voxels averaged at a time


class AreaAveraged:
    r"""An array averaged over boxes: output voxel i covers the input from i·f to (i+1)·f along each axis.

    Parameters
    ----------
    array
        The input, ``(Z, Y, X)``.
    factors
        Input voxels that one output voxel covers along z, y, x; at least 1, not necessarily whole.

    Notes
    -----
    With input voxel :math:`j` covering :math:`[j, j+1)` and output voxel :math:`i` covering
    :math:`[i f, (i+1) f)`, the weight of :math:`j` in :math:`i` is the length of their overlap,

    .. math:: w_{ij} = \max(0, \min(j + 1, (i + 1) f) - \max(j, i f)),

    and the output is the weighted sum over all three axes, divided by the sum of the weights. Sums are in
    float64 and in one order for each voxel, so that a voxel has the same bits whichever box it is read in.
    """

    def __init__(self, array: LazyArray, factors: Triple) -> None:
        self._array = array
        self.factors = tuple(round(f) if abs(f - round(f)) < 1e-6 * f else f for f in factors)
        z, y, x = (max(1, math.floor(n / f + 1e-6)) for n, f in zip(array.shape, self.factors, strict=True))
        self.shape: Shape = (z, y, x)
        self.dtype: np.dtype[np.generic] = np.dtype(np.float32)

    def __getitem__(self, box: Slices, /) -> npt.NDArray[np.generic]:
        """Read a box, averaging slab by slab so that only a few slices are held at once."""
        z, y, x = box
        out = np.empty([b.stop - b.start for b in box], np.float32)
        plane = (y.stop - y.start) * (x.stop - x.start) * math.prod(self.factors)
        step = max(1, int(SLAB_VOXELS / max(1.0, plane)))
        for start in range(z.start, z.stop, step):
            stop = min(z.stop, start + step)
            out[start - z.start : stop - z.start] = self._averaged((slice(start, stop), y, x))
        return out

    def _averaged(self, box: Slices) -> npt.NDArray[np.float64]:
        taps = [_taps(b, f, n) for b, f, n in zip(box, self.factors, self._array.shape, strict=True)]
        needed = [slice(int(i.min()), int(i.max()) + 1) for i, _ in taps]
        voxels: npt.NDArray[Any] = self._array[needed[0], needed[1], needed[2]]
        weights = np.ones((1, 1, 1))
        for axis, (index, weight) in enumerate(taps):
            voxels = _weighted_sum(voxels, index - needed[axis].start, weight, axis)
            weights = weights * _along(weight.sum(axis=0), axis)
        averaged: npt.NDArray[np.float64] = voxels / weights
        return averaged


def _taps(box: slice, factor: float, length: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the input voxels that each output voxel covers, and their weights, ``(taps, outputs)``."""
    output = np.arange(box.start, box.stop)
    low, high = output * factor, np.minimum((output + 1) * factor, length)
    count = math.ceil(factor) + (factor != int(factor))
    index = np.floor(low).astype(np.int64) + np.arange(count)[:, None]
    weight = np.maximum(0.0, np.minimum(index + 1, high) - np.maximum(index, low))
    last = np.ceil(high).astype(np.int64) - 1  # a tap too many, of weight 0, must not reach out of the box
    return np.minimum(index, last), weight


def _weighted_sum(
    voxels: npt.NDArray[Any], index: npt.NDArray[np.int64], weight: npt.NDArray[np.float64], axis: int
) -> npt.NDArray[np.float64]:
    """Add up an axis tap by tap, in the order of the taps."""
    total = np.zeros((), np.float64)
    for i, w in zip(index, weight, strict=True):
        total = total + np.take(voxels, i, axis) * _along(w, axis)
    return total


def _along(values: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
    return values.reshape([-1 if a == axis else 1 for a in range(3)])


def at_voxel_size(volume: Volume, target: WorkingSize) -> Volume:
    """Give a volume its working voxel size.

    Textures are learnt at one size of voxel. This picks the nearest level of the pyramid, or averages one on
    the fly:

    1. An axis whose voxels are as large as the target or larger (within 1 %) stays as it is: nothing is ever
       interpolated to look finer. So does one that is a single voxel long. The other axes are *resampled*.
    2. If a level lies within 5 % of the target along every resampled axis, and has the other axes untouched,
       the nearest such level is taken as it is.
    3. Otherwise the coarsest level that is nowhere coarser than the target along the resampled axes (and has
       the others untouched) is averaged over boxes to exactly the target, block by block, when asked for.

    Parameters
    ----------
    volume
        With its voxel size known, and its pyramid in ``coarser``.
    target
        In nm, for all axes; ``"auto"`` stands for 16, ``None`` keeps the volume's own voxels.

    Returns
    -------
    Volume
        Without further levels. Averaged volumes are float32, ``floor(n / f)`` voxels long along each axis
        where ``f`` input voxels make one (at least 1), and placed so that their voxels cover exactly those
        that they average: the centre of the first moves by ``(f - 1) / 2`` input voxels.

    Raises
    ------
    SettingsError
        If the target is not positive.
    VolumeError
        If the voxel size is unknown.
    """
    if target is None:
        return replace(volume, coarser=())
    if target == "auto":
        target = WORKING
    if not (math.isfinite(target) and target > 0):
        raise SettingsError("--working-voxel-size", f"{target} nm is no size", "give a positive number, as in 16")
    native = volume.known_voxel_size()
    resampled = [size < target * (1 - SAME) and n > 1 for size, n in zip(native, volume.shape, strict=True)]
    levels = [
        level
        for level in (volume, *volume.coarser)
        if all(
            r or size <= own * (1 + SAME)
            for size, own, r in zip(level.known_voxel_size(), native, resampled, strict=True)
        )
    ]
    if not any(resampled):
        return replace(volume, coarser=())
    nearest = min(levels, key=lambda level: _distance(level, target, resampled))
    if _distance(nearest, target, resampled) <= NEAR:
        return replace(nearest, coarser=())
    finer = [
        level
        for level in levels
        if all(size <= target * (1 + SAME) for size, r in zip(level.known_voxel_size(), resampled, strict=True) if r)
    ]
    return _averaged(finer[-1], target, resampled)


def _distance(level: Volume, target: float, resampled: list[bool]) -> float:
    """Return how far a level is from the target along its worst resampled axis, as a fraction."""
    sizes = level.known_voxel_size()
    return max(abs(size / target - 1) for size, r in zip(sizes, resampled, strict=True) if r)


def _averaged(level: Volume, target: float, resampled: list[bool]) -> Volume:
    sizes = level.known_voxel_size()
    factors = [
        target / size if r and abs(size / target - 1) > SAME else 1.0 for size, r in zip(sizes, resampled, strict=True)
    ]
    fz, fy, fx = factors
    array = AreaAveraged(level.array, (fz, fy, fx))
    z, y, x = (size * f for size, f in zip(sizes, factors, strict=True))
    tz, ty, tx = (t + (f - 1) / 2 * size for t, f, size in zip(level.translation, factors, sizes, strict=True))
    return replace(level, array=array, voxel_size=(z, y, x), translation=(tz, ty, tx), coarser=())
