from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from explorer_runs import TOKEN, act, wait, wait_until_complete
from starlette.testclient import TestClient

from vemosaic.blocks.events import Listener, UnitDone
from vemosaic.explorer import chores, scatter
from vemosaic.explorer.edited import EditedMap
from vemosaic.explorer.server import create_app
from vemosaic.explorer.session import Session
from vemosaic.volumes.points import box_of

SHAPE = (20, 36, 40)


def plane(client: TestClient, what: str, axis: int = 0, index: int = 7, **query: Any) -> np.ndarray:
    """Ask for a slice."""
    answer = client.get(f"/api/slice/{what}", params={"axis": axis, "index": index, **query})
    assert answer.status_code == 200, answer.text
    shape = int(answer.headers["x-rows"]), int(answer.headers["x-columns"])
    return np.frombuffer(answer.content, np.uint8).reshape(shape)


def paint(client: TestClient) -> None:
    """Paint two classes on two slices."""
    for index, label in ((7, 1), (8, 2)):
        runs = [[row, 3 * label, 6] for row in range(4 * label, 4 * label + 3)]
        act(client, "scribble", axis=0, index=index, runs=runs, **{"class": label})


def test_the_state_says_what_a_page_needs(client: TestClient, session: Session) -> None:
    state = client.get("/api/state").json()
    run = state["run"]
    assert (run["shape"], run["voxel_size"], run["ks"]) == (list(SHAPE), [16.0] * 3, [3, 4])
    assert run["levels"] == [{"shape": list(SHAPE), "step": [1, 1, 1]}]
    assert run["reference"] == ["nucleus", "granules"]
    assert (state["number"], state["k"], state["undo"], state["redo"]) == (0, session.run.default_k, None, None)
    assert [c["id"] for c in state["classes"]] == list(range(1, state["k"] + 1))
    assert state["ready"] == {"texture": True, "grey": False, "layout": "pca"}
    assert state["dots"] == len(session.run.sample.voxel)
    assert state["applied"] is None and state["pending"] == [] and not state["incomplete"]
    assert state["commands"]["apply"] == f"vemosaic apply {session.run.path}"


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_are_planes_of_the_volumes(client: TestClient, session: Session, axis: int) -> None:
    box = list(box_of((0, 0, 0), SHAPE))
    box[axis] = slice(9, 10)
    labels = np.asarray(session.run.map(session.run.default_k).volume.array[tuple(box)]).squeeze(axis)
    assert np.array_equal(plane(client, "labels", axis, 9), labels)
    assert np.array_equal(plane(client, "clusters", axis, 9), labels)
    assert np.array_equal(plane(client, "labels", axis, 9, rows="3:9", columns="5:999"), labels[3:9, 5:])
    assert session.run.raw is not None and session.run.reference is not None
    shape = [b.stop - b.start for b in box]
    raw = session.run.raw.read([b.start for b in box], shape).squeeze(axis)
    assert np.abs(plane(client, "raw", axis, 9) - raw).max() <= 1
    reference = session.run.reference.read([b.start for b in box], shape).squeeze(axis)
    assert np.array_equal(plane(client, "reference", axis, 9), reference)
    answer = client.get("/api/slice/raw", params={"axis": axis, "index": 9, "rows": "3:9", "columns": "5:7"})
    assert answer.headers["x-origin"] == "3,5"


def test_raw_slices_are_the_same_from_the_copy(client: TestClient, session: Session) -> None:
    before = [plane(client, "raw", axis) for axis in range(3)]
    wait(client, client.post("/api/jobs", json={"kind": "grey"}).json()["id"])
    assert client.get("/api/state").json()["ready"]["grey"]
    assert all(np.array_equal(plane(client, "raw", axis), b) for axis, b in enumerate(before))


