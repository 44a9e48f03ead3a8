"""The edited map against a slow twin that does to a whole array what each act says."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from vemosaic.errors import SettingsError
from vemosaic.explorer import acts
from vemosaic.explorer.edited import EditedMap
from vemosaic.explorer.headless import replay
from vemosaic.explorer.opened import OpenedRun
from vemosaic.explorer.session import Session
from vemosaic.explorer.texture import NotYet
from vemosaic.volumes.points import box_of

Labels = npt.NDArray[np.uint8]


def whole(session: Session) -> Labels:
    """Read the edited map, computing what is missing."""
    edited = EditedMap.of(session.derived, session.state)
    edited.complete()
    return edited.read(0, box_of((0, 0, 0), session.run.shape))


def do(session: Session, name: str, **fields: Any) -> Labels:
    """Do an act, and return the labels after it."""
    session.do(acts.parse({"act": name, **fields}))
    return whole(session)


def test_it_begins_as_the_map_of_k(session: Session) -> None:
    start = whole(session)
    assert np.array_equal(start, session.run.map(session.run.default_k).volume.array[box_of((0, 0, 0), start.shape)])
    other = do(session, "choose_k", k=3)
    assert np.array_equal(other, session.run.map(3).volume.array[box_of((0, 0, 0), start.shape)])


def test_a_merger_relabels(session: Session) -> None:
    start = whole(session)
    assert np.array_equal(do(session, "merge", classes=[1, 2], into=2), np.where(start == 1, 2, start))


def test_a_lasso_takes_voxels_whose_prototype_is_taken(session: Session) -> None:
    start = whole(session)
    texture = session.derived.texture
    dots = np.flatnonzero(texture.dot_prototypes <= 12).tolist()
    taken = texture.lassoed(dots)[texture.prototypes.read(0, box_of((0, 0, 0), start.shape))]
    assert taken.any() and not taken.all()
    assert np.array_equal(do(session, "lasso", dots=dots, **{"class": 1}), np.where(taken, 1, start))
    session.do(acts.Undo())
    only = do(session, "lasso", dots=dots, within=[2], **{"class": 1})
    assert np.array_equal(only, np.where(taken & (start == 2), 1, start))


def test_a_piece_is_a_connected_component(session: Session) -> None:
    start = whole(session)
    seed = tuple(int(v) for v in np.argwhere(start == 2)[5])
    components, _ = ndimage.label(start == 2)
    expected = np.where(components == components[seed], 3, start)
    assert np.array_equal(do(session, "piece", seed=list(seed), **{"class": 3}), expected)


@pytest.mark.parametrize("which", ["smaller_than", "touching", "border"])
def test_many_pieces_at_once(session: Session, which: str) -> None:
    start = whole(session)
    of = max((1, 2, 3), key=lambda label: ndimage.label(start == label)[1])
    components, count = ndimage.label(start == of)
    sizes = np.bincount(components.ravel())[1:]
    limit = int(sizes.max())
    assert limit > sizes.min()
    other = of % 3 + 1
    core = np.pad(np.ones([n - 2 for n in start.shape], bool), 1)
    chosen = []
    for number in range(1, count + 1):
        inside = components == number
        around = ndimage.binary_dilation(inside) & ~inside
        meets = {
            "smaller_than": sizes[number - 1] < limit,
            "touching": (start[around] == other).any(),
            "border": (inside & ~core).any(),
        }
        if meets[which]:
            chosen.append(number)
    assert chosen
    value = {"smaller_than": limit, "touching": other, "border": True}[which]
    expected = np.where(np.isin(components, chosen), 4, start)
    assert np.array_equal(do(session, "pieces", of=of, **{"class": 4}, **{which: value}), expected)


def paint(session: Session) -> None:
    """Paint two classes."""
    for plane, label in ((5, 1), (6, 2), (12, 1), (13, 3)):
        runs = [[row, 3 * label, 6] for row in range(4 * label, 4 * label + 3)]
        session.do(acts.parse({"act": "scribble", "axis": 0, "index": plane, "runs": runs, "class": label}))


def test_a_classifier_gives_every_voxel_its_class_and_keeps_what_was_painted(session: Session) -> None:
    start = whole(session)
    paint(session)
    state = session.state
    learnt = session.derived.classifier(state.scribbles_key, state.scribbles, state.roots)
    expected = learnt.predict(session.derived.texture.box(box_of((0, 0, 0), start.shape)))
    found = do(session, "classify")
    differing = found != expected
    assert (found[5, 4:7, 3:9] == 1).all() and (found[13, 12:15, 9:15] == 3).all()
    differing[5:7] = differing[12:14] = False
    assert differing.mean() < 1e-3  # rounding depends on the shape of the box
    session.do(acts.Undo())
    within = do(session, "classify", within=[2])
    assert np.array_equal(within, np.where(start == 2, found, start))


def test_later_steps_build_on_earlier_ones_and_coarser_levels_follow(session: Session) -> None:
    paint(session)
    classified = do(session, "classify")
    seed = [int(v) for v in np.argwhere(classified == 1)[0]]
    components, _ = ndimage.label(classified == 1)
    found = do(session, "piece", seed=seed, **{"class": 4})
    assert np.array_equal(found, np.where(components == components[tuple(seed)], 4, classified))


def test_what_is_not_computed_yet_is_said_and_left_out(session: Session) -> None:
    start = whole(session)
    session.do(acts.parse({"act": "pieces", "of": 2, "class": 3, "smaller_than": 10_000}))
    edited = session.edited()
    assert edited.missing() == edited.unseen() == [0]
    assert np.array_equal(edited.read(0, box_of((0, 0, 0), start.shape)), start)
    with pytest.raises(NotYet, match="which pieces an earlier step is about"):
        edited[box_of((0, 0, 0), (1, 1, 1))]
    with pytest.raises(NotYet):
        session.do(acts.parse({"act": "piece", "seed": [0, 0, 0], "class": 3}))


def test_a_classification_is_seen_before_the_volume_is_done(session: Session) -> None:
    paint(session)
    session.do(acts.Classify())
    plane = session.edited().read(0, box_of((9, 0, 0), (1, 36, 40)))
    assert session.edited().missing() == [0] and session.edited().unseen() == []
    assert (plane != whole(session)[9:10]).mean() < 1e-2


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"act": "classify"}, "scribbles of two classes"),
        ({"act": "undo"}, "nothing to undo"),
        ({"act": "redo"}, "nothing to do again"),
        ({"act": "piece", "seed": [0, 0, 99], "class": 1}, "outside the volume"),
    ],
)
def test_what_cannot_be_done_leaves_no_line(session: Session, document: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        session.do(acts.parse(document))
    assert session.number == 0


def test_a_piece_that_has_the_class_already_is_refused(session: Session) -> None:
    label = int(whole(session)[0, 0, 0])
    with pytest.raises(SettingsError, match=f"is cluster {label} already"):
        session.do(acts.parse({"act": "piece", "seed": [0, 0, 0], "class": label}))


ids = st.integers(1, 5)
documents = st.one_of(
    st.fixed_dictionaries({"act": st.just("add_class"), "name": st.sampled_from(["a", "b"])}),
    st.fixed_dictionaries({"act": st.just("merge"), "classes": st.lists(ids, min_size=1, max_size=2), "into": ids}),
    st.fixed_dictionaries(
        {"act": st.just("lasso"), "dots": st.lists(st.integers(0, 900), min_size=200, max_size=400), "class": ids}
    ),
    st.fixed_dictionaries(
        {
            "act": st.just("piece"),
            "seed": st.tuples(st.integers(0, 19), st.integers(0, 35), st.integers(0, 39)),
            "class": ids,
        }
    ),
    st.fixed_dictionaries({"act": st.just("pieces"), "of": ids, "class": ids, "smaller_than": st.integers(1, 500)}),
    st.fixed_dictionaries(
        {
            "act": st.just("scribble"),
            "axis": st.just(1),
            "index": st.integers(0, 35),
            "runs": st.just([[2, 3, 9], [3, 3, 9]]),
            "class": ids,
        }
    ),
    st.just({"act": "classify"}),
    st.just({"act": "undo"}),
    st.just({"act": "redo"}),
    st.just({"act": "choose_k", "k": 3}),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(documents, min_size=3, max_size=9))
def test_a_journal_replayed_elsewhere_gives_the_same_bits(explored: Path, wanted: list[dict[str, Any]]) -> None:
    (explored / "journal.jsonl").unlink(missing_ok=True)
    session = Session(explored)
    start = whole(session)
    for document in wanted:
        session.edited().complete()
        try:
            session.do(acts.parse(document))
        except SettingsError:
            continue
    shown = whole(session)
    elsewhere = explored.with_name("elsewhere")
    shutil.rmtree(elsewhere, ignore_errors=True)
    shutil.copytree(explored, elsewhere, ignore=shutil.ignore_patterns("pieces-*", "classified-*"))
    state = replay(OpenedRun(elsewhere), elsewhere / "journal.jsonl").state
    assert state == session.state
    again = EditedMap.of(Session(elsewhere).derived, state)
    again.complete()
    assert np.array_equal(again.read(0, box_of((0, 0, 0), shown.shape)), shown)
    while session.history.undoable:
        session.do(acts.Undo())
    assert np.array_equal(whole(session), start)
