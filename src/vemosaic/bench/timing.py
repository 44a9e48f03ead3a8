"""Rates of jobs that take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from vemosaic.bench.peaks import synchronise


def rates(jobs: Sequence[Callable[[], int]], seconds: float, device: torch.device) -> list[float]:
    """Measure how many items a second each job does, after one call of each to warm up.

    They take turns, so that noise meets all alike.

    Parameters
    ----------
    jobs
        Each returns how many items it did.
    seconds
        Least time for all of them together.
    device
        Where they compute.
    """
    for job in jobs:
        job()
    synchronise(device)
    amounts, times = [0] * len(jobs), [0.0] * len(jobs)
    while min(times) * len(jobs) < seconds or not all(times):
        for number, job in enumerate(jobs):
            start = time.perf_counter()
            amounts[number] += job()
            synchronise(device)
            times[number] += time.perf_counter() - start
    return [amount / spent for amount, spent in zip(amounts, times, strict=True)]
