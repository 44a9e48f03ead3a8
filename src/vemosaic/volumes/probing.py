"""Probing: a few small boxes that tell what a large volume holds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vemosaic.errors import VolumeError
from vemosaic.volumes.volume import Volume

EXACT_IN_FLOAT32 = 2**24
BOX = (2, 64, 64)  # flat, since stacks of compressed pages are decoded page by page


def probe(volume: Volume, count: int = 8) -> npt.NDArray[np.generic]:
    """Read flat boxes at fixed pseudo-random places.

    Parameters
    ----------
    volume
        What to look at.
    count
        Number of boxes.

    Returns
    -------
    ndarray, (N,)
        The voxels of all boxes, in the volume's own type.
    """
    rng = np.random.default_rng(0)
    boxes = []
    for _ in range(count):
        start = [int(rng.integers(0, max(1, n - b + 1))) for n, b in zip(volume.shape, BOX, strict=True)]
        z, y, x = (slice(s, min(n, s + b)) for s, n, b in zip(start, volume.shape, BOX, strict=True))
        boxes.append(volume.array[z, y, x].ravel())
    return np.concatenate(boxes)


def check_range(volume: Volume) -> None:
    """Refuse wide types whose probed voxels float32 cannot hold.

    Raises
    ------
    VolumeError
        For float64 beyond the range of float32, and for integers beyond 2^24, where float32 gets inexact.
    """
    if volume.dtype.itemsize < 4 or volume.dtype == np.float32:
        return
    voxels = probe(volume)
    if volume.dtype.kind == "f":
        finite = voxels[np.isfinite(voxels)]
        largest = float(np.abs(finite).max(initial=0.0))
        if largest > float(np.finfo(np.float32).max):
            raise VolumeError(
                volume.source,
                f"holds values up to {largest:.3g} ({volume.dtype}), beyond the range of float32",
                "scale its intensities, for example to 8 bits",
            )
        return
    largest = max(abs(int(voxels.min())), abs(int(voxels.max())))
    if largest > EXACT_IN_FLOAT32:
        raise VolumeError(
            volume.source,
            f"holds values up to {largest} ({volume.dtype}), which looks like labels and not like an image",
            "give the image, or scale its intensities to 8 or 16 bits",
        )
