from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vemosaic.errors import SettingsError
from vemosaic.explorer import acts
from vemosaic.explorer.classifier import Classifier
from vemosaic.explorer.scribbles import painted, strokes_of
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


def test_a_classifier_learns_separates_and_says_where_it_is_unsure() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.array([2, 5, 9], np.uint8), 40)
    centres = {2: (0, 0), 5: (4, 0), 9: (0, 4)}
    vectors = (np.array([centres[int(c)] for c in labels]) + rng.normal(0, 0.3, (120, 2))).astype(np.float32)
    learnt = Classifier.learn(vectors, labels)
    assert (learnt.predict(vectors) == labels).all()
    sure, unsure = learnt.uncertainty(np.array([[0, 0], [2, 0]], np.float32))
    assert sure < 0.5 < 0.7 < unsure <= 1
    two = Classifier.learn(vectors[:80], labels[:80])
    assert (two.predict(vectors[:80]) == labels[:80]).all()
    again = Classifier.learn(vectors, labels)
    assert np.array_equal(again.weights, learnt.weights)
    with pytest.raises(SettingsError, match="scribbles of two classes at least; paint some voxels of another class"):
        Classifier.learn(vectors[:40], labels[:40])


def test_a_value_that_never_varies_does_no_harm() -> None:
    vectors = np.array([[0, 1], [0, 2], [0, 8], [0, 9]], np.float32)
    learnt = Classifier.learn(vectors, np.array([1, 1, 2, 2], np.uint8))
    assert learnt.predict(vectors).tolist() == [1, 1, 2, 2]
