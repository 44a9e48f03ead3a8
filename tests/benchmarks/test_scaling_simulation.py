from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling_simulation import measuring
from scaling_simulation.cluster import Scheduler, Store, Work, Workers, simulate
from scaling_simulation.estimates import (
    Case,
    capacities,
    chunks_read,
    estimate,
    map_time,
    rates,
)
from scaling_simulation.growth import coarser_work, last_passes, limits, storage, verifying
from scaling_simulation.parameters import GIVEN, MEASURED, parameters, values
from scaling_simulation.tables import duration, filled, number, size, tables, volume
from vemosaic.blocks import stamp
from vemosaic.colours import palette
from vemosaic.volumes.labels import LabelStore
from vemosaic.volumes.pyramid import build_pyramid

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = json.loads((ROOT / "benchmarks" / "results" / "scaling.json").read_text())
PAGE = (ROOT / "docs" / "scaling.md").read_text()
P = values(DOCUMENT["parameters"])


@pytest.mark.parametrize(("units", "workers"), [(1, 1), (7, 1), (7, 3), (100, 10), (103, 10), (5, 50)])
def test_without_faults_it_takes_as_many_rounds_as_workers_need(units: int, workers: int) -> None:
    outcome = simulate(units, Work(2.0), Workers(workers))
    assert outcome.seconds == pytest.approx(2.0 * math.ceil(units / workers))
    assert (outcome.computed, outcome.deaths) == (units, 0)


@pytest.mark.parametrize(
    ("units", "workers", "failures"), [(5_000, 10, 0.0), (10_000, 500, 0.0), (10_300, 500, 0.0), (10_300, 500, 0.5)]
)
def test_the_rate_of_workers_that_keep_step(units: int, workers: int, failures: float) -> None:
    outcome = simulate(units, Work(2.0), Workers(workers, failures_per_hour=failures, restart=60))
    away = failures * 60 / 3600
    assert outcome.rate == pytest.approx(workers / 2.0 / (1 + away), rel=0.012)


def test_reading_and_writing_hide_behind_computing() -> None:
    store = Store(bandwidth=4.0)
    assert simulate(50, Work(2.0, bytes_in=4, bytes_out=2), Workers(1), store).seconds == pytest.approx(1 + 100 + 0.5)


def test_the_slowest_of_the_three_hands_sets_the_pace_of_a_worker() -> None:
    read, compute, encode = 5.0, 2.0, 3.0
    assert simulate(40, Work(compute, bytes_in=5), Workers(1), Store(link=1)).seconds == pytest.approx(40 * read + 2)
    compressing = simulate(40, Work(compute, encode=encode), Workers(1))
    assert compressing.seconds == pytest.approx(compute + 40 * encode)


@pytest.mark.parametrize(
    ("reads_ahead", "writes_behind", "first", "each", "last"),
    [(True, True, 3, 5, 2), (True, False, 3, 5 + 2, 0), (False, False, 0, 3 + 5 + 2, 0)],
    ids=["one process", "worker process", "Dask"],
)
def test_what_a_worker_does_not_overlap_adds_up(
    reads_ahead: bool, writes_behind: bool, first: float, each: float, last: float
) -> None:
    workers = Workers(1, reads_ahead=reads_ahead, writes_behind=writes_behind)
    work = Work(5.0, encode=1.5, bytes_in=6, bytes_out=1)
    assert simulate(30, work, workers, Store(link=2)).seconds == pytest.approx(first + 30 * each + last)


@pytest.mark.parametrize(
    ("work", "store", "scheduler", "seconds_each"),
    [
        (Work(1.0, bytes_in=3, bytes_out=1), Store(bandwidth=8), Scheduler(), 0.5),
        (Work(1.0, requests_in=125), Store(reads_per_second=500), Scheduler(), 0.25),
        (Work(1.0, requests_out=42), Store(writes_per_second=100), Scheduler(record_requests=8), 0.5),
        (Work(1.0, requests_out=42), Store(writes_per_second=100), Scheduler(batch=4, record_requests=8), 0.44),
        (Work(1.0), Store(), Scheduler(overhead=0.3), 0.3),
        (Work(1.0), Store(), Scheduler(overhead=1.2, batch=4), 0.3),
    ],
    ids=["bandwidth", "reads", "writes", "writes, batched", "scheduler", "scheduler, batched"],
)
def test_what_all_share_binds_many_workers(work: Work, store: Store, scheduler: Scheduler, seconds_each: float) -> None:
    outcome = simulate(2000, work, Workers(20), store, scheduler)
    assert outcome.seconds == pytest.approx(2000 * seconds_each, rel=0.02)
    assert outcome.rate == pytest.approx(1 / seconds_each, rel=0.02)


