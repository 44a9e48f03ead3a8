"""S3 through moto and HTTP through the standard library's server, each on a free port."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
import tensorstore as ts
import zarr
from botocore.config import Config
from moto.server import ThreadedMotoServer

from vemosaic.errors import VolumeError
from vemosaic.volumes import open_volume, stores

KEYS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A public bucket, with the environment of a user who has no credentials."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    s3 = boto3.resource("s3", endpoint_url=endpoint, config=Config(retries={"max_attempts": 1}), **KEYS)
    bucket = s3.create_bucket(Bucket="em-data", ACL="public-read-write")
    yield bucket
    bucket.objects.all().delete()
    bucket.delete()


def upload(bucket: Any, folder: Path, acl: str = "public-read") -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            bucket.put_object(Key=file.relative_to(folder.parent).as_posix(), Body=file.read_bytes(), ACL=acl)


def write_image(folder: Path, image: np.ndarray) -> None:
    """An OME-Zarr 0.4 image in a container with consolidated metadata."""
    root = zarr.open_group(folder, mode="w", zarr_format=2)
    group = root.create_group("em/raw")
    group.create_array("s0", data=image, chunks=(4, 4, 4))
    axes = [{"name": n, "type": "space", "unit": "nanometer"} for n in "zyx"]
    dataset = {"path": "s0", "coordinateTransformations": [{"type": "scale", "scale": [40, 8, 8]}]}
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [dataset]}]
    zarr.consolidate_metadata(folder, zarr_format=2)


def write_n5(folder: Path, image: np.ndarray) -> None:
    store = ts.open(
        {
            "driver": "n5",
            "kvstore": {"driver": "file", "path": f"{folder}/em/s0/"},
            "metadata": {"dataType": "uint8", "dimensions": list(image.shape[::-1]), "blockSize": [5, 5, 5]},
        },
        create=True,
    ).result()
    store[...] = image.transpose()
    attributes = {"pixelResolution": {"dimensions": [8, 8, 40], "unit": "nm"}, "scales": [[1, 1, 1]]}
    (folder / "em" / "attributes.json").write_text(json.dumps(attributes))


def test_zarr_in_s3_without_credentials(tmp_path: Path, bucket, image, same) -> None:
    write_image(tmp_path / "cell.zarr", image)
    upload(bucket, tmp_path / "cell.zarr")
    volume = open_volume("s3://em-data/cell.zarr/em/raw/")
    same(volume, image)
    assert (volume.format, volume.voxel_size) == ("OME-Zarr 0.4", (40, 8, 8))
    assert open_volume("s3://em-data/cell.zarr/em/raw/s0").voxel_size == (40, 8, 8)


def test_n5_in_s3(tmp_path: Path, bucket, image, same) -> None:
    write_n5(tmp_path / "cell.n5", image)
    upload(bucket, tmp_path / "cell.n5")
    volume = open_volume("s3://em-data/cell.n5/em")
    same(volume, image)
    assert volume.voxel_size == (40, 8, 8)


def test_container_in_s3_lists_its_images(tmp_path: Path, bucket, image) -> None:
    write_image(tmp_path / "cell.zarr", image)
    upload(bucket, tmp_path / "cell.zarr")
    with pytest.raises(VolumeError, match=r"holds 1: em/raw; .*s3://em-data/cell\.zarr/em/raw"):
        open_volume("s3://em-data/cell.zarr")


def test_private_objects(tmp_path: Path, bucket, image, same, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "cell.zarr", image)
    upload(bucket, tmp_path / "cell.zarr", acl="private")
    with pytest.raises(VolumeError, match=r"may not be read.*403.*AWS_PROFILE or AWS_ACCESS_KEY_ID"):
        open_volume("s3://em-data/cell.zarr/em/raw")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    same(open_volume("s3://em-data/cell.zarr/em/raw"), image)


@pytest.mark.parametrize("address", ["s3://em-data/nothing", "s3://no-such-bucket/cell.zarr"])
def test_nothing_there(bucket, address: str) -> None:
    with pytest.raises(VolumeError, match=f"{address}: (holds no image|may not be read|the bucket does not exist)"):
        open_volume(address)


def test_missing_chunk_in_s3(tmp_path: Path, bucket, image) -> None:
    write_image(tmp_path / "cell.zarr", image)
    (tmp_path / "cell.zarr" / "em" / "raw" / "s0" / "0.0.0").unlink()
    upload(bucket, tmp_path / "cell.zarr")
    with pytest.raises(VolumeError, match=r"is missing|may not be read"):
        open_volume("s3://em-data/cell.zarr/em/raw").array[0:1, 0:1, 0:1]


def test_zarr_over_http(tmp_path: Path, web_server: str, image, same) -> None:
    write_image(tmp_path / "cell.zarr", image)
    volume = open_volume(f"{web_server}/cell.zarr/em/raw")
    same(volume, image)
    assert volume.voxel_size == (40, 8, 8)
    with pytest.raises(VolumeError, match="holds 1: em/raw"):
        open_volume(f"{web_server}/cell.zarr")


def test_n5_over_http(tmp_path: Path, web_server: str, image, same) -> None:
    write_n5(tmp_path / "cell.n5", image)
    same(open_volume(f"{web_server}/cell.n5/em"), image)


def test_nothing_over_http(web_server: str) -> None:
    with pytest.raises(VolumeError, match="holds no image that could be found"):
        open_volume(f"{web_server}/nothing")


def test_single_file_over_http(web_server: str) -> None:
    with pytest.raises(VolumeError, match="only Zarr and N5 are read over the network; download it first"):
        open_volume(f"{web_server}/cell.ome.tif")


def test_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "RETRIES", {"max_retries": 1, "initial_delay": "1ms", "max_delay": "1ms"})
    stores.metadata_context.cache_clear()
    try:
        with pytest.raises(VolumeError, match="does not answer"):
            open_volume("http://127.0.0.1:9/cell.zarr")
    finally:
        stores.metadata_context.cache_clear()
