import errno
import itertools
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vemosaic.blocks import Ledger, StageEnded, StageStarted, UnitDone, process, stream, units
from vemosaic.errors import OutputError

VOLUME = np.arange(12 * 5 * 7, dtype=np.uint8).reshape(12, 5, 7)
UNITS = units(VOLUME.shape, (2, 5, 4))


@pytest.fixture(scope="module", autouse=True)
def brief_pauses():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vemosaic.blocks.work.PAUSE", 0.01)
        yield


class Stage:
    """Triples a volume, one file for each unit, and notes what it is asked to do; ``fault`` may interfere."""

    def __init__(self, run: Path, work=UNITS, fingerprint="settings", fault=lambda step, unit: None):
        self.run, self.work, self.fault = run, work, fault
        self.calls = {"read": [], "compute": [], "write": []}
        self.events = []
        self.ledger = Ledger(run / "records", "triple", fingerprint, owns=lambda u: [self.file(u)], root=run)

    def file(self, unit):
        return self.run / f"{unit.name}.npy"

    def _enter(self, step, unit):
        self.calls[step].append(unit)
        self.fault(step, unit)

    def read(self, unit):
        self._enter("read", unit)
        return VOLUME[unit.slices]

    def compute(self, unit, voxels):
        self._enter("compute", unit)
        return voxels * 3

    def write(self, unit, tripled):
        self._enter("write", unit)
        np.save(self.file(unit), tripled)

    def process(self, **kwargs):
        process(
            self.work,
            read=self.read,
            compute=self.compute,
            write=self.write,
            ledger=self.ledger,
            listen=self.events.append,
            **kwargs,
        )

    def whole(self):
        whole = np.zeros(VOLUME.shape, np.uint8)
        for unit in self.work:
            whole[unit.slices] = np.load(self.file(unit))
        return whole


@settings(max_examples=15, deadline=None)
@given(
    unit_shape=st.tuples(st.integers(4, 12), st.integers(2, 5), st.integers(3, 7)),
    read_ahead=st.integers(0, 4),
    write_behind=st.integers(0, 4),
)
def test_any_units_and_queues_give_the_same_voxels(tmp_path_factory, unit_shape, read_ahead, write_behind):
    stage = Stage(tmp_path_factory.mktemp("run"), units(VOLUME.shape, unit_shape))
    stage.process(read_ahead=read_ahead, write_behind=write_behind)
    np.testing.assert_array_equal(stage.whole(), VOLUME * 3)
    assert stage.calls == {"read": stage.work, "compute": stage.work, "write": stage.work}


def test_events_count_voxels_and_what_was_done_before(tmp_path):
    Stage(tmp_path, UNITS[:3]).process()
    stage = Stage(tmp_path)
    stage.process()
    before = sum(unit.voxels for unit in UNITS[:3])
    assert stage.events[0] == StageStarted("triple", VOLUME.size, before, "voxel")
    assert stage.events[1:-1] == [UnitDone("triple", unit.voxels) for unit in UNITS[3:]]
    assert stage.events[-1] == StageEnded("triple")


def test_listeners_are_called_by_the_caller_and_hear_only_of_what_is_recorded(tmp_path):
    stage = Stage(tmp_path)
    heard = []

    def listen(event):
        assert threading.current_thread() is threading.main_thread()
        if isinstance(event, UnitDone):
            heard.append(event)
            assert len(stage.ledger.done(UNITS)) >= len(heard)

    process(UNITS, read=stage.read, compute=stage.compute, write=stage.write, ledger=stage.ledger, listen=listen)
    assert len(heard) == len(UNITS)


def test_done_units_are_skipped(tmp_path):
    Stage(tmp_path).process()
    again = Stage(tmp_path)
    again.process()
    assert again.calls == {"read": [], "compute": [], "write": []}


def test_another_fingerprint_computes_all_again(tmp_path):
    Stage(tmp_path).process()
    again = Stage(tmp_path, fingerprint="other settings")
    again.process()
    assert again.calls["compute"] == UNITS


@pytest.mark.parametrize("step", ["read", "compute", "write"])
@pytest.mark.parametrize("number", [0, 3, len(UNITS) - 1])
def test_an_exception_anywhere_stops_all_and_leaves_what_resumes(tmp_path, step, number):
    def fault(at, unit):
        if at == step and unit == UNITS[number]:
            raise ZeroDivisionError(f"in {step}")

    broken, before = Stage(tmp_path, fault=fault), set(threading.enumerate())
    with pytest.raises(ZeroDivisionError, match=f"in {step}"):
        broken.process()
    assert set(threading.enumerate()) <= before
    assert StageEnded("triple") not in broken.events
    assert len(broken.calls["compute"]) <= number + 4

    done = broken.ledger.done(UNITS)
    assert UNITS[number] not in done
    rerun = Stage(tmp_path)
    rerun.process()
    assert rerun.calls["compute"] == [unit for unit in UNITS if unit not in done]
    np.testing.assert_array_equal(rerun.whole(), VOLUME * 3)


