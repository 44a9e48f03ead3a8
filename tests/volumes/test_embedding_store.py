import numpy as np
import pytest
import yaozarrs
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

from vemosaic.blocks import Ledger, process, units
from vemosaic.errors import OutputError, VolumeError
from vemosaic.volumes.embedding_store import EmbeddingStore

SHAPE = (40, 33, 20)
EMBEDDING = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float16)


def write_all(folder, computed):
    store = EmbeddingStore.create(folder / "embedding.ome.zarr", channels=3, shape=SHAPE, shard=(32, 32, 32))
    work = units(SHAPE, (32, 32, 32))
    ledger = Ledger(folder / "records", "embed", "f", owns=lambda u: store.files(u.origin, u.shape), root=folder)

    def compute(unit, _):
        computed.append(unit)
        return EMBEDDING[:, *unit.slices]

    process(
        work,
        read=lambda unit: None,
        compute=compute,
        write=lambda unit, box: store.write(unit.origin, box),
        ledger=ledger,
    )
    return store, ledger.recorded(work)


def test_a_finished_store_is_valid_and_read_by_others(tmp_path):
    store, recorded = write_all(tmp_path, [])
    assert len(recorded) == 2 * 2 * 1
    with pytest.raises(VolumeError, match="is not a finished"):
        EmbeddingStore.open(store.path)
    store.finish(recorded, voxel_size=(16, 16, 15), translation=(8, 0, 0))

    yaozarrs.validate_zarr_store(str(store.path))
    (image,) = list(Reader(parse_url(store.path))())
    np.testing.assert_array_equal(image.data[0].compute(), EMBEDDING)
    assert [axis["name"] for axis in image.metadata["axes"]] == list("czyx")
    assert image.metadata["coordinateTransformations"][0] == [
        {"type": "scale", "scale": [1, 16, 16, 15]},
        {"type": "translation", "translation": [0, 8, 0, 0]},
    ]
    array = zarr.open_array(store.path / "0", mode="r")
    assert (array.chunks, array.shards, array.dtype) == ((1, 32, 32, 32), (3, 32, 32, 32), np.float16)

    opened = EmbeddingStore.open(store.path)
    assert (opened.channels, opened.shape, opened.shard) == (3, SHAPE, (32, 32, 32))
    np.testing.assert_array_equal(opened.read((5, 6, 7), (20, 20, 10)), EMBEDDING[:, 5:25, 6:26, 7:17])


def test_only_a_damaged_shard_is_done_again(tmp_path):
    store, recorded = write_all(tmp_path, [])
    (shard,) = store.files((32, 0, 0), (8, 32, 20))
    before = shard.read_bytes()
    shard.write_bytes(before[:-1])
    with pytest.raises(OutputError, match="1 of 4 shards"):
        store.finish(recorded, voxel_size=(1, 1, 1), translation=(0, 0, 0))
    computed = []
    write_all(tmp_path, computed)
    assert [unit.index for unit in computed] == [(1, 0, 0)]
    assert shard.read_bytes() == before


def test_another_embedding_in_its_place_is_refused(tmp_path):
    write_all(tmp_path, [])
    with pytest.raises(OutputError, match="holds another array"):
        EmbeddingStore.create(tmp_path / "embedding.ome.zarr", channels=4, shape=SHAPE, shard=(32, 32, 32))
