"""The weights of the Gaussian that descriptions of voxels are smoothed with; without torch, for who starts quickly."""

from __future__ import annotations

import math
from typing import TypeAlias

TRUNCATE = 2.0
"""Where the smoothing Gaussian ends, in standard deviations."""

Taps: TypeAlias = tuple[list[float], list[float], list[float]]
"""Weights of a convolution along z, y and x."""


def gaussian_taps(sigma: float) -> list[float]:
    """Weights of a Gaussian cut at two standard deviations, their sum 1; ``[1.0]`` for a sigma of 0."""
    radius = int(TRUNCATE * sigma + 0.5)
    if radius == 0:
        return [1.0]
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(-radius, radius + 1)]
    return [w / sum(weights) for w in weights]


def smoothing_taps(sigma: float, depth: float) -> Taps:
    """Weights along z, y and x of a Gaussian whose standard deviation along z is `depth` times smaller."""
    within = gaussian_taps(sigma)
    return gaussian_taps(sigma / depth), within, within
