import numpy as np
import pytest
from small_pieces import contacts_by_hand, pieces_by_scipy

from vemosaic.blocks import units
from vemosaic.pieces import fragments as fragments_module
from vemosaic.pieces.fragments import components_of, find_fragments
from vemosaic.pieces.selection import PackedMask, kept


def test_two_voxels_with_a_gap_between_them_are_two_components():
    mask = np.array([[[True, False, True]]])  # an error in cc3d, had it been given booleans
    assert components_of(mask, 26)[1] == 2


def test_contacts_are_the_same_however_few_counts_fit_into_memory(monkeypatch):
    labels = np.random.default_rng(0).integers(0, 7, (6, 5, 7)).astype(np.uint8)
    (block,) = units(labels.shape, labels.shape)
    expected = {int(np.flatnonzero(mask)[0]): contacts_by_hand(labels, mask) for _, mask in pieces_by_scipy(labels, 6)}
    for bins in (fragments_module.BINS, 300, 1):
        monkeypatch.setattr(fragments_module, "BINS", bins)
        found = find_fragments(labels, block, labels.shape, 6)
        met = {int(first): {} for first in found.first}
        for fragment, label, faces in found.contact.tolist():
            met[int(found.first[fragment - 1])][label] = faces
        assert met == expected


@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 1, 1), (8, 8, 8)])
def test_a_packed_mask_unpacks_to_itself(shape):
    mask = np.random.default_rng(1).random(shape) < 0.5
    np.testing.assert_array_equal(PackedMask.pack(mask).unpack(), mask)


def test_masks_are_made_again_only_once_they_had_to_go():
    made = []

    def make(number):
        made.append(number)
        return np.full((8, 8, 8), number % 2 == 0)

    get = kept(make, limit=2 * 64)  # two masks of 64 bytes
    for number in (0, 1, 0, 2, 0, 1):
        assert get(number).unpack().all() == (number % 2 == 0)
    assert made == [0, 1, 2, 1]
