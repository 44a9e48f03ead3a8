"""What a stage does with each unit, and how it travels to other processes and machines."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from vemosaic.blocks.files import disk_errors
from vemosaic.blocks.grid import Unit
from vemosaic.blocks.records import Ledger
from vemosaic.errors import OutputError

Data = TypeVar("Data")
Result = TypeVar("Result")

ATTEMPTS = 3
"""How often a step of a unit is tried before its error ends the stage."""

PAUSE = 0.5
"""Seconds before the second attempt; twice as long before the third."""


@dataclass(frozen=True)
class Steps(Generic[Data, Result]):
    """What is done with each unit of a stage.

    Attributes
    ----------
    read
        Gets a unit's input; called in a reader thread.
    compute
        Turns input into result.
    write
        Writes the files that the ledger says the unit owns, and has them on disk when it returns; called in a
        writer thread. What it returns, if it is a mapping, is kept as the unit's facts (`Ledger.facts`).
    ledger
        Knows what is done.
    """

    read: Callable[[Unit], Data]
    compute: Callable[[Unit, Data], Result]
    write: Callable[[Unit, Result], object]
    ledger: Ledger

    def attempt_read(self, unit: Unit) -> Data:
        """Read, patiently."""
        return patiently(self.read, unit)

    def attempt_compute(self, unit: Unit, data: Data) -> Result:
        """Compute, patiently."""
        return patiently(self.compute, unit, data)

    def attempt_write(self, unit: Unit, result: Result) -> None:
        """Write and record a unit, patiently."""
        patiently(self._record, unit, result)

    def _record(self, unit: Unit, result: Result) -> None:
        with disk_errors(self.ledger.root):
            self.ledger.begin(unit)
            facts = self.write(unit, result)
            self.ledger.complete(unit, facts if isinstance(facts, Mapping) else None)


@dataclass(frozen=True)
class Work(Generic[Data, Result]):
    """A stage's steps, open in this process and to be opened in others.

    Attributes
    ----------
    steps
        For this process. They stay here when the work is sent elsewhere.
    opener
        Makes the same steps in another process, from names and numbers alone: something that can be pickled, and
        compared. None for work that is not sent elsewhere.
    """

    steps: Steps[Data, Result]
    opener: Callable[[], Steps[Data, Result]] | None = None


def patiently(step: Callable[..., Result], *arguments: Any) -> Result:
    """Call a step, and again after a pause if it fails: a server may be busy, a network away for a moment.

    A full disk does not mend itself, and is told at once.
    """
    for attempt in range(1, ATTEMPTS):
        try:
            return step(*arguments)
        except OutputError:
            raise
        except Exception:
            time.sleep(PAUSE * attempt)
    return step(*arguments)


class Worker:
    """One process's part in a stage: it opens the steps once, and reads the next unit while it computes one.

    Parameters
    ----------
    opener
        Makes the steps.
    """

    def __init__(self, opener: Callable[[], Steps[Any, Any]]) -> None:
        self.opener = opener
        self.steps = opener()
        self._reader = ThreadPoolExecutor(1, "vemosaic reader")
        self._ahead: dict[Unit, Future[Any]] = {}

    def carry_out(self, unit: Unit, following: Unit | None = None) -> None:
        """Read, compute and write a unit; `following` is read meanwhile, as it probably comes next.

        One that is done is left as it is: a scheduler whose worker dies asks again for all that it was at.
        """
        ahead = self._ahead.pop(unit, None)
        self._ahead.clear()
        if self.steps.ledger.is_done(unit):
            return
        data = self.steps.attempt_read(unit) if ahead is None else ahead.result()
        if following is not None:
            self._ahead[following] = self._reader.submit(self.steps.attempt_read, following)
        self.steps.attempt_write(unit, self.steps.attempt_compute(unit, data))


_worker: Worker | None = None


def carry_out(opener: Callable[[], Steps[Any, Any]], unit: Unit, following: Unit | None = None) -> None:
    """Carry out a unit in this worker process, which keeps the steps of the stage that it last worked at."""
    global _worker
    if _worker is None or _worker.opener != opener:
        _worker = Worker(opener)
    _worker.carry_out(unit, following)
