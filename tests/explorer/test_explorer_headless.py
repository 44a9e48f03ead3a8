from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
import tifffile
import trimesh
from explorer_runs import SHARD, act, wait, wait_until_complete
from starlette.testclient import TestClient
from typer.testing import CliRunner

from small_runs import Killed, hashes, killed_at
from vemosaic.cli import app
from vemosaic.errors import OutputError, SettingsError
from vemosaic.explorer import acts
from vemosaic.explorer.edited import EditedMap
from vemosaic.explorer.headless import apply, classify, export_run
from vemosaic.explorer.session import Session
from vemosaic.volumes import open_volume
from vemosaic.volumes.labels import open_labels
from vemosaic.volumes.points import box_of

SHAPE = (20, 36, 40)
WHOLE = box_of((0, 0, 0), SHAPE)


def edit(session: Session) -> np.ndarray:
    """Name, paint, classify, take a piece away; returns the labels."""
    documents: list[dict[str, Any]] = [
        {"act": "add_class", "name": "nucleus", "colour": [1, 2, 3]},
        {"act": "scribble", "axis": 0, "index": 5, "runs": [[9, 9, 12]], "class": 5},
        {"act": "scribble", "axis": 2, "index": 30, "runs": [[9, 2, 12]], "class": 2},
        {"act": "classify"},
    ]
    for document in documents:
        session.do(acts.parse(document))
    edited = session.edited()
    edited.complete()
    seed = np.argwhere(edited[WHOLE] == 2)[0]
    session.do(acts.parse({"act": "piece", "seed": seed.tolist(), "class": 1}))
    dots = np.flatnonzero(session.derived.texture.dot_prototypes <= 12).tolist()
    session.do(acts.parse({"act": "lasso", "dots": dots, "class": 3, "within": [2]}))
    return session.edited()[WHOLE]


def test_apply_writes_what_the_page_shows(session: Session) -> None:
    shown = edit(session)
    place = apply(session.run.path)
    labels = open_labels(place)
    assert np.array_equal(labels.volume.array[WHOLE], shown)
    assert labels.names == ("cluster 1", "cluster 2", "cluster 3", "cluster 4", "nucleus")
    assert labels.colours[4] == (1, 2, 3)
    assert labels.volume.voxel_size == session.run.voxel_size


def test_apply_by_page_and_by_command_and_twice_is_bitwise_the_same(client: TestClient, session: Session) -> None:
    edit(session)
    wait(client, client.post("/api/jobs", json={"kind": "apply"}).json()["id"])
    store = session.run.path / "edited.ome.zarr"
    by_page = hashes(store)
    shutil.rmtree(session.run.derived)
    shutil.rmtree(store)
    assert apply(session.run.path) == store
    assert hashes(store) == by_page
    apply(session.run.path)
    assert hashes(store) == by_page
    elsewhere = apply(session.run.path, session.run.path / "journal.jsonl", out=session.run.path.parent / "b.ome.zarr")
    assert hashes(elsewhere) == by_page


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_apply_that_was_killed_goes_on_and_ends_the_same(session: Session, after: int) -> None:
    edit(session)
    expected = hashes(apply(session.run.path, out=session.run.path.parent / "whole.ome.zarr"))
    with pytest.raises(Killed):
        apply(session.run.path, listen=killed_at(after + 1, "edited"))
    store = session.run.path / "edited.ome.zarr"
    assert not (store / "zarr.json").exists()
    apply(session.run.path)
    assert hashes(store) == expected


def test_another_state_replaces_the_map_and_another_name_only_its_metadata(session: Session) -> None:
    path, store = session.run.path, session.run.path / "edited.ome.zarr"
    before = hashes(apply(path))
    session.do(acts.parse({"act": "edit_class", "class": 1, "name": "nucleus"}))
    after = hashes(apply(path))
    assert open_labels(store).names[0] == "nucleus"
    assert {name for name in before if before[name] != after[name]} == {"labels/k4/zarr.json", "zarr.json"}
    session.do(acts.parse({"act": "merge", "classes": [1], "into": 2}))
    apply(path)
    assert 1 not in np.asarray(open_labels(store).volume.array[WHOLE])
    assert open_labels(store).names[0] == "nucleus (merged into cluster 2)"


