import errno

import numpy as np
import pytest
import tensorstore as ts
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from vemosaic.blocks import units
from vemosaic.errors import OutputError, VolumeError
from vemosaic.volumes.array_writing import ShardedArray, chunk_shape


def create(path, shape=(70, 40, 33), shard=(32, 32, 32), dtype=np.uint8, **kwargs):
    chunk = kwargs.pop("chunk", (16, 16, 16))
    return ShardedArray.create(path, shape=shape, shard=shard, chunk=chunk, dtype=dtype, axes="zyx", **kwargs)


def noise(shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


@settings(max_examples=20)
@given(
    shape=st.tuples(*[st.integers(1, 50)] * 3),
    shards=st.tuples(*[st.integers(1, 3)] * 3),
    unit_shards=st.tuples(*[st.integers(1, 3)] * 3),
)
def test_any_shard_and_unit_give_the_voxels_of_one_write(tmp_path_factory, shape, shards, unit_shards):
    folder = tmp_path_factory.mktemp("array")
    shard = tuple(16 * n for n in shards)
    voxels = noise(shape)
    by_units, at_once = (create(folder / name, shape, shard) for name in ("units", "once"))
    at_once.write((0, 0, 0), voxels)
    files = []
    for unit in units(shape, [s * n for s, n in zip(shard, unit_shards, strict=True)]):
        files += by_units.write(unit.origin, voxels[unit.slices])
    np.testing.assert_array_equal(by_units.read((0, 0, 0), shape), voxels)
    assert sorted(files) == sorted(by_units.all_files())
    for ours, other in zip(by_units.all_files(), at_once.all_files(), strict=True):
        assert ours.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.float16])
def test_zarr_and_tensorstore_read_what_was_written(tmp_path, dtype):
    voxels = noise((70, 40, 33), dtype)
    create(tmp_path / "a", dtype=dtype).write((0, 0, 0), voxels)
    with_zarr = zarr.open_array(tmp_path / "a", mode="r")
    assert with_zarr.dtype == dtype
    assert with_zarr.metadata.dimension_names == ("z", "y", "x")
    assert with_zarr.shards == (32, 32, 32)
    assert with_zarr.chunks == (16, 16, 16)
    np.testing.assert_array_equal(with_zarr[:], voxels)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(tmp_path / "a")}}
    np.testing.assert_array_equal(ts.open(spec).result().read().result(), voxels)


def test_the_default_chunk_divides_the_shard_or_is_it():
    assert chunk_shape((192, 64, 96)) == (64, 64, 96)


def test_shards_of_zeros_are_files_all_the_same(tmp_path):
    array = create(tmp_path / "a")
    array.write((0, 0, 0), np.zeros((70, 40, 33), np.uint8))
    assert all(file.exists() for file in array.all_files())
    assert len(array.all_files()) == 3 * 2 * 2


def test_a_missing_shard_is_an_error_and_not_zeros(tmp_path):
    array = create(tmp_path / "a")
    array.write((0, 0, 0), noise((70, 40, 33)))
    array.files((32, 0, 0), (32, 32, 32))[0].unlink()
    array.read((0, 0, 0), (32, 40, 33))
    with pytest.raises(VolumeError, match=r"1/0/0.* is missing; run again"):
        array.read((0, 0, 0), (33, 1, 1))


def test_every_flipped_bit_and_every_truncation_is_an_error(tmp_path):
    voxels = noise((32, 32, 32))
    array = create(tmp_path / "a", voxels.shape)
    (shard,) = array.write((0, 0, 0), voxels)
    whole = shard.read_bytes()
    for at in np.random.default_rng(0).integers(0, len(whole), 40):
        harmed = bytearray(whole)
        harmed[at] ^= 1 << (at % 8)
        shard.write_bytes(harmed)
        with pytest.raises(VolumeError) as caught:
            ShardedArray.open(array.path).read((0, 0, 0), voxels.shape)
        assert "\n" not in str(caught.value)
    shard.write_bytes(whole[:-1])
    with pytest.raises(VolumeError):
        ShardedArray.open(array.path).read((0, 0, 0), voxels.shape)


def test_creating_the_same_array_again_takes_it_up(tmp_path):
    voxels = noise((70, 40, 33))
    create(tmp_path / "a").write((0, 0, 0), voxels)
    np.testing.assert_array_equal(create(tmp_path / "a").read((0, 0, 0), voxels.shape), voxels)


@pytest.mark.parametrize(
    "other", [{"shape": (70, 40, 34)}, {"dtype": np.float16}, {"shard": (16, 32, 32)}, {"chunk": (32, 32, 32)}]
)
def test_another_array_in_its_place_is_refused(tmp_path, other):
    create(tmp_path / "a")
    with pytest.raises(OutputError, match=r"holds another array, or a damaged one; remove it"):
        create(tmp_path / "a", **other)


@pytest.mark.parametrize(
    ("origin", "shape"), [((1, 0, 0), (31, 40, 33)), ((0, 0, 0), (32, 31, 33)), ((64, 0, 0), (7, 40, 33))]
)
def test_boxes_that_cut_shards_are_refused(tmp_path, origin, shape):
    with pytest.raises(ValueError, match="not made of shards"):
        create(tmp_path / "a").write(origin, np.zeros(shape, np.uint8))


def test_another_type_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds uint8, not int64"):
        create(tmp_path / "a").write((0, 0, 0), np.zeros((70, 40, 33), np.int64))


def test_a_shard_of_broken_chunks_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no whole number of chunks"):
        create(tmp_path / "a", shard=(24, 32, 32))


def test_what_is_no_array_is_one_line(tmp_path):
    with pytest.raises(VolumeError, match="is no Zarr v3 array"):
        ShardedArray.open(tmp_path)


def test_a_file_where_the_folder_should_be_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot be written to \(Not a directory\); check the folder"):
        create(tmp_path / "file" / "a")


def test_an_error_of_the_system_while_writing_keeps_its_number(tmp_path):
    array = create(tmp_path / "a")
    (array.path / "c").write_text("in the way")
    with pytest.raises(OSError, match="Not a directory") as caught:
        array.write((0, 0, 0), noise((70, 40, 33)))
    assert caught.value.errno == errno.ENOTDIR
