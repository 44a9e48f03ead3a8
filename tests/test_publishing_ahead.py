"""Shards are in S3 before the run is complete, nothing over there looks whole, and publishing sends only the rest."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import complete_run
from faulty_s3 import FaultyS3, served, used
from vemosaic.blocks import Ledger, units
from vemosaic.publishing import publish
from vemosaic.publishing_ahead import publishing_ahead
from vemosaic.run_folder import RunFolder
from vemosaic.volumes.array_writing import ShardedArray

DESTINATION = "s3://maps/lab/cell"
MAP = "segmentation.ome.zarr"
UNITS = units(complete_run.SHAPE, complete_run.SHARD)


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyS3]:
    with served() as s3:
        yield s3


@pytest.fixture
def s3(server: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> FaultyS3:
    return used(server, monkeypatch)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose shards are all there, and none of whose records is."""
    folder = complete_run.write_run(tmp_path / "cell.vemosaic")
    RunFolder(folder).save(complete=False)
    return folder


def ledger_of(run: Path) -> Ledger:
    array = ShardedArray.open(run / MAP / "labels/k3/0")
    return Ledger(run / ".progress", "map", "f", owns=lambda unit: array.files(unit.origin, unit.shape), root=run)


def published(s3: FaultyS3) -> dict[str, bytes]:
    return {o.key.removeprefix("lab/cell/"): o.get()["Body"].read() for o in s3.bucket.objects.filter(Prefix="lab/")}


def waited_for(what: Callable[[], bool]) -> bool:
    ends = time.monotonic() + 60
    while not what() and time.monotonic() < ends:
        time.sleep(0.02)
    return what()


def shards(there: dict[str, bytes]) -> int:
    return sum(key.startswith(f"{MAP}/labels/k3/0/c/") for key in there)


def test_shards_are_there_as_soon_as_they_are_done(s3: FaultyS3, run: Path) -> None:
    ledger = ledger_of(run)
    with publishing_ahead(run, DESTINATION, 0.01):
        for number, unit in enumerate(UNITS[:-1], 1):
            ledger.complete(unit)
            assert waited_for(lambda number=number: shards(published(s3)) == number)  # type: ignore[misc]
    there = published(s3)
    assert set(there) == {"run.json", *(key for key in there if "/c/" in key)}
    assert json.loads(there["run.json"])["complete"] is False
    s3.requests.clear()
    RunFolder(run).save(complete=True)
    publish(run, DESTINATION)
    assert {key for key in s3.keys("PUT") if "/c/" in key} == {
        f"lab/cell/{file.relative_to(run).as_posix()}" for file in ledger._owns(UNITS[-1])
    }
    assert all((run / key).read_bytes() == content for key, content in published(s3).items())
    assert json.loads(published(s3)["run.json"])["complete"] is True


def test_an_earlier_copy_no_longer_looks_whole(s3: FaultyS3, run: Path) -> None:
    RunFolder(run).save(complete=True)
    publish(run, DESTINATION)
    complete_run.write_map(run, shift=1)
    RunFolder(run).save(complete=False)
    before = published(s3)
    with publishing_ahead(run, DESTINATION, 0.01):
        time.sleep(0.1)
        assert published(s3) == before  # nothing is done yet
        s3.requests.clear()
        ledger_of(run).complete(UNITS[0])
        (shard,) = (file.relative_to(run).as_posix() for file in ledger_of(run)._owns(UNITS[0]))
        assert waited_for(lambda: f"lab/cell/{shard}" in s3.keys("PUT"))
    there = published(s3)
    assert there[shard] == (run / shard).read_bytes() != before[shard]
    assert f"{MAP}/zarr.json" not in there
    assert json.loads(there["run.json"])["complete"] is False


def test_what_is_there_from_an_earlier_copy_is_left_alone(s3: FaultyS3, run: Path) -> None:
    ledger = ledger_of(run)
    for unit in UNITS:
        ledger.complete(unit)
    RunFolder(run).save(complete=True)
    publish(run, DESTINATION)
    before = published(s3)
    s3.requests.clear()
    with publishing_ahead(run, DESTINATION, 0.01):
        assert waited_for(lambda: len(s3.keys("HEAD")) == len(UNITS))
    assert s3.keys("PUT") == []
    assert published(s3) == before


def test_another_run_stays_until_it_is_replaced(s3: FaultyS3, run: Path, tmp_path: Path) -> None:
    publish(complete_run.write_run(tmp_path / "other", created="2025-01-01T00:00:00+00:00"), DESTINATION)
    before = published(s3)
    s3.requests.clear()
    with publishing_ahead(run, DESTINATION, 0.01):
        for unit in UNITS:
            ledger_of(run).complete(unit)
        assert waited_for(lambda: "lab/cell/run.json" in s3.keys("GET"))
    assert published(s3) == before
    assert s3.keys("PUT") == []


def test_what_is_not_as_its_record_says_is_not_sent(s3: FaultyS3, run: Path) -> None:
    ledger = ledger_of(run)
    for unit in UNITS[:2]:
        ledger.complete(unit)
    (changed,) = ledger._owns(UNITS[0])
    changed.write_bytes(changed.read_bytes()[::-1])
    with publishing_ahead(run, DESTINATION, 0.01):
        assert waited_for(lambda: shards(published(s3)) == 1)
        ledger.complete(UNITS[0])  # made anew
        assert waited_for(lambda: shards(published(s3)) == 2)


def test_a_run_does_not_suffer_from_a_server_that_refuses(s3: FaultyS3, run: Path) -> None:
    s3.refuse = lambda request: ("403 Forbidden", "AccessDenied") if request.method == "PUT" else None
    for unit in UNITS:
        ledger_of(run).complete(unit)
    with publishing_ahead(run, DESTINATION, 0.01):
        assert waited_for(lambda: bool(s3.keys("PUT")))
    assert len(s3.keys("PUT")) == 1
    with pytest.raises(RuntimeError, match="of the run itself"), publishing_ahead(run, DESTINATION, 0.01):
        raise RuntimeError("of the run itself")
