"""Whole reproductions of tiny cells: what they leave, how they resume, and what they refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from small_runs import Heard, Killed, labels
from vemosaic.blocks.events import Event, StageStarted
from vemosaic.datasets.betaseg import CELL_SUFFIX, cell_file
from vemosaic.errors import OutputError, ReferenceMaskError, SettingsError, VemosaicError, VolumeError
from vemosaic.evaluation.protocols import PROTOCOLS
from vemosaic.evaluation.scores import confusion, score
from vemosaic.models.model import load_model
from vemosaic.reproduce import Plan, Selection, betaseg_plan, phantom_plan, project, reproduce

DEFAULT = Selection.named(["default"], ["whole-cell"])
NAMES = ("unrecognised", "nucleus", "granules", "mitochondria")


def tables(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("table-*"))}


def four_classes(cells: Path, cell: str) -> np.ndarray:
    """The reference, settled by hand."""
    masks = [tifffile.imread(cell_file(cells, cell, s)) for s in ("nucleus_mask", "granules", "mitochondria_mask")]
    return np.select([mask > 0 for mask in masks], [1, 2, 3], 0)


def test_every_fold_and_the_test_are_mapped_and_scored(reproduced: Path, cells: Path) -> None:
    for split, cell in (("fold1", "high_c1"), ("fold2", "high_c2"), ("fold3", "high_c3"), ("test", "high_c4")):
        run = reproduced / "runs/default-8" / split / cell
        trained = json.loads((run.parent / "training/run.json").read_text())["inputs"]
        assert cell not in "".join(i["source"] for i in trained)
        assert len(trained) == (3 if split == "test" else 2)
        inner = (slice(6, 12, 4), slice(6, 16, 4), slice(6, 20, 4))  # middles of blocks of 4, 4 from the border
        for k in (4, 5):
            expected = score(confusion(labels(run, k)[inner], four_classes(cells, cell)[inner], k, 4), NAMES)
            found = json.loads((run / "scores-whole-cell.json").read_text())["scores"][k - 4]
            assert found == json.loads(json.dumps(expected))


def test_inside_the_cell_only_its_voxels_count(reproduced: Path, cells: Path) -> None:
    run = reproduced / "runs/default-8/test/high_c4"
    inner = (slice(6, 12, 4), slice(6, 16, 4), slice(6, 20, 4))
    inside = tifffile.imread(cell_file(cells, "high_c4", CELL_SUFFIX))[inner] > 0
    voxels, classes = labels(run, 5)[inner][inside], four_classes(cells, "high_c4")[inner][inside]
    expected = score(confusion(voxels, classes, 5, 4), NAMES, NAMES[1:])
    found = json.loads((run / "scores-inside-cell.json").read_text())["scores"][1]
    assert found == json.loads(json.dumps(expected))


def test_the_tables_hold_the_scores(reproduced: Path) -> None:
    assert set(tables(reproduced)) == {f"table-{p}.{e}" for p in PROTOCOLS for e in ("md", "csv", "json", "tex", "png")}
    (column,) = json.loads((reproduced / "table-whole-cell.json").read_text())["columns"]
    for k in (4, 5):
        folds = [
            json.loads((reproduced / f"runs/default-8/fold{i}/high_c{i}/scores-whole-cell.json").read_text())
            ["scores"][k - 4]["mean_dice"]
            for i in (1, 2, 3)
        ]  # fmt: skip
        assert column["folds"][str(k)]["folds"] == folds
        assert column["folds"][str(k)]["std"] == pytest.approx(np.std(folds))
    assert not (reproduced / "runs/default-8/test/high_c4/scores-leave-one-out.json").exists()


@pytest.fixture
def out(reproduced: Path, tmp_path: Path) -> Path:
    """A copy of the finished reproduction."""
    return Path(shutil.copytree(reproduced, tmp_path / "out"))


def test_what_is_done_is_not_done_again(plan: Plan, out: Path) -> None:
    before, heard, said = tables(out), Heard(), list[str]()
    reproduce(plan, out, DEFAULT, listen=heard, say=said.append)
    assert heard.stages == ["reproduce"]
    assert heard.events[0] == StageStarted("reproduce", 4, 4, "job")
    assert said == []
    assert tables(out) == before
    assert project(plan, out, DEFAULT, seconds=0.01).shares == ()


@pytest.mark.parametrize(("stage", "times"), [("train", 2), ("map", 3), ("score k=5", 1)])
def test_killed_anywhere_it_ends_like_an_undisturbed_run(
    plan: Plan, reproduced: Path, tmp_path: Path, stage: str, times: int
) -> None:
    heard: list[str] = []

    def kill(event: Event) -> None:
        if isinstance(event, StageStarted):
            heard.append(event.stage)
            if heard.count(stage) == times:
                raise Killed

    with pytest.raises(Killed):
        reproduce(plan, tmp_path / "out", DEFAULT, listen=kill)
    left = project(plan, tmp_path / "out", DEFAULT, seconds=0.01).shares[0]
    assert (left.trainings, left.maps) == {"train": (3, 3), "map": (1, 2), "score k=5": (3, 4)}[stage]
    again = Heard()
    reproduce(plan, tmp_path / "out", DEFAULT, listen=again)
    assert again.stages.count("train") == left.trainings
    whole = {name: content for name, content in tables(reproduced).items() if "whole-cell" in name}
    assert tables(tmp_path / "out") == whole


def test_only_what_is_damaged_is_done_again(plan: Plan, out: Path) -> None:
    before = tables(out)
    (out / "runs/default-8/fold2/training/model.safetensors").unlink()
    shard = next((out / "runs/default-8/fold3/high_c3/segmentation.ome.zarr").rglob("c/**/*"))
    while shard.is_dir():
        shard = next(shard.iterdir())
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    said: list[str] = []
    reproduce(plan, out, DEFAULT, say=said.append)
    assert [line.split(":")[0] for line in said] == [
        "default, 8 anchors/stack, fold2",
        "default, 8 anchors/stack, fold3",
    ]
    assert tables(out) == before


def test_a_corrected_mask_is_scored_anew_without_mapping(plan: Plan, out: Path, tmp_path: Path) -> None:
    cells = Path(shutil.copytree(plan.cells, tmp_path / "cells"))
    moved = plan.model_copy(update={"cells": str(cells)})
    record = json.loads((out / "reproduction.json").read_text())
    record["plan"]["cells"] = str(cells)
    (out / "reproduction.json").write_text(json.dumps(record))
    granules = cell_file(cells, "high_c4", "granules")
    tifffile.imwrite(granules, np.zeros_like(tifffile.imread(granules)), photometric="minisblack")
    heard = Heard()
    reproduce(moved, out, DEFAULT, listen=heard)
    assert heard.worked == {"reproduce"}
    assert sum(stage.startswith("score") for stage in heard.stages) == 2
    assert "granules has no scored voxel in high_c4: left out there" in (out / "table-whole-cell.md").read_text()


def test_another_image_is_mapped_and_learned_from_anew(plan: Plan, out: Path, tmp_path: Path) -> None:
    cells = Path(shutil.copytree(plan.cells, tmp_path / "cells"))
    moved = plan.model_copy(update={"cells": str(cells)})
    record = json.loads((out / "reproduction.json").read_text())
    record["plan"]["cells"] = str(cells)
    (out / "reproduction.json").write_text(json.dumps(record))
    source = cell_file(cells, "high_c4", "source")
    tifffile.imwrite(source, 255 - tifffile.imread(source), photometric="minisblack")
    said: list[str] = []
    reproduce(moved, out, DEFAULT, say=said.append)
    assert [line.split(", ")[2] for line in said] == ["test: high_c1"]


def test_the_other_methods_go_the_same_road(plan: Plan, out: Path) -> None:
    heard = Heard()
    reproduce(plan, out, Selection.named(["han2022", "cihs"], ["whole-cell"], "test"), listen=heard)
    assert heard.stages.count("train") == 2
    text = (out / "table-whole-cell.md").read_text()
    assert "| han2022 (8/stack) | default (8/stack) | cihs (16/stack) | published" in text
    document = json.loads((out / "table-whole-cell.json").read_text())
    assert all(0 < column["test"]["4"] <= 1 for column in document["columns"])
    assert [column["folds"]["4"] is None for column in document["columns"]] == [True, False, True]


def test_a_longer_training_goes_on_where_the_shorter_one_ended(
    cells: Path, fast: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    selection = Selection.named(["han2022"], ["whole-cell"], "test")
    options = {"clusters": [4], "width": 0.25, "stride": 4}
    events: list[Event] = []
    reproduce(betaseg_plan(cells, anchors=[8, 16], **options), tmp_path / "both", selection, listen=events.append)
    trainings = [(e.done, e.total) for e in events if isinstance(e, StageStarted) and e.stage == "train"]
    assert trainings == [(0, 24), (24, 48)]  # three stacks
    reproduce(betaseg_plan(cells, anchors=[16], **options), tmp_path / "alone", selection)
    models = [tmp_path / out / "runs/han2022-16/test/training/model.safetensors" for out in ("both", "alone")]
    one, other = (load_model(model).vae.state_dict() for model in models)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_phantoms_are_drawn_and_cropped_once(fast: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plan = phantom_plan(shape=(48, 48, 48), crop=(12, 14, 16), anchors=[8], clusters=[4])
    some = Selection.named(["default"], ["slab"], "test")
    assert project(plan, tmp_path / "out", some, seconds=0.01).cells == 4 * 9 * 12 * 14 * 16
    assert not (tmp_path / "out").exists()
    heard = Heard()
    reproduce(plan, tmp_path / "out", some, listen=heard)
    assert heard.stages[:2] == ["draw", "crop"]
    found = tifffile.imread(cell_file(tmp_path / "out/crops", "high_c2", "source"))
    drawn = tifffile.imread(cell_file(tmp_path / "out/phantoms", "high_c2", "source"))
    np.testing.assert_array_equal(found, drawn[18:30, 17:31, 16:32])
    assert (drawn != tifffile.imread(cell_file(tmp_path / "out/phantoms", "high_c1", "source"))).any()
    again = Heard()
    reproduce(plan, tmp_path / "out", some, listen=again)
    assert again.stages == ["reproduce"]


@pytest.mark.parametrize("break_it", ["missing cell", "missing mask", "other shape", "empty cell mask"])
def test_bad_cells_are_told_before_anything_starts(plan: Plan, tmp_path: Path, break_it: str) -> None:
    cells = Path(shutil.copytree(plan.cells, tmp_path / "cells"))
    name, kind, said = {
        "missing cell": ("source", VolumeError, r"high_c4_source\.tif: no such file; give the folder"),
        "missing mask": ("granules", ReferenceMaskError, r"lacks 1 of the 7 .*high_c4_granules\.tif"),
        "other shape": ("granules", ReferenceMaskError, r"high_c4_granules\.tif: has 3 x 3 x 3 voxels but"),
        "empty cell mask": (CELL_SUFFIX, ReferenceMaskError, r"high_c4_membrane_full_mask\.tif: is empty"),
    }[break_it]
    path = cell_file(cells, "high_c4", name)
    path.unlink()
    if break_it == "other shape":
        tifffile.imwrite(path, np.ones((3, 3, 3), np.uint8), photometric="minisblack")
    if break_it == "empty cell mask":
        tifffile.imwrite(path, np.zeros((16, 20, 24), np.uint8), photometric="minisblack")
    broken = plan.model_copy(update={"cells": str(cells)})
    chosen = Selection.named(["default"], ["inside-cell"])
    for act in (project, reproduce):
        with pytest.raises(kind, match=said):
            act(broken, tmp_path / "out", chosen)
    assert not (tmp_path / "out").exists()


def test_a_crop_larger_than_a_cell_and_nothing_to_score_are_told(plan: Plan, tmp_path: Path) -> None:
    for crop, said in (
        ((16, 20, 25), r"high_c1_source\.tif: has 16 x 20 x 24 voxels .*--crop"),
        ((8, 20, 24), "leaves nothing"),
    ):
        with pytest.raises(SettingsError, match=said):
            reproduce(plan.model_copy(update={"crop": crop}), tmp_path / "out", DEFAULT)
    assert not (tmp_path / "out").exists()


def test_a_crop_outside_the_cell_is_told_before_training(plan: Plan, tmp_path: Path) -> None:
    cells = Path(shutil.copytree(plan.cells, tmp_path / "cells"))
    outline = cell_file(cells, "high_c2", CELL_SUFFIX)
    corner = np.zeros((16, 20, 24), np.uint8)
    corner[0] = 1
    tifffile.imwrite(outline, corner, photometric="minisblack")
    heard = Heard()
    cropped = plan.model_copy(update={"cells": str(cells), "crop": (12, 16, 16)})
    with pytest.raises(ReferenceMaskError, match=r"crops/high_c2/high_c2_membrane_full_mask\.tif: is empty"):
        reproduce(cropped, tmp_path / "out", Selection.named(["default"], ["inside-cell"]), listen=heard)
    assert heard.stages == ["crop"]


def test_a_folder_of_something_else_is_left_alone(plan: Plan, out: Path, tmp_path: Path) -> None:
    def refused(folder: Path, said: str, plan: Plan = plan) -> None:
        for act in (project, reproduce):
            with pytest.raises(OutputError, match=said):
                act(plan, folder, DEFAULT)

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("...")
    refused(tmp_path / "mine", "is not empty and holds no reproduction; choose a new folder")
    refused(tmp_path / "mine" / "thesis.tex", "is a file")
    other = betaseg_plan(plan.cells, anchors=[16], clusters=[4, 5], width=0.25, stride=4, seed=2)
    refused(out, "holds a reproduction with other anchors and seed; give the same as before", other)
    (out / "reproduction.json").write_text("{")
    refused(out, r"reproduction\.json: cannot be read as a reproduction")


def test_two_do_not_work_in_one_folder(plan: Plan, out: Path) -> None:
    from vemosaic.blocks.lock import claim

    with claim(out), pytest.raises(VemosaicError, match="another run is working in it"):
        reproduce(plan, out, DEFAULT)
