from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import variation_of_information as skimage_voi
from sklearn.metrics import adjusted_rand_score, confusion_matrix, f1_score

from vemosaic.errors import ReferenceMaskError
from vemosaic.evaluation import scores
from vemosaic.evaluation.reference import reference_from_arrays
from vemosaic.volumes import open_volume

tables = (
    st.tuples(st.integers(1, 6), st.integers(1, 5))
    .flatmap(lambda shape: arrays(np.int64, shape, elements=st.integers(0, 50)))
    .filter(lambda table: table.sum() > 1)
)


def names(table):
    return [f"class {j}" for j in range(table.shape[1])]


def as_labels(table):
    """Voxel lists that have this confusion matrix: clusters from 1, classes from 0."""
    rows, columns = np.indices(table.shape)
    return np.repeat(rows.ravel() + 1, table.ravel()), np.repeat(columns.ravel(), table.ravel())


def dice_of(prediction, reference):
    return 2 * (prediction & reference).sum() / (prediction.sum() + reference.sum())


def test_confusion_counts_each_pair_and_leaves_out_label_0():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, (5, 6, 7), dtype=np.uint8)
    classes = rng.integers(0, 4, (5, 6, 7), dtype=np.uint8)
    mapped = labels > 0
    expected = confusion_matrix(labels[mapped], classes[mapped], labels=range(8))[1:6, :4]
    np.testing.assert_array_equal(scores.confusion(labels, classes, 5, 4), expected)


def test_confusion_of_blocks_adds_up():
    rng = np.random.default_rng(1)
    labels, classes = rng.integers(0, 4, (8, 4, 4)), rng.integers(0, 3, (8, 4, 4))
    parts = [scores.confusion(labels[z : z + 3], classes[z : z + 3], 3, 3) for z in (0, 3, 6)]
    np.testing.assert_array_equal(sum(parts), scores.confusion(labels, classes, 3, 3))


@pytest.mark.parametrize(("label", "class_", "said"), [(4, 0, "labels lie in"), (1, 2, "classes lie in")])
def test_confusion_refuses_what_is_out_of_range(label, class_, said):
    with pytest.raises(ValueError, match=said):
        scores.confusion(np.full((1, 1, 2), label), np.full((1, 1, 2), class_), 3, 2)


def test_confusion_refuses_different_shapes():
    with pytest.raises(ValueError, match="differ in shape"):
        scores.confusion(np.ones((1, 1, 2), int), np.ones((1, 2, 1), int), 3, 2)


@given(tables)
def test_dice_matrix_is_the_f1_score_of_each_pair(table):
    labels, classes = as_labels(table)
    dice = scores.dice_matrix(table)
    for i, j in np.ndindex(table.shape):
        f1 = f1_score(classes == j, labels == i + 1, zero_division=0)
        assert dice[i, j] == pytest.approx(f1)


@given(tables)
def test_matching_is_the_best_of_all(table):
    dice = scores.dice_matrix(table)
    pairs = scores.hungarian_matching(dice)
    assert len(pairs) == min(table.shape)
    found = sum(dice[i, j] for i, j in pairs)
    tall = dice if dice.shape[0] >= dice.shape[1] else dice.T

    def best(column, left):
        if column == tall.shape[1]:
            return 0.0
        return max(tall[i, column] + best(column + 1, left - {i}) for i in left)

    assert found == pytest.approx(best(0, frozenset(range(tall.shape[0]))))


@given(tables)
def test_best_union_equals_brute_force_over_all_subsets(table):
    for j in range(table.shape[1]):
        everything = range(table.shape[0])
        best = 0.0
        for size in range(1, table.shape[0] + 1):
            for subset in combinations(everything, size):
                union = table[list(subset)]
                denominator = union.sum() + table[:, j].sum()
                best = max(best, 2 * union[:, j].sum() / denominator if denominator else 0.0)
        assert scores.best_union_dice(table, j) == pytest.approx(best)


@given(tables)
def test_ari_agrees_with_sklearn(table):
    labels, classes = as_labels(table)
    assert scores.adjusted_rand_index(table) == pytest.approx(adjusted_rand_score(classes, labels), abs=1e-12)


def test_ari_does_not_overflow_on_whole_cells():
    table = np.array([[3, 1], [1, 3]], dtype=np.int64)
    large = scores.adjusted_rand_index(table * 10**10)
    expected = scores.adjusted_rand_index(table * 10**5)
    assert large == pytest.approx(expected, abs=1e-4)


@given(tables)
def test_variation_of_information_agrees_with_skimage(table):
    labels, classes = as_labels(table)
    split, merge = scores.variation_of_information(table)
    expected_split, expected_merge = skimage_voi(classes, labels)
    assert (split, merge) == (
        pytest.approx(expected_split, abs=1e-9),
        pytest.approx(expected_merge, abs=1e-9),
    )


def test_splitting_a_class_in_two_costs_a_bit_of_split_and_none_of_merge():
    assert scores.variation_of_information(np.array([[8], [8]])) == (1.0, 0.0)
    assert scores.variation_of_information(np.array([[8, 8]])) == (0.0, 1.0)


