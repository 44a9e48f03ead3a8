"""What a stage does with each unit, and how it travels to other processes and machines."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from vemosaic.blocks.files import disk_errors
from vemosaic.blocks.grid import Unit
from vemosaic.blocks.records import Ledger, SupersededError
from vemosaic.errors import OutputError, SettingsError

Data = TypeVar("Data")
Result = TypeVar("Result")

ATTEMPTS = 3
"""How often a step of a unit is tried before its error ends the stage."""

PAUSE = 0.5
"""Seconds before the second attempt; twice as long before the third."""

LASTING = (
    OutputError, SettingsError, SupersededError, AssertionError, AttributeError, NameError, NotImplementedError,
    TypeError,
)  # fmt: skip
"""What is not tried again, as nothing would change."""

LASTING_NUMBERS = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP,
    errno.ENAMETOOLONG,
}  # fmt: skip
"""The operating system's numbers for the same."""


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
        with disk_errors(self.ledger.root):
            patiently(self._record, unit, result)

    def _record(self, unit: Unit, result: Result) -> None:
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
    """Call a step, and again after a pause if it fails by what may pass: a server may be busy, a network away."""
    for attempt in range(1, ATTEMPTS):
        try:
            return step(*arguments)
        except Exception as error:
            if not may_pass(error):
                raise
            time.sleep(PAUSE * attempt)
    return step(*arguments)


def may_pass(error: Exception) -> bool:
    """Tell whether what failed might do when it is tried again: not on a full disk, nor by a mistake in the program."""
    told = error.__cause__ if isinstance(error, OutputError) else None
    reason = told if isinstance(told, OSError) else error
    return reason.errno not in LASTING_NUMBERS if isinstance(reason, OSError) else not isinstance(reason, LASTING)
