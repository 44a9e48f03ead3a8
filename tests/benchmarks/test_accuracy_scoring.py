from __future__ import annotations

import numpy as np
import pytest

import ablation.scoring
from ablation.scoring import (
    GAP,
    LABELLED,
    Truth,
    halves_of_space,
    linear_probe,
    mean_dice,
    random_halves,
    score_clusters,
    score_teaching,
)

NAMES = ("rest", "mitochondria", "nucleus")


def truth(classes, scored=NAMES):
    return Truth(np.asarray(classes, np.uint8), NAMES, scored)


def test_clusters_that_are_the_classes_score_one():
    classes = np.repeat([0, 1, 2], 30)
    scores = score_clusters((classes + 1).astype(np.uint8), 3, truth(classes))
    assert scores["best"] == scores["union"] == scores["hungarian"] == 1


def test_best_cluster_union_and_matching_differ():
    classes = np.repeat([0, 1, 1, 2], 10)  # two clusters share class 1, one holds classes 0 and 2
    labels = np.repeat([1, 2, 3, 1], 10).astype(np.uint8)
    scores = score_clusters(labels, 3, truth(classes))
    split, shared = 2 / 3, 2 / 3
    assert scores["classes"]["mitochondria"] == pytest.approx({"best": split, "union": 1, "hungarian": split})
    assert scores["best"] == pytest.approx((shared + split + shared) / 3)
    assert scores["hungarian"] == pytest.approx((shared + split + 0) / 3)


def test_only_scored_classes_count():
    classes = np.repeat([0, 1, 2], 10)
    labels = np.repeat([1, 2, 1], 10).astype(np.uint8)
    scores = score_clusters(labels, 2, truth(classes, ("mitochondria",)))
    assert scores["best"] == scores["hungarian"] == 1
    assert list(scores["classes"]) == ["mitochondria"]


def test_mean_dice_is_that_of_scored_classes():
    classes = np.repeat([0, 1, 2], 10).astype(np.uint8)
    predicted = np.repeat([0, 1, 1], 10).astype(np.uint8)
    assert mean_dice(predicted, classes, NAMES, ("mitochondria", "nucleus")) == pytest.approx((2 / 3 + 0) / 2)
    assert mean_dice(classes, classes, NAMES, ("mitochondria",)) == 1


@pytest.fixture
def drawn():
    """Voxels of two classes in stripes across the longest axis, the one ten times as rare."""
    rng = np.random.default_rng(0)
    voxels = rng.uniform((0, 0, 0), (20, 30, 400), (8_000, 3))
    return voxels, (voxels[:, 1] < 3).astype(np.uint8)


def test_what_separates_classes_teaches_well_and_noise_does_not(drawn, monkeypatch):
    monkeypatch.setattr(ablation.scoring, "DRAWS", 2)
    voxels, classes = drawn
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(len(classes), 2)).astype(np.float32)
    clear = noise + np.column_stack([8.0 * classes, 0 * classes]).astype(np.float32)
    known = truth(classes, ("mitochondria",))
    good, bad = score_teaching(clear, voxels, known), score_teaching(noise, voxels, known)
    assert list(good["probe"]) == ["space", "random"]
    assert all(good["probe"][name] > 0.99 > 0.3 > bad["probe"][name] for name in good["probe"])
    assert list(good["weak"]) == [str(count) for count in LABELLED]
    for count in good["weak"]:
        assert list(good["weak"][count]) == ["logistic", "explorer", "trees"]
        assert all(len(dice) == 2 for dice in good["weak"][count].values())
        for learner in ("logistic", "trees"):
            assert np.mean(good["weak"][count][learner]) > 0.9 > 0.4 > np.mean(bad["weak"][count][learner])
    assert np.mean(good["weak"]["1000"]["explorer"]) > 0.9


def test_the_halves_of_space_lie_apart_along_the_longest_axis(drawn):
    voxels, _ = drawn
    first, second = halves_of_space(voxels)
    assert voxels[second, 2].min() - voxels[first, 2].max() >= GAP
    assert len(first) + len(second) > 0.9 * len(voxels)


def test_random_halves_are_all_voxels_once():
    first, second = random_halves(1_001)
    assert len(first) - len(second) == 1
    np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), np.arange(1_001))


def test_the_probe_counts_what_both_turns_find_together():
    vectors = np.repeat([[0.0], [1.0], [0.0], [2.0]], 200, axis=0).astype(np.float32)
    known = truth(np.repeat([0, 1, 0, 1], 200), ("mitochondria",))
    halves = np.arange(400), np.arange(400, 800)
    # taught by 0 and 1, 2 is found; taught by 0 and 2, about half of 1 or none or all: all or nothing of 200
    assert linear_probe(vectors, known, halves) in (pytest.approx(1), pytest.approx(2 / 3))


@pytest.mark.parametrize("count", LABELLED)
def test_labelled_voxels_hold_every_class_and_none_is_tested(count):
    classes = np.zeros(9_000, np.uint8)
    classes[:20] = 1
    classes[20:23] = 2
    learned, tested = ablation.scoring.draw(classes, count, np.random.default_rng(0))
    assert len(learned) == count
    assert np.bincount(classes[learned], minlength=3)[1] >= 5
    assert np.bincount(classes[learned], minlength=3)[2] == 3
    assert not np.isin(tested, learned).any()
    assert len(np.unique(learned)) == count and len(np.unique(tested)) == len(tested) == 9_000 - count
