"""A small run in the manner of the real one, for tests to interrupt: map, pyramid, finish.

As a program: ``python label_run.py FOLDER UNITS``; it kills itself when it has computed so many units.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np

from vemosaic.blocks import Ledger, process, units
from vemosaic.volumes.labels import LabelStore
from vemosaic.volumes.pyramid import build_pyramid

SHAPE = (140, 90, 70)
SHARD = (64, 32, 64)
KS = (3, 8)
COLOURS = {k: [(10 * label, 255 - label, label) for label in range(1, k + 1)] for k in KS}


def truth(k: int) -> np.ndarray:
    z, y, x = np.ogrid[tuple(map(slice, SHAPE))]
    return ((z // 9 + y // 7 + x // 5) % k + 1).astype(np.uint8)


class LabelRun:
    """A run in ``folder``; ``finish`` after ``map_and_pyramid`` completes its store.

    It is killed after the unit number `last`, if there is one.
    """

    def __init__(self, folder: Path, fingerprint: str = "settings", last: int | None = None) -> None:
        self.folder, self.fingerprint, self.last = folder, fingerprint, last
        self.store = LabelStore.create(
            folder / "segmentation.ome.zarr",
            ks=KS,
            shape=SHAPE,
            voxel_size=(16, 16, 15),
            translation=(8, 0, -4),
            shard=SHARD,
        )
        self.units = units(SHAPE, SHARD)
        self.ledger = Ledger(
            folder / "records",
            "map",
            fingerprint,
            owns=lambda unit: [f for k in KS for f in self.store.files(k, 0, unit.origin, unit.shape)],
            root=folder,
        )
        self.computed = []
        self.recorded = {}

    def map_and_pyramid(self) -> None:
        wholes = {k: truth(k) for k in KS}

        def compute(unit, wholes):
            if len(self.computed) == self.last:
                os.kill(os.getpid(), signal.SIGKILL)
            self.computed.append(unit)
            return {k: whole[unit.slices] for k, whole in wholes.items()}

        def write(unit, labels):
            for k, box in labels.items():
                self.store.write(k, 0, unit.origin, box)

        process(self.units, read=lambda unit: wholes, compute=compute, write=write, ledger=self.ledger)
        self.recorded = self.ledger.recorded(self.units)
        self.recorded |= build_pyramid(self.store, records=self.folder / "records", fingerprint=self.fingerprint)

    def finish(self, **kwargs) -> None:
        self.store.finish(self.recorded, default_k=8, colours=COLOURS, **kwargs)


if __name__ == "__main__":
    LabelRun(Path(sys.argv[1]), last=int(sys.argv[2])).map_and_pyramid()
