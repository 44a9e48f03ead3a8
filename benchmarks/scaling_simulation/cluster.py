"""An event-driven simulation of workers that share a scheduler and a store, fail, are slow, and run out of time.

A worker does what `vemosaic.blocks.process` does, which is what a job of an array runs: while one unit is computed, the
next is read and the one before is written, and no more. Worker processes write before they compute the next, and those
of Dask do one thing after the other (`Workers.writes_behind`, `Workers.reads_ahead`). What all share are queues served
in order of arrival: the scheduler, the store's bandwidth, and the requests that the store answers. Times are in
seconds, sizes in bytes.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Work:
    """What one unit asks for.

    Attributes
    ----------
    compute
        Mean seconds of computing.
    spread
        Standard deviation of the logarithm of its computing time, which is lognormal with that mean.
    encode
        Seconds in which the writing thread compresses, while the next unit is computed.
    bytes_in, bytes_out
        Read from and written to the store.
    requests_in, requests_out
        Requests for that.
    """

    compute: float
    spread: float = 0.0
    encode: float = 0.0
    bytes_in: float = 0.0
    bytes_out: float = 0.0
    requests_in: float = 0.0
    requests_out: float = 0.0


@dataclass(frozen=True)
class Store:
    """What all workers read from and write to.

    Attributes
    ----------
    bandwidth
        Bytes per second in all.
    link
        Bytes per second of one worker.
    reads_per_second, writes_per_second
        Requests answered per second in all.
    latency
        Seconds from asking to the first byte.
    """

    bandwidth: float = math.inf
    link: float = math.inf
    reads_per_second: float = math.inf
    writes_per_second: float = math.inf
    latency: float = 0.0


@dataclass(frozen=True)
class Workers:
    """Who computes.

    Attributes
    ----------
    count
        How many at once.
    failures_per_hour
        Deaths of one worker in an hour, at random moments; what it held is lost and done anew.
    wall_time
        Seconds after which a worker is stopped, as by a SLURM job's limit. Jobs have begun at different times: the
        first stop comes after a part of it, drawn uniformly.
    restart
        Seconds until another one takes the place of a lost worker.
    slow_share, slow_factor
        Share of the workers that lie on slow nodes, and how many times longer they compute.
    reads_ahead, writes_behind
        Read the next unit, and write the one before, while they compute.
    """

    count: int
    failures_per_hour: float = 0.0
    wall_time: float = math.inf
    restart: float = 0.0
    slow_share: float = 0.0
    slow_factor: float = 1.0
    reads_ahead: bool = True
    writes_behind: bool = True


@dataclass(frozen=True)
class Scheduler:
    """How units are handed out.

    Attributes
    ----------
    overhead
        Seconds that the one scheduler spends on a task.
    batch
        Units in a task; a task is recorded as a whole, and lost as a whole.
    record_requests
        Write requests of a task's done-record.
    speculate
        Give idle workers copies of the tasks under way for longest; the first to end counts.
    """

    overhead: float = 0.0
    batch: int = 1
    record_requests: float = 0.0
    speculate: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes
    ----------
    seconds
        From start to the last record.
    computed
        Units whose computing began, lost and doubled ones included.
    deaths
        Workers lost, by failure or by wall time.
    rate
        Units per second in the middle eight tenths of the run.
    """

    seconds: float
    computed: int
    deaths: int
    rate: float


class _Queue:
    """A resource that serves one after the other, in order of arrival."""

    def __init__(self) -> None:
        self._free = 0.0

    def serve(self, now: float, service: float) -> float:
        """When a request that arrives now has been served."""
        self._free = max(self._free, now) + service
        return self._free


@dataclass
class _Worker:
    """One worker: at most one unit in each hand, as the executor's threads have; units are known by their task."""

    life: int = 0
    factor: float = 1.0
    alive: bool = True
    to_read: deque[int] = field(default_factory=deque)
    reading: int | None = None
    read: int | None = None
    computing: int | None = None
    computed: int | None = None
    writing: int | None = None
    left: dict[int, int] = field(default_factory=dict)


def simulate(
    units: int,
    work: Work,
    workers: Workers,
    store: Store | None = None,
    scheduler: Scheduler | None = None,
    seed: int = 0,
) -> Outcome:
    """Run all units to their end.

    Parameters
    ----------
    units
        How many.
    work, workers, store, scheduler
        See there; a store and a scheduler that cost nothing where None.
    seed
        Of all that is random.
    """
    return _Cluster(units, work, workers, store or Store(), scheduler or Scheduler(), seed).run()


