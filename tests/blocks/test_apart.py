"""A call in a process of its own: its result, its errors, and that it outlives nobody."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vemosaic.blocks.apart import apart
from vemosaic.errors import VemosaicError

PATIENCE = 60.0


def test_the_call_is_made_in_another_process_which_may_have_its_own() -> None:
    assert apart(apart, os.getpid) != os.getpid()
    assert not multiprocessing.active_children()


def test_what_it_raises_is_raised_here() -> None:
    with pytest.raises(ValueError, match="invalid literal") as raised:
        apart(int, "seven")
    assert "in a worker process" in raised.value.__notes__[0]


def test_a_death_is_told() -> None:
    with pytest.raises(VemosaicError, match=r"vemosaic _exit: the process died \(exit code 3\); look whether memory"):
        apart(os._exit, 3)


def test_it_ends_when_the_caller_is_interrupted() -> None:
    class Interrupted(Exception):
        pass

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(Interrupted):
            apart(time.sleep, 2 * PATIENCE)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not multiprocessing.active_children()


def tell_and_wait(file: Path) -> None:
    file.with_suffix(".partial").write_text(str(os.getpid()))
    file.with_suffix(".partial").rename(file)
    time.sleep(2 * PATIENCE)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells who lives")
def test_it_ends_with_the_caller_however_that_ends(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    program = (
        f"import sys; from pathlib import Path; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"from test_apart import apart, tell_and_wait; apart(tell_and_wait, Path({str(told)!r}))"
    )
    caller = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + PATIENCE
    while not told.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    caller.kill()
    caller.wait()
    while _lives(int(told.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
