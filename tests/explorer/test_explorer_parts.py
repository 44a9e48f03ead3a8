"""The smaller parts: jobs, layers, layouts, windows, other processes, ports."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from small_runs import Killed, killed_at
from vemosaic.blocks.events import Event, Listener, StageStarted, UnitDone
from vemosaic.blocks.grid import Unit
from vemosaic.cli import app
from vemosaic.errors import OutputError, SettingsError, VemosaicError
from vemosaic.explorer import scatter
from vemosaic.explorer.jobs import Job, Jobs
from vemosaic.explorer.layers import Layer, mean_downsample
from vemosaic.explorer.locks import turn
from vemosaic.explorer.opened import OpenedRun
from vemosaic.explorer.outside import run_outside
from vemosaic.explorer.serving import _listen
from vemosaic.explorer.session import Session
from vemosaic.explorer.views import Grey, Window
from vemosaic.volumes import array_writing
from vemosaic.volumes.points import box_of, neighbours
from vemosaic.volumes.pyramid import levels

SHAPE = (30, 150, 200)


def ended(job: Job) -> Job:
    """Wait for a job."""
    for _ in range(500):
        if job.ended:
            return job
        threading.Event().wait(0.01)
    raise AssertionError("the job has not ended")


def test_jobs_run_one_after_another_and_tell_how_far_they_are() -> None:
    told: list[tuple[str, str, int]] = []
    jobs = Jobs(lambda job: told.append((job.id, job.state, job.done)), ["lane"])

    def work(job: Job) -> dict[str, int]:
        job.listen(StageStarted("s", 10, 4))
        job.listen(UnitDone("s", 6))
        return {"found": 7}

    first, second = jobs.add("lane", "a", "first", work), jobs.add("lane", "b", "second", work)
    assert ended(second).result == {"found": 7}
    assert first.state == "done" and (first.done, first.total) == (10, 10)
    order = [name for name, state, _ in told if state == "running"]
    assert order.index(first.id) < order.index(second.id)
    assert second.describe()["seconds_left"] is None
    jobs.stop()


def test_a_job_that_fails_says_why_and_the_next_one_runs() -> None:
    jobs = Jobs(lambda job: None, ["lane"])

    def mendable(job: Job) -> None:
        raise OutputError("/disk", "the disk is full", "free some space")

    def fault(job: Job) -> None:
        raise ZeroDivisionError("oh")

    first, second = jobs.add("lane", "a", "counting", mendable), jobs.add("lane", "b", "dividing", fault)
    assert (ended(first).problem, first.remedy) == ("/disk: the disk is full", "free some space")
    assert ended(second).problem == "dividing failed (ZeroDivisionError: oh)"
    assert ended(jobs.add("lane", "c", "third", lambda job: None)).state == "done"
    jobs.stop()


def test_a_job_that_waits_is_not_added_twice_and_can_be_cancelled() -> None:
    jobs = Jobs(lambda job: None, ["lane"])
    go = threading.Event()
    jobs.add("lane", "a", "waiting", lambda job: go.wait(5) and None)
    waiting = jobs.add("lane", "b", "next", lambda job: None)
    assert jobs.add("lane", "b", "next", lambda job: None) is waiting
    assert jobs.add("lane", "b", "next", lambda job: None, "of another state") is not waiting
    waiting.cancel()
    assert jobs.add("lane", "b", "next", lambda job: None) is not waiting
    go.set()
    assert ended(waiting).state == "cancelled"
    jobs.stop()


def test_a_layer_holds_what_it_was_filled_with_and_means_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_writing, "SHARD", (32, 64, 64))
    whole = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    layer = Layer(tmp_path / "grey.ome.zarr", levels(SHAPE, (8.0, 8.0, 8.0), (0.0, 0.0, 0.0)))

    def read(unit: Unit) -> np.ndarray:
        return whole[unit.slices]

    with pytest.raises(Killed):
        layer.fill(read=read, compute=lambda unit, part: part, reduce=mean_downsample, listen=killed_at(3))
    assert not layer.finished
    computed: list[Unit] = []

    def compute(unit: Unit, part: np.ndarray) -> np.ndarray:
        computed.append(unit)
        return part

    layer.fill(read=read, compute=compute, reduce=mean_downsample)
    assert layer.finished and len(computed) < 3 * 4
    assert np.array_equal(layer.read(0, box_of((0, 0, 0), SHAPE)), whole)
    coarse = layer.read(1, box_of((0, 0, 0), layer.levels[1].shape))
    assert coarse.shape == (15, 75, 100)
    assert abs(float(coarse[3, 4, 5]) - whole[6:8, 8:10, 10:12].mean()) <= 0.5
    layer.fill(read=read, compute=lambda unit, part: 0 * part)
    assert np.array_equal(layer.read(0, box_of((0, 0, 0), SHAPE)), whole)


def test_means_at_odd_ends_are_of_what_is_there() -> None:
    values = np.array([[[10, 20, 31]]], np.uint8)
    assert mean_downsample(values, (1, 1, 2)).tolist() == [[[15, 31]]]
    assert mean_downsample(np.full((3, 3, 3), 255, np.uint8), (2, 2, 2)).tolist() == [[[255] * 2] * 2] * 2


def test_a_layout_shows_groups_apart() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat([[0, 0, 0], [9, 0, 0], [0, 9, 9]], 60, axis=0) + rng.normal(0, 0.3, (180, 3))
    steps: list[tuple[int, int]] = []
    for places in (
        scatter.principal(groups.astype(np.float32)),
        scatter.tsne(groups.astype(np.float32), lambda done, total: steps.append((done, total))),
    ):
        assert places.dtype == np.float32 and np.abs(places).max() == pytest.approx(1)
        centres = places.reshape(3, 60, 2).mean(1)
        spread = np.linalg.norm(places.reshape(3, 60, 2) - centres[:, None], axis=-1).mean()
        assert min(np.linalg.norm(centres[a] - centres[b]) for a, b in ((0, 1), (0, 2), (1, 2))) > 2 * spread
    assert steps[0] == (0, 750) and steps[-1] == (750, 750)


def test_a_window_is_clipped_and_follows_the_level(session: Session) -> None:
    run = session.run
    window = Window.of(run, 1, 35, 0, "-5:9", None)
    assert window.box == (slice(0, 9), slice(35, 36), slice(0, 40))
    assert window.across == (0, 2)


def test_grey_of_another_depth_is_stretched(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = session.run.raw
    assert raw is not None
    grey = Grey(session.run)
    monkeypatch.setattr(Grey, "range", (100.0, 110.0))
    voxels = raw.read((0, 0, 0), (1, 36, 40))
    expected = np.clip((voxels - 100) * 25.5, 0, 255)
    assert np.abs(grey.read(0, box_of((0, 0, 0), (1, 36, 40))).astype(float) - expected).max() <= 0.5


def test_neighbours_are_every_voxel_once() -> None:
    voxels = np.random.default_rng(0).integers(0, 100, (500, 3))
    groups = neighbours(voxels)
    assert sorted(int(i) for group in groups for i in group) == list(range(500))
    assert all(len(np.unique(voxels[group] // 32, axis=0)) == 1 for group in groups)


def test_one_has_its_turn_and_the_other_waits_or_gives_up(tmp_path: Path) -> None:
    file = tmp_path / "locks" / "a"

    class TiredOfIt(Exception):
        pass

    def give_up() -> None:
        raise TiredOfIt

    with turn(file), pytest.raises(TiredOfIt), turn(file, give_up):
        pass
    with turn(file, give_up):
        pass


def test_a_chore_that_is_not_wanted_any_more_is_stopped(tmp_path: Path) -> None:
    class Cancelled(Exception):
        pass

    def cancel() -> None:
        raise Cancelled

    begun = time.monotonic()
    with pytest.raises(Cancelled):
        run_outside(chore, tmp_path / "sleeps", lambda event: None, cancel)
    assert time.monotonic() - begun < 30


def chore(path: Path, listen: Listener) -> None:
    """Tell something, then do what the file's name says."""
    listen(StageStarted("chore", 3))
    if path.name == "fails":
        raise OutputError(path, "will not do", "try another")
    if path.name == "breaks":
        raise ZeroDivisionError("oh")
    if path.name == "dies":
        os._exit(9)
    if path.name == "sleeps":
        time.sleep(60)
    listen(UnitDone("chore", 3))


