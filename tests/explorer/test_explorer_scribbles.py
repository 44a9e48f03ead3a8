from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vemosaic.errors import SettingsError
from vemosaic.explorer import acts
from vemosaic.explorer.classifier import Classifier, estimate_shares, powers_of, weights_of
from vemosaic.explorer.mixtures import ListMixture
from vemosaic.explorer.scribbles import painted, strokes_of
from vemosaic.explorer.texture import DescribedList
from vemosaic.volumes import open_volume

SHAPE = (5, 6, 7)


@st.composite
def strokes(draw: st.DrawFn) -> acts.Scribble:
    axis = draw(st.integers(0, 2))
    rows, columns = (n for a, n in enumerate(SHAPE) if a != axis)
    starts = draw(st.lists(st.tuples(st.integers(0, rows - 1), st.integers(0, columns - 1)), min_size=1, max_size=4))
    runs = tuple((r, c, draw(st.integers(1, columns - c))) for r, c in starts)
    index = draw(st.integers(0, SHAPE[axis] - 1))
    return acts.Scribble(axis=axis, index=index, runs=runs, **{"class": draw(st.integers(0, 3))})


@settings(deadline=None)
@given(st.lists(strokes(), max_size=6))
def test_the_last_stroke_counts_and_erasing_removes(given_strokes: list[acts.Scribble]) -> None:
    volume = np.zeros(SHAPE, np.uint8)
    for stroke in given_strokes:
        plane = np.moveaxis(volume, stroke.axis, 0)[stroke.index]
        for row, start, length in stroke.runs:
            plane[row, start : start + length] = stroke.class_
    places, classes = painted(given_strokes, SHAPE)
    assert np.array_equal(places, np.argwhere(volume))
    assert np.array_equal(classes, volume[volume > 0])


def test_what_was_painted_with_a_merged_class_is_of_the_one_it_went_into() -> None:
    stroke = acts.Scribble(axis=0, index=0, runs=((0, 0, 2),), **{"class": 2})
    assert painted([stroke], SHAPE, {2: 1})[1].tolist() == [1, 1]


@settings(deadline=None)
@given(st.lists(strokes(), min_size=1, max_size=4))
def test_a_label_image_becomes_the_strokes_that_paint_it(given_strokes: list[acts.Scribble]) -> None:
    volume = np.zeros(SHAPE, np.uint16)
    places, classes = painted(given_strokes, SHAPE)
    volume[tuple(places.T)] = classes
    found = list(strokes_of(open_volume(volume, labels=True, voxel_size=1), SHAPE))
    again = painted([s.model_copy(update={"class_": label}) for label, s in found], SHAPE)
    assert np.array_equal(again[0], places)
    assert np.array_equal(again[1], classes)


def test_labels_that_do_not_fit_are_refused() -> None:
    small = open_volume(np.ones((4, 4, 4), np.uint8), labels=True, voxel_size=1)
    with pytest.raises(SettingsError, match=r"has 4 x 4 x 4 voxels, the map has 5 x 6 x 7 .*; paint on the lattice"):
        list(strokes_of(small, SHAPE))
    large = open_volume(np.full(SHAPE, 300, np.uint16), labels=True, voxel_size=1)
    with pytest.raises(SettingsError, match="label 300"):
        list(strokes_of(large, SHAPE))


NOWHERE = np.zeros((256, 1), np.float32)
"""Memberships of a map that says nothing."""


def seen(vectors: npt.ArrayLike, prototypes: npt.ArrayLike | None = None) -> DescribedList:
    """Describe voxels."""
    values = np.asarray(vectors, np.float32)
    alone = np.asarray(np.zeros(len(values)) if prototypes is None else prototypes, np.uint8)
    return DescribedList(values, ListMixture.alone(alone))


def apart(count: int) -> npt.NDArray[np.int64]:
    """Return places that are no neighbours."""
    return np.arange(count)[:, None] * [10, 0, 0]


def test_a_classifier_learns_separates_and_says_where_it_is_unsure() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.array([2, 5, 9], np.uint8), 40)
    centres = {2: (0, 0), 5: (4, 0), 9: (0, 4)}
    voxels = seen(np.array([centres[int(c)] for c in labels]) + rng.normal(0, 0.3, (120, 2)))
    learnt = Classifier.learn(voxels, labels, apart(120), voxels, NOWHERE)
    assert (learnt.predict(voxels) == labels).all()
    sure, unsure = learnt.uncertainty(seen([[0, 0], [2, 0]]))
    assert sure < 0.5 < 0.7 < unsure <= 1
    first = seen(voxels.vectors[:80])
    two = Classifier.learn(first, labels[:80], apart(80), first, NOWHERE)
    assert (two.predict(first) == labels[:80]).all()
    again = Classifier.learn(voxels, labels, apart(120), voxels, NOWHERE)
    assert np.array_equal(again.weights, learnt.weights)
    with pytest.raises(SettingsError, match="scribbles of two classes at least; paint some voxels of another class"):
        Classifier.learn(first, labels[:80] * 0 + 2, apart(80), voxels, NOWHERE)


def test_a_value_that_never_varies_does_no_harm() -> None:
    voxels, labels = seen([[0, 1], [0, 2], [0, 8], [0, 9]]), np.array([1, 1, 2, 2], np.uint8)
    assert Classifier.learn(voxels, labels, apart(4), voxels, NOWHERE).predict(voxels).tolist() == [1, 1, 2, 2]


