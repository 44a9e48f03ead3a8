from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vemosaic.evaluation.majority import AxisOverlap, majority


def shares_of(length, ratio, shift, first, count):
    """The slow, obvious twin: the length that each voxel shares with each target voxel."""
    shares = np.zeros((count, length))
    for row, i in enumerate(range(first, first + count)):
        centre = shift + i * ratio
        for j in range(length):
            low, high = max(j - 0.5, centre - ratio / 2), min(j + 0.5, centre + ratio / 2)
            shares[row, j] = max(0.0, high - low)
    return shares / shares.sum(axis=1, keepdims=True)


@given(st.floats(1.01, 5), st.floats(-0.4, 0.4), st.integers(0, 3), st.integers(1, 5))
def test_finer_voxels_count_by_the_length_they_share(ratio, shift, first, count):
    length = int(np.ceil(ratio * 9)) + 2
    start = ratio / 2 - 0.5 + shift
    box, weights = AxisOverlap(length, ratio, start).weights(first, count)
    found = np.zeros((count, length))
    found[:, box] = weights.toarray()
    np.testing.assert_allclose(found, shares_of(length, ratio, start, first, count), atol=1e-5)


@given(st.floats(0.1, 1), st.floats(-0.45, 0.45))
def test_coarser_voxels_are_taken_by_their_nearest_centre(ratio, shift):
    box, weights = AxisOverlap(6, ratio, shift).weights(0, 5)
    centres = shift + np.arange(5) * ratio
    taken = box.start + weights.toarray().argmax(axis=1)
    distance = np.abs(centres[:, None] - np.arange(6))
    np.testing.assert_allclose(distance[range(5), taken], distance.min(axis=1), atol=2e-6)
    assert weights.nnz == 5


def test_the_same_lattice_reads_each_voxel_as_it_is():
    box, weights = AxisOverlap(7, 1.0, 0.0).weights(2, 4)
    assert box == slice(2, 6)
    np.testing.assert_array_equal(weights.toarray(), np.eye(4))


def test_target_voxels_beyond_the_end_take_the_nearest():
    _, weights = AxisOverlap(4, 3.0, 1.0).weights(0, 3)
    np.testing.assert_allclose(weights.toarray()[1:], [[0, 0, 0, 1], [0, 0, 0, 1]])


@pytest.mark.parametrize("shift", [-1e-9, 0.0, 1e-9])
def test_rounding_errors_in_nanometres_move_nothing(shift):
    box, weights = AxisOverlap(9, 3.0, 1.0 + shift).weights(1, 1)
    assert box == slice(3, 6)
    np.testing.assert_allclose(weights.toarray(), [[1 / 3] * 3], atol=1e-6)


def test_half_a_voxel_is_enough_for_a_mask_and_ties_go_to_the_earlier_class():
    weights = tuple(AxisOverlap(2, 2.0, 0.5).weights(0, 1)[1] for _ in range(3))
    labels = np.zeros((2, 2, 2), np.uint8)
    labels[0] = 3
    assert majority(labels, weights).item() == 3
    labels[1] = 2
    assert majority(labels, weights).item() == 2
    labels[:] = 0
    labels[0, 0] = 1
    labels[0, 1, 0] = 1
    assert majority(labels, weights).item() == 0


@given(st.integers(0, 2**32 - 1), st.sampled_from([2.0, 3.0, 1.6, 16 / 15]))
def test_majority_agrees_with_the_sum_over_voxels(seed, ratio):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (7, 8, 9), dtype=np.uint8)
    overlaps = [AxisOverlap(n, ratio, ratio / 2 - 0.5) for n in labels.shape]
    counts = [int(n / ratio) for n in labels.shape]
    boxes, weights = zip(*(o.weights(0, n) for o, n in zip(overlaps, counts, strict=True)), strict=True)
    found = majority(labels[boxes], weights)
    dense = [shares_of(n, ratio, ratio / 2 - 0.5, 0, c) for n, c in zip(labels.shape, counts, strict=True)]
    shares = np.stack([np.einsum("zyx,az,by,cx->abc", labels == label, *dense) for label in (1, 2, 3, 0)])
    first_of_the_largest = (shares > shares.max(axis=0) - 1e-5).argmax(axis=0)
    np.testing.assert_array_equal(found, np.array([1, 2, 3, 0])[first_of_the_largest])
