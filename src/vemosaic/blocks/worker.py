"""One process's part in a stage: a unit is read, one computed and one written at the same time."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from threading import Condition, Lock, Semaphore
from typing import Any

from vemosaic.blocks.grid import Unit
from vemosaic.blocks.memory import trim_now_and_then
from vemosaic.blocks.work import Steps, patiently


class Worker:
    """The steps of a stage, opened once, and the turns that its units take.

    Each unit has a thread of its own, which calls `carry_out`. Whoever gives out units gives the next one when the
    last one has begun to be computed: then it is read meanwhile, and three units are in memory at most.

    Parameters
    ----------
    opener
        Makes the steps.
    at_once
        How many units may be computed at the same time, and how many written.
    """

    def __init__(self, opener: Callable[[], Steps[Any, Any]], at_once: int = 1) -> None:
        self.opener = opener
        self.steps = patiently(opener)
        self._turn = Condition()
        self._free = at_once
        self._not_begun: set[Unit] = set()
        self._writing = Semaphore(at_once)

    def carry_out(self, unit: Unit, begun: Callable[[], object]) -> bool:
        """Read a unit, wait for its turn, compute and write it; one that is done is left as it is.

        Parameters
        ----------
        unit
            Which.
        begun
            Called when its turn has come.

        Returns
        -------
        bool
            Whether it is done: False where it was given back before its turn.
        """
        self._not_begun.add(unit)
        try:
            if self.steps.ledger.is_done(unit):
                return True
            data = self.steps.attempt_read(unit)
            if not self._turn_comes(unit):
                return False
        finally:
            self._not_begun.discard(unit)
        try:
            begun()
            result = self.steps.attempt_compute(unit, data)
            del data
            self._writing.acquire()  # the turn ends only when there is room for the next result
        finally:
            self._turn_ends()
        try:
            self.steps.attempt_write(unit, result)
        finally:
            self._writing.release()
        del result
        trim_now_and_then()
        return True

    def give_back(self, unit: Unit) -> bool:
        """Let another process have a unit; False where it has begun, or is not here."""
        with self._turn:
            given = unit in self._not_begun
            self._not_begun.discard(unit)
            self._turn.notify_all()
        return given

    def _turn_comes(self, unit: Unit) -> bool:
        """Wait until a unit may be computed; False where it is given back."""
        with self._turn:
            self._turn.wait_for(lambda: self._free or unit not in self._not_begun)
            if unit not in self._not_begun:
                return False
            self._not_begun.remove(unit)
            self._free -= 1
            return True

    def _turn_ends(self) -> None:
        with self._turn:
            self._free += 1
            self._turn.notify_all()


_opening = Lock()
_worker: Worker | None = None


def working_at(opener: Callable[[], Steps[Any, Any]], at_once: int = 1) -> Worker:
    """Return this process's worker, which keeps the steps of the stage that it last worked at."""
    global _worker
    with _opening:
        if _worker is None or _worker.opener != opener:
            _worker = None  # what it holds goes before more is opened
            with warnings.catch_warnings(action="ignore"):  # the run has told what there is to note
                _worker = Worker(opener, at_once)
        return _worker


def give_back(units: list[Unit]) -> bool:
    """Have this process's worker give back the first of these units that has not begun; False where all have."""
    return _worker is not None and any(_worker.give_back(unit) for unit in units)
