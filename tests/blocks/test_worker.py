"""The turns that units take in a worker: in order, never too many at once, and given back only before they begin."""

from __future__ import annotations

import threading
import time
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vemosaic.blocks import Ledger, Unit, units
from vemosaic.blocks.work import Steps
from vemosaic.blocks.worker import Worker, give_back, working_at

UNITS = units((8, 1, 1), (1, 1, 1))


class Block:
    """Data that can be counted."""


@dataclass
class Stage:
    """Steps that hold each unit where a test says so, until it is let go."""

    run: Path
    held: dict[tuple[str, Unit], threading.Event] = field(default_factory=dict)
    begun: dict[tuple[str, Unit], threading.Event] = field(default_factory=dict)
    alive: weakref.WeakSet[Block] = field(default_factory=weakref.WeakSet)
    most: int = 0

    def __call__(self) -> Steps[Block, Block]:
        return Steps(self.read, lambda unit, block: self.enter("compute", unit, block), self.write, self.ledger)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.run / "records", "s", "f", owns=lambda unit: [self.run / unit.name], root=self.run)

    def hold(self, step: str, unit: Unit) -> Callable[[], None]:
        self.held[step, unit] = threading.Event()
        return self.held[step, unit].set

    def has_begun(self, step: str, unit: Unit, seconds: float = 10) -> bool:
        return self.begun.setdefault((step, unit), threading.Event()).wait(seconds)

    def enter(self, step: str, unit: Unit, block: Block) -> Block:
        self.most = max(self.most, len(self.alive))
        self.begun.setdefault((step, unit), threading.Event()).set()
        if (step, unit) in self.held:
            assert self.held[step, unit].wait(10)
        return block

    def read(self, unit: Unit) -> Block:
        block = Block()
        self.alive.add(block)
        return self.enter("read", unit, block)

    def write(self, unit: Unit, block: Block) -> None:
        self.enter("write", unit, block)
        (self.run / unit.name).touch()


class Crew:
    """Threads of one worker, and what became of their units."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.ended: dict[Unit, object] = {}
        self.threads: list[threading.Thread] = []

    def give(self, unit: Unit, begun: Callable[[], object] = lambda: None) -> None:
        def carry_out() -> None:
            try:
                self.ended[unit] = self.worker.carry_out(unit, begun)
            except Exception as error:
                self.ended[unit] = error

        self.threads.append(threading.Thread(target=carry_out, daemon=True))
        self.threads[-1].start()

    def end(self) -> None:
        for thread in self.threads:
            thread.join(10)
        assert not any(thread.is_alive() for thread in self.threads)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture
def crew(stage: Stage) -> Crew:
    return Crew(Worker(stage))


def test_three_units_are_in_memory_at_most_however_slow_the_disk(stage: Stage, crew: Crew) -> None:
    left = iter(UNITS)

    def give_next() -> None:
        unit = next(left, None)
        if unit is not None:
            crew.give(unit, give_next)

    plain = stage.write
    stage.write = lambda unit, block: (time.sleep(0.01), plain(unit, block))[1]  # type: ignore[method-assign]
    crew.worker.steps = stage()
    give_next()
    deadline = time.monotonic() + 20
    while len(crew.ended) < len(UNITS):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert set(crew.ended.values()) == {True}
    assert stage.most == 3


def test_a_result_waits_for_the_one_that_is_written(stage: Stage, crew: Crew) -> None:
    written = stage.hold("write", UNITS[0])
    crew.give(UNITS[0])
    assert stage.has_begun("write", UNITS[0])
    crew.give(UNITS[1])
    assert stage.has_begun("compute", UNITS[1])
    crew.give(UNITS[2])
    assert stage.has_begun("read", UNITS[2])
    assert not stage.has_begun("compute", UNITS[2], 0.1)
    written()
    crew.end()
    assert stage.ledger.done(UNITS) == set(UNITS[:3])


def test_a_unit_is_given_back_before_its_turn_and_not_after(stage: Stage, crew: Crew) -> None:
    computed = stage.hold("compute", UNITS[0])
    crew.give(UNITS[0])
    assert stage.has_begun("compute", UNITS[0])
    crew.give(UNITS[1])
    assert stage.has_begun("read", UNITS[1])
    assert not crew.worker.give_back(UNITS[0])
    assert not crew.worker.give_back(UNITS[5])
    assert crew.worker.give_back(UNITS[1])
    assert not crew.worker.give_back(UNITS[1])
    computed()
    crew.end()
    assert crew.ended == {UNITS[0]: True, UNITS[1]: False}
    assert ("compute", UNITS[1]) not in stage.begun
    crew.give(UNITS[1])
    crew.end()
    assert crew.ended[UNITS[1]] is True


def test_a_unit_is_given_back_while_it_is_read(stage: Stage, crew: Crew) -> None:
    read = stage.hold("read", UNITS[0])
    crew.give(UNITS[0])
    assert stage.has_begun("read", UNITS[0])
    assert crew.worker.give_back(UNITS[0])
    read()
    crew.end()
    assert crew.ended == {UNITS[0]: False}


@pytest.mark.parametrize("step", ["read", "compute", "write"])
def test_an_error_takes_nobodys_turn(stage: Stage, crew: Crew, step: str) -> None:
    plain = stage.enter

    def enter(at: str, unit: Unit, block: Block) -> Block:
        if at == step and unit == UNITS[0]:
            raise TypeError("a mistake")
        return plain(at, unit, block)

    stage.enter = enter  # type: ignore[method-assign]
    for unit in UNITS[:4]:
        crew.give(unit)
        crew.end()
    assert isinstance(crew.ended.pop(UNITS[0]), TypeError)
    assert set(crew.ended.values()) == {True}
    assert stage.ledger.done(UNITS) == set(UNITS[1:4])


def test_what_is_done_is_not_read_again(stage: Stage, crew: Crew) -> None:
    crew.give(UNITS[0])
    crew.end()
    stage.begun.clear()
    assert crew.worker.carry_out(UNITS[0], lambda: None) is True
    assert not stage.begun


@dataclass(frozen=True)
class Opener:
    """Counts how often it is used."""

    name: str
    opened: list[str] = field(compare=False)

    def __call__(self) -> Steps[Block, Block]:
        self.opened.append(self.name)
        warnings.warn("a note on the volume", stacklevel=1)
        return Stage(Path(self.name))()


def test_steps_are_opened_once_for_a_stage_and_say_nothing_that_the_run_has_said() -> None:
    opened: list[str] = []
    with warnings.catch_warnings(action="error"):
        first = working_at(Opener("a", opened))
        assert working_at(Opener("a", opened)) is first
        assert working_at(Opener("b", opened)) is not first
    assert opened == ["a", "b"]
    assert not give_back(UNITS)