class _Cluster:
    def __init__(self, units: int, work: Work, workers: Workers, store: Store, scheduler: Scheduler, seed: int) -> None:
        self._work, self._plan, self._store, self._scheduler = work, workers, store, scheduler
        self._rng = np.random.default_rng(seed)
        self._factors = self._lognormal()
        whole, rest = divmod(units, scheduler.batch)
        self._sizes = [scheduler.batch] * whole + ([rest] if rest else [])
        self._waiting = deque(range(len(self._sizes)))
        self._missing = set(range(len(self._sizes)))
        self._under_way: dict[int, set[int]] = {}
        self._workers = [_Worker() for _ in range(workers.count)]
        self._events: list[tuple[float, int, str, int, int]] = []
        self._number = 0
        self._dispatch, self._bandwidth, self._reads, self._writes = _Queue(), _Queue(), _Queue(), _Queue()
        self._done: list[tuple[float, int]] = []
        self._computed = self._deaths = 0

    def run(self) -> Outcome:
        for place in range(len(self._workers)):
            self._begin(place, 0.0, self._plan.wall_time * self._rng.random() if self._has_limit else math.inf)
        now = 0.0
        while self._missing:
            now, _, what, place, life = heapq.heappop(self._events)
            if what == "begin":
                self._begin(place, now, self._plan.wall_time)
            elif self._workers[place].life == life:
                getattr(self, f"_{what}")(place, now)
        return Outcome(now, self._computed, self._deaths, self._rate(now))

    @property
    def _has_limit(self) -> bool:
        return math.isfinite(self._plan.wall_time)

    def _rate(self, end: float) -> float:
        """Units per second: the slope of a line through the middle eight tenths of what was done.

        A difference between two moments would mislead where workers keep step and units end a round at a time.
        """
        moments, sizes = (np.array(column) for column in zip(*self._done, strict=True))
        ended = np.cumsum(sizes) - sizes / 2
        middle = (ended > 0.1 * ended[-1]) & (ended < 0.9 * ended[-1])
        moments, ended = moments[middle], ended[middle]
        if len(moments) < 2 or moments[0] == moments[-1]:
            return sum(self._sizes) / end
        from_mean = moments - moments.mean()
        return float(from_mean @ ended / (from_mean @ from_mean))

    def _lognormal(self) -> Iterator[float]:
        spread = self._work.spread
        while True:
            yield from np.exp(self._rng.normal(-(spread**2) / 2, spread, 4096)).tolist()

    def _at(self, moment: float, what: str, place: int) -> None:
        self._number += 1
        heapq.heappush(self._events, (moment, self._number, what, place, self._workers[place].life))

    # what happens to a worker

    def _begin(self, place: int, now: float, limit: float) -> None:
        worker = self._workers[place] = _Worker(life=self._workers[place].life + 1)
        if self._rng.random() < self._plan.slow_share:
            worker.factor = self._plan.slow_factor
        rate = self._plan.failures_per_hour / 3600
        life = min(limit, self._rng.exponential(1 / rate) if rate else math.inf)
        if math.isfinite(life):
            self._at(now + life, "die", place)
        self._go_on(place, now)

    def _die(self, place: int, now: float) -> None:
        worker = self._workers[place]
        self._deaths += 1
        for task in worker.left.keys() & self._missing:
            self._under_way[task].discard(place)
            if not self._under_way[task]:
                self._waiting.appendleft(task)
        self._workers[place] = _Worker(life=worker.life + 1, alive=False)
        self._at(now + self._plan.restart, "begin", place)
        for other in range(len(self._workers)):
            if not self._waiting:
                break
            self._go_on(other, now)

    def _ask(self, place: int, now: float) -> None:
        self._at(self._read(now), "has_read", place)

    def _has_read(self, place: int, now: float) -> None:
        worker = self._workers[place]
        worker.read, worker.reading = worker.reading, None
        self._go_on(place, now)

    def _has_computed(self, place: int, now: float) -> None:
        worker = self._workers[place]
        worker.computed, worker.computing = worker.computing, None
        self._go_on(place, now)

    def _has_encoded(self, place: int, now: float) -> None:
        worker = self._workers[place]
        assert worker.writing is not None
        last_of_task = worker.left[worker.writing] == 1
        self._at(self._written(now, last_of_task), "has_written", place)

    def _has_written(self, place: int, now: float) -> None:
        worker = self._workers[place]
        task, worker.writing = worker.writing, None
        assert task is not None
        worker.left[task] -= 1
        if not worker.left[task]:
            del worker.left[task]
            if task in self._missing:
                self._missing.remove(task)
                del self._under_way[task]
                self._done.append((now, self._sizes[task]))
        self._go_on(place, now)

    # what a worker does next

    def _go_on(self, place: int, now: float) -> None:
        """Begin whatever a worker's free hands can."""
        worker = self._workers[place]
        if not worker.alive:
            return
        if worker.computed is not None and worker.writing is None:
            worker.writing, worker.computed = worker.computed, None
            self._at(now + self._work.encode, "has_encoded", place)
        free = worker.computed is None and (worker.writing is None or self._plan.writes_behind)
        if worker.read is not None and worker.computing is None and free:
            worker.computing, worker.read = worker.read, None
            self._computed += 1
            self._at(now + self._work.compute * worker.factor * next(self._factors), "has_computed", place)
        idle = worker.computing is None and worker.computed is None and worker.writing is None
        if worker.reading is None and worker.read is None and (idle or self._plan.reads_ahead):
            handed_out = now if worker.to_read else self._take(place, now)
            if worker.to_read:
                worker.reading = worker.to_read.popleft()
                self._at(handed_out, "ask", place)

    def _take(self, place: int, now: float) -> float:
        """Get a task for a worker, if there is one; returns when the scheduler has handed it out."""
        worker = self._workers[place]
        if self._waiting:
            task = self._waiting.popleft()
        elif self._scheduler.speculate and not worker.left:
            lonely = (task for task, holders in self._under_way.items() if len(holders) == 1)
            copied = next(lonely, None)
            if copied is None:
                return now
            task = copied
        else:
            return now
        self._under_way.setdefault(task, set()).add(place)
        worker.to_read.extend([task] * self._sizes[task])
        worker.left[task] = self._sizes[task]
        return self._dispatch.serve(now, self._scheduler.overhead)

    def _read(self, now: float) -> float:
        work, store = self._work, self._store
        return max(
            now + store.latency + work.bytes_in / store.link,
            self._bandwidth.serve(now, work.bytes_in / store.bandwidth),
            self._reads.serve(now, work.requests_in / store.reads_per_second),
        )

    def _written(self, now: float, last_of_task: bool) -> float:
        work, store = self._work, self._store
        requests = work.requests_out + last_of_task * self._scheduler.record_requests
        return max(
            now + store.latency + work.bytes_out / store.link,
            self._bandwidth.serve(now, work.bytes_out / store.bandwidth),
            self._writes.serve(now, requests / store.writes_per_second),
        )
