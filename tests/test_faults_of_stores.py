"""Runs that stream over all voxels and store embedding and confidence: killed, damaged, and then as if nothing was."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from small_runs import SETTINGS, Cell, Heard, made_quick, record, results, run_cell
from vemosaic.blocks.events import UnitDone

KILLED_RUNS = Path(__file__).parent / "killed_runs.py"
STREAMED = SETTINGS.model_copy(update={"fit": "stream"})


@pytest.fixture(scope="module")
def streamed(cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; not to be written to."""
    out = tmp_path_factory.mktemp("streamed") / "run"
    with made_quick():
        run_stored(cell, out)
    return out


def run_stored(cell: Cell, out: Path, **more: object) -> None:
    run_cell(cell, out, STREAMED, reference=cell.reference, store_embedding=True, store_confidence=True, **more)


def killed(cell: Cell, out: Path, moments: list[int]) -> list[list[int]]:
    """Run to each moment; return the numbers that the script printed, a list for each line."""
    command = [sys.executable, str(KILLED_RUNS), str(cell.raw), str(out), "stored", *map(str, moments)]
    said = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    return [[int(word) for word in line.split()] for line in said.stdout.splitlines()]


def check_killed_runs_resume(cell: Cell, streamed: Path, out: Path, moments: list[int]) -> None:
    assert killed(cell, out, moments) == [[moment, signal.SIGKILL] for moment in moments]
    for moment in moments:
        run_stored(cell, out / str(moment))
        assert results(out / str(moment)) == results(streamed), f"killed at moment {moment}"
        assert record(out / str(moment))["complete"] is True
        shutil.rmtree(out / str(moment))


def test_killed_while_it_streams_and_stores(quick: object, cell: Cell, streamed: Path, tmp_path: Path) -> None:
    check_killed_runs_resume(cell, streamed, tmp_path, [110, 330, 420])


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_killed_at_every_moment(quick: object, cell: Cell, streamed: Path, tmp_path: Path, part: int) -> None:
    (count,), _ = killed(cell, tmp_path, [0])
    assert count > 300
    check_killed_runs_resume(cell, streamed, tmp_path, list(range(1 + part, count + 1, 10)))


@pytest.mark.parametrize("store", ["embedding.ome.zarr", "confidence.ome.zarr"])
def test_a_shard_is_made_again_and_no_other(
    quick: object, cell: Cell, streamed: Path, tmp_path: Path, store: str
) -> None:
    copied = Path(shutil.copytree(streamed, tmp_path / "copied"))
    shards = sorted(file for file in (copied / store / "0/c").rglob("*") if file.is_file())
    shards[0].write_bytes(shards[0].read_bytes()[:-5])
    heard = Heard()
    run_stored(cell, copied, listen=heard)
    done = [event.stage for event in heard.events if isinstance(event, UnitDone)]
    assert done.count(store.split(".")[0].replace("embedding", "embed")) == 1
    assert not {"train", "sample", "stream", "map"} & set(done)
    assert results(copied) == results(streamed)


def test_what_a_killed_writer_left_is_found_and_its_unit_made_again(
    quick: object, cell: Cell, streamed: Path, tmp_path: Path
) -> None:
    """Killed between a shard and its record: half-written files beside the shard, and a mark that it was in flight."""
    copied = Path(shutil.copytree(streamed, tmp_path / "copied"))
    shard = copied / "segmentation.ome.zarr/labels/k3/0/c/0/0/1"
    records = copied / ".progress/map"
    name = shard.relative_to(shard.parents[2]).as_posix().replace("/", "_")
    (records / f"{name}.json").rename(records / f"{name}.json.partial")
    (records / f"{name}.in-flight").touch()
    for ending in (".partial", ".__lock"):
        shard.with_name(shard.name + ending).write_bytes(b"half of it")
    shard.write_bytes(b"other half")
    heard = Heard()
    run_stored(cell, copied, listen=heard)
    assert [event.stage for event in heard.events if isinstance(event, UnitDone)].count("map") == 1
    assert not [file for file in copied.rglob("*") if file.name.endswith((".partial", ".__lock", ".in-flight"))]
    assert results(copied) == results(streamed)