def test_mean_dice_is_that_of_section_4_4_on_a_worked_example():
    table = np.array([[60, 10, 0], [20, 5, 5], [0, 25, 5], [0, 0, 70]])
    dice = np.array(
        [
            [2 * 60 / 150, 2 * 10 / 110, 0],
            [2 * 20 / 110, 2 * 5 / 70, 2 * 5 / 110],
            [0, 2 * 25 / 70, 2 * 5 / 110],
            [0, 0, 2 * 70 / 150],
        ]
    )
    found = scores.score(table, ["a", "b", "c"])
    np.testing.assert_allclose(found["dice_matrix"], dice)
    assert found["matching"] == {"a": 1, "b": 3, "c": 4}
    assert found["mean_dice"] == pytest.approx((dice[0, 0] + dice[2, 1] + dice[3, 2]) / 3)
    assert found["classes"]["a"]["best_union_dice"] == pytest.approx(2 * 80 / (100 + 80))


def test_fewer_clusters_than_classes_average_over_the_clusters():
    found = scores.score(np.array([[9, 0, 1], [0, 9, 1]]), ["a", "b", "c"])
    assert found["matching"] == {"a": 1, "b": 2, "c": None}
    assert found["mean_dice"] == pytest.approx(18 / 19)
    assert found["classes"]["c"]["dice"] == 0.0
    assert found["classes"]["c"]["best_cluster_dice"] == pytest.approx(2 / 12)


def test_a_class_that_the_reference_lacks_is_named_and_left_out():
    present = np.array([[9, 1], [1, 9]])
    with_absent = np.insert(present, 1, 0, axis=1)
    found = scores.score(with_absent, ["a", "golgi", "b"])
    assert found["absent"] == ["golgi"]
    assert list(found["classes"]) == ["a", "b"]
    assert found["mean_dice"] == scores.score(present, ["a", "b"])["mean_dice"]
    assert found["confusion"] == with_absent.tolist()


def test_nothing_to_score_is_said():
    with pytest.raises(ReferenceMaskError, match="nothing to score"):
        scores.score(np.zeros((3, 2)), ["a", "b"])


def test_class_names_must_fit_the_table():
    with pytest.raises(ValueError, match="does not fit"):
        scores.score(np.ones((3, 2)), ["a"])


@given(tables, st.randoms(use_true_random=False))
def test_the_order_of_the_clusters_changes_nothing(table, random):
    order = list(range(table.shape[0]))
    random.shuffle(order)
    one, other = scores.score(table, names(table)), scores.score(table[order], names(table))
    for key in ("mean_dice", "ari", "voi", "voi_split", "voi_merge"):
        assert one[key] == pytest.approx(other[key], abs=1e-12)
    for name, values in one["classes"].items():
        for key in ("best_cluster_dice", "best_union_dice"):
            assert values[key] == pytest.approx(other["classes"][name][key])


@given(arrays(np.int64, st.integers(1, 6), elements=st.integers(1, 100)))
def test_a_perfect_map_scores_1(sizes):
    found = scores.score(np.diag(sizes), [str(i) for i in range(len(sizes))])
    assert found["mean_dice"] == found["ari"] == 1.0
    assert found["voi"] == 0.0
    assert all(set(values.values()) == {1.0} for values in found["classes"].values())


@given(tables)
def test_scores_are_bounded_and_plain_json(table):
    found = scores.score(table, names(table))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert {"k", "mean_dice", "ari", "voi", "classes", "confusion"} <= set(found)
    assert 0 <= found["mean_dice"] <= 1
    assert found["ari"] <= 1
    assert found["voi"] >= 0
    for values in found["classes"].values():
        assert 0 <= values["dice"] <= values["best_cluster_dice"] + 1e-12
        assert values["best_cluster_dice"] <= values["best_union_dice"] + 1e-12 <= 1 + 2e-12


@settings(max_examples=20)
@given(st.integers(3, 9))
def test_evaluate_streams_and_agrees_with_the_whole(block):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, (9, 8, 7), dtype=np.uint8)
    masks = {"a": rng.random((9, 8, 7)) < 0.3, "b": rng.random((9, 8, 7)) < 0.3}
    reference = reference_from_arrays(masks, open_volume(labels, voxel_size=16))
    heard = []
    found = scores.evaluate(labels, reference, 4, block=block, progress=lambda *step: heard.append(step))
    classes = np.where(masks["a"], 1, np.where(masks["b"], 2, 0))
    assert found == scores.score(scores.confusion(labels, classes, 4, 3), ["unrecognised", "a", "b"])
    assert heard[-1][0] == heard[-1][1] == len(heard)


def test_evaluate_refuses_a_map_of_another_shape():
    reference = reference_from_arrays({"a": np.ones((4, 4, 4), bool)}, open_volume(np.ones((4, 4, 4)), voxel_size=1))
    with pytest.raises(ReferenceMaskError, match="opened for a map of shape"):
        scores.evaluate(np.ones((4, 4, 5), np.uint8), reference, 1)
