"""How fast a preset trains."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import torch

from vemosaic.bench.bounds import beside_promised, bounded
from vemosaic.bench.conditions import Conditions
from vemosaic.bench.counting import counted
from vemosaic.bench.peaks import measure_peaks, synchronise
from vemosaic.blocks.events import Event, UnitDone
from vemosaic.devices import arithmetic, for_training
from vemosaic.models.model import measure
from vemosaic.training import train

PAPER_ANCHORS = 69.4
"""Anchors a second of the paper's model on an RTX 2080 Ti (Han et al. 2022, section 4.6)."""

WARM_UP = 5
"""Batches in which kernels are chosen and steps recorded, and which do not count."""

BATCHES, BATCHES_ON_GPU = 400, 15_000
"""Most batches that are trained: losses are read back as often as in a whole training."""


class Enough(Exception):
    """The time is up."""


class Watch:
    """A listener that times batches, and raises `Enough` when it has seen enough of them.

    Parameters
    ----------
    device
        Has done all it was given when the watch is started, and when it is stopped.
    seconds
        Least time to measure for.

    Attributes
    ----------
    batches
        How many it has timed.
    spent
        How long they took in seconds.
    """

    def __init__(self, device: torch.device, seconds: float) -> None:
        self.device = device
        self.seconds = seconds
        self.batches = -WARM_UP
        self.spent = 0.0
        self._begun = 0.0

    def __call__(self, event: Event) -> None:
        """Count a batch."""
        if not isinstance(event, UnitDone):
            return
        self.batches += 1
        if self.batches == 0:
            synchronise(self.device)
            self._begun = time.perf_counter()
        elif self.batches > 0 and time.perf_counter() - self._begun > self.seconds:
            self.stop()
            raise Enough

    def stop(self) -> None:
        """Take the time."""
        synchronise(self.device)
        self.spent = time.perf_counter() - self._begun


def bench_train(conditions: Conditions) -> dict[str, Any]:
    """Train as `run` does, networks forth and back counted on one batch."""
    volume, device = conditions.volume, conditions.device
    settings = conditions.settings.suited_to(volume)
    intensity = measure(settings, volume)
    batch = settings.optimiser.batch
    most = batch * (BATCHES if device.type == "cpu" else BATCHES_ON_GPU)
    chosen = arithmetic(for_training(conditions.precision, device), device)
    peaks_before = measure_peaks(device)
    watch = Watch(device, conditions.seconds)
    with suppress(Enough):
        train(
            [volume], [intensity], settings, anchors=most, device=device, precision=conditions.precision, listen=watch
        )
        watch.stop()
    peaks = peaks_before.best(measure_peaks(device))
    rate = batch * watch.batches / watch.spent
    counting = counted(lambda: train([volume], [intensity], settings, anchors=batch, device=torch.device("cpu")))
    cost = counting.per(batch).narrowed(chosen)
    return {
        **bounded(rate, cost, peaks.of(chosen), "anchors"),
        **beside_promised(rate, cost, device, "anchors"),
        "preset": settings.preset,
        "device": device.type,
        "precision": chosen,
        "batch": batch,
        "paper_anchors_per_second_on_gpu": PAPER_ANCHORS,
        "peaks": peaks.to_json(),
    }
