"""What lies in S3 after a run has been published, and what is sent when it is published again."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
import zarr
from obstore.store import S3Store
from zarr.storage import ObjectStore

import complete_run
from faulty_s3 import FaultyS3, Request, served, used
from vemosaic.blocks.events import Event, StageStarted, UnitDone
from vemosaic.errors import OutputError, VolumeError
from vemosaic.publishing import TRANSFERS, Publication, check_destination, publish
from vemosaic.run_folder import RunFolder
from vemosaic.volumes import open_volume
from vemosaic.volumes.ome_writing import damaged_files

DESTINATION = "s3://maps/lab/cell"
MAP = "segmentation.ome.zarr"
SHARDS = f"{MAP}/labels/k3/0/c/"


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyS3]:
    with served() as s3:
        yield s3


@pytest.fixture
def s3(server: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> FaultyS3:
    return used(server, monkeypatch)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return complete_run.write_run(tmp_path / "cell.vemosaic")


def published(s3: FaultyS3, prefix: str = "lab/cell/") -> dict[str, bytes]:
    """What lies in the destination."""
    return {o.key.removeprefix(prefix): o.get()["Body"].read() for o in s3.bucket.objects.filter(Prefix=prefix)}


def sent(s3: FaultyS3) -> list[str]:
    """What was sent there, in order, since this was asked the last time."""
    keys = [key.removeprefix("lab/cell/") for key in s3.keys("PUT")]
    s3.requests.clear()
    return keys


def expected(run: Path) -> dict[str, bytes]:
    """All of a run that is for others."""
    names = [p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()]
    private = (".", "explorer/", "exports/", "notes")
    return {name: (run / name).read_bytes() for name in names if not name.startswith(private)}


def test_the_run_lies_there_byte_for_byte(s3: FaultyS3, run: Path) -> None:
    complete_run.write_embedding(run)
    publication = publish(run, DESTINATION + "/")
    there = published(s3)
    assert there == expected(run)
    assert len([key for key in there if key.startswith(SHARDS)]) == 6
    assert publication == Publication(
        DESTINATION,
        (MAP, "embedding.ome.zarr"),
        files=len(there),
        size=sum(map(len, there.values())),
        sent=len(there),
    )
    assert s3.bucket.Object("lab/cell/report.html").content_type == "text/html"
    assert s3.bucket.Object(f"lab/cell/{MAP}/zarr.json").content_type == "application/json"


def test_it_is_read_from_there(s3: FaultyS3, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(run, DESTINATION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")  # what an anonymous writer put, moto shows to nobody else
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    whole = tuple(slice(0, n) for n in complete_run.SHAPE)
    for address in (f"{DESTINATION}/{MAP}/labels/k3", f"{DESTINATION}/{MAP}"):
        volume = open_volume(address)
        np.testing.assert_array_equal(volume.array[whole], complete_run.labels())
        assert (volume.voxel_size, volume.translation) == ((16, 16, 15), (8, 0, 0))
    store = S3Store("maps", prefix="lab/cell", endpoint=s3.endpoint, client_options={"allow_http": True})
    group = zarr.open_group(ObjectStore(store, read_only=True), path=MAP, mode="r")
    np.testing.assert_array_equal(group["labels/k3/0"][:], complete_run.labels())
    assert group["labels/k3"].attrs["ome"]["image-label"]["properties"][0] == {"label-value": 1, "name": "cluster 1"}


def test_a_copy_of_it_is_a_whole_run(s3: FaultyS3, run: Path, tmp_path: Path) -> None:
    publish(run, DESTINATION)
    for key, content in published(s3).items():
        file = tmp_path / "copy" / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    assert RunFolder.existing(tmp_path / "copy").record["complete"] is True
    assert damaged_files(tmp_path / "copy" / MAP) == []


def test_what_makes_it_look_whole_is_sent_last(s3: FaultyS3, run: Path) -> None:
    said = []

    def look(event: object) -> None:
        if isinstance(event, UnitDone) and event.stage == "publish":
            record = json.load(s3.bucket.Object("lab/cell/run.json").get()["Body"])
            root = list(s3.bucket.objects.filter(Prefix=f"lab/cell/{MAP}/zarr.json"))
            said.append((record["complete"], bool(root)))

    publish(run, DESTINATION, listen=look)
    assert said[:-2] == [(False, False)] * (len(said) - 2)
    assert said[-2:] == [(False, True), (True, True)]
    order = sent(s3)
    assert order[0] == "run.json" and order[-2:] == [f"{MAP}/zarr.json", "run.json"]
    assert len(order) == len(expected(run)) + 1


def test_what_is_there_already_is_not_sent_again(s3: FaultyS3, run: Path) -> None:
    first = publish(run, DESTINATION)
    sent(s3)
    heard: list[Event] = []
    again = publish(run, DESTINATION, listen=heard.append)
    assert {r.method for r in s3.requests} <= {"GET", "HEAD"}
    assert (again.sent, again.files, again.size) == (0, first.files, first.size)
    assert heard[0] == StageStarted("compare", first.files, 0, "file")
    assert StageStarted("publish", first.size, first.size, "byte") in heard


def test_a_changed_file_is_sent_anew(s3: FaultyS3, run: Path) -> None:
    publish(run, DESTINATION)
    sent(s3)
    scores = run / "scores.json"
    scores.write_text(scores.read_text().replace("0.5", "0.6"))
    assert publish(run, DESTINATION).sent == 2
    assert sent(s3) == ["run.json", "scores.json", "run.json"]
    assert published(s3) == expected(run)


def test_only_the_record_changed(s3: FaultyS3, run: Path) -> None:
    publish(run, DESTINATION)
    sent(s3)
    RunFolder.existing(run).save(timings={"report": 1.5})
    assert publish(run, DESTINATION).sent == 1
    assert sent(s3) == ["run.json"]
    assert published(s3) == expected(run)


def test_a_changed_map_does_not_look_whole_while_it_changes(s3: FaultyS3, run: Path) -> None:
    publish(run, DESTINATION)
    complete_run.write_map(run, shift=1)
    sent(s3)
    missing = []

    def look(request: Request) -> None:
        if request.method == "PUT" and request.key.startswith(f"lab/cell/{SHARDS}"):
            missing.append(not any(o.key.endswith(f"{MAP}/zarr.json") for o in s3.bucket.objects.all()))

    s3.refuse = look
    publish(run, DESTINATION)
    assert missing == [True, True]  # the first planes are two shards
    shards = [key for key in sent(s3) if key.startswith(SHARDS)]
    assert sorted(shards) == [f"{SHARDS}0/0/0", f"{SHARDS}0/1/0"]
    assert published(s3) == expected(run)


def test_what_is_no_longer_part_of_the_run_goes_and_all_else_stays(s3: FaultyS3, run: Path) -> None:
    others = {"lab/cell/README.md": b"of the lab", "lab/cell2/run.json": b"{}", "lab/cell.txt": b""}
    complete_run.write_embedding(run)
    publish(run, DESTINATION)
    embedding = {key for key in published(s3) if key.startswith("embedding")}
    for key, content in others.items():
        s3.bucket.put_object(Key=key, Body=content)
    shutil.rmtree(run / MAP)
    complete_run.write_map(run, shape=(16, 20, 20))
    (run / "scores.json").unlink()
    publish(run, DESTINATION, stores=[MAP])
    assert published(s3).keys() == expected(run).keys() | embedding | {"README.md"}
    assert {key: published(s3, "")[key] for key in others} == others


def test_stores_that_are_named(s3: FaultyS3, run: Path) -> None:
    complete_run.write_embedding(run)
    assert publish(run, DESTINATION, stores=[MAP]).stores == (MAP,)
    assert not [key for key in published(s3) if key.startswith("embedding")]
    with pytest.raises(OutputError, match=r"other\.zarr: is no store of a run; choose from segmentation\.ome\.zarr, "):
        publish(run, DESTINATION, stores=["other.zarr"])
    with pytest.raises(VolumeError, match=r"edited\.ome\.zarr: is not a finished OME-Zarr"):
        publish(run, DESTINATION, stores=["edited.ome.zarr"])


def test_another_run_is_replaced_only_when_asked(s3: FaultyS3, run: Path, tmp_path: Path) -> None:
    other = complete_run.write_run(tmp_path / "other", created="2026-01-02T00:00:00+00:00")
    complete_run.write_embedding(other)
    publish(other, DESTINATION)
    s3.bucket.put_object(Key="lab/cell/README.md", Body=b"of the lab")
    before = published(s3)
    for attempt in (publish, check_destination):
        with pytest.raises(OutputError, match=f"^{DESTINATION}: holds another run; name another folder, or add --over"):
            attempt(run, DESTINATION)
    assert published(s3) == before
    publish(run, DESTINATION, overwrite=True)
    assert published(s3) == expected(run) | {"README.md": b"of the lab"}


@pytest.mark.parametrize("held", ["README.md", "run.json"])
def test_what_is_no_run_is_replaced_only_when_asked(s3: FaultyS3, run: Path, held: str) -> None:
    s3.bucket.put_object(Key=f"lab/cell/{held}", Body=b"something else")
    with pytest.raises(OutputError, match="holds something that is no run"):
        publish(run, DESTINATION)
    assert published(s3) == {held: b"something else"}
    publish(run, DESTINATION, overwrite=True)
    assert published(s3).keys() == expected(run).keys() | {held}


def test_a_destination_is_checked_before_there_is_a_run(s3: FaultyS3, tmp_path: Path, run: Path) -> None:
    check_destination(tmp_path / "new", DESTINATION)
    publish(run, DESTINATION)
    check_destination(run, DESTINATION)
    with pytest.raises(OutputError, match="holds another run"):
        check_destination(tmp_path / "new", DESTINATION)
    check_destination(tmp_path / "new", DESTINATION, overwrite=True)
    assert not (tmp_path / "new").exists()


def test_some_files_are_on_their_way_at_a_time(s3: FaultyS3, run: Path) -> None:
    lock, now, most = Lock(), 0, 0

    def slow(request: Request, content: bytes) -> bytes:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        return content

    s3.tamper = slow
    publish(run, DESTINATION)
    assert 1 < most <= TRANSFERS


def test_nobody_is_looked_for_without_credentials(s3: FaultyS3, run: Path) -> None:
    publish(run, DESTINATION)
    assert {request.signature for request in s3.requests} == {""}


def test_requests_are_signed_with_the_credentials_of_the_environment(
    s3: FaultyS3, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    publish(run, DESTINATION)
    assert all("Credential=mine/" in request.signature for request in s3.requests)


def test_requests_are_signed_with_the_credentials_of_a_profile(
    s3: FaultyS3, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    file.write_text("[lab]\naws_access_key_id = the-lab\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    publish(run, DESTINATION)
    assert all("Credential=the-lab/" in request.signature for request in s3.requests)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(OutputError, match=r"^AWS_PROFILE=nobody: cannot be used \(.*nobody.*\); see ~/.aws/config"):
        publish(run, DESTINATION)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(OutputError, match="is only understood with boto3, which is not installed; pip install boto3"):
        publish(run, DESTINATION)
