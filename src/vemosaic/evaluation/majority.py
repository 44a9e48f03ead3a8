"""Majority: bring class labels from one lattice to another by the physical extent of the voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

_FUZZ = 1e-6  # of a voxel: positions in nm carry rounding errors, and two voxels that meet must not overlap
_TIE = 1e-5  # of a voxel: shares this close are equal


@dataclass(frozen=True)
class AxisOverlap:
    """How the voxels of one lattice cover those of another along one axis.

    Finer voxels count by the length that they share with the target voxel, coarser (or equal) ones only
    where they hold its centre. Target voxels beyond the end take the nearest.

    Attributes
    ----------
    length
        Voxels of the lattice that is read.
    ratio
        Size of a target voxel in voxels of the lattice that is read.
    shift
        Centre of target voxel 0 in voxels of the lattice that is read, whose voxel 0 has its centre at 0.
    """

    length: int
    ratio: float
    shift: float

    def weights(self, first: int, count: int) -> tuple[slice, csr_array]:
        """Return what target voxels ``first`` to ``first + count - 1`` read.

        Returns
        -------
        box : slice
            Voxels to read.
        weights : csr_array, (count, voxels in box), float32
            Share of each in each target voxel; rows add up to 1.
        """
        centre = self.shift + np.arange(first, first + count) * self.ratio
        if self.ratio <= 1 + _FUZZ:
            low = np.ceil(centre - 0.5 - _FUZZ).astype(np.intp)
            high = low + 1
        else:
            edge = np.clip(np.stack([centre - self.ratio / 2, centre + self.ratio / 2]) + 0.5, 0, self.length)
            low, high = np.floor(edge[0] + _FUZZ).astype(np.intp), np.ceil(edge[1] - _FUZZ).astype(np.intp)
        low = np.clip(low, 0, self.length - 1)
        high = np.clip(high, low + 1, self.length)
        counts = high - low
        rows = np.repeat(np.arange(count), counts)
        columns = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + low[rows]
        if self.ratio <= 1 + _FUZZ:
            shares = np.ones(len(rows))
        else:
            shares = np.minimum(columns + 1, edge[1][rows]) - np.maximum(columns, edge[0][rows])
            shares = np.where(counts[rows] == 1, 1.0, shares)
            shares /= np.bincount(rows, shares)[rows]
        box = slice(int(low.min()), int(high.max()))
        weights = csr_array(
            (shares.astype(np.float32), (rows, columns - box.start)), shape=(count, box.stop - box.start)
        )
        return box, weights


def majority(labels: npt.NDArray[np.uint8], weights: tuple[csr_array, csr_array, csr_array]) -> npt.NDArray[np.uint8]:
    """Give each target voxel the label that fills the largest share of it.

    Ties go to the smaller label, except that 0 (nothing) loses them all: half a voxel is enough for a mask.

    Parameters
    ----------
    labels : ndarray, (Z, Y, X), uint8
        What is read.
    weights
        For z, y, x, as of `AxisOverlap.weights`.

    Returns
    -------
    ndarray, (Z, Y, X), uint8
        One voxel for each row of the three weights.
    """
    shape = tuple(w.shape[0] for w in weights)
    if all(w.nnz == w.shape[0] for w in weights):  # one voxel is read for each
        return labels[np.ix_(*(w.indices for w in weights))]
    present = np.flatnonzero(np.bincount(labels.ravel(), minlength=1))
    if len(present) == 1:
        return np.full(shape, present[0], dtype=np.uint8)
    winner = np.zeros(shape, dtype=np.uint8)
    largest = np.full(shape, -1.0, dtype=np.float32)
    for label in sorted(present.tolist(), key=lambda label: (label == 0, label)):
        share = _average(labels == label, weights)
        better = share > largest + _TIE
        winner[better] = label
        largest[better] = share[better]
    return winner


def _average(mask: npt.NDArray[np.bool_], weights: tuple[csr_array, csr_array, csr_array]) -> npt.NDArray[np.float32]:
    """Return the share of each target voxel that a mask fills, (Z, Y, X)."""
    field = mask.astype(np.float32)
    for w in weights:  # the axis at hand is the first; each turn moves it to the end
        flat = w @ field.reshape(field.shape[0], -1)
        field = np.moveaxis(flat.reshape(w.shape[0], *field.shape[1:]), 0, -1)
    return np.ascontiguousarray(field)
