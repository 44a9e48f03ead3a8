"""A map made by others: worker processes, a Dask cluster, a job array. The labels are those of one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tifffile
from typer.testing import CliRunner

from small_runs import MODEL, results
from vemosaic.blocks.dask_executor import dask_cluster
from vemosaic.blocks.events import Event, UnitDone
from vemosaic.blocks.executors import Processes
from vemosaic.blocks.lock import claim
from vemosaic.cli import app
from vemosaic.datasets.phantom import phantom_cell
from vemosaic.errors import OutputError, SettingsError
from vemosaic.pipeline import Run, run
from vemosaic.settings import Settings
from vemosaic.verifying import verify

SHAPE = (10, 210, 400)  # 1 x 2 x 3 shards
SHARDS = 6
SETTINGS = Settings(model=MODEL, anchors=32, clusters=(3, 4), words=8, vocabularies=1, smoothing=1.0)


@pytest.fixture(scope="module", autouse=True)
def no_page() -> Iterator[None]:
    """The report is for other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vemosaic.pipeline.write_report", lambda folder, **_: (folder / "report.html").touch())
        yield


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("volume") / "raw.tif"
    tifffile.imwrite(path, phantom_cell((48, *SHAPE[1:]), seed=5).raw[: SHAPE[0]])
    return path


def run_volume(volume: Path, out: Path, **more: Any) -> Run:
    return run(str(volume), out, SETTINGS, voxel_size=16.0, **more)


@pytest.fixture(scope="module")
def alone(volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    return run_volume(volume, tmp_path_factory.mktemp("runs") / "alone").folder.path


@pytest.fixture
def prepared(volume: Path, tmp_path: Path, alone: Path) -> Path:
    """A run whose map is laid out and empty, trained as the one of one process."""
    out = tmp_path / "prepared"
    run_volume(volume, out, model=alone / "model.safetensors", prepare=True)
    return out


def maps(folder: Path) -> dict[str, str]:
    return {name: digest for name, digest in results(folder).items() if name.startswith("segmentation")}


def test_worker_processes(volume: Path, alone: Path, tmp_path: Path) -> None:
    run_volume(volume, tmp_path / "run", executor=Processes(2, threads=1))
    assert results(tmp_path / "run") == results(alone)


def test_a_dask_worker_is_killed(volume: Path, alone: Path, prepared: Path) -> None:
    with dask_cluster("local", workers=2) as executor:
        pids = list(executor.client.run(os.getpid).values())

        def kill_one(event: Event) -> None:
            if isinstance(event, UnitDone) and event.stage == "map" and pids:
                os.kill(pids.pop(), signal.SIGKILL)
                pids.clear()

        run_volume(volume, prepared, model=alone / "model.safetensors", executor=executor, listen=kill_one)
    assert maps(prepared) == maps(alone)


class TestJobArray:
    """``run --prepare``, ``map --part``, and ``run`` again."""

    def test_the_parts_together_are_the_map(self, volume: Path, alone: Path, prepared: Path) -> None:
        parts = [
            subprocess.Popen(
                [sys.executable, "-m", "vemosaic", "map", str(prepared), "--part", f"{number}/2", "--quiet"],
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            for number in (1, 2)
        ]
        assert [part.wait() for part in parts] == [0, 0]
        computed: list[Event] = []
        run_volume(volume, prepared, model=alone / "model.safetensors", listen=computed.append)
        assert not [event for event in computed if isinstance(event, UnitDone) and event.stage == "map"]
        assert maps(prepared) == maps(alone)

    def test_what_no_part_did_is_done_at_the_end(self, volume: Path, alone: Path, prepared: Path) -> None:
        Run.reopen(prepared).map_part(2, SHARDS)
        computed: list[Event] = []
        run_volume(volume, prepared, model=alone / "model.safetensors", listen=computed.append)
        done = [event for event in computed if isinstance(event, UnitDone) and event.stage == "map"]
        assert len(done) == SHARDS - 1
        assert maps(prepared) == maps(alone)

    def test_the_run_waits_for_its_parts(self, volume: Path, prepared: Path) -> None:
        refused = pytest.raises(OutputError, match="another run is working in it")
        with claim(prepared, shared=True), claim(prepared, shared=True), refused:
            run_volume(volume, prepared)
        with claim(prepared), refused, claim(prepared, shared=True):
            pass

    def test_a_run_that_is_not_prepared(self, alone: Path, tmp_path: Path, volume: Path) -> None:
        other = SETTINGS.model_copy(update={"clusters": (5,)})
        run(str(volume), tmp_path / "run", other, voxel_size=16.0, model=alone / "model.safetensors", prepare=True)
        job = Run.reopen(tmp_path / "run", smoothing=2.0)
        job.fit()
        with pytest.raises(OutputError, match=r"is not laid out for these settings; give vemosaic run --prepare first"):
            job.map_part(1, 2)

    def test_settings_that_changed_under_a_worker(self, prepared: Path) -> None:
        job = Run.reopen(prepared)
        with pytest.raises(OutputError, match="is now made with other settings"):
            job.open_steps("map", "an earlier fingerprint")

    @pytest.mark.parametrize("part", ["0/3", "4/3", "3", "1/", "a/b", "-1/3"])
    def test_parts_that_are_none(self, part: str) -> None:
        from vemosaic.cli.options import read_part

        with pytest.raises(
            SettingsError, match=f"--part: '{part}' will not do; write which part of how many, as 3/100"
        ):
            read_part(part)


class TestVerify:
    """``vemosaic verify``."""

    def test_a_run_as_it_was(self, alone: Path) -> None:
        ended = CliRunner().invoke(app, ["verify", str(alone), "--json"])
        assert ended.exit_code == 0
        found = json.loads(ended.stdout)
        assert found["damaged"] == []
        assert found["files"] > 2 * SHARDS

    def test_what_was_harmed_is_named_and_mended(self, volume: Path, alone: Path, tmp_path: Path) -> None:
        import shutil

        copy = tmp_path / "copy"
        shutil.copytree(alone, copy)
        shard = copy / "segmentation.ome.zarr/labels/k4/0/c/0/1/1"
        content = bytearray(shard.read_bytes())
        content[len(content) // 3] ^= 4
        shard.write_bytes(content)
        (copy / "centres.json").unlink()
        ended = CliRunner().invoke(app, ["verify", str(copy), "--json"])
        assert json.loads(ended.stdout)["damaged"] == ["centres.json", "segmentation.ome.zarr/labels/k4/0/c/0/1/1"]
        assert isinstance(ended.exception, OutputError)
        assert "2 of " in str(ended.exception)
        assert "give the command that made the run again" in str(ended.exception)
        run_volume(volume, copy)
        assert results(copy) == results(alone)
        assert verify(copy).damaged == ()

    def test_a_run_that_was_not_finished(self, prepared: Path) -> None:
        with pytest.raises(OutputError, match="this run is not finished"):
            verify(prepared)
