"""Memory does not grow with the number of units: nothing is held of those that are done, what is free is given back."""

from __future__ import annotations

import platform
import tracemalloc
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import vemosaic.blocks.memory
from vemosaic.blocks import Unit, process, stream, units
from vemosaic.blocks.memory import held_memory, trim, trim_now_and_then
from vemosaic.blocks.work import Steps
from vemosaic.blocks.worker import Worker

VOXELS = 20_000
FEW, MANY = 20, 400


class NothingDone:
    """Records of a stage that are kept nowhere."""

    stage, root = "s", Path()

    def start(self) -> None: ...

    def begin(self, unit: Unit) -> None: ...

    def complete(self, unit: Unit, facts: object) -> None: ...

    def is_done(self, unit: Unit) -> bool:
        return False

    def done(self, units: Sequence[Unit]) -> set[Unit]:
        return set()


class Block:
    """The voxels of a unit, which can be counted."""

    def __init__(self) -> None:
        self.voxels = bytearray(VOXELS)


def steps(read: Callable[[Unit], Block]) -> Steps[Any, Any]:
    return Steps(read, lambda unit, block: Block(), lambda unit, block: {"facts": [1]}, NothingDone())  # type: ignore[arg-type]


def in_process(work: Sequence[Unit], done: Steps[Any, Any]) -> None:
    process(work, read=done.read, compute=done.compute, write=done.write, ledger=done.ledger)


def in_a_stream(work: Sequence[Unit], done: Steps[Any, Any]) -> None:
    for _ in stream(work, read=done.read, compute=done.compute, stage="s"):
        pass


def by_a_worker(work: Sequence[Unit], done: Steps[Any, Any]) -> None:
    worker = Worker(lambda: done)
    for unit in work:
        assert worker.carry_out(unit, lambda: None)


WAYS = pytest.mark.parametrize("carry_out", [in_process, in_a_stream, by_a_worker])


@WAYS
def test_nothing_is_held_of_units_that_are_done(carry_out: Callable[..., None]) -> None:
    def most_held(count: int) -> int:
        work = units((count, 1, 1), (1, 1, 1))
        tracemalloc.start()
        try:
            carry_out(work, steps(lambda unit: Block()))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    most_held(FEW)  # what is made once
    queues = 6 * VOXELS  # how full they get is a matter of luck
    assert most_held(MANY) - most_held(FEW) < queues + 100 * MANY


@WAYS
def test_what_is_free_is_given_back_after_each_unit(
    carry_out: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: weakref.WeakSet[Block] = weakref.WeakSet()
    left: list[int] = []

    def read(unit: Unit) -> Block:
        alive.add(block := Block())
        return block

    monkeypatch.setattr(vemosaic.blocks.memory, "BETWEEN_TRIMS", 0.0)
    monkeypatch.setattr(vemosaic.blocks.memory, "trim", lambda: left.append(len(alive)))
    carry_out(units((FEW, 1, 1), (1, 1, 1)), steps(read))
    assert len(left) == FEW
    assert left[-1] == 0
    assert max(left) <= 2  # read ahead


def test_it_is_not_done_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[float] = []
    clock = [0.0]
    monkeypatch.setattr(vemosaic.blocks.memory, "_trimmed", float("-inf"))
    monkeypatch.setattr(vemosaic.blocks.memory, "trim", lambda: done.append(clock[0]))
    monkeypatch.setattr(vemosaic.blocks.memory.time, "monotonic", lambda: clock[0])
    for clock[0] in (1000.0, 1001.0, 1004.9, 1005.0, 1006.0, 1011.0):
        trim_now_and_then()
    assert done == [1000.0, 1005.0, 1011.0]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc" or held_memory() is None, reason="glibc on Linux")
def test_what_is_free_below_something_held_is_given_back() -> None:
    """Blocks that glibc takes from the heap, all but one in a hundred freed again: 99 MB."""
    blocks: list[bytes | None] = [bytes([1]) * 100_000 for _ in range(1000)]
    for number in range(1000):
        if number % 100 != 99:
            blocks[number] = None
    before = held_memory()
    trim()
    after = held_memory()
    assert before is not None
    assert after is not None
    assert before - after > 50_000_000
    assert sum(block is not None for block in blocks) == 10
