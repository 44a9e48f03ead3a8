"""A worker process as the run sees it, what the two say to each other, and the process itself."""

from __future__ import annotations

import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Lock, Thread
from typing import Any, Literal, NamedTuple

from vemosaic.blocks.grid import Unit
from vemosaic.blocks.worker import give_back, working_at

ENDING_SECONDS = 5.0
"""How long a process that was told to end is waited for."""


class Order(NamedTuple):
    """What the run tells a worker: carry a unit out, or, where there is no opener, give it back if it can."""

    unit: Unit
    opener: Callable[[], Any] | None = None


class Told(NamedTuple):
    """What a worker tells the run of a unit."""

    what: Literal["begun", "done", "given back", "failed"]
    unit: Unit
    error: Exception | None = None


class Member:
    """A worker process, and the units that it has.

    Attributes
    ----------
    connection
        Readable when it has told something, or has died.
    begun
        Units that are computed or written, the last one begun at the end.
    ahead
        The unit that is read, or waits to be computed.
    asked_back
        Whether it is asked to give that one back.
    """

    def __init__(self, number: int, threads: int, gpu: int | None) -> None:
        self.number = number
        self.begun: list[Unit] = []
        self.ahead: Unit | None = None
        self.asked_back = False
        self.connection, theirs = get_context("spawn").Pipe()
        self._process = get_context("spawn").Process(
            target=_serve, args=(theirs,), name=f"vemosaic worker {number}", daemon=True
        )
        variables = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        with _environment(variables if gpu is None else variables | {"CUDA_VISIBLE_DEVICES": str(gpu)}):
            self._process.start()  # with them from the first moment: libraries look at them when they are loaded
        theirs.close()

    @property
    def units(self) -> list[Unit]:
        """All that is lost if it dies, in the order in which it was given."""
        return [*self.begun, *([] if self.ahead is None else [self.ahead])]

    def give(self, unit: Unit, opener: Callable[[], Any]) -> None:
        """Give it a unit to read, and to compute when it is done with the one before."""
        self.ahead = unit
        self._tell(Order(unit, opener))

    def ask_back(self) -> None:
        """Ask for the unit that it has not begun."""
        if self.ahead is not None:
            self.asked_back = True
            self._tell(Order(self.ahead))

    def hear(self) -> Told:
        """Take note of what it tells.

        Raises
        ------
        EOFError, OSError
            If it has died.
        """
        told: Told = self.connection.recv()
        if told.unit == self.ahead:
            self.ahead, self.asked_back = None, False
            if told.what == "begun":
                self.begun.append(told.unit)
        elif told.unit in self.begun:
            self.begun.remove(told.unit)
        return told

    def dismiss(self) -> None:
        """End the process at once: what it has not recorded is done anew."""
        self._process.terminate()
        self._process.join(ENDING_SECONDS)
        self.connection.close()

    def _tell(self, order: Order) -> None:
        with suppress(OSError):  # one that has died is noticed where it is listened to
            self.connection.send(order)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables for a process that is started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection: Connection) -> None:
    """Carry out orders in a worker process, which leaves Ctrl-C to the run, and ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    telling = Lock()

    def tell(told: Told) -> None:
        with telling, suppress(OSError):  # without a run to hear of it, the process ends below
            connection.send(told)

    def carry_out(unit: Unit, opener: Callable[[], Any]) -> None:
        try:
            done = working_at(opener).carry_out(unit, lambda: tell(Told("begun", unit)))
            tell(Told("done" if done else "given back", unit))
        except Exception as error:
            tell(Told("failed", unit, portable(error)))

    while True:
        try:
            unit, opener = connection.recv()
        except (EOFError, OSError):
            os._exit(0)  # the run has ended, whatever is under way here
        if opener is None:
            give_back([unit])
        else:
            Thread(target=carry_out, args=(unit, opener), name=f"vemosaic unit {unit.name}", daemon=True).start()


def portable(error: Exception) -> Exception:
    """Return an error that another process can receive, with a note of where it was raised."""
    error.add_note("in a worker process:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(repr(error))
    return error
