"""Padding: zeros around the image, which are no tissue and nothing to learn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vemosaic.volumes.anisotropy import FIELD
from vemosaic.volumes.volume import Shape, Slices, Volume

REACH = FIELD - 1
"""So far within its slice lies what decides whether a voxel is padding."""


def padding(voxels: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Find the voxels ``(Z, Y, X)`` that are padding: zeros that fill 9 x 9 voxels of a slice, or the box whole.

    Zeros that fill all that a patch sees of a slice are no image: no micrograph is as dark and as even. What lies
    outside the box counts as image.
    """
    zero: npt.NDArray[np.bool_] = voxels == 0
    if not zero.any() or zero.all():
        return zero
    from scipy import ndimage

    opened = zero.view(np.uint8)
    for find in (ndimage.minimum_filter1d, ndimage.maximum_filter1d):  # an opening, axis by axis
        for axis in (1, 2):
            opened = find(opened, FIELD, axis, mode="constant", cval=0)
    return opened.view(np.bool_)


@dataclass(frozen=True)
class ImageMask:
    """Where a volume has an image, as a lazy array: 0 in padding, 1 elsewhere.

    At the border, where patches see the volume mirrored, so does this: zeros that are 5 voxels wide there are padding.

    Attributes
    ----------
    volume
        On the working lattice.
    """

    volume: Volume

    @property
    def shape(self) -> Shape:
        """Voxels along z, y, x."""
        return self.volume.shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of one voxel."""
        return np.dtype(np.uint8)

    def __getitem__(self, box: Slices) -> npt.NDArray[np.uint8]:
        """Read a box; any box gives what the whole gives."""
        z, y, x = box
        origin = z.start, y.start - REACH, x.start - REACH
        shape = z.stop - z.start, y.stop - y.start + 2 * REACH, x.stop - x.start + 2 * REACH
        found = padding(self.volume.read(origin, shape))
        return (~found[:, REACH:-REACH, REACH:-REACH]).astype(np.uint8)
