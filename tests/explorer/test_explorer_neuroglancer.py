from __future__ import annotations

import http.client
import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt
import pytest
import tensorstore as ts
import uvicorn
from explorer_runs import TOKEN, act, wait
from page_person import CHROMIUM, FLAGS
from starlette.testclient import TestClient

from vemosaic.blocks.events import ignore
from vemosaic.errors import SettingsError, VemosaicError
from vemosaic.explorer import neuroglancer
from vemosaic.explorer.open_stores import OpenStores
from vemosaic.explorer.product import default_place
from vemosaic.explorer.server import create_app
from vemosaic.explorer.session import Session
from vemosaic.inputs import Input, open_input
from vemosaic.volumes.export import export_v04
from vemosaic.volumes.labels import open_labels

SITE = neuroglancer.SITE
THEIRS = {"Origin": SITE}


@pytest.fixture
def viewer(client: TestClient) -> TestClient:
    """Somebody who has no token, and does not know what a cookie is."""
    return TestClient(client.app, base_url=client.base_url, raise_server_exceptions=False)


def link(client: TestClient, **where: int) -> dict[str, str]:
    answer = client.get("/api/neuroglancer", params=where)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def shown(client: TestClient, **where: int) -> dict[str, Any]:
    """The state that a link holds, as neuroglancer decodes it."""
    site, _, fragment = link(client, **where)["link"].partition("#!")
    assert site == f"{SITE}/"
    assert not set(fragment) & set(' "<>#{}|\\^`')
    return dict(json.loads(unquote(fragment)))


def layers(client: TestClient) -> dict[str, dict[str, Any]]:
    return {layer["name"]: layer for layer in shown(client)["layers"]}


def source(layer: dict[str, Any]) -> tuple[str, str]:
    """Address and format of the voxels of a layer."""
    first = layer["source"] if isinstance(layer["source"], str) else layer["source"][0]
    address, _, kind = first.partition("|")
    assert address.endswith("/")
    return address, kind


def folder_of(session: Session, name: str) -> Path:
    """Where the voxels of a layer lie on disk."""
    run = session.run
    if name == "raw":
        return session.grey.layer.path
    if name == "edited":
        return default_place(run) / "labels" / f"k{open_labels(default_place(run)).k}"
    return run.folder.segmentation / "labels" / f"k{session.state.k}"


def make_all(client: TestClient, session: Session) -> None:
    """Make what a link can show."""
    session.grey.write(ignore)
    act(client, "merge", classes=[1], into=2)
    wait(client, client.post("/api/jobs", json={"kind": "apply"}).json()["id"])


def test_a_link_holds_all_layers_in_their_places_and_colours(client: TestClient, session: Session) -> None:
    make_all(client, session)
    act(client, "edit_class", **{"class": 2}, name="mito & <b>co</b>", colour=[1, 2, 255])
    act(client, "edit_class", **{"class": 3}, hidden=True)
    session.run.translation = (8.0, -24.0, 160.0)
    state = shown(client, z=1, y=2, x=3)
    assert list(state["dimensions"]) == ["x", "y", "z"]
    for size, unit in state["dimensions"].values():
        assert unit == "m"
        assert size == pytest.approx(16e-9)
    assert state["position"] == [3 + 10.0, 2 - 1.5, 1 + 0.5]
    assert state["crossSectionScale"] == max(session.run.shape) / neuroglancer.VIEW
    found = {layer["name"]: layer for layer in state["layers"]}
    assert list(found) == ["raw", f"{session.state.k} clusters", "edited"]
    raw, clusters, edited = found.values()
    assert raw["type"] == "image"
    assert raw["shaderControls"] == {"normalized": {"range": [0, 255]}}
    assert clusters["type"] == edited["type"] == "segmentation"
    labels = session.run.map(session.state.k)
    assert clusters["segmentColors"] == {str(i): f"#{bytes(c).hex()}" for i, c in enumerate(labels.colours, start=1)}
    assert clusters["visible"] is False and "visible" not in edited
    assert edited["segments"][:2] == ["2", "!3"]
    assert edited["segmentColors"]["2"] == "#0102ff"
    assert state["selectedLayer"]["layer"] == "edited"


