"""Whatever befalls a run: killed, interrupted, damaged, no room left; a rerun ends as if nothing had been."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from small_runs import SETTINGS, SHAPE, TILE, Cell, Heard, hashes, record, results, run_cell
from vemosaic.blocks.events import Event, Listener, UnitDone
from vemosaic.blocks.lock import claim
from vemosaic.errors import OutputError
from vemosaic.volumes.array_writing import ShardedArray
from vemosaic.volumes.ome_writing import damaged_files

KILLED_RUNS = Path(__file__).parent / "killed_runs.py"


def check_nothing_looks_finished_that_is_not(out: Path, finished: Path) -> None:
    """Whatever a stopped run left: marked complete only if it is, and no image or page that is not whole."""
    if (out / "run.json").exists() and record(out)["complete"]:
        assert results(out) == results(finished)
        assert (out / "report.html").exists()
    if (out / "segmentation.ome.zarr/zarr.json").exists():
        assert not damaged_files(out / "segmentation.ome.zarr")
    if (out / "report.html").exists():
        assert results(out) == results(finished)


def killed(cell: Cell, out: Path, moments: list[int]) -> list[tuple[int, int]]:
    """Run to each moment; return the pairs of numbers that the script printed."""
    command = [sys.executable, str(KILLED_RUNS), str(cell.raw), str(out), *map(str, moments)]
    said = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    return [(int(first), int(rest[0])) for first, *rest in map(str.split, said.stdout.splitlines()) if rest]


def check_killed_runs_resume(cell: Cell, finished: Path, out: Path, moments: list[int]) -> None:
    assert killed(cell, out, moments) == [(moment, signal.SIGKILL) for moment in moments]
    for moment in moments:
        check_nothing_looks_finished_that_is_not(out / str(moment), finished)
        run_cell(cell, out / str(moment), reference=cell.reference)
        assert results(out / str(moment)) == results(finished), f"killed at moment {moment}"
        assert record(out / str(moment))["complete"] is True
        assert not list((out / str(moment)).rglob("*.__lock"))
        shutil.rmtree(out / str(moment))


class TestKilled:
    """SIGKILL at any moment."""

    def test_a_rerun_ends_bitwise_the_same(self, quick: object, cell: Cell, finished: Path, tmp_path: Path) -> None:
        check_killed_runs_resume(cell, finished, tmp_path, [5, 75, 150, 250, 320])

    @pytest.mark.slow
    @pytest.mark.parametrize("part", range(10))
    def test_at_every_moment(self, quick: object, cell: Cell, finished: Path, tmp_path: Path, part: int) -> None:
        command = [sys.executable, str(KILLED_RUNS), str(cell.raw), str(tmp_path), "0"]
        count = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0])
        assert count > 100
        check_killed_runs_resume(cell, finished, tmp_path, list(range(1 + part, count + 1, 10)))


class Stopped(Exception):
    """Something went wrong in the middle."""


class Stop:
    """A listener that raises at the n-th event, or at the n-th of a stage."""

    def __init__(self, number: int, stage: str | None = None) -> None:
        self.left, self.stage = number, stage

    def __call__(self, event: Event) -> None:
        self.left -= self.stage in (None, event.stage)
        if self.left == 0:
            raise Stopped


@dataclass(frozen=True)
class Both:
    """Two listeners as one."""

    first: Listener
    second: Listener

    def __call__(self, event: Event) -> None:
        self.first(event)
        self.second(event)


@pytest.mark.parametrize("number", [1, 3, 8, 11, 16, 20])
def test_an_error_in_the_middle_leaves_what_resumes(
    quick: object, cell: Cell, finished: Path, tmp_path: Path, number: int
) -> None:
    with pytest.raises(Stopped):
        run_cell(cell, tmp_path / "run", reference=cell.reference, listen=Stop(number))
    check_nothing_looks_finished_that_is_not(tmp_path / "run", finished)
    assert record(tmp_path / "run")["complete"] is False
    run_cell(cell, tmp_path / "run", reference=cell.reference)
    assert results(tmp_path / "run") == results(finished)


def test_stopped_with_other_settings_between(quick: object, cell: Cell, finished: Path, tmp_path: Path) -> None:
    other = SETTINGS.model_copy(update={"clusters": (5,), "smoothing": 1.0})
    for settings in (SETTINGS, other, SETTINGS):  # each in the middle of mapping
        heard = Heard()
        with pytest.raises(Stopped):
            run_cell(cell, tmp_path, settings, listen=Both(heard, Stop(3, "map")))
        assert heard.stages[-1] == "map"
    run_cell(cell, tmp_path, reference=cell.reference)
    assert results(tmp_path) == results(finished)


class TestDamage:
    """Files that are lost or changed after the run."""

    @staticmethod
    def mapped(heard: Heard) -> int:
        """Voxels that were mapped anew."""
        return sum(e.amount for e in heard.events if isinstance(e, UnitDone) and e.stage == "map")

    @pytest.mark.parametrize(
        ("name", "damage"),
        [
            ("model.safetensors", "flipped"),
            ("model.safetensors", "removed"),
            ("losses.jsonl", "truncated"),
            ("centres.json", "flipped"),
            ("sample.npz", "removed"),
            ("clusters.json", "truncated"),
            ("scores.json", "flipped"),
            ("report.html", "removed"),
        ],
    )
    def test_a_file(self, quick: object, cell: Cell, finished: Path, copied: Path, name: str, damage: str) -> None:
        harm(copied / name, damage)
        run_cell(cell, copied, reference=cell.reference)
        assert results(copied) == results(finished)
        assert (copied / "report.html").exists()
        assert record(copied)["complete"] is True

    @pytest.mark.parametrize("damage", ["flipped", "truncated", "removed"])
    def test_a_shard_is_made_again_and_no_other(
        self, quick: object, cell: Cell, finished: Path, copied: Path, damage: str
    ) -> None:
        harm(copied / "segmentation.ome.zarr/labels/k4/0/c/0/0/1", damage)
        heard = Heard()
        run_cell(cell, copied, reference=cell.reference, listen=heard)
        assert self.mapped(heard) == TILE * 32 * (SHAPE[2] - 32)
        assert "train" not in heard.stages
        assert "sample" not in heard.stages
        assert results(copied) == results(finished)

    @pytest.mark.parametrize(
        "name",
        [
            "segmentation.ome.zarr/zarr.json",
            "segmentation.ome.zarr/labels/zarr.json",
            "segmentation.ome.zarr/labels/k3/zarr.json",
            "segmentation.ome.zarr/labels/k3/0/zarr.json",
            "segmentation.ome.zarr.manifest.json",
        ],
    )
    @pytest.mark.parametrize("damage", ["flipped", "removed"])
    def test_metadata_are_written_again_and_no_voxel(
        self, quick: object, cell: Cell, finished: Path, copied: Path, name: str, damage: str
    ) -> None:
        harm(copied / name, damage)
        heard = Heard()
        run_cell(cell, copied, reference=cell.reference, listen=heard)
        assert self.mapped(heard) == 0
        assert results(copied) == results(finished)

    def test_the_whole_map(self, quick: object, cell: Cell, finished: Path, copied: Path) -> None:
        shutil.rmtree(copied / "segmentation.ome.zarr")
        run_cell(cell, copied, reference=cell.reference)
        assert results(copied) == results(finished)

    def test_progress_may_be_removed_from_a_complete_run(
        self, quick: object, cell: Cell, finished: Path, copied: Path
    ) -> None:
        shutil.rmtree(copied / ".progress")
        before, heard = hashes(copied), Heard()
        run_cell(cell, copied, reference=cell.reference, listen=heard)
        assert heard.worked == set()
        assert hashes(copied) == before
        harm(copied / "segmentation.ome.zarr/labels/k4/0/c/0/0/0", "flipped")
        run_cell(cell, copied, reference=cell.reference)
        assert results(copied) == results(finished)

    @pytest.mark.parametrize("damage", ["flipped", "truncated", "removed"])
    def test_a_checkpoint(
        self, quick: pytest.MonkeyPatch, cell: Cell, finished: Path, tmp_path: Path, damage: str
    ) -> None:
        quick.setattr("vemosaic.training.CHECKPOINT_SECONDS", 0.0)
        with pytest.raises(Stopped):
            run_cell(cell, tmp_path / "run", listen=Stop(3))
        harm(tmp_path / "run/.progress/checkpoint.safetensors", damage, place=10)
        run_cell(cell, tmp_path / "run", reference=cell.reference)
        assert results(tmp_path / "run") == results(finished)


def harm(file: Path, damage: str, place: int | None = None) -> None:
    """Flip a bit in the middle of a file, cut it in half, or remove it."""
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[len(content) // 2 if place is None else place] ^= 1
        file.write_bytes(content)
    elif damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    else:
        file.unlink()


class TestPlaceToWrite:
    """Output folders that cannot be used."""

    def test_one_run_at_a_time(self, quick: object, cell: Cell, copied: Path) -> None:
        before = hashes(copied)
        with claim(copied):
            held = hashes(copied)
            with pytest.raises(OutputError, match="another run is working in it"):
                run_cell(cell, copied)
            assert hashes(copied) == held
        assert set(hashes(copied)) == set(before)

    def test_a_folder_of_something_else_is_left_as_it_was(self, quick: object, cell: Cell, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(OutputError, match="is not empty and holds no run"):
            run_cell(cell, tmp_path)
        assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]

    def test_a_place_that_cannot_be(self, quick: object, cell: Cell, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for out in (tmp_path / "file", tmp_path / "file/run", Path("/proc/run"), Path("/dev/null/run")):
            with pytest.raises(OutputError) as raised:
                run_cell(cell, out)
            assert str(raised.value).startswith(f"{out}: ")
            assert "\n" not in str(raised.value)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    @pytest.mark.parametrize("mode", [0o000, 0o500])
    def test_a_folder_without_permission(self, quick: object, cell: Cell, tmp_path: Path, mode: int) -> None:
        (tmp_path / "run").mkdir(mode)
        with pytest.raises(OutputError, match="check the folder and its permissions"):
            run_cell(cell, tmp_path / "run")


class TestFullDisk:
    """No space left on the device."""

    @pytest.mark.parametrize("call", [1, 2, 5, 9, 14, 20, 26, 33, 40])
    def test_at_any_write(
        self, quick: pytest.MonkeyPatch, cell: Cell, finished: Path, tmp_path: Path, call: int
    ) -> None:
        left = call

        def full(plain: Callable[..., Any]) -> Callable[..., Any]:
            def write(*arguments: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 1:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return plain(*arguments)

            return write

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", full(os.fsync))
            patch.setattr(ShardedArray, "write", full(ShardedArray.write))
            with pytest.raises(OutputError, match="the disk is full; free some space and run the same command again"):
                run_cell(cell, tmp_path / "run", reference=cell.reference)
        assert left < 1
        assert not list((tmp_path / "run").rglob("*.partial"))
        check_nothing_looks_finished_that_is_not(tmp_path / "run", finished)
        run_cell(cell, tmp_path / "run", reference=cell.reference)
        assert results(tmp_path / "run") == results(finished)

    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Path]:
        """A disk of 600 kB."""
        disk = tmp_path / "disk"
        disk.mkdir()
        mounted = shutil.which("mount") and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)], capture_output=True, check=False
        )
        if not mounted or mounted.returncode:
            pytest.skip("needs the right to mount a small file system")
        yield disk
        subprocess.run(["umount", str(disk)], check=True)

    def test_a_real_one(self, quick: object, cell: Cell, finished: Path, small_disk: Path) -> None:
        with pytest.raises(OutputError, match="the disk is full"):
            run_cell(cell, small_disk / "run", reference=cell.reference)
        check_nothing_looks_finished_that_is_not(small_disk / "run", finished)
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        run_cell(cell, small_disk / "run", reference=cell.reference)
        assert results(small_disk / "run") == results(finished)