def test_a_full_disk_is_one_line_that_names_the_folder(tmp_path):
    def fault(step, unit):
        if step == "write" and unit == UNITS[2]:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match=f"^{tmp_path}: the disk is full; free some space and run the same"):
        Stage(tmp_path, fault=fault).process()
    Stage(tmp_path).process()


@pytest.mark.parametrize(("read_ahead", "write_behind"), [(2, 2), (0, 0), (3, 1)])
def test_memory_is_bounded(tmp_path, read_ahead, write_behind):
    """A slow writer, then a slow reader: never more units alive than the sum of both queues and one."""
    alive: weakref.WeakSet = weakref.WeakSet()
    most = 0

    class Block:
        def __init__(self):
            nonlocal most
            alive.add(self)
            most = max(most, len(alive))

    def write(unit, block):
        assert block in alive
        time.sleep(0.005)
        (tmp_path / unit.name).touch()

    book = Ledger(tmp_path / "records", "s", "f", owns=lambda u: [tmp_path / u.name], root=tmp_path)
    work = units((12, 1, 1), (1, 1, 1))
    process(
        work,
        read=lambda unit: Block(),
        compute=lambda unit, block: block,
        write=write,
        ledger=book,
        read_ahead=read_ahead,
        write_behind=write_behind,
    )
    assert most <= read_ahead + write_behind + 1
    assert not alive


def test_reading_and_writing_overlap_with_computing(tmp_path):
    """Each compute waits for the next unit's read, each write for the next unit's compute."""
    begun = {(step, unit): threading.Event() for step in ("read", "compute", "write") for unit in UNITS}
    after = dict(itertools.pairwise(UNITS))
    awaited = {"compute": "read", "write": "compute"}

    def fault(step, unit):
        begun[step, unit].set()
        if step in awaited and unit in after:
            assert begun[awaited[step], after[unit]].wait(timeout=10)

    Stage(tmp_path, fault=fault).process()


def test_ctrl_c_ends_at_once_even_while_a_read_hangs(tmp_path):
    program = """
import os, signal, sys, threading, time
from pathlib import Path
from vemosaic.blocks import Ledger, process, units

run = Path(sys.argv[1])
def read(unit):
    if unit.index[0] == 3:
        while len(ledger.done(work)) < 3:
            time.sleep(0.01)
        print("hangs", flush=True)
        time.sleep(100)
def write(unit, result):
    (run / unit.name).touch()
work = units((9, 1, 1), (1, 1, 1))
ledger = Ledger(run / "records", "stage", "f", owns=lambda u: [run / u.name], root=run)
try:
    process(work, read=read, compute=lambda u, d: None, write=write, ledger=ledger)
except KeyboardInterrupt:
    print(len(ledger.done(work)), flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"hangs\n"
    start = time.perf_counter()
    child.send_signal(signal.SIGINT)
    assert child.stdout.read() == b"3\n"
    assert child.wait(timeout=10) == 0
    child.stdout.close()
    assert time.perf_counter() - start < 5


def test_stream_yields_results_in_order_and_tells(tmp_path):
    events = []
    results = stream(
        UNITS,
        read=lambda unit: VOLUME[unit.slices],
        compute=lambda unit, voxels: int(voxels.sum(dtype=int)),
        stage="sum",
        listen=events.append,
    )
    got = list(results)
    assert [unit for unit, _ in got] == UNITS
    assert sum(total for _, total in got) == VOLUME.sum(dtype=int)
    assert events[0] == StageStarted("sum", VOLUME.size)
    assert sum(event.amount for event in events[1:-1]) == VOLUME.size
    assert events[-1] == StageEnded("sum")


def test_a_stream_left_early_stops_reading():
    reads, before = [], set(threading.enumerate())
    results = stream(UNITS, read=reads.append, compute=lambda unit, data: unit, stage="sum")
    next(results)
    results.close()
    assert len(reads) <= 4
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("step", ["read", "compute"])
def test_an_exception_in_a_stream_reaches_the_caller(step):
    def fail(at):
        if at == step:
            raise ZeroDivisionError

    results = stream(UNITS, read=lambda unit: fail("read"), compute=lambda u, d: fail("compute"), stage="s")
    with pytest.raises(ZeroDivisionError):
        list(results)


def test_no_thread_holds_up_the_end_of_the_interpreter():
    program = (
        "import time\nfrom vemosaic.blocks import stream, units\n"
        "s = stream(units((3, 1, 1), (1, 1, 1)), read=lambda u: time.sleep(60 * u.index[0]),"
        " compute=lambda u, d: u, stage='s')\nnext(s)\nraise SystemExit(7)"
    )
    start = time.perf_counter()
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 7
    assert time.perf_counter() - start < 10