def test_failures_cost_what_renewal_theory_says() -> None:
    """A unit of t seconds, deaths at rate r, restart R: (1 / r + R) (exp(r t) - 1) seconds on average."""
    rate, restart = 0.3, 2.0
    outcome = simulate(20_000, Work(1.0), Workers(1, failures_per_hour=3600 * rate, restart=restart))
    assert outcome.seconds == pytest.approx(20_000 * (1 / rate + restart) * math.expm1(rate), rel=0.03)
    assert outcome.computed == pytest.approx(20_000 * math.exp(rate), rel=0.03)


def test_wall_time_loses_the_unit_under_way_and_the_restart() -> None:
    outcome = simulate(2_000, Work(1.0), Workers(1, wall_time=10.5, restart=2.0))
    assert outcome.seconds == pytest.approx(200 * 12.5, rel=0.01)


def test_slow_nodes_and_spread_keep_the_mean_rate() -> None:
    workers = Workers(400, slow_share=0.25, slow_factor=2.0)
    outcome = simulate(20_000, Work(1.0, spread=0.3), workers, seed=3)
    assert outcome.rate == pytest.approx(400 * (1 - 0.25 / 2), rel=0.05)


def test_a_copy_of_the_last_unit_need_not_wait_for_a_slow_node() -> None:
    workers = Workers(40, slow_share=0.1, slow_factor=20.0)
    alone = simulate(200, Work(1.0), workers, seed=5)
    copied = simulate(200, Work(1.0), workers, scheduler=Scheduler(speculate=True), seed=5)
    assert alone.seconds >= 20
    assert copied.seconds < 0.6 * alone.seconds
    assert copied.computed > alone.computed == 200


def test_a_batch_is_lost_as_a_whole() -> None:
    workers = Workers(1, failures_per_hour=360, restart=1.0)
    single, batched = (simulate(3_000, Work(1.0), workers, scheduler=Scheduler(batch=b)) for b in (1, 10))
    rate = 0.1
    assert batched.seconds == pytest.approx(300 * (1 / rate + 1) * math.expm1(10 * rate), rel=0.15)
    assert single.seconds < batched.seconds


