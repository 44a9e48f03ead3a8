from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vemosaic.explorer import acts


@given(st.sets(st.integers(0, 5000), min_size=1))
def test_dots_are_packed_in_the_journal_and_come_back(dots: set[int]) -> None:
    act = acts.Lasso(dots=list(dots), **{"class": 3})
    document = acts.dump(act)
    assert isinstance(document["dots"], str)
    assert acts.parse(document) == act
    assert act.dots == tuple(sorted(dots))


@pytest.mark.parametrize(
    "document",
    [
        {"act": "unheard of"},
        {"act": "lasso", "dots": [], "class": 1},
        {"act": "lasso", "dots": [-1], "class": 1},
        {"act": "lasso", "dots": "?", "class": 1},
        {"act": "lasso", "dots": [1.5], "class": 1},
        {"act": "lasso", "dots": [1], "class": 256},
        {"act": "piece", "seed": [1, 2], "class": 1},
        {"act": "pieces", "of": 1, "class": 2},
        {"act": "pieces", "of": 1, "class": 2, "smaller_than": 3, "border": True},
        {"act": "scribble", "axis": 3, "index": 0, "runs": [[0, 0, 1]], "class": 1},
        {"act": "scribble", "axis": 0, "index": 0, "runs": [[0, 0, 0]], "class": 1},
        {"act": "scribble", "axis": 0, "index": 0, "runs": [], "class": 1},
        {"act": "add_class", "name": ""},
        {"act": "add_class", "name": "x" * 81},
        {"act": "edit_class", "class": 1, "colour": [0, 0, 256]},
        {"act": "undo", "more": 1},
        ["act"],
        None,
    ],
)
def test_what_is_no_act_is_refused(document: object) -> None:
    with pytest.raises(ValidationError):
        acts.parse(document)