def test_what_is_not_ours_is_not_replaced(session: Session, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.doc").write_text("years of work")
    with pytest.raises(OutputError, match="is there already"):
        apply(session.run.path, out=mine)
    assert (mine / "thesis.doc").read_text() == "years of work"
    with pytest.raises(OutputError, match="does not exist"):
        apply(session.run.path, tmp_path / "none.jsonl")


def test_classify_is_the_page_without_the_page(client: TestClient, session: Session, tmp_path: Path) -> None:
    twin = Path(shutil.copytree(session.run.path, tmp_path / "twin"))
    for name in ("label 1", "label 2"):
        act(client, "add_class", name=name)
    act(client, "scribble", axis=0, index=4, runs=[[8, 8, 9], [9, 8, 9]], **{"class": 5})
    act(client, "scribble", axis=0, index=11, runs=[[20, 8, 9]], **{"class": 6})
    act(client, "classify")
    wait_until_complete(client)
    wait(client, client.post("/api/jobs", json={"kind": "apply"}).json()["id"])
    painted = np.zeros(SHAPE, np.uint8)
    painted[4, 8:10, 8:17], painted[11, 20, 8:17] = 1, 2
    tifffile.imwrite(tmp_path / "painted.tif", painted)
    place = classify(twin, tmp_path / "painted.tif")
    by_page, headless = open_labels(session.run.path / "edited.ome.zarr"), open_labels(place)
    assert headless.names == by_page.names
    assert np.array_equal(headless.volume.array[WHOLE], by_page.volume.array[WHOLE])
    again = classify(twin, tmp_path / "painted.tif")
    assert open_labels(again).names == by_page.names


def test_classify_refuses_what_it_cannot_learn_from(session: Session, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "one.tif", np.ones(SHAPE, np.uint8))
    with pytest.raises(SettingsError, match="has 1 painted classes; paint"):
        classify(session.run.path, tmp_path / "one.tif")
    assert not (session.run.path / "journal.jsonl").exists()


def test_a_tiff_has_labels_and_voxel_size(session: Session) -> None:
    shown = edit(session)
    place = export_run(session.run.path, "tiff")
    volume = open_volume(str(place), labels=True)
    assert np.array_equal(volume.array[WHOLE], shown)
    assert volume.voxel_size == pytest.approx((16.0, 16.0, 16.0))


def test_ome_zarr_in_both_versions(session: Session) -> None:
    shown = edit(session)
    for to in ("ome-zarr", "ome-zarr-0.4"):
        volume = open_volume(str(export_run(session.run.path, to)) + "/labels/k5", labels=True)
        assert np.array_equal(volume.array[WHOLE], shown)
        assert volume.format == ("OME-Zarr 0.5" if to == "ome-zarr" else "OME-Zarr 0.4")
    export_run(session.run.path, "ome-zarr-0.4")  # replaces its own


def test_the_table_of_pieces_adds_up(session: Session) -> None:
    session.do(acts.parse({"act": "edit_class", "class": 1, "name": "=cmd()"}))
    shown = edit(session)
    rows = list(csv.DictReader(export_run(session.run.path, "csv").read_text().splitlines()))
    for label in np.unique(shown):
        mine = [row for row in rows if int(row["label"]) == label]
        assert sum(int(row["voxels"]) for row in mine) == (shown == label).sum()
        assert float(mine[0]["volume_um3"]) == pytest.approx(int(mine[0]["voxels"]) * 0.016**3, rel=1e-5)
    assert {row["class"] for row in rows} >= {"nucleus", "'=cmd()"}


@pytest.mark.parametrize("kind", ["stl", "ply", "obj"])
def test_a_mesh_encloses_its_class(session: Session, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vemosaic.explorer.exporting.MESH_BLOCK", 16)  # several blocks, which must meet
    shown = edit(session)
    place = export_run(session.run.path, kind, class_name="nucleus")
    mesh = trimesh.load_mesh(place)
    assert mesh.is_watertight
    voxels = (shown == 5).sum()
    assert mesh.volume == pytest.approx(voxels * 0.016**3, rel=0.2)
    low, high = np.argwhere(shown == 5).min(0)[::-1], np.argwhere(shown == 5).max(0)[::-1]
    assert mesh.bounds[0] == pytest.approx((low - 0.5) * 0.016, abs=1e-4)
    assert mesh.bounds[1] == pytest.approx((high + 0.5) * 0.016, abs=1e-4)


def test_an_export_that_cannot_be_is_refused(session: Session, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'docx' is no format; choose one of ome-zarr"):
        export_run(session.run.path, "docx")
    with pytest.raises(SettingsError, match="--class: is missing"):
        export_run(session.run.path, "stl")
    with pytest.raises(SettingsError, match=r"--class golgi: there is no such class; give one of 1 \(cluster 1\)"):
        export_run(session.run.path, "stl", class_name="golgi")
    (tmp_path / "there.tif").write_text("mine")
    with pytest.raises(OutputError, match="is there already"):
        export_run(session.run.path, "tiff", out=tmp_path / "there.tif")


def test_the_commands_say_where_the_results_are(session: Session, tmp_path: Path) -> None:
    edit(session)
    runner = CliRunner()
    applied = runner.invoke(app, ["apply", str(session.run.path), "-q"])
    assert applied.exit_code == 0 and applied.output == ""
    exported = runner.invoke(app, ["export", str(session.run.path), "--to", "csv", "--out", str(tmp_path / "a.csv")])
    assert exported.exit_code == 0 and (tmp_path / "a.csv").exists()
    painted = np.zeros(SHAPE, np.uint8)
    painted[4, 8:10, 8:17], painted[11, 20, 8:17] = 1, 2
    tifffile.imwrite(tmp_path / "painted.tif", painted)
    assert (
        runner.invoke(
            app, ["classify", str(session.run.path), "--scribbles", str(tmp_path / "painted.tif"), "-q"]
        ).exit_code
        == 0
    )


SERVE = f"""
import sys
from pathlib import Path
from vemosaic.volumes import array_writing
array_writing.SHARD = {SHARD}
from vemosaic.explorer.serving import serve
serve(Path(sys.argv[1]), port=0, tell=lambda link: print(link, flush=True))
"""


def served(path: Path) -> tuple[subprocess.Popen[str], httpx.Client]:
    """Serve a run in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(path)], stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert process.stdout is not None
    base, token = re.match(r"(\S+)/\?token=(\S+)", process.stdout.readline()).groups()  # type: ignore[union-attr]
    return process, httpx.Client(base_url=base, headers={"Authorization": f"token {token}"}, timeout=30)


def test_a_server_killed_with_an_act_under_way_loses_nothing(explored: Path) -> None:
    session = Session(explored)
    edit(session)
    state = session.state
    expected = EditedMap.of(session.derived, state)[WHOLE]
    for entry in session.run.derived.glob("classified-*"):
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    np.save(session.run.derived / "layout.npy", np.zeros((len(session.run.sample.voxel), 2), np.float32))
    process, client = served(explored)
    try:
        assert client.get("/api/state").json()["key"] == state.key
        assert client.get("/").status_code in (200, 404)
        client.post("/api/acts", json={"act": "add_class", "name": "last"})
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert json.loads((explored / "journal.jsonl").read_text().splitlines()[-1])["name"] == "last"
    process, client = served(explored)
    try:
        for _ in range(200):
            told = client.get("/api/state").json()
            if not told["incomplete"]:
                break
            time.sleep(0.05)
        assert told["classes"][-1]["name"] == "last"
        with client.stream("GET", "/api/events") as events:
            lines = events.iter_lines()
            next(lines)
            client.post("/api/acts", json={"act": "undo", "page": "p"})
            heard = next(line for line in lines if "journal" in line)
        assert json.loads(heard.removeprefix("data: "))["page"] == "p"
        plane = client.get("/api/slice/labels", params={"axis": 0, "index": 3}).content
        assert np.array_equal(np.frombuffer(plane, np.uint8).reshape(36, 40), expected[3])
    finally:
        process.terminate()
        assert process.wait(10) in (0, 143, -signal.SIGTERM)
