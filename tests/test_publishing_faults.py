"""Publishing that is interrupted, refused, damaged on its way or pointed at the wrong place."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import complete_run
from faulty_s3 import FaultyS3, Request, busy, each_refused, served, used
from vemosaic.blocks.events import Event, UnitDone
from vemosaic.blocks.lock import claim
from vemosaic.errors import OutputError
from vemosaic.publishing import publish
from vemosaic.run_folder import RunFolder
from vemosaic.volumes import remote_folder

DESTINATION = "s3://maps/lab/cell"
ROOT = "segmentation.ome.zarr/zarr.json"
SHARD = "segmentation.ome.zarr/labels/k3/0/c/1/0/0"


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyS3]:
    with served() as s3:
        yield s3


@pytest.fixture
def s3(server: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> FaultyS3:
    monkeypatch.setattr(remote_folder, "FIRST_WAIT", timedelta(milliseconds=1))
    monkeypatch.setattr(remote_folder, "LONGEST_WAIT", timedelta(milliseconds=2))
    return used(server, monkeypatch)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return complete_run.write_run(tmp_path_factory.mktemp("published") / "cell.vemosaic")


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A run to be damaged."""
    return complete_run.write_run(tmp_path / "damaged.vemosaic")


def published(s3: FaultyS3, folder: str = "lab/cell") -> dict[str, str]:
    """Tags of all that lies in a destination."""
    return {o.key.removeprefix(f"{folder}/"): o.e_tag for o in s3.bucket.objects.filter(Prefix=f"{folder}/")}


def looks_whole(s3: FaultyS3, folder: str) -> tuple[bool, bool]:
    """Whether the run and the map in a destination say that they are."""
    there = published(s3, folder)
    whole = "run.json" in there and json.load(s3.bucket.Object(f"{folder}/run.json").get()["Body"])["complete"]
    return whole, ROOT in there


class Stopped(Exception):
    """What a test ends a publication with."""


def test_interrupted_anywhere_it_goes_on(s3: FaultyS3, run: Path) -> None:
    files = publish(run, "s3://maps/lab/undisturbed").files
    undisturbed = published(s3, "lab/undisturbed")
    for stop in range(1, files + 1):
        folder = f"lab/stopped{stop}"
        passed = 0

        def listen(event: Event, stop: int = stop) -> None:
            nonlocal passed
            passed += isinstance(event, UnitDone)
            if passed == stop:
                raise Stopped

        with pytest.raises(Stopped):
            publish(run, f"s3://maps/{folder}", listen=listen)
        there = published(s3, folder)
        assert looks_whole(s3, folder) == (stop == files, stop >= files - 1)
        s3.requests.clear()
        missing = files - len(there) + (stop < files)  # the record that says incomplete is replaced
        assert publish(run, f"s3://maps/{folder}").sent == missing
        marks = stop < files - 1
        assert sorted(s3.keys("PUT")) == sorted(
            [f"{folder}/{key}" for key in undisturbed.keys() - there.keys()]
            + [f"{folder}/run.json"] * ((stop < files) + marks)
        )
        assert published(s3, folder) == undisturbed


def test_killed_it_goes_on(s3: FaultyS3, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "killed")
    command = "import sys; from vemosaic.publishing import publish; publish(*sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", command, str(run), DESTINATION])

    def kill(request: Request) -> None:
        if len(s3.keys("PUT")) == 8:
            process.kill()

    s3.refuse = kill
    assert process.wait() == -signal.SIGKILL
    there = published(s3)
    assert looks_whole(s3, "lab/cell") == (False, False)
    assert len(there) >= 4
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "resumed")
    publish(run, DESTINATION)
    again = {r.key for r in s3.requests if r.method == "PUT" and "=resumed/" in r.signature}  # not what was on its way
    assert {f"lab/cell/{key}" for key in there} & again == {"lab/cell/run.json"}
    assert looks_whole(s3, "lab/cell") == (True, True)


@pytest.mark.parametrize("status", ["503 Slow Down", "500 Internal Server Error", "429 Too Many Requests"])
def test_a_busy_server_is_asked_again(s3: FaultyS3, run: Path, status: str) -> None:
    s3.refuse = busy(remote_folder.FIRST_RETRIES, status)
    publish(run, DESTINATION)
    assert looks_whole(s3, "lab/cell") == (True, True)
    assert len(s3.keys("PUT")) == len(published(s3)) + 1


def test_every_request_fails_twice(s3: FaultyS3, run: Path) -> None:
    s3.refuse = each_refused(2)
    publish(run, DESTINATION)
    s3.refuse = lambda _: None
    assert looks_whole(s3, "lab/cell") == (True, True)
    puts = s3.keys("PUT")
    assert all(puts.count(key) == (6 if key.endswith("cell/run.json") else 3) for key in puts)


def test_a_server_that_stays_busy(s3: FaultyS3, run: Path) -> None:
    s3.refuse = lambda request: ("503 Slow Down", "") if request.key.endswith(SHARD) else None
    with pytest.raises(
        OutputError,
        match=f"^{DESTINATION}: the server does not take it .it answers 503 again and again.; give the same",
    ):
        publish(run, DESTINATION)
    assert s3.keys("PUT").count(f"lab/cell/{SHARD}") == remote_folder.RETRIES + 1
    assert looks_whole(s3, "lab/cell") == (False, False)
    s3.refuse = lambda _: None
    publish(run, DESTINATION)
    assert looks_whole(s3, "lab/cell") == (True, True)