@pytest.mark.parametrize(
    ("what", "query", "status"),
    [
        ("labels", {"axis": 3, "index": 0}, 422),
        ("labels", {"axis": 0, "index": 20}, 422),
        ("labels", {"axis": 0, "index": -1}, 422),
        ("labels", {"axis": 0, "index": 0, "level": 1}, 422),
        ("labels", {"axis": 0, "index": 0, "rows": "9:3"}, 422),
        ("labels", {"axis": 0, "index": 0, "rows": "a:b"}, 422),
        ("labels", {"axis": 0, "index": 0, "rows": "1:2:3"}, 422),
        ("labels", {"axis": "x", "index": 0}, 422),
        ("labels", {}, 422),
        ("clusters", {"axis": 0, "index": 0, "k": 9}, 422),
        ("preview", {"axis": 0, "index": 0}, 422),
        ("piece", {"axis": 0, "index": 0, "piece": "none"}, 404),
        ("nothing", {"axis": 0, "index": 0}, 404),
    ],
)
def test_what_is_no_slice_is_refused_in_words(
    client: TestClient, what: str, query: dict[str, Any], status: int
) -> None:
    answer = client.get(f"/api/slice/{what}", params=query)
    assert answer.status_code == status
    assert set(answer.json()) == {"problem", "remedy"}


def test_dots_are_the_sample_in_one_order(client: TestClient, session: Session) -> None:
    sample = session.run.sample
    count = len(sample.voxel)
    voxels = np.frombuffer(client.get("/api/dots/voxels").content, "<u4").reshape(count, 3)
    assert np.array_equal(voxels, sample.voxel)
    layout = client.get("/api/dots/layout")
    assert layout.headers["x-layout"] == "pca"
    places = np.frombuffer(layout.content, "<f4").reshape(count, 2)
    assert np.abs(places).max() == pytest.approx(1)
    column = {
        name: np.frombuffer(client.get(f"/api/dots/{name}").content, np.uint8)
        for name in ("cluster", "class", "reference", "confidence")
    }
    assert {len(values) for values in column.values()} == {count}
    assert np.array_equal(column["cluster"], sample.clusters[session.run.default_k])
    labels = session.run.map(session.run.default_k).volume.array[box_of((0, 0, 0), SHAPE)]
    assert np.array_equal(column["class"], np.asarray(labels)[tuple(sample.voxel.T)])
    assert session.run.reference is not None
    reference = session.run.reference.read((0, 0, 0), SHAPE)
    assert np.array_equal(column["reference"], reference[tuple(sample.voxel.T)])
    assert client.get("/api/dots/nothing").status_code == 404
    act(client, "merge", classes=[1], into=2)
    assert 1 not in np.frombuffer(client.get("/api/dots/class").content, np.uint8)


def test_tsne_takes_the_place_of_the_principal_components(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scatter, "tsne", lambda embedding, tell: -scatter.principal(embedding))
    before = client.get("/api/dots/layout").content
    job = client.post("/api/jobs", json={"kind": "layout"}).json()
    wait(client, job["id"])
    after = client.get("/api/dots/layout")
    assert after.headers["x-layout"] == "tsne"
    assert after.content != before and len(after.content) == len(before)
    assert client.get("/api/state").json()["ready"]["layout"] == "tsne"


def test_a_voxel_tells_its_cluster_and_its_dots(client: TestClient, session: Session) -> None:
    sample = session.run.sample
    inner = np.flatnonzero(np.all((sample.voxel > 7) & (sample.voxel < np.array(SHAPE) - 8), axis=1))
    dot = int(inner[0])
    z, y, x = sample.voxel[dot].tolist()
    told = client.get("/api/voxel", params={"z": z, "y": y, "x": x, "dots": 5}).json()
    assert told["cluster"] == told["class"] == sample.clusters[session.run.default_k][dot]
    assert len(told["dots"]) == 5
    assert dot in told["dots"]
    assert told["value"] == plane(client, "raw", 0, z)[y, x]
    assert 0 <= told["confidence"] <= 1 and told["scribble"] == 0 and isinstance(told["reference"], str)
    assert client.get("/api/voxel", params={"z": 20, "y": 0, "x": 0}).status_code == 422
    assert client.get("/api/voxel", params={"z": 0, "y": 0}).status_code == 422


