"""Progress: a line a stage in a log, bars in a terminal, and rates that leave out what an earlier run did."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Task

from vemosaic import progress
from vemosaic.blocks.events import Event, StageEnded, StageStarted, UnitDone
from vemosaic.progress import ProgressBars, _Rate, _short

EVENTS: list[Event] = [
    StageStarted("map", 1_000_000, 600_000),
    UnitDone("map", 300_000),
    UnitDone("map", 100_000),
    StageEnded("map"),
]


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_a_log_gets_a_line_for_each_stage(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBars() as bars:
        for event in EVENTS:
            bars(event)
            clock.now += 1.0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "map: 3.0 s, 133 k voxels/s\n"  # 400,000 of them: the rest was done before


def test_a_stage_that_fails_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), ProgressBars() as bars:
        bars(EVENTS[0])
        raise ZeroDivisionError
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_bars(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=screen, force_terminal=True, width=100))
    with ProgressBars() as bars:
        for event in EVENTS:
            bars(event)
        bars(StageStarted("train", 128, unit_name="anchor"))
        bars(UnitDone("train", 64))
    shown = screen.getvalue()
    assert "map" in shown
    assert "100 %" in shown
    assert "50 %" in shown
    assert "voxels/s" in shown
    assert capsys.readouterr() == ("", "")  # no second line about the same


def test_a_stage_of_the_same_name_gets_a_bar_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=screen, force_terminal=True, width=100))
    with ProgressBars() as bars:
        for event in EVENTS * 2:
            bars(event)
    lines = [line for line in screen.getvalue().splitlines() if "map" in line]
    assert all("100 %" in line for line in lines[-2:])


def test_no_rate_before_there_is_one() -> None:
    class Waiting:
        finished_speed = None
        speed = None
        total = 100

    waiting: Task = Waiting()  # type: ignore[assignment]
    assert _Rate().render(waiting).plain == ""


def test_one_page_has_no_rate(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBars() as bars:
        bars(StageStarted("report", 1, unit_name="page"))
        clock.now += 12.0
        bars(StageEnded("report"))
    assert capsys.readouterr().err == "report: 12.0 s\n"


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (0.0, "0"),
        (0.25, "0.25"),
        (12.34, "12.3"),
        (999.0, "999"),
        (1234.0, "1.23 k"),
        (5.6e6, "5.6 M"),
        (7e9, "7 G"),
    ],
)
def test_rates_have_three_digits(rate: float, said: str) -> None:
    assert _short(rate) == said


def test_beyond_a_screenful_the_oldest_finished_bars_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "MOST_BARS", 3)
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=io.StringIO(), force_terminal=True, width=100))
    with ProgressBars() as bars:
        bars(StageStarted("jobs", 10))
        for name in "abc":
            for event in (StageStarted(name, 1), UnitDone(name, 1), StageEnded(name)):
                bars(event)
        assert [task.description for task in bars._bars.tasks] == ["jobs", "b", "c"]
        bars(UnitDone("jobs", 1))
        assert bars._bars.tasks[0].completed == 1
