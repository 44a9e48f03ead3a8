"""Padding: zeros around the image, which are no tissue and nothing to learn from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vemosaic.volumes.anisotropy import FIELD
from vemosaic.volumes.volume import Shape, Slices, Volume

REACH = FIELD - 1
"""So far within its slice lies what decides whether a voxel is padding."""

SEEN = 18
"""So many voxels of padding beside the image are seen at most: by the largest patches at training. What maps a voxel
sees 16, half a patch's field and the reach of Gaussian and diffusion, at the default smoothing."""

MARGIN = 2 * SEEN + REACH
"""So far around a box within its slices is read to mirror the image in its padding."""


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


@dataclass(frozen=True)
class MirroredPadding:
    """A volume that shows its image mirrored in its padding, as patches see it mirrored beyond the border; lazy.

    Where a slice has an image and where it has padding is left as it is in `ImageMask`: this is only what patches that
    reach into the padding see. A black edge would be a texture of its own, and the most conspicuous of all.

    Row by row along x, then along y, then along z, padding that lies at most 18 voxels from the image takes the value
    that lies as far on the image's side, and where that is no image, that of the image's last voxel. What lies farther
    stays zero.

    Attributes
    ----------
    volume
        On the working lattice.
    mask
        Of the same: where it is not zero, nothing is padding, however black; None for nowhere.
    """

    volume: Volume
    mask: Volume | None = None

    @property
    def shape(self) -> Shape:
        """Voxels along z, y, x."""
        return self.volume.shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of one voxel."""
        return np.dtype(np.float32)

    def identity(self) -> str:
        """Tell it from the volume before, at no more cost."""
        return f"{self.volume.identity()}-mirrored"

    def __getitem__(self, box: Slices) -> npt.NDArray[np.float32]:
        """Read a box; any box gives what the whole gives."""
        origin = [b.start for b in box]
        shape = [b.stop - b.start for b in box]
        voxels = self.volume.read(origin, shape)
        if voxels.all():
            return voxels
        margin = 2 * SEEN if self.shape[0] > 1 else 0, MARGIN, MARGIN
        begin = [o - m for o, m in zip(origin, margin, strict=True)]
        extent = [n + 2 * m for n, m in zip(shape, margin, strict=True)]
        around = self.volume.read(begin, extent)
        known = ~padding(around)
        if self.mask is not None:
            known |= self.mask.read(begin, extent) != 0
        z, y, x = (slice(m, m + n) for m, n in zip(margin, shape, strict=True))
        if known[z, y, x].all() or not known.any():
            return voxels
        for values, image in zip(around, known, strict=True):  # slice by slice, which stays in the cache
            for axis in (1, 0):
                _mirror(values, image, axis)
        for row in range(y.start, y.stop):
            _mirror(around[:, row, x], known[:, row, x], 0)
        return around[z, y, x].copy()


def mirror_padding(volume: Volume, mask: Volume | None = None) -> Volume:
    """Return a volume that shows its image mirrored in its padding, but where a mask is: see `MirroredPadding`."""
    return replace(volume, array=MirroredPadding(volume, mask), coarser=())


def _mirror(values: npt.NDArray[np.float32], known: npt.NDArray[np.bool_], axis: int) -> None:
    """Fill in place, along one axis of a plane, what is not known and at most `SEEN` voxels from what is."""
    if known.all() or not known.any():
        return
    values, known = values.swapaxes(axis, 1), known.swapaxes(axis, 1)
    length = values.shape[1]
    place = np.arange(length)
    before = np.maximum.accumulate(np.where(known, place, -2 * length), 1)
    after = np.minimum.accumulate(np.where(known, place, 3 * length)[:, ::-1], 1)[:, ::-1]
    edge = np.where(place - before <= after - place, before, after)
    row, unknown = np.nonzero(~known & (np.abs(edge - place) <= SEEN))
    edge = edge[row, unknown]
    mirror = 2 * edge - unknown
    within = np.clip(mirror, 0, length - 1)
    usable = (mirror == within) & known[row, within]
    values[row, unknown] = values[row, np.where(usable, within, edge)]
    known[row, unknown] = True
