import subprocess
import sys
from pathlib import Path

import cc3d
import numpy as np
import pytest
from small_pieces import snake, whole_box

from vemosaic.blocks import UnitDone, claim
from vemosaic.datasets.phantom import phantom_cell
from vemosaic.errors import OutputError, VolumeError
from vemosaic.pieces import build_index, open_index, select
from vemosaic.pieces.building import INDEX
from vemosaic.volumes.array_writing import ShardedArray

BLOCK = (5, 5, 5)


def build(labels, folder, identity="first", **settings):
    return build_index(labels, folder, identity=identity, block_shape=BLOCK, **settings)


def opened(labels, folder, identity="first", **settings):
    return open_index(labels, folder, identity=identity, block_shape=BLOCK, **settings)


def tables(folder):
    with np.load(folder / INDEX) as archive:
        return {name: archive[name].tolist() for name in archive}


class Stopped(Exception):
    pass


class Stop:
    """Listens, counts blocks, and cancels after some."""

    def __init__(self, after=10**9):
        self.after, self.done = after, 0

    def __call__(self, event):
        self.done += isinstance(event, UnitDone)
        if self.done >= self.after:
            raise Stopped


def test_what_was_built_opens_without_being_computed_again(tmp_path):
    labels = snake()
    assert opened(labels, tmp_path / "pieces") is None
    built = build(labels, tmp_path / "pieces")
    again = opened(labels, tmp_path / "pieces")
    np.testing.assert_array_equal(again.numbers(whole_box(labels)), built.numbers(whole_box(labels)))
    stop = Stop()
    build(labels, tmp_path / "pieces", listen=stop)
    assert stop.done == 0


def test_a_cancelled_build_goes_on_and_ends_the_same(tmp_path):
    labels = snake()
    build(labels, tmp_path / "undisturbed")
    with pytest.raises(Stopped):
        build(labels, tmp_path / "pieces", listen=Stop(after=3))
    assert opened(labels, tmp_path / "pieces") is None
    stop = Stop()
    build(labels, tmp_path / "pieces", listen=stop)
    assert 0 < stop.done <= 8 - 3
    assert tables(tmp_path / "pieces") == tables(tmp_path / "undisturbed")


def test_a_killed_build_goes_on_and_ends_the_same(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]);"
        "from small_pieces import snake; from vemosaic.blocks import UnitDone; from vemosaic.pieces import build_index;"
        "listen = lambda event: isinstance(event, UnitDone) and os._exit(9);"
        "build_index(snake(), Path(sys.argv[1]), identity='first', block_shape=(5, 5, 5), listen=listen)"
    )
    folder = tmp_path / "pieces"
    here = str(Path(__file__).parent)
    assert subprocess.run([sys.executable, "-c", program, str(folder), here]).returncode == 9
    stop = Stop()
    build(snake(), folder, listen=stop)
    assert 0 < stop.done < 8
    build(snake(), tmp_path / "undisturbed")
    assert tables(folder) == tables(tmp_path / "undisturbed")


def test_other_labels_connectivity_or_classes_are_found_anew(tmp_path):
    labels, folder = snake(), tmp_path / "pieces"
    build(labels, folder)
    assert opened(labels, folder, identity="second") is None
    assert opened(labels, folder, connectivity=26) is None
    hidden = [0, 0, *range(2, 256)]
    assert opened(labels, folder, remap=hidden) is None
    changed = np.where(labels == 2, 3, labels).astype(np.uint8)
    assert build(changed, folder, identity="second").of(3).tolist() == [1]
    assert opened(labels, folder) is None
    assert build(labels, folder, remap=hidden).count == 1


@pytest.mark.parametrize("damage", [lambda f: f.write_bytes(f.read_bytes()[:-99]), lambda f: f.unlink()])
def test_a_damaged_index_is_made_again(tmp_path, damage):
    labels, folder = snake(), tmp_path / "pieces"
    build(labels, folder)
    expected = tables(folder)
    damage(folder / INDEX)
    damage(folder / "blocks" / "0_1_0.npz")
    assert opened(labels, folder) is None
    stop = Stop()
    build(labels, folder, listen=stop)
    assert stop.done == 1  # the damaged block only
    assert tables(folder) == expected


def test_an_update_does_without_stored_blocks_that_are_damaged(tmp_path):
    labels, folder = snake(), tmp_path / "pieces"
    index = build(labels, folder)
    for file in (folder / "blocks").iterdir():
        file.write_bytes(b"no archive")
    changed = labels.copy()
    changed[4, 0, 4] = 1  # cuts the path
    updated = index.updated(changed, [(slice(4, 5), slice(0, 1), slice(4, 5))])
    np.testing.assert_array_equal(
        updated.numbers(whole_box(labels)), cc3d.connected_components(changed, connectivity=6)
    )
    assert len(updated.of(2)) == 2 and len(index.of(2)) == 1
    assert opened(labels, folder).count == index.count  # what is stored stays


def test_two_builds_at_once_in_a_folder_are_refused(tmp_path):
    with claim(tmp_path / "pieces"), pytest.raises(OutputError, match="another run is working in it"):
        build(snake(), tmp_path / "pieces")


def test_stored_labels_that_are_damaged_name_themselves(tmp_path):
    labels = snake((8, 8, 8))
    array = ShardedArray.create(
        tmp_path / "labels", shape=labels.shape, shard=(4, 8, 8), chunk=(4, 8, 8), dtype=np.uint8, axes="zyx"
    )
    array.write((0, 0, 0), labels)
    (tmp_path / "labels/c/1/0/0").unlink()
    with pytest.raises(VolumeError, match="labels"):
        build(array, tmp_path / "pieces")
    with pytest.raises(VolumeError, match="labels"):
        select(array, (0, 0, 0))
    array.write((0, 0, 0), labels)
    expected = cc3d.connected_components(labels, connectivity=6)
    np.testing.assert_array_equal(build(array, tmp_path / "pieces").numbers(whole_box(labels)), expected)


def test_the_pieces_of_a_phantom_cell_are_those_of_cc3d(tmp_path):
    labels = phantom_cell((48, 96, 96), seed=3).labels()
    for connectivity in (6, 26):
        settings = {"identity": "phantom", "block_shape": (32, 32, 48), "connectivity": connectivity}
        index = build_index(labels, tmp_path / str(connectivity), **settings)
        whole = cc3d.connected_components(labels, connectivity=connectivity)
        np.testing.assert_array_equal(index.numbers(whole_box(labels)), whole)
        voxels = np.bincount(whole.ravel())[1:]
        np.testing.assert_array_equal(index.table()["voxels"], voxels)
        largest = int(voxels.argmax()) + 1
        selection = select(labels, index.piece(largest).voxel, connectivity=connectivity, block_shape=(16, 16, 16))
        np.testing.assert_array_equal(selection.mask(whole_box(labels)), whole == largest)
