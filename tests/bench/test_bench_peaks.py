from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from vemosaic.bench.bounds import Cost, bounded
from vemosaic.bench.peaks import Peaks, best_time, measure_peaks
from vemosaic.bench.timing import rates
from vemosaic.errors import OutputError

CPU = torch.device("cpu")
PEAKS = Peaks(flops=100.0, traffic=10.0)
WITH_DISK = Peaks(flops=100.0, traffic=10.0, read=4.0, written=2.0)


@pytest.mark.parametrize(
    ("cost", "peaks", "bound", "seconds"),
    [
        (Cost(flops=200, traffic=10), PEAKS, "arithmetic", 2.0),
        (Cost(flops=200, traffic=50), PEAKS, "memory traffic", 5.0),
        (Cost(flops=200, traffic=10, read=8, written=6), WITH_DISK, "disk", 5.0),
        (Cost(flops=200, traffic=10, read=8, written=6), PEAKS, "arithmetic", 2.0),
    ],
)
def test_the_slowest_resource_bounds(cost: Cost, peaks: Peaks, bound: str, seconds: float) -> None:
    facts = bounded(0.1, cost, peaks)
    assert facts["bound"] == bound
    assert facts["bound_voxels_per_second"] == pytest.approx(1 / seconds)
    assert facts["share_of_bound"] == pytest.approx(0.1 * seconds)


def test_what_is_told_names_the_items_and_only_costs_that_there_are() -> None:
    facts = bounded(1.0, Cost(flops=300.0, written=9.0).per(3), WITH_DISK, "anchors")
    assert facts == {
        "anchors_per_second": 1.0,
        "flops_per_anchor": 100.0,
        "bytes_written_per_anchor": 3.0,
        "bound": "disk",
        "bound_anchors_per_second": pytest.approx(2 / 3),
        "share_of_bound": 1.5,
    }


def test_costs_add_up() -> None:
    assert Cost(1, 2, 3, 4) + Cost(10, 20, 30, 40) == Cost(11, 22, 33, 44)


def test_peaks_of_this_machine(modest: pytest.MonkeyPatch, tmp_path: Path) -> None:
    peaks = measure_peaks(CPU, tmp_path)
    assert set(peaks.to_json()) == {
        "gflop_per_second", "memory_gb_per_second", "disk_read_gb_per_second", "disk_write_gb_per_second",
    }  # fmt: skip
    assert all(value > 0 for value in peaks.to_json().values())
    assert list(tmp_path.iterdir()) == []
    assert set(measure_peaks(CPU).to_json()) == {"gflop_per_second", "memory_gb_per_second"}


def test_a_folder_that_cannot_be_written_to(modest: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere: cannot be written to"):
        measure_peaks(CPU, tmp_path / "nowhere")


def test_the_best_time_counts_and_the_first_does_not() -> None:
    naps = iter([0.0, 0.03, 0.005, 0.03])
    assert 0.005 <= best_time(lambda: time.sleep(next(naps)), CPU, 0.06) < 0.03
    assert list(naps) == []


def test_rates_take_turns() -> None:
    order: list[str] = []

    def job(name: str, items: int) -> int:
        order.append(name)
        time.sleep(0.004)
        return items

    slow, fast = rates([lambda: job("a", 1), lambda: job("b", 10)], 0.03, CPU)
    assert order[:6] == list("ababab")
    assert 5 < fast / slow < 20
    assert slow <= 1 / 0.004


def test_the_better_of_two_measurements_counts() -> None:
    assert Peaks(1.0, 5.0).best(Peaks(2.0, 4.0)) == Peaks(2.0, 5.0)
    assert Peaks(1, 5, 3, 1, 7, 4).best(Peaks(2, 4, 2, 6, 6, 9)) == Peaks(2, 5, 3, 6, 7, 9)
