"""The projection of memory: what it grows with, how it is kept to, and that a run stays below it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from small_runs import SETTINGS, Cell, peaks_below, record, run_cell
from vemosaic.blocks.executors import InProcess, Processes
from vemosaic.blocks.memory import forget_peak, held_memory, peak_memory
from vemosaic.cli import parse_clusters
from vemosaic.datasets.phantom import phantom_cell
from vemosaic.errors import SettingsError
from vemosaic.memory import AHEAD, fit_budget, parse_size, project
from vemosaic.settings import Settings

LARGE = (10_000, 10_000, 10_000)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4 * 10**9), ("4gb", 4 * 10**9), ("1.5 GiB", 3 * 2**29), ("800M", 8 * 10**8), (".5t", 5 * 10**11),
     ("2000000000", 2 * 10**9), ("64 kB", 64_000)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "4 apples", "GB", "-4GB", "0GB", "4GBB", "4,5GB"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(SettingsError, match=r"--memory: .* is no size; write 4GB, or 800MB"):
        parse_size(text)


def test_a_teravoxel_needs_what_a_cell_needs() -> None:
    assert project(Settings(), LARGE) == project(Settings(), (500, 500, 500))
    assert project(Settings(), (40, 100, 100)).peak < project(Settings(), LARGE).peak
    assert project(Settings(), LARGE).peak < 4e9


@given(budget=st.integers(1, 5 * 10**9))
def test_a_budget_is_kept_or_refused_with_the_least_that_is_enough(budget: int) -> None:
    try:
        chosen = fit_budget(Settings(), LARGE, budget, InProcess())
    except SettingsError as error:
        least = parse_size(str(error).split("; give ")[1].split(" ")[0])
        assert least > budget
        assert fit_budget(Settings(), LARGE, least, InProcess()).peak <= least
        with pytest.raises(SettingsError):
            fit_budget(Settings(), LARGE, least - 2 * 10**8, InProcess())
    else:
        assert chosen.peak <= budget
        assert chosen.executor in AHEAD


def test_workers_are_counted() -> None:
    one = fit_budget(Settings(), LARGE, None, Processes(1)).peak
    assert fit_budget(Settings(), LARGE, None, Processes(4)).peak > 3 * one
    with pytest.raises(SettingsError, match=r"stage map needs .*; give .*GB or more, or fewer --workers"):
        fit_budget(Settings(), LARGE, 4 * 10**9, Processes(4))


def test_a_budget_that_is_too_small_leaves_no_folder(cell: Cell, tmp_path: Path, quick: object) -> None:
    with pytest.raises(
        SettingsError, match=r"--memory: 500 MB are too little: stage \w+ needs .* GB; give .*GB or more"
    ):
        run_cell(cell, tmp_path / "run", memory=500 * 10**6)
    assert not (tmp_path / "run").exists()


def test_the_projection_is_told_first_and_peaks_are_recorded(cell: Cell, tmp_path: Path, quick: object) -> None:
    told: list[str] = []
    run_cell(cell, tmp_path / "run", SETTINGS, tell=told.append)
    assert told == [str(project(SETTINGS, (20, 36, 40)))]
    peaks = record(tmp_path / "run")["peak_memory"]
    assert set(peaks) == {"train", "fit", "map", "report"}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells")
def test_peaks_are_those_since_the_last_call() -> None:
    held = bytearray(300_000_000)
    held[::4096] = b"x" * len(held[::4096])
    forget_peak()
    high = peak_memory()
    del held
    forget_peak()
    low = peak_memory()
    assert high is not None
    assert low is not None
    assert high - low > 250_000_000
    assert held_memory() <= low + 50_000_000  # type: ignore[operator]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells")
def test_the_default_run_stays_below_its_projection(tmp_path: Path) -> None:
    """A volume of four shards by the default preset, training cut short."""
    raw = phantom_cell((48, 200, 200), seed=2).raw
    tifffile.imwrite(tmp_path / "raw.tif", raw)
    command = [sys.executable, "-m", "vemosaic", "run", str(tmp_path / "raw.tif"), "--voxel-size", "16",
               "--anchors", "256", "--clusters", "4-10", "--out", str(tmp_path / "run")]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    projection = project(Settings(clusters=parse_clusters("4-10")), raw.shape)
    assert ended.stderr.startswith(f"{projection}\n")
    assert 0.5 * projection.peak < max(peaks_below(projection, tmp_path / "run").values())
