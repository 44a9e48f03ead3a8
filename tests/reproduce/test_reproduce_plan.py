from __future__ import annotations

from pathlib import Path

import pytest

from vemosaic.errors import SettingsError
from vemosaic.evaluation.protocols import INSIDE_CELL, LEAVE_ONE_OUT, WHOLE_CELL
from vemosaic.reproduce import Selection, betaseg_plan, phantom_plan
from vemosaic.reproduce.plan import FOLDS, TEST, jobs_of, short


def test_each_of_three_cells_is_left_out_once_and_the_fourth_is_the_test() -> None:
    assert [(s.train, s.target) for s in FOLDS] == [
        (("high_c2", "high_c3"), "high_c1"),
        (("high_c1", "high_c3"), "high_c2"),
        (("high_c1", "high_c2"), "high_c3"),
    ]
    assert (TEST.train, TEST.target) == (("high_c1", "high_c2", "high_c3"), "high_c4")


def test_the_paper_s_experiment_is_the_default() -> None:
    plan = betaseg_plan("cells")
    assert plan.anchors == {"han2022": (2_000_000, 3_000_000), "default": (2_000_000, 3_000_000), "cihs": (10_000_000,)}
    assert plan.clusters == (4, 5, 6, 7, 8, 9, 10)
    han, ours, cihs = (plan.settings(method, 2_000_000, 3) for method in ("han2022", "default", "cihs"))
    assert han.anchors == ours.anchors == 6_000_000  # anchors are counted for each stack
    assert (han.model.architecture.width, han.stride, han.words) == (1.0, 1, 0)
    assert (cihs.model.architecture.latent, cihs.clusterer) == (8, "hyperbolic")
    assert ours.model.shared
    assert "Smaller than the paper" not in plan.caption(WHOLE_CELL)
    assert "ddof = 0" in plan.caption(WHOLE_CELL)
    assert "smallest-largest" in plan.caption(LEAVE_ONE_OUT)
    assert "Test:" not in plan.caption(LEAVE_ONE_OUT)


def test_whatever_makes_it_smaller_is_said() -> None:
    caption = betaseg_plan("cells", anchors=[256], width=0.5, stride=3, crop=(30, 40, 50)).caption(WHOLE_CELL)
    for said in (
        "han2022 256; default 256; cihs 1280",
        "width 0.5",
        "of 3 x 3 x 3 voxels",
        "central 30 x 40 x 50 voxels",
    ):
        assert said in caption
    assert "four phantom cells" in phantom_plan().caption(WHOLE_CELL)
    assert "cihs" not in phantom_plan(stride=1).caption(WHOLE_CELL, ["default"])


def test_stride_and_width_concern_only_those_that_have_them() -> None:
    plan = phantom_plan(width=0.5, stride=2)
    assert [plan.settings(m, 128, 2).stride for m in ("han2022", "default", "cihs")] == [2, 1, 2]
    assert plan.settings("han2022", 128, 2).model.architecture.width == 0.5


def test_jobs_are_listed_with_their_folders() -> None:
    plan = betaseg_plan("cells")
    jobs = jobs_of(plan, Selection(), Path("out"))
    assert len(jobs) == len(set(jobs)) == (2 + 2 + 1) * 4
    assert len({job.map for job in jobs}) == len({job.training for job in jobs}) == 20
    assert jobs[3].map == Path("out/runs/han2022-2000000/test/high_c4")
    assert jobs[0].describe() == "han2022, 2M anchors/stack, fold1: high_c2, high_c3 -> high_c1"


def test_parts_are_selected_by_name() -> None:
    some = Selection.named(["cihs", "cihs"], ["inside-cell", "slab"], "folds")
    assert some.methods == ("cihs",)
    assert some.inside_cell
    assert some.protocols[0] is INSIDE_CELL
    assert some.cells == ("high_c1", "high_c2", "high_c3")
    assert Selection.named(["cihs"], ["slab"], "test").cells == ("high_c1", "high_c2", "high_c3", "high_c4")
    with pytest.raises(SettingsError, match="--only: there is no half 'all'; choose folds or test"):
        Selection.named(["cihs"], ["slab"], "all")
    with pytest.raises(
        SettingsError, match="--methods: there is none named 'unet'; choose from han2022, default, cihs"
    ):
        Selection.named(["unet"], ["slab"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"clusters": [3, 4]}, "--clusters: 3 are fewer than the 4 classes"),
        ({"anchors": [100]}, "--anchors: 100 a stack are fewer than one batch of 128"),
        ({"anchors": [200, 300, 400]}, "--anchors: 3 lengths are given; give one or two"),
        ({"width": 0.3}, "--width: 0.3 will not do"),
        ({"stride": 5}, "--stride: 5 will not do"),
    ],
)
def test_options_that_will_not_do_are_named(given: dict, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        betaseg_plan("cells", **given)


@pytest.mark.parametrize(
    ("anchors", "said"), [(2_000_000, "2M"), (2_560, "2560"), (10_240, "10240"), (8, "8"), (12_500, "12.5k")]
)
def test_anchors_are_written_short_where_that_loses_nothing(anchors: int, said: str) -> None:
    assert short(anchors) == said
