from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vemosaic.errors import SettingsError
from vemosaic.explorer import acts
from vemosaic.explorer.acts import Act
from vemosaic.explorer.state import EditState, Facts, History, told

FACTS = Facts("map", (10, 12, 14), (3, 4), 50)
classes = st.integers(1, 6)
within = st.none() | st.lists(classes, max_size=2).map(tuple)


def made(kind: type[Any], **fields: Any) -> Any:
    return st.builds(lambda **f: acts.parse({"act": kind.model_fields["act"].default, **f}), **fields)


any_act = st.one_of(
    made(acts.ChooseK, k=st.sampled_from([3, 4])),
    made(acts.AddClass, name=st.text(min_size=1, max_size=5)),
    made(acts.EditClass, **{"class": classes}, name=st.text(min_size=1, max_size=5), hidden=st.booleans()),
    made(acts.Merge, classes=st.lists(classes, min_size=1, max_size=3), into=classes),
    made(acts.Lasso, dots=st.lists(st.integers(0, 49), min_size=1, max_size=5), **{"class": classes}, within=within),
    made(acts.Piece, seed=st.tuples(*(st.integers(0, n) for n in FACTS.shape)), **{"class": classes}),
    made(acts.Pieces, of=classes, smaller_than=st.integers(1, 99), **{"class": classes}),
    made(
        acts.Scribble,
        axis=st.integers(0, 2),
        index=st.integers(0, 14),
        runs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 3)), min_size=1, max_size=3),
        **{"class": st.integers(0, 6)},
    ),
    made(acts.Classify, within=within),
    st.just(acts.Undo()),
    st.just(acts.Redo()),
)


def carried_out(wanted: list[Act]) -> tuple[History, list[Act]]:
    """Do what can be done of a sequence of acts."""
    history, done = History(FACTS, 3), []
    for act in wanted:
        try:
            history.check(act)
        except SettingsError:
            continue
        history.take(len(done) + 1, act)
        done.append(act)
    return history, done


@settings(max_examples=150, deadline=None)
@given(st.lists(any_act, max_size=25))
def test_any_sequence_of_acts_undone_is_the_start_and_done_again_the_end(wanted: list[Act]) -> None:
    history, _ = carried_out(wanted)
    end, length = history.state, len(history.acts)
    for _ in range(length):
        history.take(0, acts.Undo())
    assert history.state == EditState.begin(FACTS, 3)
    with pytest.raises(SettingsError, match="nothing to undo"):
        history.check(acts.Undo())
    for _ in range(length):
        history.take(0, acts.Redo())
    assert history.state == end


@settings(max_examples=100, deadline=None)
@given(st.lists(any_act, max_size=25))
def test_a_replay_from_the_journals_form_is_the_state(wanted: list[Act]) -> None:
    history, done = carried_out(wanted)
    again = History(FACTS, 3)
    for number, act in enumerate(done, start=1):
        again.take(number, acts.parse(acts.dump(act)))
    assert again.state == history.state
    assert again.numbers == history.numbers


@settings(max_examples=50, deadline=None)
@given(st.lists(any_act, max_size=15))
def test_every_act_can_be_told_and_names_no_missing_class(wanted: list[Act]) -> None:
    history, _ = carried_out(wanted)
    for before, act in [history.undoable or (None, None)][:1]:
        if act is not None:
            assert told(before, act)  # type: ignore[arg-type]
    assert all(1 <= root <= max(history.state.classes) for root in history.state.roots.values())


def after(*documents: dict[str, Any]) -> EditState:
    state = EditState.begin(FACTS, 3)
    for document in documents:
        state = state.after(acts.parse(document), FACTS)
    return state


def test_names_and_colours_do_not_change_the_key_of_the_labels() -> None:
    start = after()
    named = after({"act": "edit_class", "class": 1, "name": "nucleus"}, {"act": "add_class", "name": "other"})
    assert named.key == start.key
    assert named.classes[1].name == "nucleus"
    assert named.classes[4].name == "other"


def test_a_merged_class_points_to_the_last_and_keeps_its_clusters_there() -> None:
    state = after({"act": "merge", "classes": [1], "into": 2}, {"act": "merge", "classes": [2, 3], "into": 3})
    assert state.roots == {1: 3, 2: 3, 3: 3}
    assert state.classes[3].clusters == (1, 2, 3)
    with pytest.raises(SettingsError, match="cluster 1: was merged into cluster 3"):
        state.after(acts.parse({"act": "edit_class", "class": 1, "name": "x"}), FACTS)


@pytest.mark.parametrize(
    "document",
    [
        {"act": "choose_k", "k": 5},
        {"act": "edit_class", "class": 9, "name": "x"},
        {"act": "merge", "classes": [1], "into": 1},
        {"act": "lasso", "dots": [50], "class": 1},
        {"act": "piece", "seed": [10, 0, 0], "class": 1},
        {"act": "piece", "seed": [-1, 0, 0], "class": 1},
        {"act": "scribble", "axis": 0, "index": 10, "runs": [[0, 0, 1]], "class": 1},
        {"act": "scribble", "axis": 1, "index": 0, "runs": [[10, 0, 1]], "class": 1},
        {"act": "scribble", "axis": 2, "index": 0, "runs": [[0, 10, 3]], "class": 1},
        {"act": "scribble", "axis": 0, "index": 0, "runs": [[0, 0, 1]], "class": 9},
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(document: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as refused:
        after(document)
    assert "\n" not in str(refused.value)


def test_the_256th_class_is_refused() -> None:
    state = after()
    for number in range(252):
        state = state.after(acts.AddClass(name=f"class {number}"), FACTS)
    with pytest.raises(SettingsError, match="there are 255 already"):
        state.after(acts.AddClass(name="one too many"), FACTS)
