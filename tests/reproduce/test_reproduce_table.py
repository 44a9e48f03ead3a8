from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vemosaic.evaluation.protocols import LEAVE_ONE_OUT, WHOLE_CELL, Protocol
from vemosaic.reproduce import betaseg_plan
from vemosaic.reproduce.published import CIHS, KS, OURS_2M, OURS_3M, TABLE_1
from vemosaic.reproduce.table import Column, Table, as_csv, as_json, as_latex, as_markdown, curves, write_table

OURS, THEIRS = Column("default", 2_000_000), Column("cihs", 10_000_000)


def scored(value: float, *absent: str) -> dict:
    return {"mean_dice": value, "classes": {}, "matching": {}, "absent": list(absent)}


def table_of(protocol: Protocol = WHOLE_CELL) -> Table:
    scores = {
        (OURS, "fold1"): {4: scored(0.5), 5: scored(0.1)},
        (OURS, "fold2"): {4: scored(0.6, "granules"), 5: scored(0.2)},
        (OURS, "fold3"): {4: scored(0.9), 5: scored(0.3)},
        (OURS, "test"): {4: scored(0.7)},
        (THEIRS, "fold1"): {4: scored(0.4), 5: scored(0.4)},
    }
    return Table(protocol, betaseg_plan("x").caption(protocol), (OURS, THEIRS), (4, 5), scores)


def test_published_figures_span_what_the_paper_states() -> None:
    assert (min(CIHS.test.values()), max(CIHS.test.values())) == (0.243, 0.432)
    ours = [*OURS_2M.test.values(), *OURS_3M.test.values()]
    assert (min(ours), max(ours)) == (0.542, 0.664)
    assert all(tuple(p.folds) == tuple(p.test) == KS for p in TABLE_1)
    # "Our model consistently performs better in cross-validations and test"
    assert all(OURS_2M.folds[k] > CIHS.folds[k] and OURS_3M.test[k] > CIHS.test[k] for k in KS)
    assert OURS_3M.folds[6] == (0.673, 0.003)


def test_folds_are_summed_up_with_the_population_s_standard_deviation() -> None:
    summary = table_of().folds(OURS, 4)
    assert summary is not None
    assert summary.mean == pytest.approx(2 / 3)
    assert summary.std == pytest.approx(np.sqrt(((0.5 - 2 / 3) ** 2 + (0.6 - 2 / 3) ** 2 + (0.9 - 2 / 3) ** 2) / 3))
    assert table_of().folds(THEIRS, 4) is None  # two folds are still missing


def test_markdown_has_ours_and_theirs_side_by_side_and_a_dash_for_what_is_missing() -> None:
    text = as_markdown(table_of())
    assert "| folds | 4 | 0.667 ± 0.170 | - | 0.363 ± 0.021 | 0.475 ± 0.016 | 0.471 ± 0.022 |" in text
    assert "| test | 4 | 0.700 | - | 0.308 | 0.625 | 0.664 |" in text
    assert "| test | 5 | - | - | 0.243 | 0.659 | 0.623 |" in text
    assert "- granules has no scored voxel in high_c2: left out there." in text
    assert "default (2M/stack) | cihs (10M/stack) | published: CIHS (10M/stack)" in text


def test_leave_one_out_gives_the_range_and_no_test() -> None:
    text = as_markdown(table_of(LEAVE_ONE_OUT))
    assert "| folds | 4 | 0.667 (0.500-0.900) | - |" in text
    assert "test |" not in text
    assert "published" not in text  # the paper gives no range
    assert curves(table_of(LEAVE_ONE_OUT), "folds")[0].points[4] == pytest.approx((2 / 3, 0.5, 0.9))


def test_latex_is_a_booktabs_table_of_whole_rows() -> None:
    text = as_latex(table_of())
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + 2 * 2
    assert {row.count("&") for row in rows} == {5}
    assert r"4 & 0.667 $\pm$ 0.170 & - & 0.363 $\pm$ 0.021" in text
    assert text.count(r"\midrule") == 2
    assert all(text.count(f"\\{end}{{{part}}}") == 1 for end in ("begin", "end") for part in ("table", "tabular"))
    assert r"high\_c2" in text
    assert "_c2" not in text.replace(r"\_", "")


def test_csv_has_one_figure_a_line() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(table_of()))))
    assert len(rows) == (2 + 3) * 2 * 2
    found = {(r["source"], r["method"], r["half"], r["k"]): r for r in rows}
    ours = found["here", "default (2M/stack)", "folds", "4"]
    assert float(ours["mean"]) == pytest.approx(2 / 3, abs=1e-6)
    assert (float(ours["smallest"]), float(ours["largest"])) == (0.5, 0.9)
    assert found["here", "cihs (10M/stack)", "folds", "4"]["mean"] == "-"
    assert float(found["published", "Ours (3M/stack)", "folds", "4"]["std"]) == 0.022


def test_json_keeps_every_fold() -> None:
    document = json.loads(as_json(table_of()))
    ours, theirs = document["columns"]
    assert ours["folds"]["4"]["folds"] == [0.5, 0.6, 0.9]
    assert ours["test"] == {"4": 0.7, "5": None}
    assert ours["maps"]["fold2"]["4"]["absent"] == ["granules"]
    assert theirs["folds"] == {"4": None, "5": None}
    assert document["published"][1]["test"]["10"] == 0.567


def test_all_formats_and_the_figure_are_written(tmp_path: Path) -> None:
    assert write_table(tmp_path, table_of()) == tmp_path / "table-whole-cell.md"
    names = {f"table-whole-cell.{ending}" for ending in ("md", "csv", "json", "tex", "png")}
    assert {path.name for path in tmp_path.iterdir()} == names
    picture = np.asarray(Image.open(tmp_path / "table-whole-cell.png").convert("RGB")).reshape(-1, 3)
    blue = (picture == (0x00, 0x72, 0xB2)).all(1).sum()
    assert blue > 100  # our curve is there
