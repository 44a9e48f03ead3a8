"""Reading from servers that answer 429, 500 and 503 for a while."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import zarr

from faulty_s3 import FaultyS3, busy, each_refused, served, used
from vemosaic.errors import VolumeError
from vemosaic.volumes import open_volume, stores

KEY = "cell.zarr/em"


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyS3]:
    with served() as s3:
        yield s3


@pytest.fixture
def s3(server: FaultyS3, tmp_path: Path, image, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """A server that holds an image of eight chunks, and reading with many retries and short waits."""
    for name in ("RETRIES", "PATIENT_RETRIES"):
        short = getattr(stores, name) | {"initial_delay": "2ms", "max_delay": "4ms"}
        monkeypatch.setattr(stores, name, short)
    used(server, monkeypatch)
    array = zarr.create_array(tmp_path / KEY, data=image, chunks=(8, 8, 8))
    array.attrs["resolution"] = [16, 8, 8]
    array.attrs["units"] = ["nm"] * 3
    for file in (tmp_path / "cell.zarr").rglob("*"):
        if file.is_file():
            server.bucket.put_object(
                Key=file.relative_to(tmp_path).as_posix(), Body=file.read_bytes(), ACL="public-read"
            )
    clear_caches()
    server.requests.clear()
    yield server
    clear_caches()


def clear_caches() -> None:
    stores.shared_context.cache_clear()
    stores.metadata_context.cache_clear()


@pytest.fixture(params=["s3", "http"])
def address(request: pytest.FixtureRequest, s3: FaultyS3) -> str:
    return f"s3://maps/{KEY}" if request.param == "s3" else f"{s3.endpoint}/maps/{KEY}"


@pytest.mark.parametrize("status", ["503 Slow Down", "500 Internal Server Error", "429 Too Many Requests"])
def test_a_busy_server_is_asked_again(s3: FaultyS3, address: str, image, same, status: str) -> None:
    s3.refuse = busy(stores.RETRIES["max_retries"], status)
    volume = open_volume(address)
    s3.refuse = busy(stores.PATIENT_RETRIES["max_retries"], status)
    same(volume, image)


def test_every_request_fails_twice(s3: FaultyS3, address: str, image, same) -> None:
    s3.refuse = each_refused(2)
    same(open_volume(address), image)
    chunks = [key for key in s3.keys("GET") if key.startswith(f"{KEY}/c/")]
    assert len(set(chunks)) == 8
    assert all(chunks.count(chunk) == 3 for chunk in set(chunks))


def test_voxels_are_waited_for_longer_than_metadata(s3: FaultyS3, address: str) -> None:
    volume = open_volume(address)
    s3.requests.clear()
    s3.refuse = busy(10**6)
    with pytest.raises(VolumeError, match=r"the server does not serve it \(it answers 503 again and again\); run the"):
        volume.array[0:1, 0:1, 0:1]
    voxels = len(s3.requests)
    s3.requests.clear()
    with pytest.raises(VolumeError, match=rf"^{address}: the server does not serve it \(it answers 503"):
        open_volume(address)
    assert voxels == 13 and len(s3.requests) == 7