def test_acts_are_shown_at_once_and_undone(client: TestClient, session: Session) -> None:
    start = plane(client, "labels")
    first = act(client, "merge", classes=[1], into=2, page="p")
    assert (first["number"], first["state"]["undo"]) == (1, "merge cluster 1 into cluster 2")
    assert np.array_equal(plane(client, "labels"), np.where(start == 1, 2, start))
    assert act(client, "add_class", name="nucleus")["class"] == session.run.default_k + 1
    act(client, "undo")
    undone = act(client, "undo")["state"]
    assert undone["redo"] == "merge cluster 1 into cluster 2"
    assert np.array_equal(plane(client, "labels"), start)
    assert act(client, "redo")["state"]["key"] == first["state"]["key"]
    assert client.post("/api/acts", json={"act": "redo"}).status_code == 200
    assert client.post("/api/acts", json={"act": "redo"}).json()["problem"] == "redo: there is nothing to do again"


def test_scribbles_preview_and_where_to_paint_next(client: TestClient) -> None:
    assert client.get("/api/next").status_code == 422
    paint(client)
    shown = plane(client, "scribbles", 0, 7)
    assert (shown[4:7, 3:9] == 1).all() and shown.sum() == 18
    state = client.get("/api/state").json()["scribbles"]
    assert state["voxels"] == {"1": 18, "2": 18} and state["planes"] == [[0, 7], [0, 8]]
    preview = plane(client, "preview", 0, 7)
    assert set(np.unique(preview)) <= {1, 2}
    unsure = plane(client, "uncertainty", 0, 7)
    assert unsure.max() > 0
    spots = [client.get("/api/next", params={"number": n}).json() for n in range(2)]
    assert all(0 <= v < n for v, n in zip(spots[0]["voxel"], SHAPE, strict=True))
    assert spots[0]["number"] == 0 and spots[0]["of"] >= 1
    assert len(client.get("/api/dots/uncertainty").content) == client.get("/api/state").json()["dots"]
    act(client, "scribble", axis=0, index=7, runs=[[0, 0, 40]], **{"class": 0})
    assert plane(client, "scribbles", 0, 7)[0].sum() == 0


def test_a_classification_fills_the_volume_by_itself(client: TestClient, session: Session) -> None:
    paint(client)
    preview = plane(client, "preview", 0, 15)
    answer = act(client, "classify")
    assert answer["state"]["undo"] == "classify the volume from scribbles"
    assert np.array_equal(plane(client, "labels", 0, 15), preview)
    wait_until_complete(client)
    assert (plane(client, "labels", 0, 15) != preview).mean() < 1e-2
    assert not session.edited().missing()


def test_a_piece_is_selected_shown_and_given_a_class(client: TestClient, session: Session) -> None:
    start = np.asarray(session.run.map(session.run.default_k).volume.array[box_of((0, 0, 0), SHAPE)])
    z, y, x = 7, 20, 20
    piece = client.get("/api/piece", params={"z": z, "y": y, "x": x}).json()
    assert piece["class"] == start[z, y, x] and piece["whole"]
    mask = np.stack([plane(client, "piece", 0, n, piece=piece["piece"]) for n in range(SHAPE[0])])
    assert mask.sum() == piece["voxels"] and mask[z, y, x]
    assert piece["volume_um3"] == pytest.approx(mask.sum() * 0.016**3)
    assert piece["border"] == bool(mask[[0, -1]].any() or mask[:, [0, -1]].any() or mask[:, :, [0, -1]].any())
    other = piece["class"] % 4 + 1
    act(client, "piece", seed=[z, y, x], **{"class": other})
    assert np.array_equal(plane(client, "labels", 0, z), np.where(mask[z], other, start[z]))


