"""Which prototypes lie at and around voxels: what is known of prototypes, brought to voxels by a narrow Gaussian.

A voxel's prototype is the nearest of up to 255 centres, and hops from voxel to voxel where two are about as near. The
mixture of those in the immediate surroundings does not: what it says of a voxel is the Gaussian mean of what is said of
the prototypes there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from vemosaic.explorer.layers import Bytes
from vemosaic.explorer.smoothing import Taps, Vectors, smooth_codes

PART = 4_096
"""Voxels whose surroundings are counted at once."""


class Mixture(Protocol):
    """Which prototypes lie at and around some voxels."""

    def mean(self, table: npt.NDArray[np.floating[Any]]) -> Vectors:
        """Average what a table says of prototypes, ``(256, K)``, around each voxel, ``(..., K)``, float32."""


@dataclass(frozen=True)
class BoxMixture:
    """Of the voxels of a box.

    Attributes
    ----------
    prototypes
        ``(Z, Y, X)``, with as much around the box as the Gaussian reaches.
    taps
        Its weights.
    """

    prototypes: Bytes
    taps: Taps

    def mean(self, table: npt.NDArray[np.floating[Any]]) -> Vectors:
        """Average around each voxel of the box, ``(Z', Y', X', K)``."""
        return smooth_codes(self.prototypes, np.asarray(table, np.float32), [self.taps])


@dataclass(frozen=True)
class ListMixture:
    """Of single voxels.

    Attributes
    ----------
    shares
        Of the prototypes around each, ``(N, 256)``, sparse, float32; each row's sum is 1.
    """

    shares: Any

    @classmethod
    def alone(cls, prototypes: Bytes) -> Self:
        """Take each voxel's own prototype, ``(N,)``, for all that lies around it."""
        return cls.of(prototypes[:, None, None, None], (np.ones(1, np.float32),) * 3)

    @classmethod
    def of(cls, around: Bytes, taps: Taps) -> Self:
        """Count the prototypes around voxels, ``(N, Z, Y, X)``, as far as the Gaussian reaches."""
        from scipy.sparse import csr_array, vstack

        weights = np.einsum("z,y,x->zyx", *taps).ravel()
        flat = around.reshape(len(around), len(weights))
        rows = []
        for start in range(0, max(1, len(flat)), PART):
            part = flat[start : start + PART]
            places = np.arange(len(part))[:, None] * 256 + part
            counts = np.bincount(places.ravel(), np.tile(weights, len(part)), minlength=256 * len(part))
            rows.append(csr_array(counts.reshape(-1, 256).astype(np.float32)))
        return cls(vstack(rows, "csr"))

    def mean(self, table: npt.NDArray[np.floating[Any]]) -> Vectors:
        """Average around each voxel, ``(N, K)``."""
        return np.asarray(self.shares @ np.asarray(table, np.float32))

    def pick(self, voxels: slice | npt.NDArray[np.integer[Any]]) -> Self:
        """Return those of some of the voxels."""
        return type(self)(self.shares[voxels])
