"""How fast a preset trains."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import torch

from vemosaic.bench.bounds import bounded
from vemosaic.bench.conditions import Conditions
from vemosaic.bench.counting import counted
from vemosaic.bench.peaks import measure_peaks
from vemosaic.models.model import measure
from vemosaic.training import train

PAPER_ANCHORS = 69.4
"""Anchors a second of the paper's model on an RTX 2080 Ti (Han et al. 2022, section 4.6)."""

WARM_UP = 5
"""Batches in which kernels are chosen, and which do not count."""


def bench_train(conditions: Conditions) -> dict[str, Any]:
    """Train as `run` does, networks forth and back counted on one batch."""
    volume, device = conditions.volume, conditions.device
    settings = conditions.settings.suited_to(volume)
    intensity = measure(settings, volume)
    batch = settings.optimiser.batch
    peaks_before = measure_peaks(device)
    marks: list[float] = []

    class Enough(Exception):
        """The time is up."""

    def listen(event: object) -> None:
        marks.append(time.perf_counter())
        if len(marks) > WARM_UP and marks[-1] - marks[WARM_UP - 1] > conditions.seconds:
            raise Enough

    with suppress(Enough):
        train([volume], [intensity], settings, anchors=batch * 400, device=device, listen=listen)
    peaks = peaks_before.best(measure_peaks(device))
    rate = batch * (len(marks) - WARM_UP) / (marks[-1] - marks[WARM_UP - 1])
    cost = counted(lambda: train([volume], [intensity], settings, anchors=batch, device=torch.device("cpu")))
    return {
        **bounded(rate, cost.per(batch), peaks, "anchors"),
        "preset": settings.preset,
        "device": device.type,
        "batch": batch,
        "paper_anchors_per_second_on_gpu": PAPER_ANCHORS,
        "peaks": peaks.to_json(),
    }