def test_all_small_pieces_wait_for_a_job_and_then_show(client: TestClient) -> None:
    answer = act(client, "pieces", of=1, smaller_than=10**6, **{"class": 2})
    assert answer["state"]["undo"] == "all pieces of cluster 1 smaller than 1,000,000 voxels to cluster 2"
    state = wait_until_complete(client)
    assert state["pending"] == []
    assert 1 not in plane(client, "labels")


def test_the_table_is_estimated_then_counted(client: TestClient, session: Session) -> None:
    estimate = client.get("/api/table").json()
    assert not estimate["exact"] and estimate["classes"][0]["pieces"] is None
    wait(client, client.post("/api/jobs", json={"kind": "table"}).json()["id"])
    table = client.get("/api/table").json()
    labels = np.asarray(session.run.map(session.run.default_k).volume.array[box_of((0, 0, 0), SHAPE)])
    assert {c["id"]: c["voxels"] for c in table["classes"]} == {
        label: (labels == label).sum() for label in np.unique(labels)
    }
    assert table["exact"] and all(c["pieces"] >= 1 for c in table["classes"])
    assert sum(c["share"] for c in table["classes"]) == pytest.approx(1)
    assert session.run.reference is not None
    nucleus = session.run.reference.read((0, 0, 0), SHAPE) == 1
    one = labels == 1
    dice = 2 * (one & nucleus).sum() / (one.sum() + nucleus.sum())
    assert table["reference"]["nucleus"]["1"] == pytest.approx(dice, abs=1e-4)
    act(client, "merge", classes=[1], into=2)
    assert not client.get("/api/table").json()["exact"]


def test_applying_writes_the_map_and_says_so(client: TestClient, session: Session) -> None:
    act(client, "merge", classes=[1], into=2)
    job = wait(client, client.post("/api/jobs", json={"kind": "apply"}).json()["id"])
    assert job["result"]["command"] == f"vemosaic apply {session.run.path}"
    state = client.get("/api/state").json()
    assert state["applied"] == {"number": 1, "key": state["key"], "path": "edited.ome.zarr"}