def test_a_classifier_takes_from_the_map_what_vectors_do_not_tell() -> None:
    rng = np.random.default_rng(0)
    prototypes = rng.integers(1, 9, 400)
    memberships = np.zeros((256, 2), np.float32)
    memberships[1:5, 0] = memberships[5:9, 1] = 1
    voxels, labels = seen(rng.normal(size=(400, 3)), prototypes), np.where(prototypes < 5, 1, 2).astype(np.uint8)
    few = slice(0, 12)
    painted = voxels.pick(few)
    learnt = Classifier.learn(painted, labels[few], apart(12), voxels, memberships)
    assert (learnt.predict(voxels) == labels).mean() > 0.95
    blind = Classifier.learn(painted, labels[few], apart(12), voxels, NOWHERE)
    assert (blind.predict(voxels) == labels).mean() < 0.7


def test_a_class_that_is_rare_but_painted_as_often_as_the_others_stays_rare() -> None:
    rng = np.random.default_rng(0)
    truth = np.where(np.arange(2000) < 100, 2, 1).astype(np.uint8)
    voxels = seen(rng.normal(size=(2000, 18)) + 0.8 * (truth[:, None] == 2))
    painted = seen(voxels.vectors[:200])  # as many of the one as of the other

    def dice(dots: DescribedList) -> float:
        found = Classifier.learn(painted, truth[:200], apart(200), dots, NOWHERE).predict(voxels) == 2
        return float(2 * (found & (truth == 2)).sum() / (found.sum() + (truth == 2).sum()))

    assert dice(voxels) > dice(painted) + 0.05


def test_shares_are_found_and_none_vanishes() -> None:
    rng = np.random.default_rng(0)
    known, true = np.array([0.5, 0.3, 0.2]), np.array([0.05, 0.15, 0.8])
    drawn = rng.choice(3, 5000, p=true)
    chances = np.exp(4 * np.eye(3)[drawn] + rng.gumbel(size=(5000, 3))) * known
    likely = chances / chances.sum(1, keepdims=True)
    found = estimate_shares(likely, known, 0.1)
    assert np.isclose(found.sum(), 1)
    assert np.abs(found - true).max() < 0.12 < np.abs(known - true).max()
    unsure = np.tile([0.6, 0.3, 0.1], (50, 1))
    assert (estimate_shares(unsure, known, 0.1) > 0.05 * known).all()
    assert np.abs(estimate_shares(unsure, known, 50.0) - known).max() < 0.01


def test_neighbours_of_a_class_share_their_weight() -> None:
    places = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 0, 3], [9, 9, 9], [0, 1, 0]])
    labels = np.array([1, 1, 1, 1, 1, 2], np.uint8)
    assert np.allclose(weights_of(labels, places), [1 / 4, 1 / 4, 1 / 4, 1 / 4, 1, 1])


def test_a_few_slips_of_a_frequent_class_do_not_swallow_a_rare_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    truth = np.where(np.arange(4000) < 120, 2, 1).astype(np.uint8)
    dots = seen(rng.normal(size=(4000, 6)) + 2.5 * (truth[:, None] == 2))
    rare, frequent = np.arange(4), np.arange(120, 316)
    painted = seen(dots.vectors[np.r_[rare, 4:8, frequent]])
    labels = np.r_[np.full(4, 2), np.full(200, 1)].astype(np.uint8)  # four voxels of the rare class slipped

    def dice() -> float:
        found = Classifier.learn(painted, labels, apart(204), dots, NOWHERE).predict(dots) == 2
        return float(2 * (found & (truth == 2)).sum() / (found.sum() + (truth == 2).sum()))

    doubting = dice()
    monkeypatch.setattr("vemosaic.explorer.classifier.DOUBT", 0.0)
    assert doubting > dice() + 0.05


def test_classes_of_like_size_and_many_voxels_are_taken_as_painted() -> None:
    assert not powers_of(np.array([5.0, 5.0])).any()
    middle = 5 * 20**0.5
    expected = [[0, 0, 0], [2, 0, (6 / middle) ** 2], [1, 0, 0]]
    assert np.allclose(powers_of(np.array([5.0, 100.0, middle])), expected)
    assert np.allclose(powers_of(np.array([60.0, 6000.0])), [[0, 0], [0.02, 0]])


def test_a_rare_class_far_away_does_not_make_a_frequent_one_doubted() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(np.array([1, 2, 3], np.uint8), [3000, 400, 100])
    centres = np.array([[0, 0], [1.5, 0], [0, 20]])  # the first two overlap
    dots = seen(centres[truth - 1] + rng.normal(size=(3500, 2)))
    chosen = np.r_[0:300, 3000:3040]
    two = Classifier.learn(seen(dots.vectors[chosen]), truth[chosen], apart(340), dots, NOWHERE)
    with_rare = np.r_[chosen, 3400]
    three = Classifier.learn(seen(dots.vectors[with_rare]), truth[with_rare], apart(341), dots, NOWHERE)
    both = truth < 3
    first, then = ((each.predict(dots)[both] == truth[both]).mean() for each in (two, three))
    assert then > first - 0.02