def test_what_arrives_damaged_does_not_stay(s3: FaultyS3, run: Path) -> None:
    s3.tamper = lambda request, content: content[:-1] + b"~" if request.key.endswith(SHARD) else content
    with pytest.raises(OutputError, match=f"^{DESTINATION}/{SHARD}: arrived damaged; give the same command again"):
        publish(run, DESTINATION)
    assert SHARD not in published(s3)
    assert looks_whole(s3, "lab/cell") == (False, False)
    s3.reset()
    publish(run, DESTINATION)
    assert s3.bucket.Object(f"lab/cell/{SHARD}").get()["Body"].read() == (run / SHARD).read_bytes()


def test_where_tags_are_no_digests_files_are_read_back(
    s3: FaultyS3, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")  # what an anonymous writer put, moto shows to nobody else
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    s3.tag = lambda tag: tag.translate(str.maketrans("0123456789abcdef", "123456789abcdef0"))
    assert publish(run, DESTINATION).sent == len(published(s3))
    assert s3.keys("GET").count(f"lab/cell/{SHARD}") == 1
    s3.tamper = lambda request, content: content[:-1] + b"~"
    with pytest.raises(OutputError, match="arrived damaged"):
        publish(run, "s3://maps/lab/other")


@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_what_another_changes_meanwhile_is_noticed(s3: FaultyS3, run: Path, change: str) -> None:
    def listen(event: Event) -> None:
        if event == UnitDone("publish", (run / SHARD).stat().st_size):
            if change == "removed":
                s3.bucket.Object(f"lab/cell/{SHARD}").delete()
            else:
                s3.bucket.put_object(Key=f"lab/cell/{SHARD}", Body=bytes((run / SHARD).stat().st_size))

    with pytest.raises(
        OutputError,
        match=rf"^{DESTINATION}: \d of \d+ files are not there as they were sent \(such as seg.*labels/k3/0/c",
    ):
        publish(run, DESTINATION, listen=listen)
    assert looks_whole(s3, "lab/cell") == (False, False)
    publish(run, DESTINATION)
    assert s3.bucket.Object(f"lab/cell/{SHARD}").get()["Body"].read() == (run / SHARD).read_bytes()


@pytest.mark.parametrize("damage", ["flipped", "cut", "removed"])
def test_a_damaged_shard_is_never_sent(s3: FaultyS3, damaged: Path, damage: str) -> None:
    shard = damaged / SHARD
    content = shard.read_bytes()
    shard.unlink()
    if damage != "removed":
        shard.write_bytes(content[:-1] + (b"" if damage == "cut" else bytes([content[-1] ^ 1])))
    with pytest.raises(
        OutputError, match=f"^{shard}: (is damaged|cannot be read).*; give the command that made it again"
    ):
        publish(damaged, DESTINATION)
    assert SHARD not in published(s3)
    assert looks_whole(s3, "lab/cell") == (False, False)


def test_a_run_that_is_not_complete(s3: FaultyS3, damaged: Path) -> None:
    RunFolder.existing(damaged).save(complete=False)
    with pytest.raises(OutputError, match=f"^{damaged}: is not complete; give the command that made it again"):
        publish(damaged, DESTINATION)
    assert s3.requests == []


def test_a_folder_that_is_no_run(s3: FaultyS3, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"none: holds no run"):
        publish(tmp_path / "none", DESTINATION)
    assert not (tmp_path / "none").exists()


def test_a_run_that_is_worked_on(s3: FaultyS3, run: Path) -> None:
    with claim(run), pytest.raises(OutputError, match="another run is working in it"):
        publish(run, DESTINATION)


def forbid(method: str, code: str = "AccessDenied") -> Callable[[Request], tuple[str, str] | None]:
    """Answer 403 to a method."""
    answer = ("403 Forbidden", f"<Error><Code>{code}</Code></Error>")
    return lambda request: answer if request.method == method else None


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_no_permission(s3: FaultyS3, run: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.refuse = forbid(method)
    said = rf"^{DESTINATION}: may not be written to \(the server answers AccessDenied\); "
    with pytest.raises(OutputError, match=said + "set AWS_PROFILE or AWS_ACCESS_KEY_ID$"):
        publish(run, DESTINATION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(OutputError, match=said + "check the credentials, which must be allowed to list, read, write"):
        publish(run, DESTINATION)


def test_a_bucket_in_another_region(s3: FaultyS3, run: Path) -> None:
    body = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>"
    s3.refuse = lambda request: ("400 Bad Request", body)
    with pytest.raises(OutputError, match=f"^{DESTINATION}: is in another region; set AWS_REGION to eu-west-1$"):
        publish(run, DESTINATION)
    s3.refuse = lambda request: ("301 Moved Permanently", "<Error><Code>PermanentRedirect</Code></Error>")
    with pytest.raises(OutputError, match=r"is in another region; set AWS_REGION to that of the bucket$"):
        publish(run, DESTINATION)


def test_no_such_bucket(s3: FaultyS3, run: Path) -> None:
    with pytest.raises(OutputError, match=r"^s3://no-such-bucket/cell: the bucket does not exist; create it, or check"):
        publish(run, "s3://no-such-bucket/cell")


def test_no_server(s3: FaultyS3, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(
        OutputError, match=f"^{DESTINATION}: the server does not answer .*; check the address and the net"
    ):
        publish(run, DESTINATION)


@pytest.mark.parametrize("destination", ["s3://maps", "s3://maps/", "s3:///cell", "/data/cell", "gs://maps/cell", ""])
def test_no_folder_in_s3(run: Path, destination: str) -> None:
    with pytest.raises(OutputError, match=r"^.*: is no folder in S3; give s3://bucket/folder$"):
        publish(run, destination)