def test_a_cancelled_job_can_be_started_again(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:

    going = threading.Event()

    def endless(edited: EditedMap, listen: Listener) -> None:
        going.set()
        while True:
            listen(UnitDone("count", 0))

    with monkeypatch.context() as patch:
        patch.setattr(chores, "count_table", endless)
        name = client.post("/api/jobs", json={"kind": "table"}).json()["id"]
        assert going.wait(5)
        client.post(f"/api/jobs/{name}/cancel", json={})
        wait(client, name, "cancelled")
    wait(client, client.post("/api/jobs", json={"kind": "table"}).json()["id"])
    assert client.post("/api/jobs/j99/cancel", json={}).status_code == 404


@pytest.mark.parametrize(
    "job", [{"kind": "dance"}, {"kind": 7}, {}, {"kind": "export", "to": "docx"}, {"kind": "export", "to": "stl"},
            {"kind": "export", "to": "stl", "class": "nobody"}]
)  # fmt: skip
def test_what_is_no_job_is_refused(client: TestClient, job: dict[str, Any]) -> None:
    answer = client.post("/api/jobs", json=job)
    assert answer.status_code == 422 and set(answer.json()) == {"problem", "remedy"}


def test_exports_are_listed_and_downloaded_and_name_their_command(client: TestClient, session: Session) -> None:
    assert client.get("/api/exports").json() == []
    job = wait(client, client.post("/api/jobs", json={"kind": "export", "to": "csv"}).json()["id"])
    assert job["result"]["command"] == f"vemosaic export {session.run.path} --to csv"
    (listed,) = client.get("/api/exports").json()
    assert listed["download"] == job["result"]["download"]
    download = client.get(listed["download"])
    assert download.headers["content-disposition"].startswith("attachment")
    assert len(download.content) == listed["bytes"]
    assert set(client.get("/api/commands").json()["export"]) >= {"tiff", "stl", "ome-zarr-0.4"}


def test_two_servers_on_one_run_see_each_others_edits(client: TestClient, session: Session) -> None:
    other = Session(session.run.path)
    with TestClient(
        create_app(other, TOKEN, background=False),
        base_url="http://localhost",
        headers={"Authorization": f"token {TOKEN}"},
    ) as second:
        act(client, "merge", classes=[1], into=2)
        assert second.get("/api/state").json()["number"] == 1
        act(second, "add_class", name="theirs")
        assert [c["name"] for c in client.get("/api/state").json()["classes"]][-1] == "theirs"
        act(client, "undo")
        seen = [each.get("/api/state").json()["classes"] for each in (client, second)]
        assert len(seen[0]) == len(seen[1]) == session.run.default_k


def test_a_new_server_goes_on_where_the_last_one_was(client: TestClient, session: Session) -> None:
    paint(client)
    act(client, "merge", classes=[session.run.default_k - 1], into=session.run.default_k)
    act(client, "classify")
    wait_until_complete(client)
    before = client.get("/api/state").json()
    again = TestClient(
        create_app(Session(session.run.path), TOKEN, background=False),
        base_url="http://localhost",
        headers={"Authorization": f"token {TOKEN}"},
    )
    after = again.get("/api/state").json()
    assert {k: after[k] for k in after if k != "jobs"} == {k: before[k] for k in before if k != "jobs"}
    assert np.array_equal(plane(again, "labels"), plane(client, "labels"))


def test_events_tell_of_acts_and_jobs(session: Session, client: TestClient) -> None:
    number = session.feed.newest
    act(client, "add_class", name="x", page="page 1")
    job = client.post("/api/jobs", json={"kind": "table"}).json()
    wait(client, job["id"])
    _, events = session.feed.since(number)
    assert events[0] == {"type": "journal", "number": 1, "page": "page 1"}
    states = [e["job"]["state"] for e in events if e["type"] == "job" and e["job"]["id"] == job["id"]]
    assert states[0] == "waiting" and states[-1] == "done"


def test_a_run_whose_raw_volume_is_gone_can_still_be_looked_at(explored: Path) -> None:
    record = json.loads((explored / "run.json").read_text())
    record["inputs"][0]["source"] = str(explored / "gone.tif")
    (explored / "run.json").write_text(json.dumps(record))
    app = create_app(Session(explored), TOKEN, background=False)
    client = TestClient(app, base_url="http://localhost", headers={"Authorization": f"token {TOKEN}"})
    reason = client.get("/api/state").json()["run"]["no_raw"]
    assert reason.startswith(f"{explored / 'gone.tif'}: ")
    assert plane(client, "labels").any()
    answer = client.get("/api/slice/raw", params={"axis": 0, "index": 0})
    assert answer.status_code == 500
    assert "gone.tif" in answer.json()["problem"]


def test_a_map_is_never_shown_over_another_volume(explored: Path) -> None:
    record = json.loads((explored / "run.json").read_text())
    other = explored / "other.tif"
    tifffile.imwrite(other, tifffile.imread(record["inputs"][0]["source"])[::-1])
    record["inputs"][0]["source"] = str(other)
    (explored / "run.json").write_text(json.dumps(record))
    app = create_app(Session(explored), TOKEN, background=False)
    client = TestClient(app, base_url="http://localhost", headers={"Authorization": f"token {TOKEN}"})
    reason = client.get("/api/state").json()["run"]["no_raw"]
    assert reason == f"{other}: is not the volume that {explored} was made from; put that one back in its place"
    assert client.get("/api/slice/raw", params={"axis": 0, "index": 0}).status_code == 500
    assert plane(client, "labels").any()
