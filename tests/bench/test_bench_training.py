"""How the benchmark of training takes its time, and in which precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from bench_presets import SMALL

import vemosaic.bench.training
from vemosaic.bench import measure
from vemosaic.bench.training import WARM_UP, Enough, Watch
from vemosaic.blocks.events import StageEnded, StageStarted, UnitDone
from vemosaic.devices import has_bfloat16

CPU = torch.device("cpu")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """After how many batches the watch has waited for the device; a batch takes a second."""
    found: list[int] = []
    clock = iter(range(10**6))
    monkeypatch.setattr(vemosaic.bench.training, "synchronise", lambda device: found.append(1))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    return found


def test_only_batches_after_the_first_are_timed_and_the_device_is_waited_for_at_both_ends(waits: list[int]) -> None:
    watch = Watch(CPU, seconds=3.5)
    watch(StageStarted("train", 100))
    for _ in range(WARM_UP):
        assert waits == []
        watch(UnitDone("train", 8))
    assert waits == [1]
    with pytest.raises(Enough):
        for _ in range(20):
            watch(UnitDone("train", 8))
    assert waits == [1, 1]
    assert watch.batches == 4
    assert watch.spent == 5.0  # looked at once more at the end


def test_a_training_that_ends_first_is_timed_by_whoever_runs_it(waits: list[int]) -> None:
    watch = Watch(CPU, seconds=100.0)
    for _ in range(WARM_UP + 2):
        watch(UnitDone("train", 8))
    watch(StageEnded("train"))
    watch.stop()
    assert (watch.batches, watch.spent) == (2, 3.0)


@pytest.mark.skipif(not has_bfloat16(CPU), reason="this processor only imitates bfloat16")
def test_a_cpu_trains_in_float32(image: np.ndarray, tmp_path: Path, modest: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "image.npy", image)
    modest.setattr(vemosaic.bench.training, "BATCHES", 10)
    asked = measure("train", str(tmp_path / "image.npy"), (16.0,), None, 60.0, SMALL, precision="bfloat16")
    assert asked["precision"] == "float32"
    memory = asked["peaks"]["memory_gb_per_second"] * 1e9
    peak = asked["peaks"]["gflop_per_second"] * 1e9
    allowed = min(peak / asked["flops_per_anchor"], memory / asked["bytes_per_anchor"])
    assert asked["bound_anchors_per_second"] == pytest.approx(allowed)
    assert asked["share_of_bound"] == pytest.approx(asked["anchors_per_second"] / allowed)
