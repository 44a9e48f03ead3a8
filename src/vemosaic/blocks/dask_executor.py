"""A Dask cluster as executor: a scheduler somewhere, workers that see the same folder.

Needs the extra ``vemosaic[cluster]``.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vemosaic.blocks.events import Listener, StageEnded, UnitDone, ignore
from vemosaic.blocks.executor import begin_stage
from vemosaic.blocks.executors import InProcess
from vemosaic.blocks.grid import Unit
from vemosaic.blocks.work import Work, carry_out
from vemosaic.errors import SettingsError, VemosaicError

AHEAD = 4
"""Units that wait at the scheduler for each computing thread of the cluster: enough for adaptive scaling to see work,
and few enough that millions of units need no memory there."""

LEAST_AHEAD = 64

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
        missing = begin_stage(units, work.steps.ledger, listen)
        threads = sum(self.client.nthreads().values())
        ahead = max(LEAST_AHEAD, AHEAD * threads)

        def give(chosen: Sequence[Unit]) -> list[Any]:
            futures = [self.client.submit(carry_out, work.opener, unit, pure=False) for unit in chosen]
            given.update(zip((future.key for future in futures), chosen, strict=True))
            return futures

        given: dict[str, Unit] = {}
        at_work = as_completed(give(missing[:ahead]))
        following = iter(missing[ahead:])
        try:
            for future in at_work:
                unit = given.pop(future.key)
                try:
                    future.result()
                except KilledWorker as error:
                    raise VemosaicError(
                        stage,
                        f"worker after worker died at unit {unit.name}",
                        "look whether their memory is short, and run the same command again",
                    ) from error
                listen(UnitDone(stage, unit.voxels))
                for upcoming in itertools.islice(following, 1):
                    at_work.update(give([upcoming]))
        finally:
            self.client.cancel(at_work.futures)
        listen(StageEnded(stage))


@contextmanager
def dask_cluster(scheduler: str, workers: int | None = None) -> Iterator[OnDask]:
    """Connect to a Dask cluster, or start one on this machine.

    Parameters
    ----------
    scheduler
        Address, such as ``"tcp://10.0.0.1:8786"``; or ``"local"`` for a cluster of this machine's cores.
    workers
        Of a local cluster; one for each core where None.

    Raises
    ------
    SettingsError
        If Dask is not installed, or no scheduler answers.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise SettingsError("--scheduler", "Dask is not installed", "pip install 'vemosaic[cluster]'") from error
    if scheduler == "local":
        cores = os.cpu_count() or 1
        count = workers or cores
        threads = max(1, cores // count)
        # A unit at a time for each worker, computed by the worker's share of the cores; Dask would set it to one.
        with (
            LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                env={"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)},
            ) as cluster,
            Client(cluster) as client,
        ):
            yield OnDask(client)
        return
    try:
        client = Client(scheduler, timeout=PATIENCE)
    except (OSError, ValueError, TimeoutError) as error:
        raise SettingsError(
            f"--scheduler {scheduler}", "no Dask scheduler answers there", "start one, or mend the address"
        ) from error
    with client:
        yield OnDask(client)
