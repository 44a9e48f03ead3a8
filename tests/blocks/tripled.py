"""A stage that worker processes can open: it triples a small volume, one file for each unit."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vemosaic.blocks import Ledger, Unit, units
from vemosaic.blocks.work import Steps, Work

VOLUME = np.arange(12 * 5 * 7, dtype=np.uint8).reshape(12, 5, 7)
UNITS = units(VOLUME.shape, (2, 5, 4))
PATIENCE = 60.0

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Tripled:
    """Makes the steps; `trouble` tells what befalls a unit: name, kind, how often.

    Kinds are ``"raise"``, ``"kill"``, ``"full"`` (the disk), ``"alone"`` (computed until all others are done), and for
    all units, with an empty name, ``"overlap"`` (each waits for what is to be done meanwhile).
    """

    run: Path
    fingerprint: str = "settings"
    trouble: tuple[str, str, int] | None = None
    seconds: float = 0.0

    def __call__(self) -> Steps[Bytes, Bytes]:
        ledger = Ledger(self.run / "records", "triple", self.fingerprint, owns=lambda u: [self.file(u)], root=self.run)
        return Steps(self.read, self.compute, self.write, ledger)

    def file(self, unit: Unit) -> Path:
        return self.run / f"{unit.name}.npy"

    def read(self, unit: Unit) -> Bytes:
        self._note("read", unit)
        return VOLUME[unit.slices]

    def compute(self, unit: Unit, voxels: Bytes) -> Bytes:
        kind = self._trouble(unit)
        self._note("computed", unit)
        if kind == "kill" and self.computed().count(unit.name) <= self._often():
            (self.run / "done-before").write_text("\n".join(self.recorded()))  # not again when it is computed anew
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "raise" and self.computed().count(unit.name) <= self._often():
            raise ConnectionError("the network is away")
        if kind == "alone":
            self._wait(lambda: len(set(self.computed())) == len(UNITS))
        if kind == "overlap":
            self._wait(lambda: self._is_next_begun("read", "computed"))
        time.sleep(self.seconds)
        return voxels * 3

    def write(self, unit: Unit, tripled: Bytes) -> None:
        self._note("written", unit)
        if self._trouble(unit) == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._trouble(unit) == "overlap":
            self._wait(lambda: self._is_next_begun("computed", "written"))
        np.save(self.file(unit), tripled)

    def work(self) -> Work[Bytes, Bytes]:
        return Work(self(), self)

    def computed(self) -> list[str]:
        """Names of the units that were begun to be computed, in order."""
        return [name for name, _ in self._noted("computed")]

    def computers(self) -> set[str]:
        """Processes that took part."""
        return {pid for _, pid in self._noted("computed")}

    def recorded(self) -> list[str]:
        """Names of the units that have a record."""
        return [file.stem for file in (self.run / "records/triple").glob("*.json")]

    def whole(self) -> Bytes:
        whole = np.zeros(VOLUME.shape, np.uint8)
        for unit in UNITS:
            whole[unit.slices] = np.load(self.file(unit))
        return whole

    def _trouble(self, unit: Unit) -> str | None:
        return self.trouble[1] if self.trouble and self.trouble[0] in ("", unit.name) else None

    def _often(self) -> int:
        return self.trouble[2] if self.trouble else 0

    def _note(self, step: str, unit: Unit) -> None:
        with (self.run / f"{step}.txt").open("a") as file:
            file.write(f"{unit.name} {os.getpid()}\n")

    def _noted(self, step: str) -> list[list[str]]:
        file = self.run / f"{step}.txt"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def _is_next_begun(self, before: str, after: str) -> bool:
        """Whether this process has begun with the step `before` of a further unit, or there is none left."""
        own = str(os.getpid())
        begun, ours = (sum(pid == own for _, pid in self._noted(step)) for step in (before, after))
        return begun > ours or len({name for name, _ in self._noted(before)}) == len(UNITS)

    def _wait(self, comes: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not comes():
            assert time.monotonic() < deadline, "it did not happen meanwhile"
            time.sleep(0.01)
