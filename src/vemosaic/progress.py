"""Progress bars for a terminal, with rate and time left; a line a stage where the output is no terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from vemosaic.blocks.events import Event, StageEnded, StageStarted, UnitDone

MOST_BARS = 16
"""Beyond so many, the oldest finished bar gives way: a terminal has few lines, and some commands many stages."""


class _Rate(ProgressColumn):
    """Units a second, with the unit's name; nothing where there is but one."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed if task.total != 1 else None
        return Text("" if speed is None else f"{_short(speed)} {task.fields['unit']}s/s", style="progress.data.speed")


class ProgressBars:
    """A listener that shows each stage as a bar; a context manager.

    Work that an earlier run had done counts as done and not towards the rate.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description:>16}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            _Rate(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self._console,
            disable=not self._console.is_terminal,
            speed_estimate_period=60,
        )
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, tuple[StageStarted, float]] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, StageStarted):
            finished = [task.id for task in self._bars.tasks if task.finished]
            if len(self._bars.tasks) >= MOST_BARS and finished:
                self._bars.remove_task(finished[0])
            self._tasks[event.stage] = self._bars.add_task(
                event.stage, total=event.total, completed=event.done, unit=event.unit_name
            )
            self._started[event.stage] = (event, time.monotonic())
        elif isinstance(event, UnitDone):
            self._bars.advance(self._tasks[event.stage], event.amount)
        elif isinstance(event, StageEnded) and not self._console.is_terminal:
            start, begun = self._started[event.stage]
            seconds = time.monotonic() - begun
            rate = _short((start.total - start.done) / max(seconds, 1e-9))
            told = f", {rate} {start.unit_name}s/s" if start.total != 1 else ""
            print(f"{event.stage}: {seconds:.1f} s{told}", file=sys.stderr, flush=True)


def _short(rate: float) -> str:
    """Write a rate with three digits and a prefix."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rate >= factor:
            return f"{rate / factor:.3g} {prefix}"
    return f"{rate:.3g}"
