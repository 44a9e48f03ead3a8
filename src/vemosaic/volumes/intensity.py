"""What makes the intensities of different volumes comparable: a robust centre and spread of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vemosaic.errors import VolumeError
from vemosaic.volumes.padding import padding
from vemosaic.volumes.volume import Volume

PROBES = 64
PROBE = (4, 64, 64)  # flat, as files are often stored slice by slice


@dataclass(frozen=True)
class Intensity:
    """Robust statistics of a volume: intensities are normalised to ``(voxel - centre) / spread``, clipped at +-`limit`.

    Attributes
    ----------
    centre
        Median.
    spread
        Half the distance between the 16th and the 84th percentile: one standard deviation, were it a normal.
    limit
        Where normalised intensities are clipped, so that charging artefacts and dead pixels weigh no more.
    """

    centre: float
    spread: float
    limit: float = 5.0

    def normalise(self, voxels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Normalise voxels, any shape, as float32."""
        scaled = (voxels - np.float32(self.centre)) * np.float32(1 / self.spread)
        return np.clip(scaled, -self.limit, self.limit, out=scaled)


def measure_intensity(volume: Volume, seed: int = 0) -> Intensity:
    """Measure the robust statistics of a volume on 64 boxes of 4 x 64 x 64 voxels.

    Padding is left out: zeros that fill 9 x 9 voxels of a slice, or a box whole.

    Raises
    ------
    VolumeError
        If all voxels looked at are the same, or one is not finite.
    """
    return _robust(volume, probe(volume, seed))


def _robust(volume: Volume, voxels: npt.NDArray[np.float32]) -> Intensity:
    """Centre and spread of voxels ``(N,)`` of a volume; raises where they are all the same."""
    low, centre, high = np.percentile(voxels, [15.9, 50, 84.1])
    spread = (high - low) / 2 or float(voxels.std(dtype=np.float64))
    if not spread > 0:
        raise VolumeError(
            volume.source,
            f"every voxel looked at has the same intensity, {centre:g}",
            "check that this is the image and not an empty channel or a mask",
        )
    return Intensity(float(centre), float(spread))


def measure_range(volume: Volume, seed: int = 0) -> Intensity:
    """Find what brings a volume's intensities to 0..1: 256 for 8 bits, 65,536 for 16, the largest seen for more.

    For models that standardise every patch by itself, which takes away all but the least spread a patch may have
    (Han et al. 2022 divide 8 bits by 256).

    Raises
    ------
    VolumeError
        As `measure_intensity`.
    """
    voxels = probe(volume, seed)
    _robust(volume, voxels)  # raises where there is nothing to see
    largest = float(np.abs(voxels).max())
    spread = next((scale for scale in (1.0, 256.0, 65_536.0) if largest <= scale), largest)
    return Intensity(0.0, spread, limit=np.inf)


def probe(volume: Volume, seed: int = 0) -> npt.NDArray[np.float32]:
    """Read the voxels of 64 boxes, padding left out, ``(N,)``; a single zero where there are no others."""
    voxels = np.concatenate([box[~padding(box)] for box in _boxes(volume, seed)])
    return voxels if len(voxels) else np.zeros(1, np.float32)


def padded_share(volume: Volume, seed: int = 0) -> float:
    """Look at the same boxes, and say which share of their voxels is padding, 0 to 1."""
    found = [padding(box) for box in _boxes(volume, seed)]
    return float(np.mean([box.mean() for box in found]))


def _boxes(volume: Volume, seed: int) -> Iterator[npt.NDArray[np.float32]]:
    """Read `PROBES` boxes at random places."""
    rng = np.random.default_rng(seed)
    shape = tuple(min(p, n) for p, n in zip(PROBE, volume.shape, strict=True))
    origins = [
        [int(rng.integers(0, n - s + 1)) for n, s in zip(volume.shape, shape, strict=True)] for _ in range(PROBES)
    ]
    for origin in origins:
        yield volume.read(origin, shape)
