from __future__ import annotations

from pathlib import Path

import pytest
from explorer_runs import TOKEN, wait
from starlette.testclient import TestClient

from vemosaic.explorer.security import MOST_BYTES
from vemosaic.explorer.server import create_app
from vemosaic.explorer.session import Session

HOST = "http://127.0.0.1:8765"


@pytest.fixture
def stranger(session: Session) -> TestClient:
    """Somebody who has no token."""
    app = create_app(session, TOKEN, background=False)
    return TestClient(app, base_url=HOST, follow_redirects=False, raise_server_exceptions=False)


def test_without_the_token_there_is_nothing(stranger: TestClient) -> None:
    for path in ("/api/state", "/api/slice/raw?axis=0&index=0", "/api/events", "/index.html", "/x"):
        for given in (None, "", "wrong", TOKEN + "x", TOKEN[:-1], "tokén"):
            headers = {} if given is None else {"Authorization": f"token {given}".encode()}
            answer = stranger.get(path, headers=headers)
            assert answer.status_code == 403, (path, given)
            assert set(answer.json()) == {"problem", "remedy"}
            assert TOKEN not in answer.text


def test_the_page_itself_says_where_the_link_is(stranger: TestClient) -> None:
    answer = stranger.get("/")
    assert answer.status_code == 403
    assert "vemosaic explore" in answer.text
    assert answer.headers["content-type"].startswith("text/html")
    assert stranger.get("/?token=wrong").status_code == 403


def test_the_printed_link_gives_a_cookie_that_is_enough(stranger: TestClient) -> None:
    welcome = stranger.get(f"/?token={TOKEN}&view=3")
    assert (welcome.status_code, welcome.headers["location"]) == (303, "/?view=3")
    cookie = welcome.headers["set-cookie"]
    assert cookie.startswith("vemosaic_token_8765=")
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert stranger.get("/api/state").status_code == 200


