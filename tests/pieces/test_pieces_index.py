import cc3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_pieces import contacts_by_hand, index_in_memory, pieces_by_scipy, small_cases, snake, whole_box

from vemosaic.errors import SettingsError


@given(case=small_cases())
@settings(max_examples=60)
def test_whatever_the_blocks_the_pieces_are_those_of_cc3d_on_the_whole(case):
    labels, block_shape, connectivity = case
    index = index_in_memory(labels, block_shape, connectivity)
    whole, count = cc3d.connected_components(labels, connectivity=connectivity, return_N=True)
    assert index.count == count
    np.testing.assert_array_equal(index.numbers(whole_box(labels)), whole)  # the same numbers too


@given(case=small_cases())
@settings(max_examples=25)
def test_all_that_is_told_of_a_piece_is_what_its_mask_tells(case):
    labels, block_shape, connectivity = case
    index = index_in_memory(labels, block_shape, connectivity)
    expected = pieces_by_scipy(labels, connectivity)
    assert index.count == len(expected)
    for label, mask in expected[:12]:
        places = np.argwhere(mask)
        piece = index.piece(index.piece_at(places[-1]))
        assert (piece.label, piece.size, piece.voxel) == (label, mask.sum(), tuple(places[0]))
        assert piece.low == tuple(places.min(0)) and piece.high == tuple(places.max(0) + 1)
        assert piece.at_border == (0 in piece.low or any(np.equal(piece.high, labels.shape)))
        assert piece.contacts == contacts_by_hand(labels, mask)
        np.testing.assert_array_equal(index.mask(piece.number, whole_box(labels)), mask)


@given(case=small_cases(), data=st.data())
@settings(max_examples=40)
def test_an_updated_index_is_that_of_the_changed_labels_and_undone_that_of_the_first(case, data):
    labels, block_shape, connectivity = case
    first = index_in_memory(labels, block_shape, connectivity)
    index, changed, boxes = first, labels.copy(), []
    for _ in range(2):
        low = [data.draw(st.integers(0, n - 1)) for n in labels.shape]
        high = [data.draw(st.integers(a + 1, n)) for a, n in zip(low, labels.shape, strict=True)]
        boxes.append(tuple(map(slice, low, high)))
        changed = changed.copy()
        changed[boxes[-1]] = data.draw(st.integers(0, 5))
        index = index.updated(changed, boxes[-1:])
    fresh = index_in_memory(changed, block_shape, connectivity)
    for mine, other in ((index, fresh), (index.updated(labels, boxes), first)):
        table, expected = mine.table(), other.table()
        assert list(table) == list(expected)
        for name, column in expected.items():
            np.testing.assert_array_equal(table[name], column, err_msg=name)
        np.testing.assert_array_equal(mine.numbers(whole_box(labels)), other.numbers(whole_box(labels)))


@pytest.mark.parametrize("block_shape", [(1, 1, 1), (2, 3, 4), (9, 1, 9), (9, 9, 9)])
def test_a_piece_that_winds_through_all_blocks_is_one(block_shape):
    labels = snake()
    index = index_in_memory(labels, block_shape, 6)
    (number,) = index.of(2)
    assert index.piece(number).size == (labels == 2).sum()
    boxes = index.boxes(number)
    assert sum(index.mask(number, box).sum() for box in boxes) == (labels == 2).sum()


def test_voxels_that_meet_at_a_corner_of_blocks_are_one_piece_with_26_neighbours_and_two_with_6():
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[1, 1, 1] = labels[2, 2, 2] = 1
    assert index_in_memory(labels, (2, 2, 2), 26).count == 1
    assert index_in_memory(labels, (2, 2, 2), 6).count == 2


def test_labels_of_nothing_have_no_pieces_and_those_of_one_class_have_one():
    nothing = index_in_memory(np.zeros((5, 6, 7), np.uint8), (2, 3, 4))
    assert nothing.count == 0 and nothing.piece_at((4, 5, 6)) == 0
    assert not nothing.numbers(tuple(slice(0, n) for n in (5, 6, 7))).any()
    assert all(len(column) == 0 for column in nothing.table().values())
    full = index_in_memory(np.full((5, 6, 7), 255, np.uint8), (2, 3, 4))
    assert full.piece(1).size == 5 * 6 * 7 and full.piece(1).label == 255 and full.piece(1).contacts == {}


