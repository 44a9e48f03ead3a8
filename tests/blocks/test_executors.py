"""The same units, here, in worker processes and on a Dask cluster; workers that fail and die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
from tripled import UNITS, VOLUME, Tripled

from vemosaic.blocks import Event, Ledger, StageEnded, StageStarted, UnitDone
from vemosaic.blocks.dask_executor import OnDask, dask_cluster
from vemosaic.blocks.executors import Executor, InProcess, Processes, largest_first
from vemosaic.blocks.records import SupersededError
from vemosaic.blocks.work import Steps, Work
from vemosaic.errors import OutputError, SettingsError, VemosaicError

MIDDLE = UNITS[5].name


@pytest.fixture(scope="module")
def cluster() -> Iterator[OnDask]:
    with dask_cluster("local", workers=2) as executor:
        yield executor


@pytest.fixture
def dask(cluster: OnDask) -> OnDask:
    """Two Dask workers, also after a test that killed one."""
    cluster.client.wait_for_workers(2)
    return cluster


@pytest.fixture(params=["here", "processes", "dask"])
def executor(request: pytest.FixtureRequest) -> Executor:
    if request.param == "here":
        return InProcess()
    if request.param == "processes":
        return Processes(2, threads=1)
    found: OnDask = request.getfixturevalue("dask")
    return found


def processes() -> dict[str, BaseProcess]:
    """Worker processes by their numbers, without Dask's."""
    return {str(child.pid): child for child in active_children() if child.name.startswith("vemosaic worker")}


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
def test_a_worker_that_dies_costs_no_unit_that_was_done(kind: str, dask: OnDask, tmp_path: Path) -> None:
    stage = Tripled(tmp_path, trouble=(MIDDLE, "kill", 1))
    carry_out(dask if kind == "dask" else Processes(2, threads=1), stage)
    counts = {unit.name: stage.computed().count(unit.name) for unit in UNITS}
    assert counts[MIDDLE] == 2
    done = (tmp_path / "done-before").read_text().split()
    assert {counts[name] for name in done} <= {1}
    assert sum(counts.values()) <= len(UNITS) + 2  # one that it computed, and one that it wrote
    np.testing.assert_array_equal(stage.whole(), VOLUME * 3)


@pytest.mark.parametrize("kind", ["processes", "dask"])
def test_workers_read_compute_and_write_at_the_same_time(kind: str, dask: OnDask, tmp_path: Path) -> None:
    """Each unit is computed until the next one is being read, and written until the next one is being computed."""
    stage = Tripled(tmp_path, trouble=("", "overlap", 0))
    carry_out(dask if kind == "dask" else Processes(2, threads=1), stage)
    np.testing.assert_array_equal(stage.whole(), VOLUME * 3)
    assert len(stage.computers()) == 2


@pytest.mark.parametrize("kind", ["processes", "dask"])
@pytest.mark.parametrize("number", [0, 5, len(UNITS) - 2])
def test_no_worker_idles_while_another_has_units(kind: str, number: int, dask: OnDask, tmp_path: Path) -> None:
    """One unit is computed until all others are: whatever its worker has read must go to the other worker."""
    stage = Tripled(tmp_path, trouble=(UNITS[number].name, "alone", 0))
    events = carry_out(dask if kind == "dask" else Processes(2, threads=1), stage)
    assert sorted(stage.computed()) == sorted(unit.name for unit in UNITS)
    assert sum(e.amount for e in events if isinstance(e, UnitDone)) == VOLUME.size
    np.testing.assert_array_equal(stage.whole(), VOLUME * 3)


def test_large_units_come_first() -> None:
    assert [unit.voxels for unit in largest_first(UNITS)] == [40] * 6 + [30] * 6
    assert largest_first(UNITS)[:6] == UNITS[::2]


def test_a_full_disk_is_one_line_wherever_it_is_met(executor: Executor, tmp_path: Path) -> None:
    with pytest.raises(OutputError) as raised:
        carry_out(executor, Tripled(tmp_path, trouble=(MIDDLE, "full", 1)))
    assert str(raised.value) == (
        f"{tmp_path}: the disk is full; free some space and run the same command again, finished blocks are kept"
    )


def test_workers_are_kept_for_the_next_stage_and_end_with_the_block(tmp_path: Path) -> None:
    first, second = (Tripled(tmp_path / name, seconds=0.02) for name in "ab")
    with Processes(2, threads=1) as executor:
        for stage in (first, second):
            stage.run.mkdir()
            carry_out(executor, stage)
        assert first.computers() == second.computers()
        assert set(processes()) == first.computers()
    assert not processes()


