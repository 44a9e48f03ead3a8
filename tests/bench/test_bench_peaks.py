from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vemosaic.bench.bounds import Cost, beside_promised, bounded
from vemosaic.bench.peaks import DATASHEETS, Peaks, best_time, measure_peaks, promised
from vemosaic.bench.timing import rates
from vemosaic.devices import has_bfloat16
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


def test_in_bfloat16_convolutions_move_half_the_bytes_at_the_speed_of_bfloat16() -> None:
    cost, peaks = Cost(flops=200, traffic=40, read=3), Peaks(flops=100.0, traffic=10.0, bfloat16_flops=400.0)
    assert cost.narrowed("float32") == cost
    assert cost.narrowed("bfloat16") == Cost(flops=200, traffic=20, read=3)
    assert (peaks.of("float32").flops, peaks.of("bfloat16").flops) == (100.0, 400.0)
    assert bounded(1.0, cost.narrowed("bfloat16"), peaks.of("bfloat16"))["bound_voxels_per_second"] == 0.5
    assert PEAKS.of("bfloat16") == PEAKS  # of a device that has none


def gpu_called(monkeypatch: pytest.MonkeyPatch, name: str) -> torch.device:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    return torch.device("cuda")


@pytest.mark.parametrize(
    ("name", "teraflops", "terabytes"),
    [
        ("NVIDIA H200", 989, 4.8),
        ("NVIDIA H100 80GB HBM3", 989, 3.35),
        ("NVIDIA H100 PCIe", 756, 2.0),
        ("NVIDIA A100-SXM4-40GB", 312, 1.555),
    ],
)
def test_a_gpu_is_held_against_its_data_sheet(
    monkeypatch: pytest.MonkeyPatch, name: str, teraflops: float, terabytes: float
) -> None:
    gpu = gpu_called(monkeypatch, name)
    assert promised(gpu) == Peaks(teraflops * 1e12, terabytes * 1e12)
    facts = beside_promised(1e6, Cost(flops=1e6, traffic=1e3), gpu, "anchors")["data_sheet"]
    arithmetic, memory = teraflops * 1e6, terabytes * 1e9  # anchors a second
    assert facts["bound"] == ("arithmetic" if arithmetic < memory else "memory traffic")
    assert facts["bound_anchors_per_second"] == pytest.approx(min(arithmetic, memory))
    assert facts["share_of_bound"] == pytest.approx(1e6 / min(arithmetic, memory))
    assert facts["gflop_per_second"] == teraflops * 1000


def test_names_of_gpus_do_not_hide_one_another() -> None:
    assert all(sum(part in name for part in DATASHEETS) == 1 for name in DATASHEETS)


def test_what_has_no_data_sheet_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for device in (CPU, gpu_called(monkeypatch, "NVIDIA GeForce RTX 2080 Ti")):
        assert promised(device) is None
        assert beside_promised(1.0, Cost(1.0), device) == {}


def test_peaks_of_this_machine(modest: pytest.MonkeyPatch, tmp_path: Path) -> None:
    peaks = measure_peaks(CPU, tmp_path)
    computing = {"gflop_per_second", "memory_gb_per_second"}
    if has_bfloat16(CPU):
        computing.add("bfloat16_gflop_per_second")
    assert set(peaks.to_json()) == computing | {"disk_read_gb_per_second", "disk_write_gb_per_second"}
    assert all(value > 0 for value in peaks.to_json().values())
    assert list(tmp_path.iterdir()) == []
    assert set(measure_peaks(CPU).to_json()) == computing


def test_a_folder_that_cannot_be_written_to(modest: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere: cannot be written to"):
        measure_peaks(CPU, tmp_path / "nowhere")


class Clock:
    """Time that passes only in sleep."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that times are taken by."""
    clock = Clock()
    for module in ("peaks", "timing"):
        monkeypatch.setattr(f"vemosaic.bench.{module}.time", clock)
    return clock


def test_the_best_time_counts_and_the_first_does_not(clock: Clock) -> None:
    naps = iter([0.0, 0.03, 0.005, 0.03])
    assert best_time(lambda: clock.sleep(next(naps)), CPU, 0.06) == pytest.approx(0.005)
    assert list(naps) == []


def test_rates_take_turns(clock: Clock) -> None:
    order: list[str] = []

    def job(name: str, items: int) -> int:
        order.append(name)
        clock.sleep(0.004)
        return items

    slow, fast = rates([lambda: job("a", 1), lambda: job("b", 10)], 0.03, CPU)
    assert order == list("ab" * 5)  # the first of each is a warm-up
    assert (slow, fast) == (pytest.approx(1 / 0.004), pytest.approx(10 / 0.004))


def test_the_better_of_two_measurements_counts() -> None:
    assert Peaks(1.0, 5.0).best(Peaks(2.0, 4.0)) == Peaks(2.0, 5.0)
    assert Peaks(1, 5, 3, 1, 7, 4).best(Peaks(2, 4, 2, 6, 6, 9)) == Peaks(2, 5, 3, 6, 7, 9)
