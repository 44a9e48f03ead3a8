import signal
import subprocess
import sys
from pathlib import Path

import label_run
import numpy as np
import pytest
import tensorstore as ts
import yaozarrs
import zarr
from label_run import COLOURS, KS, SHAPE, LabelRun, truth
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

from vemosaic.errors import OutputError, SettingsError, VolumeError
from vemosaic.volumes import open_volume
from vemosaic.volumes.labels import LabelStore, open_labels
from vemosaic.volumes.ome_writing import damaged_files, manifest_path, remove
from vemosaic.volumes.pyramid import mode_downsample


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The store of an undisturbed run; tests only read it."""
    run = LabelRun(tmp_path_factory.mktemp("undisturbed"))
    run.map_and_pyramid()
    run.finish(names={3: ["mitochondria", "granules", "rest"]})
    return run.store.path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_store_is_valid_ome_zarr(finished):
    yaozarrs.validate_zarr_store(str(finished))
    for k in KS:
        yaozarrs.validate_zarr_store(str(finished / "labels" / f"k{k}"))


def test_ome_zarr_py_reads_root_and_labels(finished):
    root, labels, *images = list(Reader(parse_url(finished))())
    np.testing.assert_array_equal(root.data[0].compute(), truth(8))
    np.testing.assert_array_equal(root.data[1].compute(), mode_downsample(truth(8), (2, 2, 2)))
    assert root.metadata["contrast_limits"] == [[0, 8]]
    assert not labels.data
    assert {node.metadata["name"]: node.data[0].shape for node in images} == {"k3": SHAPE, "k8": SHAPE}
    (three,) = [node for node in images if node.metadata["name"] == "k3"]
    np.testing.assert_array_equal(three.data[0].compute(), truth(3))
    assert three.metadata["color"][1] == [10 / 255, 254 / 255, 1 / 255, 1]
    assert three.metadata["color"][0] == [0, 0, 0, 0]
    assert three.metadata["properties"][2] == {"name": "granules"}


def test_zarr_and_tensorstore_read_every_level(finished):
    group = zarr.open_group(finished, mode="r")
    for k in KS:
        coarse = mode_downsample(truth(k), (2, 2, 2))
        np.testing.assert_array_equal(group[f"labels/k{k}/0"][:], truth(k))
        np.testing.assert_array_equal(group[f"labels/k{k}/1"][:], coarse)
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{finished}/labels/k{k}/1/"}}
        np.testing.assert_array_equal(ts.open(spec).result().read().result(), coarse)


def test_open_volume_reads_root_and_labels_with_their_place(finished):
    for path, k in ((finished, 8), (finished / "labels" / "k3", 3)):
        volume = open_volume(str(path))
        np.testing.assert_array_equal(volume.array[:, :, :], truth(k))
        assert volume.voxel_size == (16, 16, 15)
        assert volume.translation == (8, 0, -4)
        assert volume.coarser[0].voxel_size == (32, 32, 30)
        assert volume.coarser[0].translation == (16, 8, 3.5)


def test_no_voxel_is_stored_twice(finished):
    shards = [f for f in finished.rglob("*") if f.is_file() and f.name != "zarr.json"]
    assert {f.relative_to(finished).parts[0] for f in shards} == {"labels"}
    assert len(shards) == len(KS) * (3 * 3 * 2 + 2 * 2 * 1)


def test_open_labels_gives_back_what_was_written(finished):
    shown = open_labels(finished)
    assert (shown.k, shown.ks) == (8, KS)
    three = open_labels(finished, 3)
    np.testing.assert_array_equal(three.volume.array[:, :, :], truth(3))
    assert three.volume.voxel_size == (16, 16, 15)
    assert three.volume.translation == (8, 0, -4)
    assert three.volume.coarser[0].shape == (70, 45, 35)
    assert three.colours == tuple(COLOURS[3])
    assert three.names == ("mitochondria", "granules", "rest")
    assert shown.names[7] == "cluster 8"


def test_another_k_is_refused_with_those_there_are(finished):
    with pytest.raises(SettingsError, match=r"k = 5: .*has no such map; choose one of 3, 8"):
        open_labels(finished, 5)


@pytest.mark.parametrize("path", ["nothing", "file", "segmentation.ome.zarr/labels/k3"])
def test_what_is_no_label_store_is_one_line(finished, path):
    (finished.parent / "file").touch()
    with pytest.raises(VolumeError) as caught:
        open_labels(finished.parent / path)
    assert "\n" not in str(caught.value)


def test_an_unfinished_store_has_no_ome_metadata(tmp_path):
    run = LabelRun(tmp_path)
    run.map_and_pyramid()
    assert not list(run.store.path.rglob(".z*"))
    assert {f.parent.name for f in run.store.path.rglob("zarr.json")} == {"0", "1"}
    with pytest.raises(FileNotFoundError, match="No zarr metadata"):
        yaozarrs.validate_zarr_store(str(run.store.path))
    with pytest.raises(VolumeError, match="is not a finished OME-Zarr"):
        open_labels(run.store.path)


def test_taking_up_a_finished_store_unfinishes_it_until_it_is_checked_again(tmp_path):
    run = LabelRun(tmp_path)
    run.map_and_pyramid()
    run.finish()
    before = contents(tmp_path)
    again = LabelRun(tmp_path)
    assert {f.parent.name for f in run.store.path.rglob("zarr.json")} == {"0", "1"}
    assert not manifest_path(run.store.path).exists()
    again.map_and_pyramid()
    again.finish()
    assert again.computed == []
    assert contents(tmp_path) == before


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 16
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [flip_a_bit, truncate, Path.unlink])
@pytest.mark.parametrize("level", [0, 1])
def test_a_damaged_shard_is_found_and_only_its_unit_done_again(tmp_path, harm, level):
    run = LabelRun(tmp_path)
    run.map_and_pyramid()
    run.finish()
    before = contents(run.store.path)
    shard = run.store.path / "labels" / "k3" / str(level) / "c" / "1" / "1" / "0"
    harm(shard)
    assert damaged_files(run.store.path) == [shard]
    with pytest.raises(OutputError, match=rf"1 of 44 shards are .*k3/{level}/c/1/1/0\); run the same"):
        run.finish()

    rerun = LabelRun(tmp_path)
    untouched = {f: f.stat().st_mtime_ns for f in run.store.path.rglob("c/*/*/*") if f != shard}
    rerun.map_and_pyramid()
    rerun.finish()
    assert [unit.index for unit in rerun.computed] == ([(1, 1, 0)] if level == 0 else [])
    rewritten = {f for f, written in untouched.items() if f.stat().st_mtime_ns != written}
    assert rewritten == ({run.store.path / "labels/k8/0/c/1/1/0"} if level == 0 else set())
    assert contents(run.store.path) == before
    assert damaged_files(run.store.path) == []


def test_another_fingerprint_does_all_again(tmp_path):
    LabelRun(tmp_path).map_and_pyramid()
    other = LabelRun(tmp_path, fingerprint="other settings")
    other.map_and_pyramid()
    assert other.computed == other.units


@pytest.mark.parametrize("units_before", [1, 8, 16])
def test_killed_and_run_again_ends_bitwise_as_undisturbed(tmp_path, finished, units_before):
    program = [sys.executable, label_run.__file__, str(tmp_path), str(units_before)]
    assert subprocess.run(program, check=False).returncode == -signal.SIGKILL

    rerun = LabelRun(tmp_path)
    done = rerun.ledger.done(rerun.units)
    assert units_before - 5 <= len(done) <= units_before
    rerun.map_and_pyramid()
    rerun.finish(names={3: ["mitochondria", "granules", "rest"]})
    assert rerun.computed == [unit for unit in rerun.units if unit not in done]
    assert contents(rerun.store.path) == contents(finished)
    assert manifest_path(rerun.store.path).read_bytes() == manifest_path(finished).read_bytes()


def test_a_shard_without_a_record_is_not_trusted(tmp_path):
    run = LabelRun(tmp_path)
    run.map_and_pyramid()
    run.recorded.popitem()
    with pytest.raises(OutputError, match="1 of 44 shards are missing or damaged"):
        run.finish()
    assert not (run.store.path / "zarr.json").exists()


def test_damaged_metadata_or_manifest_is_found(tmp_path):
    run = LabelRun(tmp_path)
    run.map_and_pyramid()
    run.finish()
    truncate(run.store.path / "labels" / "k3" / "zarr.json")
    assert damaged_files(run.store.path) == [run.store.path / "labels" / "k3" / "zarr.json"]
    truncate(manifest_path(run.store.path))
    with pytest.raises(VolumeError, match=r"manifest\.json: is missing or damaged"):
        damaged_files(run.store.path)


def create(path: Path, **other) -> LabelStore:
    settings = {"ks": [4], "shape": (8, 8, 8), "voxel_size": (1, 1, 1), "translation": (0, 0, 0)}
    return LabelStore.create(path, **(settings | other))


@pytest.mark.parametrize("other", [{"shape": (8, 8, 9)}, {"ks": [5]}, {"shard": (64, 64, 64)}])
def test_another_map_in_its_place_is_refused_until_it_is_removed(tmp_path, other):
    create(tmp_path / "s")
    with pytest.raises(OutputError, match=r"holds another"):
        create(tmp_path / "s", **other)
    remove(tmp_path / "s")
    create(tmp_path / "s", **other)


@pytest.mark.parametrize("ks", [[], [0, 3], [256]])
def test_impossible_numbers_of_clusters_are_refused(tmp_path, ks):
    with pytest.raises(ValueError, match="1 to 255"):
        create(tmp_path / "s", ks=ks)


def test_labels_beyond_k_are_refused(tmp_path):
    store = create(tmp_path / "s")
    with pytest.raises(ValueError, match="label 5 in a map of 4 clusters"):
        store.write(4, 0, (0, 0, 0), np.full((8, 8, 8), 5, np.uint8))


def test_every_cluster_needs_its_colour(tmp_path):
    store = create(tmp_path / "s")
    with pytest.raises(ValueError, match="3 colours and 4 names for 4 clusters"):
        store.finish({}, default_k=4, colours={4: [(1, 2, 3)] * 3})
