import cc3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_pieces import index_in_memory, small_cases, snake, whole_box

from vemosaic.errors import SettingsError
from vemosaic.pieces import select


@given(case=small_cases(), data=st.data())
@settings(max_examples=80)
def test_what_is_selected_from_a_voxel_is_what_the_index_has(case, data):
    labels, block_shape, connectivity = case
    if not labels.any():
        return
    voxel = data.draw(st.sampled_from(np.argwhere(labels).tolist()))
    selection = select(labels, voxel, connectivity=connectivity, block_shape=block_shape)
    index = index_in_memory(labels, block_shape[::-1], connectivity)
    indexed = index.selection(index.piece_at(voxel))
    for name in ("label", "size", "voxel", "low", "high", "complete"):
        assert getattr(selection, name) == getattr(indexed, name)
    np.testing.assert_array_equal(selection.mask(whole_box(labels)), indexed.mask(whole_box(labels)))
    whole = cc3d.connected_components(labels, connectivity=connectivity)
    np.testing.assert_array_equal(selection.mask(whole_box(labels)), whole == whole[tuple(voxel)])


@pytest.mark.parametrize("block_shape", [(1, 1, 1), (2, 2, 2), (3, 9, 4), (64, 64, 64)])
def test_a_winding_piece_that_comes_back_into_its_blocks_is_selected_whole(block_shape):
    labels = snake((9, 9, 9))
    selection = select(labels, (8, 8, 8), block_shape=block_shape)
    assert selection.size == (labels == 2).sum()
    np.testing.assert_array_equal(selection.mask(whole_box(labels)), labels == 2)


class Watched:
    """Labels that remember which voxels were read."""

    def __init__(self, labels):
        self.labels, self.shape, self.dtype = labels, labels.shape, labels.dtype
        self.read = np.zeros(labels.shape, np.bool_)

    def __getitem__(self, box):
        self.read[box] = True
        return self.labels[box]


def test_only_blocks_that_the_piece_comes_up_to_are_read():
    labels = np.ones((40, 40, 40), np.uint8)
    labels[2:6, 2:6, 2:14] = 2
    watched = Watched(labels)
    assert select(watched, (3, 3, 3), block_shape=(8, 8, 8)).size == 4 * 4 * 12
    np.testing.assert_array_equal(np.argwhere(watched.read).max(axis=0), (7, 7, 15))


def test_a_piece_beyond_the_limit_is_left_off_and_says_so():
    labels = np.ones((32, 32, 32), np.uint8)
    selection = select(labels, (0, 0, 0), block_shape=(8, 8, 8), most_voxels=2000)
    assert not selection.complete and 2000 < selection.size <= 2000 + 8**3
    assert selection.mask(whole_box(labels)).sum() == selection.size
    assert select(labels, (0, 0, 0), block_shape=(8, 8, 8), most_voxels=32**3).complete


def test_a_remapping_merges_and_hides_before_the_piece_is_followed():
    labels = np.zeros((4, 4, 12), np.uint8)
    labels[:, :, :4], labels[:, :, 4:8], labels[:, :, 8:] = 1, 2, 3
    remap = [0, 5, 5, 0, *[0] * 252]
    selection = select(labels, (0, 0, 0), remap=remap, block_shape=(2, 2, 2))
    assert (selection.label, selection.size, selection.high) == (5, 4 * 4 * 8, (4, 4, 8))
    with pytest.raises(SettingsError, match=r"voxel \(0, 0, 9\): belongs to no class"):
        select(labels, (0, 0, 9), remap=remap)


@pytest.mark.parametrize("voxel", [(-1, 0, 0), (0, 4, 0), (0, 0, 99)])
def test_a_voxel_outside_is_refused(voxel):
    with pytest.raises(SettingsError, match="lies outside the volume"):
        select(np.ones((4, 4, 4), np.uint8), voxel)
