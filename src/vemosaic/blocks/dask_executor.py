"""A Dask cluster as executor: a scheduler somewhere, workers that see the same folder.

Needs the extra ``vemosaic[cluster]``.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from vemosaic.blocks.events import Listener, StageEnded, UnitDone, ignore
from vemosaic.blocks.executor import begin_stage
from vemosaic.blocks.executors import InProcess, largest_first
from vemosaic.blocks.grid import Unit
from vemosaic.blocks.work import Steps, Work
from vemosaic.blocks.worker import give_back, working_at
from vemosaic.errors import SettingsError, VemosaicError

AHEAD = 4
"""Units that wait at the scheduler for each computing thread of the cluster: enough for adaptive scaling to see work,
and few enough that millions of units need no memory there."""

LEAST_AHEAD = 64

LOCAL = {
    "distributed.scheduler.worker-saturation": 1.0,  # units wait at the scheduler, and not with one of the workers
    "distributed.worker.profile.enabled": False,  # nobody looks, and it takes its share of a core
}
"""How a cluster of this machine is set up."""

PATIENCE = "10s"
"""How long a scheduler may take to answer."""


@dataclass(frozen=True)
class OnDask:
    """The workers of a Dask cluster. A unit whose worker dies or leaves is given to another.

    Attributes
    ----------
    client
        Of the cluster.
    """

    client: Any

    def carry_out(self, units: Sequence[Unit], work: Work[Any, Any], listen: Listener = ignore) -> None:
        """Carry out every unit that is not done yet."""
        from distributed import KilledWorker, as_completed

        if work.opener is None:
            InProcess().carry_out(units, work, listen)
            return
        stage = work.steps.ledger.stage
        missing = largest_first(begin_stage(units, work.steps.ledger, listen))
        ahead = max(LEAST_AHEAD, AHEAD * sum(self.client.nthreads().values()))
        given: dict[str, Unit] = {}

        def give(unit: Unit, to: Sequence[str] = ()) -> Any:
            future = self.client.submit(
                carry_out, work.opener, unit, pure=False, workers=to or None, allow_other_workers=bool(to)
            )
            given[future.key] = unit
            return future

        at_work = as_completed([give(unit) for unit in missing[:ahead]])
        following = iter(missing[ahead:])
        try:
            for future in at_work:
                unit = given.pop(future.key)
                try:
                    done = future.result()
                except KilledWorker as error:
                    raise VemosaicError(
                        stage,
                        f"worker after worker died at unit {unit.name}",
                        "look whether their memory is short, and run the same command again",
                    ) from error
                if done:
                    listen(UnitDone(stage, unit.voxels))
                else:
                    at_work.add(give(unit, self._with_room()))
                upcoming = next(following, None)
                if upcoming is not None:
                    at_work.add(give(upcoming))
                elif given:
                    self._level(given)
        finally:
            self.client.cancel(at_work.futures)
        listen(StageEnded(stage))

    def _with_room(self) -> list[str]:
        """Name the workers that have fewer units than threads."""
        has = self.client.processing()
        return [worker for worker, threads in self.client.nthreads().items() if len(has.get(worker, ())) < threads]

    def _level(self, given: Mapping[str, Unit]) -> None:
        """Where nothing is left to give and a worker would idle, have others give back what they have only read."""
        threads, has = self.client.nthreads(), self.client.processing()
        room = sum(max(0, threads[worker] - len(has.get(worker, ()))) for worker in threads)
        laden = sorted((w for w in threads if len(has.get(w, ())) > threads[w]), key=lambda w: -len(has[w]))
        for worker in laden[:room]:
            units = [given[key] for key in has[worker] if key in given]
            self.client.run(give_back, units, workers=[worker], on_error="ignore")


def carry_out(opener: Callable[[], Steps[Any, Any]], unit: Unit) -> bool:
    """Carry out a unit in a thread of a Dask worker, which may begin with the next one when this one is computed.

    Returns
    -------
    bool
        Whether it is done, or else was given back.
    """
    from distributed import get_worker, secede

    return working_at(opener, get_worker().state.nthreads).carry_out(unit, secede)


def _import(modules: Sequence[str]) -> None:
    for name in modules:
        importlib.import_module(name)


@contextmanager
def dask_cluster(scheduler: str, workers: int | None = None, modules: Sequence[str] = ()) -> Iterator[OnDask]:
    """Connect to a Dask cluster, or start one on this machine.

    Parameters
    ----------
    scheduler
        Address, such as ``"tcp://10.0.0.1:8786"``; or ``"local"`` for a cluster of this machine's cores.
    workers
        Of a local cluster; one for each core where None.
    modules
        What the workers of a local cluster import at once, before there is work for them: that takes seconds, and
        holds some 0.3 GB in each.

    Raises
    ------
    SettingsError
        If Dask is not installed, or no scheduler answers.
    """
    try:
        import dask
        from distributed import Client, LocalCluster, wait
    except ImportError as error:
        raise SettingsError("--scheduler", "Dask is not installed", "pip install 'vemosaic[cluster]'") from error
    if scheduler == "local":
        cores = os.cpu_count() or 1
        count = workers or cores
        threads = max(1, cores // count)
        # A unit at a time for each worker, computed by the worker's share of the cores; Dask would set it to one.
        with (
            dask.config.set(LOCAL),
            LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                env={"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)},
            ) as cluster,
            Client(cluster) as client,
        ):
            ready = [
                client.submit(_import, modules, pure=False, workers=[worker], allow_other_workers=True)
                for worker in client.nthreads()
            ]
            try:
                yield OnDask(client)
            finally:
                with suppress(Exception):  # where no worker or no scheduler is left
                    wait(ready, timeout=10)  # a worker that is told to go while it imports says so at length
        return
    try:
        client = Client(scheduler, timeout=PATIENCE)
    except (OSError, ValueError, TimeoutError) as error:
        raise SettingsError(
            f"--scheduler {scheduler}", "no Dask scheduler answers there", "start one, or mend the address"
        ) from error
    with client:
        yield OnDask(client)
