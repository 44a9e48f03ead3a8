"""A stage that worker processes can open: it triples a small volume, one file for each unit."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vemosaic.blocks import Ledger, Unit, units
from vemosaic.blocks.work import Steps, Work

VOLUME = np.arange(12 * 5 * 7, dtype=np.uint8).reshape(12, 5, 7)
UNITS = units(VOLUME.shape, (2, 5, 4))

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Tripled:
    """Makes the steps; `trouble` tells what befalls a unit: name, ``"raise"`` or ``"kill"``, how often."""

    run: Path
    fingerprint: str = "settings"
    trouble: tuple[str, str, int] | None = None
    seconds: float = 0.0

    def __call__(self) -> Steps[Bytes, Bytes]:
        ledger = Ledger(self.run / "records", "triple", self.fingerprint, owns=lambda u: [self.file(u)], root=self.run)
        return Steps(lambda unit: VOLUME[unit.slices], self.compute, self.write, ledger)

    def file(self, unit: Unit) -> Path:
        return self.run / f"{unit.name}.npy"

    def compute(self, unit: Unit, voxels: Bytes) -> Bytes:
        with (self.run / "computed.txt").open("a") as file:
            file.write(f"{unit.name} {os.getpid()}\n")
        if self.trouble and self.trouble[0] == unit.name and self.computed().count(unit.name) <= self.trouble[2]:
            if self.trouble[1] == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ConnectionError("the network is away")
        time.sleep(self.seconds)
        return voxels * 3

    def write(self, unit: Unit, tripled: Bytes) -> None:
        np.save(self.file(unit), tripled)

    def work(self) -> Work[Bytes, Bytes]:
        return Work(self(), self)

    def computed(self) -> list[str]:
        """Names of the units that were begun to be computed, in order."""
        return [line.split()[0] for line in (self.run / "computed.txt").read_text().splitlines()]

    def computers(self) -> set[str]:
        """Processes that took part."""
        return {line.split()[1] for line in (self.run / "computed.txt").read_text().splitlines()}

    def whole(self) -> Bytes:
        whole = np.zeros(VOLUME.shape, np.uint8)
        for unit in UNITS:
            whole[unit.slices] = np.load(self.file(unit))
        return whole
