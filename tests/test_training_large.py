"""Volumes of any size are read piece by piece."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from numeric_core import volume_of
from trainings_together import SMALL
from vemosaic.patches import PatchSampler
from vemosaic.training import train
from vemosaic.volumes.intensity import measure_intensity
from vemosaic.volumes.volume import Shape, Slices

MEGABYTE = 2**20
POOL = 32 * MEGABYTE


def resident() -> int:
    """Memory of this process that is not swapped out, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@dataclass
class Noise:
    """A volume that is nowhere: each voxel is made when it is read, and every reading is noted."""

    shape: Shape
    dtype: np.dtype[np.generic]
    boxes: list[Slices] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    def __getitem__(self, box: Slices, /) -> npt.NDArray[np.generic]:
        self.boxes.append(box)
        if Path("/proc/self/statm").exists():
            self.memory.append(resident())
        z, y, x = (np.arange(b.start, b.stop) for b in box)
        return (np.sin(z)[:, None, None] + np.cos(y)[:, None] * np.sin(x) > 0).astype(self.dtype)

    def voxels_read(self) -> int:
        """Voxels of all boxes together."""
        return sum(math.prod(b.stop - b.start for b in box) for box in self.boxes)


def test_large_volumes_are_read_in_pieces_and_memory_does_not_grow_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PatchSampler.__init__.__kwdefaults__, "pool_bytes", POOL)  # type: ignore[index]
    arrays = [Noise((2000, 2200, 2300), np.dtype(np.uint8)), Noise((90, 700, 900), np.dtype(np.uint16))]
    volumes = [volume_of(array, f"noise {number}") for number, array in enumerate(arrays)]
    before = resident() if Path("/proc/self/statm").exists() else 0
    model, _ = train(
        volumes, [measure_intensity(v) for v in volumes], SMALL, anchors=33 * SMALL.optimiser.batch
    )  # three pools: the tiles slide on every 16 steps
    assert model.card["anchors"] == 33 * SMALL.optimiser.batch
    for array in arrays:
        assert array.voxels_read() < 30e6
        assert max(math.prod(b.stop - b.start for b in box) for box in array.boxes) <= 128**3
    assert max(max(array.memory, default=0) for array in arrays) - before < POOL + 400 * MEGABYTE  # of 10 GB
