"""Description: what ``vemosaic info`` prints of a volume."""

from __future__ import annotations

from typing import Any

import numpy as np

from vemosaic.volumes.probing import probe
from vemosaic.volumes.volume import Volume

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


def describe(volume: Volume) -> dict[str, Any]:
    """Say what a volume is, as numbers and strings that JSON can hold.

    Parameters
    ----------
    volume
        Any volume; a few dozen small boxes of it are read.

    Returns
    -------
    dict
        ``source``, ``format``, ``axes`` (always ``"zyx"``), ``shape``, ``dtype``, ``voxel_size_nm`` and
        ``translation_nm`` (z, y, x; the size is ``None`` where the file does not say), ``gigavoxels``,
        ``bytes`` (uncompressed), ``levels`` (the whole pyramid, finest first) and ``probe``: how many voxels
        were looked at, their ``min``, ``max``, ``mean``, ``percentiles`` and the fraction that is not finite.

    Raises
    ------
    VolumeError
        If the volume cannot be read.
    """
    voxels = int(np.prod(volume.shape, dtype=np.int64))
    return {
        "source": volume.source,
        "format": volume.format,
        "axes": "zyx",
        **_geometry(volume),
        "dtype": str(volume.dtype),
        "gigavoxels": voxels / 1e9,
        "bytes": voxels * volume.dtype.itemsize,
        "levels": [_geometry(level) for level in (volume, *volume.coarser)],
        "probe": _statistics(volume),
    }


def _geometry(volume: Volume) -> dict[str, Any]:
    return {
        "shape": list(volume.shape),
        "voxel_size_nm": None if volume.voxel_size is None else list(volume.voxel_size),
        "translation_nm": list(volume.translation),
    }


def _statistics(volume: Volume) -> dict[str, Any]:
    voxels = probe(volume, count=32).astype(np.float64)
    finite = voxels[np.isfinite(voxels)]
    if not finite.size:
        return {"voxels": voxels.size, "not_finite": 1.0}
    return {
        "voxels": voxels.size,
        "not_finite": 1.0 - finite.size / voxels.size,
        "min": float(finite.min()),
        "max": float(finite.max()),
        "mean": float(finite.mean()),
        "percentiles": {str(p): float(v) for p, v in zip(PERCENTILES, np.percentile(finite, PERCENTILES), strict=True)},
    }
