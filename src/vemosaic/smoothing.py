"""Gaussian means of what describes the voxels of a box, on the device where it lies."""

from __future__ import annotations

from torch import Tensor

from vemosaic.gaussian import Taps


def smooth(values: Tensor, taps: Taps) -> Tensor:
    """Convolve ``(Z, Y, X, C)`` along z, y and x, each with taps of its own; an axis loses ``len(taps) - 1`` voxels.

    A convolution along one axis is a product with a banded matrix: several times as fast as adding shifted copies.
    """
    depth, height, _, channels = values.shape
    band_z, band_y, band_x = (_band(n, t, values) for n, t in zip(values.shape, taps, strict=False))
    if len(taps[2]) > 1:
        values = band_x @ values  # (Z, Y, X', C)
    if len(taps[1]) > 1:
        values = band_y @ values.view(depth, height, -1)  # (Z, Y', X' C)
    if len(taps[0]) > 1:
        values = band_z @ values.view(depth, -1)  # (Z', Y' X' C)
    return values.view(len(band_z), len(band_y), len(band_x), channels)


def _band(length: int, taps: list[float], like: Tensor) -> Tensor:
    """Return the matrix ``(length - len(taps) + 1, length)`` that convolves a column."""
    band = like.new_zeros((length - len(taps) + 1, length))
    for place, weight in enumerate(taps):
        band.diagonal(place).fill_(weight)
    return band
