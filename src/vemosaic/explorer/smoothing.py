"""Gaussian means of the codes of words, at several widths at once: quick for planes, exact for any box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vemosaic.explorer.layers import Bytes
from vemosaic.gaussian import smoothing_taps
from vemosaic.volumes.volume import Shape

Vectors = npt.NDArray[np.float32]

Taps: TypeAlias = tuple[Vectors, Vectors, Vectors]
"""Weights of a convolution along z, y and x, an odd number of each."""

THIN = 4
"""Boxes of no more planes are summed plane by plane, which reads but does not blow up what lies around them."""

ROWS_BYTES = 2**21
"""Of what is summed up at once: it stays in the cache."""


def gaussian_taps(width: float, depth: float) -> Taps:
    """Weights that the map is smoothed with, see `vemosaic.gaussian.smoothing_taps`.

    Parameters
    ----------
    width
        Standard deviation along y and x, in voxels.
    depth
        How many times smaller it is along z.
    """
    z, y, x = (np.array(taps, np.float32) for taps in smoothing_taps(width, depth))
    return z, y, x


def reach_of(taps: Taps) -> Shape:
    """Voxels beyond each face that a convolution takes, z, y, x."""
    z, y, x = (len(t) // 2 for t in taps)
    return z, y, x


def smooth(values: Vectors, taps: Taps) -> Vectors:
    """Convolve ``(Z, Y, X, C)`` along z, y and x; each axis loses twice its reach."""
    for axis in range(3):
        values = _along(values, taps[axis], axis)
    return values


def smooth_codes(words: Bytes, codes: Vectors, kernels: Sequence[Taps]) -> Vectors:
    """Smooth the codes of words with several kernels.

    Parameters
    ----------
    words
        ``(Z, Y, X)``, with as much around the box as the last kernel reaches.
    codes
        ``(W, D)``.
    kernels
        K of them, the last the widest along every axis.

    Returns
    -------
    ndarray, (Z', Y', X', K * D), float32
        Of the box, one kernel's means after the other's.
    """
    inner = [n - 2 * r for n, r in zip(words.shape, reach_of(kernels[-1]), strict=True)]
    thin = int(np.argmin(inner))
    smoothed = np.empty((*inner, len(kernels), codes.shape[1]), np.float32)
    if inner[thin] <= THIN:
        _smooth_thin(words, codes, kernels, thin, smoothed)
    else:
        for number, taps in enumerate(kernels):
            smoothed[..., number, :] = smooth(codes[trimmed(words, kernels[-1], taps)], taps)
    return smoothed.reshape(*inner, -1)


def trimmed(values: npt.NDArray[Any], widest: Taps, taps: Taps) -> npt.NDArray[Any]:
    """Cut from each face of ``(Z, Y, X, ...)`` what the widest kernel reaches beyond another."""
    surplus = [a - b for a, b in zip(reach_of(widest), reach_of(taps), strict=True)]
    return values[tuple(slice(s, n - s) for s, n in zip(surplus, values.shape, strict=False))]


def _smooth_thin(words: Bytes, codes: Vectors, kernels: Sequence[Taps], axis: int, smoothed: Vectors) -> None:
    """Do what `smooth_codes` does, for a box of few planes along an axis, and fill ``(Z', Y', X', K, D)``.

    That axis comes first, so that what lies before and behind is summed up at once, a few rows at a time.
    """
    slab = np.moveaxis(words, axis, 0)
    length = len(kernels[-1][axis])
    across = np.stack([np.pad(k[axis], (length - len(k[axis])) // 2) for k in kernels])  # (K, L)
    planes = slab.shape[0] - length + 1
    sums = np.empty((planes, len(kernels), *slab.shape[1:], codes.shape[1]), np.float32)
    rows = max(1, ROWS_BYTES // (4 * length * slab.shape[2] * codes.shape[1]))
    for top in range(0, slab.shape[1], rows):
        described = codes.take(slab[:, top : top + rows], axis=0, mode="clip")  # (L + planes - 1, rows, X, C)
        for plane in range(planes):
            part = described[plane : plane + length]
            summed = across @ part.reshape(length, -1)
            sums[plane, :, top : top + rows] = summed.reshape(len(kernels), *part.shape[1:])
    within = [a for a in range(3) if a != axis]
    turned = np.moveaxis(smoothed, axis, 0)
    for number, taps in enumerate(kernels):
        first, second = ((len(kernels[-1][a]) - len(taps[a])) // 2 for a in within)
        inner = sums[:, number, first : slab.shape[1] - first, second : slab.shape[2] - second]
        turned[..., number, :] = _along(_along(inner, taps[within[0]], 1), taps[within[1]], 2)


def _along(values: Vectors, kernel: Vectors, axis: int) -> Vectors:
    """Convolve along one axis, by products with banded matrices of limited size."""
    lost = len(kernel) - 1
    if lost == 0:
        return values
    moved = np.moveaxis(values, axis, 0)
    length = moved.shape[0] - lost
    flat = np.ascontiguousarray(moved).reshape(moved.shape[0], -1)
    result = np.empty((length, flat.shape[1]), np.float32)
    part = min(length, max(32, 4 * len(kernel)))
    band = np.zeros((part, part + lost), np.float32)
    for place, weight in enumerate(kernel):
        band[np.arange(part), np.arange(part) + place] = weight
    for start in range(0, length, part):
        n = min(part, length - start)
        np.matmul(band[:n, : n + lost], flat[start : start + n + lost], out=result[start : start + n])
    return np.moveaxis(result.reshape(length, *moved.shape[1:]), 0, axis)