def scene():
    """In class 1: class 2 at the border and inside, class 3 inside with class 4 below it; 0 in a corner."""
    labels = np.ones((12, 12, 12), np.uint8)
    labels[0:3, 4:6, 4:6] = 2  # 12 voxels at the border
    labels[5:8, 2:5, 2:5] = 2  # 27 voxels
    labels[5:7, 7:9, 7:9] = 3  # 8 voxels
    labels[7, 7:9, 7:9] = 4  # 4 voxels below them
    labels[11, 11, 11] = 0
    return labels


def test_pieces_are_chosen_by_size_by_what_they_touch_and_at_the_border():
    labels = scene()
    index = index_in_memory(labels, (5, 4, 7))
    at_border, inside = index.piece_at((0, 4, 4)), index.piece_at((6, 3, 3))
    assert index.of(2).tolist() == sorted([at_border, inside])
    assert index.smaller_than(2, 27).tolist() == [at_border]
    assert index.smaller_than(2, 28).tolist() == sorted([at_border, inside])
    assert index.touching_border(2).tolist() == [at_border]
    assert index.touching_class(3, 4).tolist() == [index.piece_at((5, 7, 7))]
    assert index.touching_class(3, 2).tolist() == []
    assert index.touching_class(1, 0).tolist() == [index.piece_at((11, 11, 10))]
    assert index.of(9).tolist() == []


def test_the_table_tells_what_the_pieces_do():
    index = index_in_memory(scene(), (5, 4, 7))
    table = index.table()
    rows = zip(*(column.tolist() for column in table.values()), strict=True)
    for row in (dict(zip(table, values, strict=True)) for values in rows):
        piece = index.piece(row["piece"])
        assert (row["label"], row["voxels"], row["at_border"]) == (piece.label, piece.size, piece.at_border)
        assert (row["z"], row["y"], row["x"]) == piece.voxel
        assert tuple(row[f"{axis}_low"] for axis in "zyx") == piece.low
        assert tuple(row[f"{axis}_high"] for axis in "zyx") == piece.high
        touched = {
            int(name.removeprefix("touches_")): n for name, n in row.items() if name.startswith("touches_") and n
        }
        assert touched == piece.contacts


def test_merged_labels_are_one_class_and_hidden_ones_none():
    labels = scene()
    remap = list(range(256))
    remap[3], remap[4], remap[1] = 7, 7, 0
    index = index_in_memory(labels, (5, 4, 7), remap=remap)
    assert index.piece_at((0, 0, 0)) == 0
    (number,) = index.of(7)
    np.testing.assert_array_equal(index.mask(number, whole_box(labels)), (labels == 3) | (labels == 4))
    changed = labels.copy()
    changed[5:8, 7:9, 7:9] = 1
    assert index.updated(changed, [(slice(5, 8), slice(7, 9), slice(7, 9))]).of(7).tolist() == []


def test_a_selection_of_several_pieces_of_a_class_holds_them_all():
    labels = scene()
    index = index_in_memory(labels, (5, 4, 7))
    selection = index.selection(index.of(2))
    assert (selection.label, selection.size, selection.complete) == (2, 39, True)
    assert (selection.low, selection.high, selection.voxel) == ((0, 2, 2), (8, 6, 6), (0, 4, 4))
    plane = (slice(6, 7), slice(1, 11), slice(3, 12))
    np.testing.assert_array_equal(selection.mask(plane), labels[plane] == 2)
    painted = np.zeros(labels.shape, np.uint8)
    for box, mask in selection.parts():
        painted[box][mask] += 1
    np.testing.assert_array_equal(painted, labels == 2)


def test_what_cannot_be_asked_for_is_refused():
    index = index_in_memory(scene(), (5, 4, 7))
    with pytest.raises(SettingsError, match=r"voxel \(12, 0, 0\): lies outside the volume"):
        index.piece_at((12, 0, 0))
    with pytest.raises(ValueError, match="numbered 1 to"):
        index.piece(0)
    with pytest.raises(ValueError, match="numbered 1 to"):
        index.selection([])
    with pytest.raises(ValueError, match="of one class"):
        index.selection([index.of(2)[0], index.of(3)[0]])
    with pytest.raises(ValueError, match="6 or 26"):
        index_in_memory(scene(), (5, 4, 7), connectivity=18)
    with pytest.raises(ValueError, match="uint8"):
        index_in_memory(scene().astype(np.int32), (5, 4, 7))
    with pytest.raises(ValueError, match="256"):
        index_in_memory(scene(), (5, 4, 7), remap=[0, 1])
