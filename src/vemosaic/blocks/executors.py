"""Where the units of a stage are carried out: in this process, in several of this machine, or on a cluster.

All carry out the same units by the same steps, and keep the same records: they can take turns on one run.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, Protocol, Self

from vemosaic.blocks.events import Listener, StageEnded, UnitDone, ignore
from vemosaic.blocks.executor import begin_stage, process
from vemosaic.blocks.grid import Unit
from vemosaic.blocks.member import Member
from vemosaic.blocks.work import ATTEMPTS, Work
from vemosaic.errors import VemosaicError


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

    They are hired for the first stage and kept for the next ones, until `dismiss`, the end of a ``with`` block or of
    this process. A worker that dies costs the units that it was at, three at most; another takes its place.

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
    _team: list[Member] = field(default_factory=list, init=False, repr=False, compare=False)

    def carry_out(self, units: Sequence[Unit], work: Work[Any, Any], listen: Listener = ignore) -> None:
        """Carry out every unit that is not done yet."""
        if work.opener is None:
            InProcess().carry_out(units, work, listen)
            return
        stage = work.steps.ledger.stage
        waiting = deque(largest_first(begin_stage(units, work.steps.ledger, listen)))
        deaths: Counter[Unit] = Counter()
        try:
            while waiting or any(member.units for member in self._team):
                self._hire(len(waiting))
                _share_out(waiting, self._team, work.opener)
                speaking = wait([member.connection for member in self._team])
                for member in [m for m in self._team if m.connection in speaking]:
                    try:
                        told = member.hear()
                    except (EOFError, OSError):
                        self._bury(member, waiting, deaths, stage)
                        continue
                    if told.error is not None:
                        raise told.error
                    if told.what == "given back":
                        waiting.append(told.unit)
                    elif told.what == "done":
                        listen(UnitDone(stage, told.unit.voxels))
        except BaseException:
            self.dismiss()
            raise
        listen(StageEnded(stage))

    def dismiss(self) -> None:
        """End the worker processes."""
        while self._team:
            self._team.pop().dismiss()

    def __enter__(self) -> Self:
        """Keep workers until the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the worker processes."""
        self.dismiss()

    def _hire(self, units: int) -> None:
        """Have as many workers as are wanted, but no more new ones than there are units to give."""
        missing = sorted(set(range(self.workers)) - {member.number for member in self._team})
        threads = self.threads or max(1, (os.cpu_count() or 1) // self.workers)
        idle = sum(not member.units for member in self._team)
        for number in missing[: max(0, units - idle)]:
            self._team.append(Member(number, threads, self.gpus[number % len(self.gpus)] if self.gpus else None))

    def _bury(self, member: Member, waiting: deque[Unit], deaths: Counter[Unit], stage: str) -> None:
        """Take a worker that died out of the team; what it had is done by others."""
        self._team.remove(member)
        member.dismiss()
        waiting.extendleft(reversed(member.units))
        if member.units:
            unit = member.begun[-1] if member.begun else member.units[0]
            deaths[unit] += 1
            if deaths[unit] == ATTEMPTS:
                raise VemosaicError(
                    stage,
                    f"worker processes died {ATTEMPTS} times at unit {unit.name}",
                    "look whether memory is short (fewer --workers), and run the same command again",
                )


def largest_first(units: Sequence[Unit]) -> list[Unit]:
    """Order units so that workers who share them end together: those clipped at the border come last."""
    return sorted(units, key=lambda unit: -unit.voxels)


def _share_out(waiting: deque[Unit], team: Sequence[Member], opener: Callable[[], Any]) -> None:
    """Give each worker the next unit to read; one that would idle gets what another has only read."""
    for member in sorted(team, key=lambda member: len(member.units)):
        if waiting and member.ahead is None:
            member.give(waiting.popleft(), opener)
    idle = sum(not member.units for member in team) - sum(member.asked_back for member in team)
    laden = [member for member in team if member.begun and member.ahead is not None and not member.asked_back]
    for member in laden[: max(0, idle)]:
        member.ask_back()
