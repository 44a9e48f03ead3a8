import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from vemosaic.errors import VolumeError
from vemosaic.volumes import VoxelSizeWarning, open_volume


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<i2", "<f4", "<f2"])
def test_plain_array(tmp_path: Path, image, same, zarr_format: int, dtype: str) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=image.astype(dtype), chunks=(4, 5, 6), zarr_format=zarr_format)
    volume = open_volume(tmp_path / "a.zarr")
    same(volume, image.astype(dtype))
    assert volume.format == f"Zarr v{zarr_format} array"
    assert volume.voxel_size is None


def test_sharded_array(tmp_path: Path, image, same) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=image, chunks=(2, 4, 4), shards=(4, 8, 8))
    same(open_volume(tmp_path / "a.zarr"), image)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_array_object(tmp_path: Path, image, same, zarr_format: int) -> None:
    on_disk = zarr.create_array(tmp_path / "a.zarr", data=image, zarr_format=zarr_format)
    same(open_volume(on_disk, voxel_size=4), image)
    in_memory = zarr.create_array(zarr.storage.MemoryStore(), data=image, zarr_format=zarr_format)
    volume = open_volume(in_memory, voxel_size=(4, 2, 2))
    same(volume, image)
    assert volume.voxel_size == (4, 2, 2)


def test_named_dimensions(tmp_path: Path, image, same) -> None:
    stored = np.stack([image, 255 - image]).transpose(3, 2, 1, 0).copy()
    zarr.create_array(tmp_path / "a.zarr", data=stored, dimension_names=("x", "y", "z", "channel"))
    same(open_volume(tmp_path / "a.zarr", channel=1), 255 - image)


def test_funlib_attributes(tmp_path: Path, image) -> None:
    attributes = {"resolution": [40, 4, 4], "offset": [80, 0, 4], "units": ["nm", "nm", "nm"]}
    zarr.create_array(tmp_path / "a.zarr", data=image, attributes=attributes)
    volume = open_volume(tmp_path / "a.zarr")
    assert volume.voxel_size == (40, 4, 4)
    assert volume.translation == (80, 0, 4)


def test_resolution_without_unit_warns(tmp_path: Path, image) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=image, attributes={"resolution": [40, 4, 4]})
    with pytest.warns(VoxelSizeWarning, match="40 x 4 x 4 without a unit; taken as nm"):
        assert open_volume(tmp_path / "a.zarr").voxel_size == (40, 4, 4)


def test_group_without_metadata_lists_its_arrays(tmp_path: Path, image) -> None:
    group = zarr.create_group(tmp_path / "g.zarr")
    group.create_array("volumes/raw", data=image)
    group.create_array("volumes/labels", data=image)
    with pytest.raises(VolumeError, match="volumes/labels, volumes/raw; give the path of one"):
        open_volume(tmp_path / "g.zarr")


def test_empty_group(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "g.zarr")
    with pytest.raises(VolumeError, match="holds no image"):
        open_volume(tmp_path / "g.zarr")


def test_opening_writes_nothing(tmp_path: Path, image) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=image, zarr_format=2)
    before = sorted(p.as_posix() for p in tmp_path.rglob("*"))
    open_volume(tmp_path / "a.zarr").identity()
    assert sorted(p.as_posix() for p in tmp_path.rglob("*")) == before


def test_unknown_codec(tmp_path: Path, image) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=image, zarr_format=2)
    file = tmp_path / "a.zarr" / ".zarray"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"compressor": {"id": "lost-art"}}))
    with pytest.raises(VolumeError, match=r"codec that is not supported .*rewrite it with zstd"):
        open_volume(tmp_path / "a.zarr")


CHUNKS = {2: "0.0.0", 3: "c/0/0/0"}


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_missing_chunk(tmp_path: Path, image, zarr_format: int) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=image, chunks=(4, 4, 4), zarr_format=zarr_format)
    (tmp_path / "a.zarr" / CHUNKS[zarr_format]).unlink()
    volume = open_volume(tmp_path / "a.zarr")
    with pytest.raises(VolumeError, match=r"a\.zarr: chunk \{0, 0, 0\} .* is missing; .*--missing-chunks fill"):
        volume.array[0:2, 0:2, 0:2]
    np.testing.assert_array_equal(volume.array[4:8, 4:8, 4:8], image[4:8, 4:8, 4:8])
    filled = open_volume(tmp_path / "a.zarr", missing_chunks="fill")
    assert not filled.array[0:4, 0:4, 0:4].any()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_truncated_chunk(tmp_path: Path, image, zarr_format: int) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=image, chunks=(4, 4, 4), zarr_format=zarr_format)
    chunk = tmp_path / "a.zarr" / CHUNKS[zarr_format]
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(VolumeError, match="cannot be read"):
        open_volume(tmp_path / "a.zarr").array[0:2, 0:2, 0:2]
