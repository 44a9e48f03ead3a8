"""Carry out a stage in this process: one thread reads ahead, the caller's computes, one writes behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Self

from vemosaic.blocks.events import Listener, StageEnded, StageStarted, UnitDone, ignore
from vemosaic.blocks.grid import Unit
from vemosaic.blocks.memory import trim_now_and_then
from vemosaic.blocks.records import Ledger
from vemosaic.blocks.work import Data, Result, Steps, patiently

READER_PATIENCE = 1.0
"""Seconds that an interrupted stage waits for a read under way: a dead server must not hold up Ctrl-C."""


def process(
    units: Sequence[Unit],
    *,
    read: Callable[[Unit], Data],
    compute: Callable[[Unit, Data], Result],
    write: Callable[[Unit, Result], object],
    ledger: Ledger,
    listen: Listener = ignore,
    read_ahead: int = 2,
    write_behind: int = 2,
) -> None:
    """Read, compute and write every unit that is not done yet.

    At most ``read_ahead + write_behind + 1`` units are in memory. What fails is tried again (`work.ATTEMPTS`);
    an exception that stays, and Ctrl-C, stops all: units whose writing has not begun are dropped, the one being
    written is finished, and a rerun does what is missing.

    Parameters
    ----------
    units
        The whole stage, also what is already done.
    read, compute, write, ledger
        As in `vemosaic.blocks.work.Steps`: read in the reader thread and in order, computed in the thread of the
        caller, written in the writer thread.
    listen
        Hears of the stage in voxels; called in the thread of the caller.
    read_ahead, write_behind
        How many units may wait between the threads.

    Raises
    ------
    OutputError
        If the disk is full or the output cannot be written to.
    Exception
        Whatever ``read``, ``compute`` or ``write`` raised at last.
    """
    steps = Steps(read, compute, write, ledger)
    missing = begin_stage(units, ledger, listen)
    with (
        _Background("writer") as writer,
        closing(_computed(missing, steps.attempt_read, steps.attempt_compute, read_ahead)) as computed,
    ):
        writing: deque[tuple[Unit, Future[None]]] = deque()

        def settle_first() -> None:
            unit, future = writing.popleft()
            future.result()
            listen(UnitDone(ledger.stage, unit.voxels))

        for unit, result in computed:
            writing.append((unit, writer.submit(steps.attempt_write, unit, result)))
            del result  # the writer's from here on: it must not outlive the writing
            while writing and (len(writing) > write_behind or writing[0][1].done()):
                settle_first()
            trim_now_and_then()
        while writing:
            settle_first()
    listen(StageEnded(ledger.stage))


def begin_stage(units: Sequence[Unit], ledger: Ledger, listen: Listener) -> list[Unit]:
    """Begin a stage, or go on with it: tell the listener how much is done, and return the units that are not."""
    ledger.start()
    finished = ledger.done(units)
    listen(StageStarted(ledger.stage, sum(unit.voxels for unit in units), sum(unit.voxels for unit in finished)))
    return [unit for unit in units if unit not in finished]


def stream(
    units: Sequence[Unit],
    *,
    read: Callable[[Unit], Data],
    compute: Callable[[Unit, Data], Result],
    stage: str,
    listen: Listener = ignore,
    read_ahead: int = 2,
) -> Iterator[tuple[Unit, Result]]:
    """Yield each unit with its result, in order, the next ones being read: for stages that only accumulate.

    Parameters
    ----------
    units, read, compute, listen, read_ahead
        As in `process`.
    stage
        Name for the listener.
    """
    listen(StageStarted(stage, sum(unit.voxels for unit in units)))
    with closing(_computed(units, partial(patiently, read), compute, read_ahead)) as computed:
        for unit, result in computed:
            yield unit, result
            del result
            trim_now_and_then()
            listen(UnitDone(stage, unit.voxels))
    listen(StageEnded(stage))


def _computed(
    units: Sequence[Unit],
    read: Callable[[Unit], Data],
    compute: Callable[[Unit, Data], Result],
    read_ahead: int,
) -> Generator[tuple[Unit, Result], None, None]:
    """Yield (unit, result) in order; ``read_ahead`` units are read or being read meanwhile."""
    with _Background("reader", patience=READER_PATIENCE) as reader:
        ahead: deque[Future[Data]] = deque()
        for number, unit in enumerate(units):
            last = min(len(units), number + 1 + read_ahead)
            ahead.extend(reader.submit(read, upcoming) for upcoming in units[number + len(ahead) : last])
            yield unit, compute(unit, ahead.popleft().result())


class _Background:
    """A daemon thread that carries out calls one after another; leaving the block drops those not begun.

    Unlike the threads of a ThreadPoolExecutor, a daemon thread does not keep the interpreter from ending.
    """

    def __init__(self, name: str, patience: float | None = None) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._left = False
        self._patience = patience
        self._thread = Thread(target=self._run, name=f"vemosaic {name}", daemon=True)

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
        future: Future[Result] = Future()
        self._calls.put((future, function, arguments))
        return future

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        self._calls.put(None)
        self._thread.join(self._patience)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None and not self._left:
            future, function, arguments = call
            try:
                future.set_result(function(*arguments))
            except BaseException as error:
                future.set_exception(error)
            del call, future, function, arguments  # what they hold must not wait for the next call
