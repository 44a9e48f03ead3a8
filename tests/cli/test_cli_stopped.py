"""Commands that are stopped by Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from command_line import Command, references, run, started

from small_runs import Cell, record, results
from vemosaic import progress


@pytest.mark.parametrize("moment", [2, 9, 16])
def test_ctrl_c_ends_with_a_line_and_the_same_command_goes_on(
    command: Command, cell: Cell, finished: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    heard = 0

    def interrupt(*_: object) -> None:
        nonlocal heard
        heard += 1
        if heard == moment:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(progress.ProgressBars, "__call__", interrupt)
        ended = run(command, cell, *references(cell), "-o", "out")
    assert ended.code == 130
    assert ended.err == "interrupted: run the same command again to go on from here\n"
    assert record(Path("out"))["complete"] is False
    assert run(command, cell, *references(cell), "-o", "out").code == 0
    assert results(Path("out")) == results(finished)


@pytest.mark.parametrize(
    ("numbers", "code", "said"),
    [
        ([signal.SIGINT], 130, "interrupted: run the same command again to go on from here"),
        ([signal.SIGINT] * 2, 130, "interrupted: run the same command again to go on from here"),
        ([signal.SIGTERM], 143, "stopped by SIGTERM; run the same command again to go on"),
    ],
)
def test_ctrl_c_once_or_twice_and_sigterm_end_at_once(
    cell: Cell, tmp_path: Path, numbers: list[signal.Signals], code: int, said: str
) -> None:
    process = started("run", cell.raw, "--voxel-size", 16, "--anchors", 1_000_000, "-o", tmp_path / "run")
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run/run.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(1.0)
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.05)
        out, err = process.communicate(timeout=60)  # the training would take hours
    finally:
        process.kill()
    assert process.returncode == code
    assert out == ""
    assert err.splitlines()[-1] == said
    assert "Traceback" not in err
    assert record(tmp_path / "run")["complete"] is False
