"""Where the units of a stage are carried out: in this process, in several of this machine, or on a cluster.

All carry out the same units by the same steps, and keep the same records: they can take turns on one run.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Protocol

from vemosaic.blocks.events import Listener, StageEnded, UnitDone, ignore
from vemosaic.blocks.executor import begin_stage, process
from vemosaic.blocks.grid import Unit
from vemosaic.blocks.work import ATTEMPTS, Work, carry_out
from vemosaic.errors import VemosaicError

ORPHANED_SECONDS = 0.5
"""How often a worker looks whether the run that it works for still lives."""


class Executor(Protocol):
    """Carries out stages."""

    def carry_out(self, units: Sequence[Unit], work: Work[Any, Any], listen: Listener = ignore) -> None:
        """Carry out every unit that is not done yet.

        Parameters
        ----------
        units
            The whole stage, also what is already done.
        work
            What is done with each.
        listen
            Hears of the stage in voxels; called in the thread of the caller.

        Raises
        ------
        OutputError
            If the disk is full or the output cannot be written to.
        Exception
            What a unit still raised after `vemosaic.blocks.work.ATTEMPTS`.
        """


@dataclass(frozen=True)
class InProcess:
    """In the process of the caller: one thread reads ahead, one computes, one writes behind.

    See `vemosaic.blocks.executor.process`.

    Attributes
    ----------
    read_ahead, write_behind
        How many units may wait between the threads.
    """

    read_ahead: int = 1
    write_behind: int = 1

    def carry_out(self, units: Sequence[Unit], work: Work[Any, Any], listen: Listener = ignore) -> None:
        """Carry out every unit that is not done yet."""
        steps = work.steps
        process(
            units,
            read=steps.read,
            compute=steps.compute,
            write=steps.write,
            ledger=steps.ledger,
            listen=listen,
            read_ahead=self.read_ahead,
            write_behind=self.write_behind,
        )


@dataclass(frozen=True)
class Processes:
    """Worker processes on this machine: one for each GPU, or for each group of cores.

    A worker that dies costs the unit that it was at; another takes its place.

    Attributes
    ----------
    workers
        How many.
    threads
        Computing threads of each; the machine's cores shared out where None.
    gpus
        For each worker the number of its GPU, in turn; none for the CPU.
    """

    workers: int
    threads: int | None = None
    gpus: tuple[int, ...] = ()

    def carry_out(self, units: Sequence[Unit], work: Work[Any, Any], listen: Listener = ignore) -> None:
        """Carry out every unit that is not done yet."""
        if work.opener is None:
            InProcess().carry_out(units, work, listen)
            return
        stage = work.steps.ledger.stage
        waiting = deque(begin_stage(units, work.steps.ledger, listen))
        deaths: Counter[Unit] = Counter()
        team = [self._hire(number) for number in range(min(self.workers, len(waiting)))]
        try:
            while True:
                for member in team:
                    if member.task is None:
                        member.begin(work.opener, waiting, team)
                at_work = [member.task for member in team if member.task is not None]
                if not at_work:
                    break
                wait(at_work, return_when=FIRST_COMPLETED)
                for member in [m for m in team if m.task is not None and m.task.done()]:
                    unit = member.unit
                    try:
                        member.end()
                    except BrokenProcessPool:
                        deaths[unit] += 1
                        if deaths[unit] == ATTEMPTS:
                            raise _died(stage, unit) from None
                        waiting.extendleft(member.units)
                        team[member.number] = self._hire(member.number)
                        continue
                    listen(UnitDone(stage, unit.voxels))
        finally:
            for member in team:
                member.dismiss()
        listen(StageEnded(stage))

    def _hire(self, number: int) -> _Member:
        threads = self.threads or max(1, (os.cpu_count() or 1) // self.workers)
        gpu = self.gpus[number % len(self.gpus)] if self.gpus else None
        return _Member(number, threads, gpu)


class _Member:
    """A worker process, the unit that it is at, and the one that it reads meanwhile.

    Each has a pool of its own: a pool whose process dies loses all that was given to it.
    """

    def __init__(self, number: int, threads: int, gpu: int | None) -> None:
        self.number = number
        self.task: Future[None] | None = None
        self.units: list[Unit] = []
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), _begin_worker, (os.getpid(), threads, gpu))
        self._pid = self._pool.submit(os.getpid)

    @property
    def unit(self) -> Unit:
        """The unit that it is at."""
        return self.units[0]

    def begin(self, opener: Callable[[], Any], waiting: deque[Unit], team: Sequence[_Member]) -> None:
        """Begin the unit that was read already, or a waiting one, or one that another member only reads."""
        if not self.units and waiting:
            self.units.append(waiting.popleft())
        for member in team:
            if not self.units and len(member.units) == 2:
                self.units.append(member.units.pop())
        if not self.units:
            return
        if waiting:
            self.units.append(waiting.popleft())
        self.task = self._pool.submit(carry_out, opener, *self.units)

    def end(self) -> None:
        """Take note that the unit is done, or raise what it raised."""
        assert self.task is not None
        self.task.result()
        self.task = None
        self.units.pop(0)

    def dismiss(self) -> None:
        """End the process at once: what it has not recorded is done anew."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._pid.done() and not self._pid.cancelled() and not self._pid.exception():
            with suppress(ProcessLookupError):
                os.kill(self._pid.result(), signal.SIGTERM)


def _died(stage: str, unit: Unit) -> VemosaicError:
    return VemosaicError(
        stage,
        f"worker processes died {ATTEMPTS} times at unit {unit.name}",
        "look whether memory is short (fewer --workers), and run the same command again",
    )


def _begin_worker(parent: int, threads: int, gpu: int | None) -> None:
    """Set up a worker process, which leaves Ctrl-C to the run, and ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(ORPHANED_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="vemosaic watch", daemon=True).start()
    import torch  # only now: a GPU is chosen before, and no block needs it otherwise

    torch.set_num_threads(threads)
