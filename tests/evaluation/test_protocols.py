"""Protocols: which voxels they score, which classes, and that the one scoring function does just that."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vemosaic.errors import ReferenceMaskError, SettingsError
from vemosaic.evaluation import Reference, Scope, evaluate
from vemosaic.evaluation.protocols import (
    INSIDE_CELL,
    LEAVE_ONE_OUT,
    PROTOCOLS,
    SLAB,
    WHOLE_CELL,
    find_protocol,
)
from vemosaic.evaluation.reference import reference_from_arrays
from vemosaic.evaluation.scores import score
from vemosaic.volumes.volume import Volume

NAMES = ("unrecognised", "nucleus", "granules", "mitochondria")


def reference_of(classes: np.ndarray, names: tuple[str, ...] = NAMES) -> Reference:
    lattice = Volume(classes, (16.0, 16.0, 16.0), (0.0, 0.0, 0.0), "map", "test")
    return reference_from_arrays({name: classes == i for i, name in enumerate(names) if i}, lattice)


def chosen(places: tuple, shape: tuple[int, ...]) -> np.ndarray:
    """The scored voxels as a mask."""
    mask = np.zeros(shape, bool)
    mask[np.ix_(*(list(p) for p in places))] = True
    return mask


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 6, 8])
def test_whole_cell_scores_every_embedded_voxel_four_from_the_border(stride: int) -> None:
    shape = (40, 33, 51)
    z, y, x = np.indices(shape)
    embedded = (z % stride == stride // 2) & (y % stride == stride // 2) & (x % stride == stride // 2)
    inner = np.all([(i >= 4) & (i < n - 4) for i, n in zip((z, y, x), shape, strict=True)], axis=0)
    np.testing.assert_array_equal(chosen(WHOLE_CELL.places(shape, stride), shape), embedded & inner)


@pytest.mark.parametrize(
    ("depth", "stride", "expected"),
    [
        (1022, 1, (620, 623, 626, 629, 632)),
        (1022, 3, (619, 622, 625, 628, 631)),  # the middles of blocks lie at 1, 4, 7, ...
        (637, 1, (620, 623, 626, 629, 632)),
        (636, 1, (312, 315, 318, 321, 324)),  # slice 632 would lie within the margin
        (100, 1, (44, 47, 50, 53, 56)),
        (12, 1, (4, 6, 7)),  # what is left of a thin cell
    ],
)
def test_the_slab_is_a_few_slices(depth: int, stride: int, expected: tuple[int, ...]) -> None:
    z, y, x = SLAB.places((depth, 30, 30), stride)
    assert tuple(z) == expected
    assert (y, x) == WHOLE_CELL.places((depth, 30, 30), stride)[1:]


def test_protocols_are_found_by_name() -> None:
    assert list(PROTOCOLS) == ["whole-cell", "inside-cell", "slab", "leave-one-out"]
    assert all(find_protocol(name).name == name for name in PROTOCOLS)
    with pytest.raises(SettingsError, match="none named 'whole'; choose one of whole-cell, inside-cell"):
        find_protocol("whole")


def test_leave_one_out_scores_the_folds_as_whole_cell_does() -> None:
    assert LEAVE_ONE_OUT.scoring == WHOLE_CELL.scoring
    assert not LEAVE_ONE_OUT.test
    assert LEAVE_ONE_OUT.spread == "range"
    assert len({p.scoring for p in PROTOCOLS.values()}) == 3


@pytest.mark.parametrize(("shape", "stride"), [((8, 30, 30), 1), ((10, 30, 30), 6)])
def test_a_cell_with_nothing_to_score_is_said(shape: tuple[int, int, int], stride: int) -> None:
    with pytest.raises(SettingsError, match=r"leaves nothing of a cell of .* x 30 x 30 voxels .*--crop"):
        WHOLE_CELL.places(shape, stride)


@settings(max_examples=60)
@given(st.data())
def test_a_scope_counts_just_its_voxels(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    shape = tuple(data.draw(st.integers(1, 14)) for _ in range(3))
    places = tuple(sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=n))) for n in shape)
    classes, labels = rng.integers(0, 4, shape, np.uint8), rng.integers(1, 6, shape, np.uint8)
    cell = rng.random(shape) < 0.7
    voxels = chosen(places, shape) & cell
    scope = Scope(places, reference_of(cell.astype(np.uint8), ("unrecognised", "cell")))
    block = data.draw(st.integers(1, 9))
    if not voxels.any():
        with pytest.raises(ReferenceMaskError, match="nothing to score"):
            evaluate(labels, reference_of(classes), 5, scope=scope, block=block)
        return
    expected = np.zeros((5, 4), int)
    np.add.at(expected, (labels[voxels] - 1, classes[voxels]), 1)
    told: list[tuple[int, int]] = []
    found = evaluate(labels, reference_of(classes), 5, scope=scope, block=block, progress=lambda *now: told.append(now))
    assert found["confusion"] == expected.tolist()
    assert told == [(i, len(told)) for i in range(1, len(told) + 1)]


def test_only_cubes_with_scored_voxels_are_read() -> None:
    class Watched:
        shape, dtype, read = (40, 40, 40), np.dtype(np.uint8), 0

        def __getitem__(self, box: tuple[slice, ...]) -> np.ndarray:
            Watched.read += int(np.prod([b.stop - b.start for b in box]))
            return np.ones([b.stop - b.start for b in box], np.uint8)

    classes = np.zeros((40, 40, 40), np.uint8)
    evaluate(Watched(), reference_of(classes), 4, scope=Scope(([3, 20], [5], range(40))), block=10)
    assert Watched.read == 2 * 40


def test_a_scope_that_leaves_the_map_is_an_error() -> None:
    classes = np.zeros((6, 6, 6), np.uint8)
    with pytest.raises(IndexError, match="leave an axis of 6 voxels"):
        evaluate(classes + 1, reference_of(classes), 4, scope=Scope(([6], [0], [0])))


def test_inside_the_cell_three_organelles_are_matched_and_averaged() -> None:
    rng = np.random.default_rng(0)
    table = rng.integers(0, 1000, (6, 4))
    found = score(table, NAMES, INSIDE_CELL.classes)
    dice = 2 * table / (table.sum(1, keepdims=True) + table.sum(0, keepdims=True))
    best = max(np.mean([dice[r, c] for r, c in zip(rows, (1, 2, 3), strict=True)])
               for rows in itertools.permutations(range(6), 3))  # fmt: skip
    assert found["mean_dice"] == pytest.approx(best)
    assert set(found["classes"]) == set(found["matching"]) == {"nucleus", "granules", "mitochondria"}
    assert np.array(found["confusion"]).shape == (6, 4)  # unrecognised voxels count towards the clusters


def test_a_class_that_is_absent_is_left_out_of_the_mean_and_named() -> None:
    table = np.array([[10, 0, 0, 0], [0, 20, 0, 0], [0, 0, 0, 30], [0, 0, 0, 0]])
    found = score(table, NAMES, INSIDE_CELL.classes)
    assert found["absent"] == ["granules"]
    assert found["mean_dice"] == 1.0
    with pytest.raises(ReferenceMaskError, match="holds no voxel of nucleus, granules, mitochondria"):
        score(np.array([[5, 0, 0, 0]]), NAMES, INSIDE_CELL.classes)