def test_a_chore_is_done_in_another_process_and_heard_here(tmp_path: Path) -> None:
    heard: list[Event] = []
    run_outside(chore, tmp_path / "works", heard.append, lambda: None)
    assert heard == [
        StageStarted("chore", 3),
        UnitDone("chore", 3),
    ]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("fails", r"fails: will not do; try another$"),
        ("dies", r"was ended \(exit code 9.*; start it again"),
    ],
)
def test_what_goes_wrong_in_the_other_process_is_one_line_here(tmp_path: Path, name: str, line: str) -> None:
    with pytest.raises(VemosaicError, match=line):
        run_outside(chore, tmp_path / name, lambda event: None, lambda: None)


def test_a_port_that_is_taken_is_said_and_the_next_one_found() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"127\.0\.0\.1, port {port}: cannot be used .*; give another --port"):
            _listen("127.0.0.1", port)
    with pytest.raises(SettingsError):
        _listen("127.0.0.1", 70_000)
    with _listen("127.0.0.1", None) as one, _listen("127.0.0.1", None) as two:
        assert one.getsockname()[1] != two.getsockname()[1]


def test_what_is_no_finished_run_is_refused(tmp_path: Path, explored: Path) -> None:
    with pytest.raises(OutputError, match="holds no run"):
        OpenedRun(tmp_path / "nothing")
    (explored / "segmentation.ome.zarr" / "zarr.json").unlink()
    with pytest.raises(VemosaicError, match="is not a finished OME-Zarr"):
        OpenedRun(explored)


def test_the_command_refuses_in_one_line_and_else_prints_the_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = CliRunner().invoke(app, ["explore", str(tmp_path), "--no-browser", "--port", "0"])
    assert isinstance(refused.exception, OutputError)
    monkeypatch.setattr("vemosaic.explorer.serving.serve", lambda *_, tell, **__: tell("http://x/?token=y"))
    monkeypatch.setattr("vemosaic.cli.viewing.leave", lambda code: None)
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert (
        CliRunner().invoke(app, ["explore", str(tmp_path), "--no-browser"]).output.startswith("Open http://x/?token=y")
    )
    assert opened == []
    CliRunner().invoke(app, ["explore", str(tmp_path)])
    assert opened == ["http://x/?token=y"]
