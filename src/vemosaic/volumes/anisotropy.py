"""Anisotropy: whether the voxels of a volume are near enough to cubes, or lie in slices; whether there are enough."""

from __future__ import annotations

import math

from vemosaic.errors import VolumeError
from vemosaic.volumes.volume import Shape, Volume

CUBIC = math.sqrt(3)
"""How many times as deep as wide a voxel may be to pass for a cube. Training draws the sizes of patches from a range of
a factor of three, and teaches to make no difference between them: an axis that is stretched by less than the square
root of three, from the middle of that range, still lies within it."""

FIELD = 9
"""Voxels along each axis that a patch sees when mapping: a volume of fewer would be made up of its mirror images."""


def relative_depth(volume: Volume) -> float:
    """Return how many times as deep (z) as wide (the larger of y and x) a voxel is; infinite for a single slice.

    Raises
    ------
    VolumeError
        If the voxel size is not known.
    """
    z, y, x = volume.known_voxel_size()
    return math.inf if volume.shape[0] == 1 else z / max(y, x)


def lies_in_slices(volume: Volume) -> bool:
    """Whether the slices of a volume are too thick, or too few, for patches that are as deep as wide."""
    return relative_depth(volume) > CUBIC or volume.shape[0] < FIELD


def check_extent(volume: Volume, least: Shape) -> None:
    """Refuse a volume that has fewer voxels than patches need, `least` along z, y and x.

    Raises
    ------
    VolumeError
        If it has.
    """
    if any(n < m for n, m in zip(volume.shape, least, strict=True)):
        raise VolumeError(
            volume.source,
            f"{volume.shape} voxels (z, y, x) at the working voxel size are fewer than the {max(least)} that a patch "
            "needs",
            "use a smaller --working-voxel-size or a larger volume",
        )