def test_the_middle_is_shown_where_no_voxel_is_named(client: TestClient, session: Session) -> None:
    z, y, x = session.run.shape
    assert shown(client)["position"] == [x // 2, y // 2, z // 2]
    for where in ({"z": z, "y": 0, "x": 0}, {"z": -1, "y": 0, "x": 0}, {"z": 1}, {"z": 1, "y": 1}):
        assert client.get("/api/neuroglancer", params=where).status_code == 422


def test_neuroglancers_own_package_takes_the_state(client: TestClient, session: Session) -> None:
    theirs = pytest.importorskip("neuroglancer")
    make_all(client, session)
    act(client, "edit_class", **{"class": 3}, hidden=True)
    state = theirs.parse_url(link(client, z=1, y=2, x=3)["link"])
    assert [layer.name for layer in state.layers] == ["raw", f"{session.state.k} clusters", "edited"]
    assert list(state.dimensions.names) == ["x", "y", "z"]
    assert np.allclose(state.dimensions.scales, 16e-9)
    assert list(state.position) == [3, 2, 1]
    raw, clusters, edited = (layer.layer for layer in state.layers)
    assert (type(raw), type(edited)) == (theirs.ImageLayer, theirs.SegmentationLayer)
    assert list(raw.shader_controls["normalized"].range) == [0, 255]
    assert set(map(int, clusters.segments)) == set(range(1, session.state.k + 1))
    assert set(map(int, edited.segments)) == set(range(2, session.state.k + 1)) - {3}
    assert set(edited.segment_colors) == set(range(2, session.state.k + 1))
    assert edited.source[0].url.endswith("|zarr3:")


@pytest.mark.parametrize("name", ["raw", "clusters", "edited"])
def test_every_file_of_a_layer_is_handed_out_whole_and_in_parts(
    client: TestClient, viewer: TestClient, session: Session, name: str
) -> None:
    make_all(client, session)
    named = f"{session.state.k} clusters" if name == "clusters" else name
    address, _ = source(layers(client)[named])
    folder = folder_of(session, name)
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert any(file.name == "zarr.json" for file in files) and len(files) > 5
    for file in files:
        content, where = file.read_bytes(), address + file.relative_to(folder).as_posix()
        whole = viewer.get(where, headers=THEIRS)
        assert (whole.status_code, whole.content) == (200, content)
        assert "content-encoding" not in whole.headers
        head = viewer.head(where, headers=THEIRS)
        assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(content)), b"")
        last = len(content) - 1
        for first, end in ((0, 0), (0, last), (last // 2, last), (max(0, last - 20), last)):
            part = viewer.get(where, headers={**THEIRS, "Range": f"bytes={first}-{end}"})
            assert (part.status_code, part.content) == (206, content[first : end + 1])
            assert part.headers["content-range"] == f"bytes {first}-{end}/{len(content)}"
            assert part.headers["access-control-allow-origin"] == SITE
            assert "Content-Range" in part.headers["access-control-expose-headers"]


def test_names_of_classes_stand_beside_their_labels(client: TestClient, viewer: TestClient, session: Session) -> None:
    make_all(client, session)
    act(client, "edit_class", **{"class": 2}, name="mitochondria")
    address, _, kind = layers(client)["edited"]["source"][1].partition("|")
    assert kind == "neuroglancer-precomputed:"
    answer = viewer.get(f"{address}info", headers=THEIRS)
    assert answer.headers["access-control-allow-origin"] == SITE
    about = answer.json()
    assert about["@type"] == "neuroglancer_segment_properties"
    [labels] = about["inline"]["properties"]
    assert labels["values"][about["inline"]["ids"].index("2")] == "mitochondria"
    assert len(labels["values"]) == len(about["inline"]["ids"]) == session.state.k - 1


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve on a real port, and return the address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def served(client: TestClient) -> Iterator[str]:
    with serving(client.app) as address:
        yield address


def read_through(server: str, address: str) -> npt.NDArray[Any]:
    """Read the finest level of an OME-Zarr 0.5 by another program's HTTP client."""
    path = urlsplit(address).path + "0/"
    return ts.open({"driver": "zarr3", "kvstore": {"driver": "http", "base_url": server, "path": path}}).result()[...]


def test_tensorstore_reads_the_same_voxels_over_http(client: TestClient, session: Session, served: str) -> None:
    make_all(client, session)
    found = layers(client)
    read = {name: np.asarray(read_through(served, source(layer)[0])) for name, layer in found.items()}
    box = tuple(slice(0, n) for n in session.run.shape)
    assert np.array_equal(read["raw"], session.grey.read(0, box))
    assert np.array_equal(read[f"{session.state.k} clusters"], session.run.map(session.state.k).volume.array[box])
    assert np.array_equal(read["edited"], session.edited().read(0, box))
    assert read["edited"].any()


def test_neuroglancer_itself_reads_and_shows_it_from_another_origin(session: Session) -> None:
    theirs = pytest.importorskip("neuroglancer")
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    theirs.set_server_bind_address("127.0.0.1", 0)
    viewer = theirs.Viewer()
    page_of_theirs = urlsplit(viewer.get_viewer_url())
    app = create_app(session, TOKEN, viewer=f"http://127.0.0.1:{page_of_theirs.port}", background=False)
    answers: list[tuple[int, str, str]] = []
    with serving(app) as server, sync_api.sync_playwright() as playwright:
        client = TestClient(app, base_url=server, headers={"Authorization": f"token {TOKEN}"})
        make_all(client, session)
        act(client, "edit_class", **{"class": 2}, name="mitochondria", colour=[255, 0, 0])
        viewer.set_state(theirs.parse_url(link(client)["link"]))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        page = browser.new_page()
        page.on("response", lambda a: answers.append((a.status, a.request.method, a.url)) if server in a.url else None)
        page.goto(viewer.get_viewer_url())
        sync_api.expect(page.get_by_text("mitochondria").first).to_be_visible(timeout=30_000)
        wanted = {"/grey/0/c/": 0, "/edited/labels/k4/0/c/": 0}
        for _ in range(200):
            page.wait_for_timeout(100)
            read = [url for status, _, url in answers if status == 206]
            wanted = {part: len({url for url in read if part in url}) for part in wanted}
            if len(read) == 28:
                break
        browser.close()
    theirs.stop()
    assert wanted == dict.fromkeys(wanted, 7)  # of the eight shards of each, all that a plane through the middle cuts
    assert len(read) == 28  # the index and the only chunk of each
    assert {status for status, _, _ in answers} == {200, 206}


def test_what_is_missing_is_left_out_and_said(client: TestClient, session: Session) -> None:
    answer = link(client)
    assert list(layers(client)) == [f"{session.state.k} clusters"]
    assert "The raw volume is not shown" in answer["note"] and "The edited map is not shown" in answer["note"]
    make_all(client, session)
    assert "The edited map is the one of now." in link(client)["note"]
    now = layers(client)["edited"]["segmentColors"]
    act(client, "edit_class", **{"class": 2}, colour=[9, 9, 9])
    assert layers(client)["edited"]["segmentColors"]["2"] == "#090909"
    act(client, "merge", classes=[2], into=3)
    assert "an earlier one: apply it again" in link(client)["note"]
    assert layers(client)["edited"]["segmentColors"].items() >= now.items()


def made_of(session: Session, place: Path, **given: Any) -> Session:
    """The same run, made from another raw volume."""
    record = json.loads((session.run.path / "run.json").read_text())
    record["inputs"][0]["source"] = str(place)
    record["inputs"][0]["given"] |= {"voxel_size": None, **given}
    with suppress(VemosaicError):  # what cannot be read is none
        record["inputs"][0] = open_input(Input.recorded(record["inputs"][0]), 16.0).describe()
    (session.run.path / "run.json").write_text(json.dumps(record))
    return Session(session.run.path)


def asked(session: Session) -> TestClient:
    headers = {"Authorization": f"token {TOKEN}"}
    return TestClient(create_app(session, TOKEN, background=False), base_url="http://[::1]:8765", headers=headers)


@pytest.mark.parametrize(("kind", "metadata"), [("zarr3:", "zarr.json"), ("zarr2:", ".zattrs")])
def test_an_ome_zarr_is_handed_out_itself(session: Session, tmp_path: Path, kind: str, metadata: str) -> None:
    session.grey.write(ignore)
    place = tmp_path / "raw of mine.zarr"
    if kind == "zarr3:":
        shutil.copytree(session.grey.layer.path, place)
    else:
        export_v04(session.run.folder.segmentation, place)
    client = asked(made_of(session, place))
    address, known = source(layers(client)["raw"])
    assert known == kind
    assert address.startswith("http://[::1]:8765/open/") and address.endswith("/raw/")
    assert client.get(address + metadata).content == (place / metadata).read_bytes()
    assert client.get(address + "../run.json").status_code != 200


@pytest.mark.parametrize("odd", ["unit", "type", "codec", "size"])
def test_what_neuroglancer_cannot_read_is_shown_as_the_grey_copy(session: Session, tmp_path: Path, odd: str) -> None:
    session.grey.write(ignore)
    place = Path(shutil.copytree(session.grey.layer.path, tmp_path / "raw.zarr"))
    group, array = (json.loads((place / name).read_text()) for name in ("zarr.json", "0/zarr.json"))
    if odd == "unit":
        group["attributes"]["ome"]["multiscales"][0]["axes"][0]["unit"] = "nm"
    elif odd == "type":
        array["data_type"] = "float64"
    elif odd == "codec":
        array["codecs"][0]["configuration"]["codecs"][-1]["name"] = "numcodecs.lzma"
    (place / "zarr.json").write_text(json.dumps(group))
    (place / "0/zarr.json").write_text(json.dumps(array))
    client = asked(made_of(session, place, **({"voxel_size": [16.0]} if odd == "size" else {})))
    assert source(layers(client)["raw"])[0].endswith("/grey/")


def test_nothing_is_there_before_the_link_is_asked_for(client: TestClient, viewer: TestClient) -> None:
    for path in ("/open/", "/open//clusters/zarr.json", "/open/None/clusters/zarr.json", "/open/x/clusters/zarr.json"):
        assert viewer.get(path).status_code == 404
    assert viewer.get("/api/neuroglancer").status_code == 403
    assert viewer.get("/api/neuroglancer", headers={**THEIRS, "Authorization": f"token {TOKEN}"}).status_code == 403


def test_only_the_key_opens_and_a_new_server_has_another(
    client: TestClient, viewer: TestClient, session: Session
) -> None:
    address, _ = source(layers(client)[f"{session.state.k} clusters"])
    assert source(layers(client)[f"{session.state.k} clusters"])[0] == address
    assert viewer.get(f"{address}zarr.json").status_code == 200
    key = urlsplit(address).path.split("/")[2]
    assert len(key) >= 32 and key != TOKEN
    for wrong in (key[:-1], key + "x", key.swapcase(), TOKEN, "", "%C3%A9"):
        assert viewer.get(f"{address}zarr.json".replace(key, wrong)).status_code == 404
    again = TestClient(create_app(session, TOKEN, background=False), base_url="http://127.0.0.1:8765")
    assert again.get(f"{address}zarr.json").status_code == 404


@pytest.mark.parametrize(
    "inner",
    [
        "clusters/../run.json",
        "clusters/%2e%2e/run.json",
        "clusters/..%2frun.json",
        "clusters//zarr.json",
        "clusters/./zarr.json",
        "clusters/labels/../zarr.json",
        "clusters/%00",
        "clusters/" + "a" * 5000,
        "clusters/",
        "clusters",
        "clusters/labels",
        "clusters/link.json",
        "clusters/linked/run.json",
        "clusters//etc/passwd",
        "clusters/%2fetc%2fpasswd",
        "../run.json",
        "edited/zarr.json",
        "names/",
        "",
    ],
)
def test_nothing_else_is_read(client: TestClient, session: Session, served: str, inner: str) -> None:
    store = session.run.folder.segmentation
    (store / "link.json").symlink_to(session.run.path / "run.json")
    (store / "linked").symlink_to(session.run.path)
    address, _ = source(layers(client)[f"{session.state.k} clusters"])
    prefix = "/".join(urlsplit(address).path.split("/")[:3])
    connection = http.client.HTTPConnection(urlsplit(served).netloc)  # which sends paths as they are
    assert asked_for(connection, f"{prefix}/clusters/zarr.json") == 200
    assert asked_for(connection, f"{prefix}/{inner}") == 404


def asked_for(connection: http.client.HTTPConnection, path: str) -> int:
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def test_only_neuroglancers_own_pages_may_read(client: TestClient, viewer: TestClient, session: Session) -> None:
    address, _ = source(layers(client)[f"{session.state.k} clusters"])
    where = f"{address}zarr.json"
    for origin in ("https://evil.example", "http://neuroglancer-demo.appspot.com", f"{SITE}.evil.example", "null", ""):
        for method in ("GET", "HEAD", "OPTIONS"):
            answer = viewer.request(method, where, headers={"Origin": origin, "Access-Control-Request-Method": "GET"})
            assert answer.status_code == 403
            assert not [name for name in answer.headers if name.startswith("access-control")]
    answer = viewer.get(where, headers=THEIRS)
    assert (answer.headers["access-control-allow-origin"], answer.headers["vary"]) == (SITE, "Origin")
    assert "access-control-allow-credentials" not in answer.headers
    assert "set-cookie" not in answer.headers
    assert viewer.get(f"{address}nothing", headers=THEIRS).headers["access-control-allow-origin"] == SITE
    beyond = viewer.get(where, headers={**THEIRS, "Range": "bytes=99999-"})
    assert (beyond.status_code, beyond.headers["access-control-allow-origin"]) == (416, SITE)
    assert viewer.get(where, headers={"Host": "evil.example"}).status_code == 403
    assert viewer.get("/api/state", headers=THEIRS).status_code == 403


def test_a_browser_that_asks_first_is_told(client: TestClient, viewer: TestClient, session: Session) -> None:
    address, _ = source(layers(client)[f"{session.state.k} clusters"])
    asks = {**THEIRS, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range"}
    answer = viewer.options(f"{address}zarr.json", headers=asks)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD"
    assert answer.headers["access-control-allow-headers"] == "Range"
    assert "access-control-allow-private-network" not in answer.headers
    answer = viewer.options(f"{address}zarr.json", headers={**asks, "Access-Control-Request-Private-Network": "true"})
    assert answer.headers["access-control-allow-private-network"] == "true"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_written(client: TestClient, viewer: TestClient, session: Session, method: str) -> None:
    address, _ = source(layers(client)[f"{session.state.k} clusters"])
    answer = viewer.request(method, f"{address}zarr.json", json={}, headers=THEIRS)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


def test_a_neuroglancer_of_ones_own(session: Session) -> None:
    app = create_app(session, TOKEN, viewer="http://localhost:9000/ng/", background=False)
    client = TestClient(app, base_url="http://127.0.0.1:8765", headers={"Authorization": f"token {TOKEN}"})
    answer = link(client)["link"]
    assert answer.startswith("http://localhost:9000/ng/#!%7B")
    state = json.loads(unquote(answer.partition("#!")[2]))
    where = source(state["layers"][0])[0] + "zarr.json"
    mine = client.get(where, headers={"Origin": "http://localhost:9000"})
    assert mine.headers["access-control-allow-origin"] == "http://localhost:9000"
    assert client.get(where, headers=THEIRS).status_code == 403


def test_it_is_said_where_browsers_will_not_let_it_be_read(session: Session) -> None:
    app = create_app(session, TOKEN, hosts=("cluster",), background=False)
    client = TestClient(app, base_url="http://cluster:8765", headers={"Authorization": f"token {TOKEN}"})
    assert "ssh -L" in link(client)["note"]
    assert "ssh -L" not in link(asked(session))["note"]


@pytest.mark.parametrize(
    ("site", "origin"),
    [
        ("https://Example.org", "https://example.org"),
        ("https://example.org:443/x", "https://example.org"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_the_origin_is_what_browsers_call_it(site: str, origin: str) -> None:
    assert OpenStores(site).origin == origin


@pytest.mark.parametrize(
    "site", ["", "neuroglancer", "ftp://x", "http://", "http://x:port", "https://x/#a", "https://x?y", "http://[", "*"]
)
def test_what_is_no_site_is_refused(site: str) -> None:
    with pytest.raises(SettingsError, match="--neuroglancer"):
        OpenStores(site)