@settings(max_examples=30, deadline=None)
@given(
    units=st.integers(1, 80),
    workers=st.integers(1, 9),
    failures=st.sampled_from([0.0, 100.0, 900.0]),
    wall=st.sampled_from([math.inf, 30.0]),
    batch=st.integers(1, 3),
    speculate=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_unit_ends_whatever_happens(
    units: int, workers: int, failures: float, wall: float, batch: int, speculate: bool, seed: int
) -> None:
    given_ = (
        Work(1.0, 0.4, 0.1, 2.0, 1.0, 3.0, 2.0),
        Workers(workers, failures, wall, restart=5.0, slow_share=0.2, slow_factor=3.0),
        Store(10.0, 5.0, 50.0, 50.0, 0.01),
        Scheduler(0.01, batch, 1.0, speculate),
        seed,
    )
    outcome = simulate(units, *given_)
    assert outcome == simulate(units, *given_)
    assert outcome.computed >= units
    assert outcome.seconds >= max(units * 3 / 10.0, units * 0.01 / batch)


def test_a_long_run_is_what_its_beginning_foretells() -> None:
    case = Case("slurm", "cpu", 50, 20_000 * 192.0**3)
    foretold, _ = map_time(case, P, seed=1)
    workers = Workers(50, P["slurm_failures_per_hour"], P["slurm_wall_time"] * 3600, P["slurm_restart"], 0.05, 2.0)
    work = Work(192**3 / P["voxels_per_second_per_core"] + 7 * 192**3 / P["write_voxels_per_second"], 0.2)
    whole = simulate(20_000, work, workers, seed=1)
    assert foretold == pytest.approx(whole.seconds, rel=0.04)


@pytest.mark.parametrize(("edge", "chunk", "expected"), [(192, 64, 5), (384, 64, 8), (64, 64, 3), (96, 64, 3)])
def test_a_halo_reads_whole_chunks(edge: int, chunk: int, expected: float) -> None:
    assert chunks_read(edge, 10, chunk) == expected
    touched = [
        len({v // chunk for v in range(i * edge - 10, (i + 1) * edge + 10)}) for i in range(math.lcm(edge, chunk))
    ]
    assert sum(touched) / len(touched) == expected


def test_the_least_capacity_is_near_the_simulated_rate() -> None:
    dask = Case("slurm", "gpu", 4, 1e12, reads_ahead=False, writes_behind=False)
    for case in (
        Case("slurm", "cpu", 10, 1e12),
        Case("slurm", "gpu", 10, 1e12),
        Case("s3", "gpu", 10, 1e12),
        dask,
        replace(dask, reads_ahead=True),
    ):
        least = min(capacities(case, P).values()) * case.edge**3
        assert estimate(case, P)["voxels_per_second"] == pytest.approx(least, rel=0.2)


def test_more_workers_and_faster_ones_never_take_longer() -> None:
    few, many = (estimate(Case("slurm", "cpu", n, 1e11), P) for n in (10, 50))
    assert many["hours"] < few["hours"] / 4.5
    faster = estimate(Case("slurm", "cpu", 10, 1e11), {**P, "voxels_per_second_per_core": 1e6})
    assert faster["hours"] < 0.3 * few["hours"]
    assert faster["usd_compute"] == pytest.approx(10 * faster["hours"] * P["usd_per_core_hour"])


def test_storage_by_hand() -> None:
    stored = storage(1e12, P)
    units = 1e12 / 192**3
    assert stored["labels_bytes"] == pytest.approx(1e12 * P["label_bytes_per_voxel"])
    assert stored["label_files"] == pytest.approx(7 * units * 8 / 7)
    kept = stored["raw_bytes"] + stored["labels_bytes"] + stored["coarser_levels_bytes"]
    assert stored["usd_per_month"] == pytest.approx(kept / 1e12 * 23)


def test_last_passes_by_hand() -> None:
    rows = {row["pass"]: row for row in last_passes(1e12, P)}
    units = 1e12 / 192**3
    stored = storage(1e12, P)
    coarser, verified, records, adding = rows.values()
    assert coarser["core_hours"] == pytest.approx(7e12 / P["pyramid_voxels_per_second"] / 3600)
    assert coarser["hours_job_array"] == pytest.approx(coarser["core_hours"] / P["last_process_cores"])
    assert 1 < coarser["hours_with_workers"] / (coarser["core_hours"] / 100) < 1.2
    kept = stored["labels_bytes"] + stored["coarser_levels_bytes"]
    assert verified["hours_with_workers"] == pytest.approx(kept / P["link"] / 3600)
    again = (kept + stored["labels_bytes"]) / P["link"] / 3600
    assert verified["hours_job_array"] == pytest.approx(again)
    seconds = 3 * units * (P["record_read_seconds"] + P["slurm_latency"])
    assert records["hours_with_workers"] == pytest.approx(seconds / 3600)
    assert records["hours_job_array"] == pytest.approx(seconds / 3600 * (1 + 1 / 12))
    assert [row["pass"] for row in rows.values() if not row["always"]] == [adding["pass"]]


def test_many_workers_make_coarser_levels_no_faster_than_what_they_share() -> None:
    alone, many = (
        min(capacities(Case("slurm", "cpu", workers, 1e12), P, coarser_work(P)).values()) for workers in (1, 100_000)
    )
    assert alone == pytest.approx(192**-3 * P["pyramid_voxels_per_second"] / 7, rel=0.03)
    assert many <= P["slurm_writes_per_second"] / (P["operations_per_label_file"] + P["operations_per_record"])


@pytest.mark.parametrize(
    ("files", "size", "seconds"),
    [(4_000, 0.0, 1.0), (0, 2e9, 2.0)],
    ids=["files to open", "the network"],
)
def test_verifying_takes_as_long_as_what_binds(files: float, size: float, seconds: float) -> None:
    assert verifying(files, size, P) == pytest.approx(seconds)


def test_limits_are_where_the_size_is_too_much() -> None:
    for row in limits(P):
        assert row["sizes"][0] * row["at_voxels"] / 1e12 == pytest.approx(row["too_much"])


def test_measuring_gives_all_measured_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "EDGE", 136)
    monkeypatch.setattr(measuring, "_dask_overhead", lambda: 0.001)
    labels = np.random.default_rng(0).integers(1, 5, (136, 24, 24), np.uint8)
    store = LabelStore.create(
        tmp_path / "segmentation.ome.zarr",
        ks=measuring.KS,
        shape=labels.shape,
        voxel_size=(8, 8, 8),
        translation=(0, 0, 0),
    )
    written = [file for k in measuring.KS for file in store.write(k, 0, (0, 0, 0), labels)]
    recorded = {file: stamp(file) for file in written}
    recorded |= build_pyramid(store, records=tmp_path / "records", fingerprint="mark")
    store.finish(recorded, default_k=4, colours={k: palette(k) for k in measuring.KS})
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / ".zarray").write_text('{"shape": [10, 10, 10]}')
    (raw / "0.0.0").write_bytes(bytes(800))
    embedded = {"described_voxels_per_second": 3e5, "machine": {"cores": 2}}
    measured = measuring.measure(tmp_path, raw, embedded)
    assert measured.keys() == MEASURED.keys() | {"machine"}
    assert all(measured[name] > 0 for name in MEASURED)
    assert measured["raw_bytes_per_voxel"] == 0.8
    assert measured["voxels_per_second_per_core"] == 1.5e5
    assert measured["statistics_bytes"] > 49 * (1 + 6 + 1) * 8
    assert measured["record_bytes"] > 7 * 64  # a hash for each file


def test_every_parameter_says_where_it_comes_from() -> None:
    assert next(iter(DOCUMENT)) == "parameters"
    assert set(GIVEN) < set(DOCUMENT["parameters"])
    for figure in DOCUMENT["parameters"].values():
        assert figure["source"]
    assert "NOT been measured" in DOCUMENT["parameters"]["gpu_voxels_per_second"]["source"]


def test_the_results_are_those_of_the_parameters() -> None:
    assert DOCUMENT["parameters"] == parameters(DOCUMENT["measured"])
    assert DOCUMENT["limits"] == json.loads(json.dumps(limits(P)))
    assert DOCUMENT["rates"] == json.loads(json.dumps(rates(P)))
    assert DOCUMENT["storage"] == [storage(voxels, P) for voxels in (1e12, 1e15)]
    assert DOCUMENT["last_passes"] == [row for voxels in (1e12, 1e15) for row in last_passes(voxels, P)]
    again = estimate(Case("slurm", "cpu", 10, 1e12), P)
    (row,) = [
        row
        for row in DOCUMENT["cases"]
        if (row["site"], row["machine"], row["workers"], row["voxels"]) == ("slurm", "cpu", 10, 1e12)
    ]
    assert again.keys() == row.keys()
    for name, value in row.items():  # machines round logarithms and powers differently
        assert again[name] == (pytest.approx(value, rel=1e-12) if isinstance(value, float | list) else value), name


def test_what_a_short_simulation_leaves_out_is_little() -> None:
    away = [
        P[f"{site}_restart"] * (P[f"{site}_failures_per_hour"] / 3600 + stops)
        for site, stops in (("slurm", 1 / 3600 / P["slurm_wall_time"]), ("s3", 0.0))
    ]
    assert max(away) < 0.005
    assert "below 0.5 %" in PAGE


def test_doing_one_thing_after_the_other_only_costs() -> None:
    rows = DOCUMENT["ablations"]["overlap"]
    for whole, ahead, in_turn in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        assert in_turn["hours"] > 0.98 * ahead["hours"] > 0.96 * whole["hours"]
    cores, gpus = rows[:3], rows[3:6]
    assert cores[2]["hours"] < 1.02 * cores[0]["hours"]
    assert gpus[2]["hours"] > 1.2 * gpus[1]["hours"] > 1.2 * 1.2 * gpus[0]["hours"]


def test_faults_only_cost() -> None:
    undisturbed, *disturbed = DOCUMENT["ablations"]["faults"]
    assert 0.99 < undisturbed["efficiency"] <= 1
    assert all(row["efficiency"] < undisturbed["efficiency"] for row in disturbed)


def test_the_page_holds_the_tables_of_the_results() -> None:
    made = tables(DOCUMENT)
    asked = re.findall(r"<!-- table ([\w-]+) -->", PAGE)
    assert sorted(asked) == sorted(made)
    assert filled(PAGE, made) == PAGE


def test_a_changed_result_changes_the_page() -> None:
    changed = json.loads(json.dumps(DOCUMENT))
    changed["cases"][0]["hours"] *= 3
    assert filled(PAGE, tables(changed)) != PAGE


def test_a_table_that_there_is_not() -> None:
    with pytest.raises(KeyError):
        filled("<!-- table nothing -->\n<!-- end -->", {})


def test_amounts_as_people_say_them() -> None:
    assert (volume(1e12), volume(7.1e9), volume(12)) == ("1 Tvoxel", "7.1 Gvoxel", "12 voxels")
    assert (duration(0.5), duration(30), duration(72), duration(0.001)) == ("30 min", "30 h", "3 days", "3.6 s")
    assert (size(1.23e9), size(12)) == ("1.2 GB", "12 bytes")
    assert (number(1234567), number(12.3), number(0.123)) == ("1.2 M", "12", "0.12")
