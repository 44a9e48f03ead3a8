"""The same units, here, in worker processes and on a Dask cluster; workers that fail and die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tripled import UNITS, VOLUME, Tripled

from vemosaic.blocks import Event, StageEnded, StageStarted, UnitDone
from vemosaic.blocks.dask_executor import OnDask, dask_cluster
from vemosaic.blocks.executors import Executor, InProcess, Processes
from vemosaic.blocks.records import SupersededError
from vemosaic.errors import SettingsError, VemosaicError

MIDDLE = UNITS[5].name


@pytest.fixture(scope="module")
def dask() -> Iterator[OnDask]:
    with dask_cluster("local", workers=2) as executor:
        yield executor


@pytest.fixture(params=["here", "processes", "dask"])
def executor(request: pytest.FixtureRequest) -> Executor:
    if request.param == "here":
        return InProcess()
    if request.param == "processes":
        return Processes(2, threads=1)
    found: OnDask = request.getfixturevalue("dask")
    return found


def carry_out(executor: Executor, stage: Tripled) -> list[Event]:
    events: list[Event] = []
    executor.carry_out(UNITS, stage.work(), events.append)
    return events


def test_every_unit_once_and_all_is_told(executor: Executor, tmp_path: Path) -> None:
    stage = Tripled(tmp_path)
    events = carry_out(executor, stage)
    np.testing.assert_array_equal(stage.whole(), VOLUME * 3)
    assert sorted(stage.computed()) == sorted(unit.name for unit in UNITS)
    assert events[0] == StageStarted("triple", VOLUME.size)
    assert events[-1] == StageEnded("triple")
    assert sum(e.amount for e in events if isinstance(e, UnitDone)) == VOLUME.size


def test_executors_take_turns_on_one_stage(dask: OnDask, tmp_path: Path) -> None:
    stage = Tripled(tmp_path)
    Processes(2, threads=1).carry_out(UNITS[:4], stage.work())
    dask.carry_out(UNITS[:8], stage.work())
    InProcess().carry_out(UNITS, stage.work())
    assert sorted(stage.computed()) == sorted(unit.name for unit in UNITS)
    np.testing.assert_array_equal(stage.whole(), VOLUME * 3)


def test_workers_share_the_work(tmp_path: Path) -> None:
    stage = Tripled(tmp_path, seconds=0.05)
    carry_out(Processes(2, threads=1), stage)
    assert len(stage.computers()) == 2
    assert str(os.getpid()) not in stage.computers()


def test_a_unit_that_fails_twice_is_tried_a_third_time(executor: Executor, tmp_path: Path) -> None:
    stage = Tripled(tmp_path, trouble=(MIDDLE, "raise", 2))
    carry_out(executor, stage)
    assert stage.computed().count(MIDDLE) == 3
    np.testing.assert_array_equal(stage.whole(), VOLUME * 3)


def test_a_unit_that_fails_for_good_ends_the_stage_with_its_error(executor: Executor, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="the network is away"):
        carry_out(executor, Tripled(tmp_path, trouble=(MIDDLE, "raise", 99)))
    stage = Tripled(tmp_path)
    carry_out(executor, stage)
    np.testing.assert_array_equal(stage.whole(), VOLUME * 3)


@pytest.mark.parametrize("kind", ["processes", "dask"])
def test_a_worker_that_dies_costs_its_unit_only(kind: str, dask: OnDask, tmp_path: Path) -> None:
    stage = Tripled(tmp_path, trouble=(MIDDLE, "kill", 1))
    carry_out(dask if kind == "dask" else Processes(2, threads=1), stage)
    counts = [stage.computed().count(unit.name) for unit in UNITS]
    assert counts[5] == 2
    assert max(counts[:5] + counts[6:]) == 1
    np.testing.assert_array_equal(stage.whole(), VOLUME * 3)


def test_a_unit_that_kills_its_workers_is_told(tmp_path: Path) -> None:
    with pytest.raises(VemosaicError, match=f"worker processes died 3 times at unit {MIDDLE}; look whether memory"):
        carry_out(Processes(2, threads=1), Tripled(tmp_path, trouble=(MIDDLE, "kill", 99)))


def test_a_worker_that_outlived_its_run_writes_no_more(tmp_path: Path) -> None:
    before = Tripled(tmp_path, "earlier settings")()
    before.ledger.start()
    carry_out(InProcess(), Tripled(tmp_path))
    with pytest.raises(SupersededError):
        before.attempt_write(UNITS[0], VOLUME[UNITS[0].slices])
    np.testing.assert_array_equal(Tripled(tmp_path).whole(), VOLUME * 3)


def test_workers_end_with_the_run_that_was_killed(tmp_path: Path) -> None:
    run = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from pathlib import Path; from tripled import *; from vemosaic.blocks.executors import Processes\n"
            f"if __name__ == '__main__':\n"
            f"    stage = Tripled(Path({str(tmp_path)!r}), seconds=0.3)\n"
            "    Processes(2, threads=1).carry_out(UNITS, stage.work())",
        ],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
    )
    computed = tmp_path / "computed.txt"
    while not computed.exists() or len(computed.read_text().splitlines()) < 3:
        assert run.poll() is None
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    workers = {int(pid) for pid in Tripled(tmp_path).computers()}
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived its run"
        time.sleep(0.1)
    carry_out(InProcess(), Tripled(tmp_path))
    np.testing.assert_array_equal(Tripled(tmp_path).whole(), VOLUME * 3)


def test_a_scheduler_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vemosaic.blocks.dask_executor.PATIENCE", "1s")
    with (
        pytest.raises(SettingsError, match=r"--scheduler tcp://127.0.0.1:1: no Dask scheduler answers there"),
        dask_cluster("tcp://127.0.0.1:1"),
    ):
        pass
