"""Long work in the background: what is going on, how far it is, and a way to stop it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Literal

from vemosaic.blocks.events import Event, Listener, StageStarted, UnitDone
from vemosaic.errors import VemosaicError

JobState = Literal["waiting", "running", "done", "cancelled", "failed"]
Work = Callable[["Job"], dict[str, Any] | None]
KEPT = 30
"""Ended jobs that are remembered."""

PATIENCE = 1.0
"""Seconds that each lane is waited for at the end; what jobs have done is on disk in any case."""

OFTEN = 0.2
"""Least seconds between two tellings of progress."""


class Cancelled(Exception):
    """Raised within a job that is to stop."""


@dataclass
class Job:
    """A piece of work, its progress and its end.

    Attributes
    ----------
    id, kind, what
        Its name, its kind, and what it does in words.
    about
        What tells it from another of the same kind, such as the key of a state.
    state
        Where it stands.
    done, total
        How far the stage that it is in has come.
    problem, remedy
        Of a job that failed.
    result
        What it left.
    """

    id: str
    kind: str
    what: str
    work: Work = field(repr=False)
    tell: Callable[[Job], None] = field(repr=False)
    about: str = ""
    state: JobState = "waiting"
    done: int = 0
    total: int = 0
    problem: str | None = None
    remedy: str | None = None
    result: dict[str, Any] | None = None
    _begun: float = 0.0
    _before: int = 0
    _told: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def ended(self) -> bool:
        """Whether nothing will happen any more."""
        return self.state in ("done", "cancelled", "failed")

    def cancel(self) -> None:
        """Ask the job to stop; it does at its next step."""
        self._stop.set()

    def check(self) -> None:
        """Go on, or raise `Cancelled` if the job is to stop."""
        if self._stop.is_set():
            raise Cancelled

    @property
    def listen(self) -> Listener:
        """Hears how the work goes on."""
        return self._hear

    def _hear(self, event: Event) -> None:
        if isinstance(event, StageStarted):
            self.progress(event.done, event.total)
            self._before, self._begun = event.done, time.monotonic()
        elif isinstance(event, UnitDone):
            self.progress(self.done + event.amount, self.total)

    def progress(self, done: int, total: int) -> None:
        """Tell how far the work has come; raises `Cancelled` if it is to stop."""
        self.check()
        self.done, self.total = done, total
        if time.monotonic() - self._told > OFTEN:
            self._told = time.monotonic()
            self.tell(self)

    def describe(self) -> dict[str, Any]:
        """What the page is told."""
        return {
            "id": self.id,
            "kind": self.kind,
            "what": self.what,
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "seconds_left": self._seconds_left(),
            "problem": self.problem,
            "remedy": self.remedy,
            "result": self.result,
        }

    def _seconds_left(self) -> int | None:
        passed, made = time.monotonic() - self._begun, self.done - self._before
        if self.state != "running" or made <= 0:
            return None
        return round(passed * (self.total - self.done) / made)

    def run(self) -> None:
        """Do the work, whatever comes of it."""
        try:
            self.check()
            self.state, self._begun = "running", time.monotonic()
            self.tell(self)
            self.result = self.work(self)
            self.state = "done"
        except Cancelled:
            self.state = "cancelled"
        except VemosaicError as error:
            self.problem, self.remedy = split(error)
            self.state = "failed"
        except Exception as error:  # a fault of ours: the page must hear of it, and the other jobs go on
            self.problem = f"{self.what} failed ({type(error).__name__}: {error})"
            self.remedy = "start it again; if it fails again, please report it"
            self.state = "failed"
        self.tell(self)


class Jobs:
    """Jobs carried out one after another in each of several lanes.

    Parameters
    ----------
    tell
        Called whenever a job has changed, in the thread of the job.
    lanes
        Names of the lanes; each has a thread of its own, which does not keep the program from ending.
    """

    def __init__(self, tell: Callable[[Job], None], lanes: Sequence[str]) -> None:
        self._tell = tell
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._lanes: dict[str, SimpleQueue[Job | None]] = {lane: SimpleQueue() for lane in lanes}
        self._threads = [
            threading.Thread(target=_carry_out, args=(queue,), name=f"vemosaic {lane}", daemon=True)
            for lane, queue in self._lanes.items()
        ]
        for thread in self._threads:
            thread.start()

    def add(self, lane: str, kind: str, what: str, work: Work, about: str = "") -> Job:
        """Add a job to a lane; one of the same kind, words and matter that has not ended is returned instead."""
        with self._lock:
            for known in self._jobs.values():
                same = (known.kind, known.what, known.about) == (kind, what, about)
                if same and not known.ended and not known._stop.is_set():
                    return known
            job = Job(f"j{next(self._numbers)}", kind, what, work, self._tell, about)
            self._jobs[job.id] = job
            ended = [j.id for j in self._jobs.values() if j.ended]
            for old in ended[: max(0, len(ended) - KEPT)]:
                del self._jobs[old]
        self._tell(job)
        self._lanes[lane].put(job)
        return job

    def all(self) -> list[Job]:
        """Return the jobs that are known, the oldest first."""
        with self._lock:
            return list(self._jobs.values())

    def get(self, name: str) -> Job | None:
        """Return a job by its id."""
        with self._lock:
            return self._jobs.get(name)

    def stop(self) -> None:
        """Ask all jobs to stop and the lanes to end, and wait a moment for processes of their own to be ended."""
        for job in self.all():
            job.cancel()
        for queue in self._lanes.values():
            queue.put(None)
        for thread in self._threads:
            thread.join(PATIENCE)


def _carry_out(queue: SimpleQueue[Job | None]) -> None:
    while (job := queue.get()) is not None:
        job.run()


def split(error: VemosaicError) -> tuple[str, str]:
    """Return problem and remedy of an error as two texts."""
    problem, _, remedy = " ".join(str(error).split()).rpartition("; ")
    return problem or remedy, remedy