def test_the_cookie_of_another_port_is_another_servers(stranger: TestClient) -> None:
    headers = {"Cookie": f"vemosaic_token_9999={TOKEN}"}
    assert stranger.get("/api/state", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8765",
        "10.0.0.7",
        "evil.example@localhost",
        "",
        "localhost/x",
        "[::2]",
    ],
)
def test_other_names_for_this_machine_are_refused(client: TestClient, host: str) -> None:
    assert client.get("/api/state", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:8765", "127.0.0.1:1", "localhost", "LOCALHOST:80", "[::1]:8765"])
def test_any_port_of_this_machine_will_do_as_ssh_forwards_them(client: TestClient, host: str) -> None:
    assert client.get("/api/state", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:9", "http://localhost:8765", "null", ""])
def test_requests_of_other_sites_are_refused(client: TestClient, origin: str) -> None:
    act = {"act": "add_class", "name": "x"}
    assert client.post("/api/acts", json=act, headers={"Origin": origin}).status_code == 403
    assert client.get("/api/state", headers={"Origin": origin}).status_code == 403
    assert client.post("/api/acts", json=act, headers={"Origin": HOST}).status_code == 200


def test_a_page_on_another_port_of_this_machine_is_refused_even_without_an_origin(client: TestClient) -> None:
    for site, status in (("same-site", 403), ("cross-site", 403), ("same-origin", 200), ("none", 200)):
        assert client.get("/api/state", headers={"Sec-Fetch-Site": site}).status_code == status


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_forms_of_other_sites_cannot_act(client: TestClient, session: Session, kind: str) -> None:
    answer = client.post("/api/acts", content=b'{"act":"add_class","name":"x"}', headers={"Content-Type": kind})
    assert answer.status_code == 415
    assert session.number == 0


def test_a_huge_body_is_refused_whatever_it_says_of_itself(client: TestClient, session: Session) -> None:
    huge = b'{"act":"add_class","name":"' + b"x" * MOST_BYTES + b'"}'
    headers = {"Content-Type": "application/json"}
    assert client.post("/api/acts", content=huge, headers=headers).status_code == 413
    in_parts = (huge[i : i + 2**20] for i in range(0, len(huge), 2**20))
    assert client.post("/api/acts", content=in_parts, headers=headers).status_code == 413
    assert session.number == 0


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"7", b"null", b'{"act":"dance"}', b'{"act":["undo"]}', b"\xff\xfe", b"[" * 100_000]
)
def test_a_malformed_body_is_refused_in_words(client: TestClient, session: Session, body: bytes) -> None:
    answer = client.post("/api/acts", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert set(answer.json()) == {"problem", "remedy"}
    assert session.number == 0


@pytest.mark.parametrize(
    "path",
    [
        "/../run.json",
        "/%2e%2e/run.json",
        "/..%2f..%2frun.json",
        "/api/exports/..%2frun.json",
        "/api/exports/%2e%2e%2frun.json",
        "/api/exports/..",
        "/api/exports//etc/passwd",
        "/api/exports/%2fetc%2fpasswd",
        "/assets/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/api/exports/secret",
        "/api/exports/.hidden",
        "/server.py",
        "/../server.py",
    ],
)
def test_nothing_outside_the_exports_and_the_page_is_read(client: TestClient, session: Session, path: str) -> None:
    exports = session.run.path / "exports"
    exports.mkdir()
    (exports / "secret").symlink_to(session.run.path / "run.json")
    (exports / ".hidden").write_text("hidden")
    answer = client.get(path)
    assert answer.status_code == 404
    assert "vemosaic" not in answer.text.lower() or "problem" in answer.json()


def test_an_export_is_named_by_the_server_inside_its_folder(client: TestClient, session: Session) -> None:
    name = "../../../tmp/<b>x</b>"
    client.post("/api/acts", json={"act": "edit_class", "class": 1, "name": name})
    job = client.post("/api/jobs", json={"kind": "export", "to": "stl", "class": 1}).json()
    wait(client, job["id"])
    (file,) = (session.run.path / "exports").iterdir()
    assert file.name == "tmp_b_x_b-1.stl"
    assert client.get(f"/api/exports/{file.name}").content == file.read_bytes()
    before = {e.name for e in session.run.path.parent.iterdir()}
    assert before == {session.run.path.name}


def test_a_name_with_script_in_it_is_text(client: TestClient) -> None:
    script = "<script>alert(1)</script>"
    answer = client.post("/api/acts", json={"act": "add_class", "name": script})
    assert answer.headers["content-type"] == "application/json"
    assert script in {c["name"] for c in answer.json()["state"]["classes"]}
    assert client.get("/api/state").headers["x-content-type-options"] == "nosniff"
    refused = client.get(f"/api/slice/{script}", params={"axis": 0, "index": 0})
    assert (refused.status_code, refused.headers["content-type"]) == (404, "application/json")


def test_every_answer_forbids_scripts_from_elsewhere(client: TestClient, stranger: TestClient) -> None:
    for answer in (client.get("/api/state"), stranger.get("/"), stranger.get("/api/state"), client.get("/nowhere")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        scripts = next(part for part in policy.split("; ") if part.startswith("script-src"))
        assert "unsafe-inline" not in scripts and "unsafe-eval" not in scripts.replace("wasm-unsafe-eval", "")
        assert "frame-ancestors 'none'" in policy


def test_links_to_the_documentation_of_the_framework_are_closed(client: TestClient) -> None:
    assert {client.get(path).status_code for path in ("/docs", "/redoc", "/openapi.json")} == {404}


def test_only_the_runs_folder_is_written_to(client: TestClient, session: Session, tmp_path: Path) -> None:
    outside = {p for p in tmp_path.rglob("*") if not p.is_relative_to(session.run.path)}
    client.post("/api/acts", json={"act": "merge", "classes": [1], "into": 2})
    wait(client, client.post("/api/jobs", json={"kind": "apply"}).json()["id"])
    assert {p for p in tmp_path.rglob("*") if not p.is_relative_to(session.run.path)} == outside