def test_a_worker_that_died_between_two_stages_is_replaced(tmp_path: Path) -> None:
    first, second = (Tripled(tmp_path / name, seconds=0.02) for name in "ab")
    with Processes(2, threads=1) as executor:
        first.run.mkdir()
        carry_out(executor, first)
        os.kill(int(min(processes())), signal.SIGKILL)
        second.run.mkdir()
        carry_out(executor, second)
    np.testing.assert_array_equal(second.whole(), VOLUME * 3)


def test_no_process_is_left_where_a_stage_fails(tmp_path: Path) -> None:
    executor = Processes(2, threads=1)
    with pytest.raises(OutputError):
        carry_out(executor, Tripled(tmp_path, trouble=(MIDDLE, "full", 1)))
    assert not processes()
    stage = Tripled(tmp_path)
    with executor:
        carry_out(executor, stage)
    np.testing.assert_array_equal(stage.whole(), VOLUME * 3)


@dataclass(frozen=True)
class Environment:
    """A stage whose units say with what variables their process was started."""

    run: Path

    def __call__(self) -> Steps[None, str]:
        ledger = Ledger(self.run / "records", "see", "", owns=lambda unit: [self.run / unit.name], root=self.run)
        names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
        return Steps(
            lambda unit: time.sleep(0.05),
            lambda unit, data: " ".join(os.environ.get(name, "-") for name in names),
            lambda unit, found: (self.run / unit.name).write_text(found),
            ledger,
        )


def test_workers_have_their_share_of_cores_and_a_gpu_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    opener = Environment(tmp_path)
    with Processes(2, threads=3, gpus=(4, 6)) as executor:
        executor.carry_out(UNITS, Work(opener(), opener))
    assert {(tmp_path / unit.name).read_text() for unit in UNITS} == {"3 4", "3 6"}
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


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


STOPPED_RUN = """
from pathlib import Path
from tripled import UNITS, Tripled
from vemosaic.blocks.executors import Processes

if __name__ == "__main__":
    stage = Tripled(Path({run!r}), seconds=0.3)
    try:
        Processes(2, threads=1).carry_out(UNITS, stage.work())
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.parametrize("signals", [[signal.SIGKILL], [signal.SIGTERM], [signal.SIGINT], [signal.SIGINT] * 2], ids=str)
def test_workers_end_with_the_run_that_is_stopped(tmp_path: Path, signals: list[signal.Signals]) -> None:
    """Ctrl-C reaches the run and its workers alike, as in a terminal."""
    stage = Tripled(tmp_path)
    run = subprocess.Popen(
        [sys.executable, "-c", STOPPED_RUN.format(run=str(tmp_path))],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    while len(stage.computed()) < 3:
        assert run.poll() is None
        time.sleep(0.02)
    for number in signals:
        (os.killpg if number == signal.SIGINT else os.kill)(run.pid, number)
        time.sleep(0.02)
    run.communicate(timeout=20)
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in stage.computers()):
        assert time.monotonic() < deadline, "a worker outlived its run"
        time.sleep(0.05)
    assert len(stage.recorded()) < len(UNITS)
    done = stage.recorded()
    carry_out(InProcess(), stage)
    assert {stage.computed().count(name) for name in done} <= {1}
    np.testing.assert_array_equal(stage.whole(), VOLUME * 3)


def has_imported(name: str) -> bool:
    return name in sys.modules


def test_local_workers_import_what_they_will_need(capfd: pytest.CaptureFixture[str]) -> None:
    name = "this"  # which nothing else imports
    with dask_cluster("local", workers=2, modules=[name]) as cluster:
        asked = [cluster.client.submit(has_imported, name, workers=[w], pure=False) for w in cluster.client.nthreads()]
        assert [future.result() for future in asked] == [True, True]
    with dask_cluster("local", workers=2, modules=["numpy.testing"]):
        pass  # gone before they have
    assert "WARNING" not in capfd.readouterr().err


def test_a_scheduler_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vemosaic.blocks.dask_executor.PATIENCE", "1s")
    with (
        pytest.raises(SettingsError, match=r"--scheduler tcp://127.0.0.1:1: no Dask scheduler answers there"),
        dask_cluster("tcp://127.0.0.1:1"),
    ):
        pass
