from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from matplotlib.image import imread

import ablation.scenes
import accuracy
from ablation.cells import lay_out
from ablation.journal import Journal
from ablation.pictures import save_picture
from ablation.scenes import Labelled, open_scene
from ablation.tables import KS, tables
from ablation.trained import Trained
from vemosaic.datasets.betaseg import FOUR_CLASSES
from vemosaic.datasets.phantom import phantom_cell
from vemosaic.evaluation.reference import reference_from_arrays
from vemosaic.volumes import open_volume


@pytest.fixture(scope="module")
def small():
    """A phantom cell in miniature."""
    phantom = phantom_cell((48, 64, 64), seed=1)
    volume = open_volume(phantom.raw, voxel_size=16.0)
    reference = reference_from_arrays(phantom.masks, volume).merge(FOUR_CLASSES)
    return Labelled(volume, reference, reference.class_names, reference.class_names)


@pytest.fixture
def compare(small, tmp_path, monkeypatch, capsys):
    """Run the command on it; its arguments, to what it printed."""
    monkeypatch.setitem(ablation.scenes.VOLUMES, "phantom", lambda: small)
    monkeypatch.setattr(ablation.scenes, "lay_out", partial(lay_out, count=1_500, voxels=40_000))

    def run(*arguments):
        where = ["--out", str(tmp_path / "accuracy.json"), "--models", str(tmp_path / "models")]
        accuracy.main(["--volumes", "phantom", *where, *arguments])
        return capsys.readouterr().out

    return run


CHEAP = ("--features", "intensity", "--treatments", "none", "smooth2", "--seeds", "1", "2", "--no-teaching")


def test_prints_one_row_for_each_feature_treatment_and_clusterer(compare, tmp_path):
    printed = compare(*CHEAP, "--pictures", str(tmp_path / "pictures"))
    rows = [row.split(" | ") for row in printed.splitlines() if row.startswith("| intensity")]
    assert [row[1:4] for row in rows] == [["none", "kmeans", "2"], ["smooth2", "kmeans", "2"]]
    assert all(0 < float(number.strip(" |")) <= 1 for row in rows for number in row[4 : 4 + len(KS)])
    results = json.loads((tmp_path / "accuracy.json").read_text())
    assert len(results["records"]) == 4
    assert results["machine"]["cores"] > 0
    accuracy.main(["--table", str(tmp_path / "accuracy.json")])
    assert imread(tmp_path / "pictures" / "phantom-intensity.png").shape[2] == 4


def test_goes_on_where_it_stopped(compare, tmp_path):
    first = compare(*CHEAP)
    journal = tmp_path / "accuracy.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:3]) + lines[3][:50])
    assert compare(*CHEAP) == first
    again = journal.read_text().splitlines()
    assert again[:3] == [line.strip() for line in lines[:3]]
    assert json.loads(again[4])["scores"] == json.loads(lines[3])["scores"]
    assert compare(*CHEAP) == first
    assert journal.read_text().splitlines() == again


def test_results_of_other_settings_are_made_again(compare, tmp_path, monkeypatch):
    compare(*CHEAP)
    monkeypatch.setitem(accuracy.TREATMENTS, "smooth2", accuracy.TREATMENTS["smooth3"])
    compare(*CHEAP)
    lines = (tmp_path / "accuracy.jsonl").read_text().splitlines()
    assert [json.loads(line)["treatment"] for line in lines[4:]] == ["smooth2", "smooth2"]
    assert len(Journal(tmp_path / "accuracy.jsonl").records()) == 4


def test_teaches_on_what_was_described(compare, monkeypatch):
    monkeypatch.setattr(ablation.scoring, "LABELLED", (50,))
    monkeypatch.setattr(ablation.scoring, "DRAWS", 1)
    printed = compare("--features", "intensity", "--treatments", "words", "--seeds", "1")
    header, _, row = printed[printed.index("| feature | treatment | seeds") :].splitlines()[:3]
    assert "50 voxels, trees" in header
    assert len(header.split("|")) == len(row.split("|"))


def test_hyperbolic_clusters_are_for_points_of_the_ball(compare, monkeypatch):
    def ball(self, volume, boxes, seed):
        rng = np.random.default_rng(seed)
        return (rng.uniform(-0.6, 0.6, (*box.shape, 2)).astype(np.float32) for box in boxes)

    monkeypatch.setattr(Trained, "describe", ball)
    printed = compare("--features", "intensity", "cihs@128", *CHEAP[2:], "--clusterers", "hyperbolic")
    rows = [row for row in printed.splitlines() if row.startswith("| ")][2:]
    assert [row.split(" | ")[:3] for row in rows] == [["| cihs@128", "none", "hyperbolic"]]


@pytest.mark.parametrize("wrong", ["--features", "--treatments", "--clusterers"])
def test_a_mistake_is_told_in_one_line_before_anything_runs(compare, tmp_path, wrong):
    with pytest.raises(SystemExit, match=rf"{wrong}.*'wish'"):
        compare(wrong, "wish")
    assert not (tmp_path / "accuracy.jsonl").exists()


def test_results_that_are_none_are_told_in_one_line(tmp_path):
    with pytest.raises(SystemExit, match=r"holds no results"):
        accuracy.main(["--table", str(tmp_path / "nothing.json")])


def record(seed, best):
    scores = {str(k): {"best": best, "union": 0.9, "hungarian": best} for k in KS}
    named = {"volume": "epfl15", "feature": "default", "treatment": "words", "method": "kmeans", "seed": seed}
    return {**named, "scored": ["mitochondria"], "scores": scores}


def test_tables_show_mean_least_and_spread_over_seeds():
    low = record(2, 0.7)
    low["scores"]["9"]["best"] = 0.35
    table = tables([record(1, 0.8), low])
    (row,) = [line for line in table.splitlines() if line.startswith("| default")]
    cells = row.strip("| ").split(" | ")
    assert cells[:5] == ["default", "words", "kmeans", "2", "0.75"]
    assert cells[-4:] == ["0.72", "0.35", "0.15", "0.90"]  # mean of 0.8 and 0.65


def test_a_picture_shows_what_it_is_given(tmp_path):
    raw = np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)
    labels = np.ones((30, 40), np.uint8)
    labels[:, 20:] = 2
    save_picture(tmp_path / "p.png", "title", raw, labels - 1, 2, {"map": labels})
    image = imread(tmp_path / "p.png")[..., :3]
    grey = (np.ptp(image, axis=-1) < 0.02).mean()
    assert 0.3 < grey < 0.95  # raw and half of the reference; coloured are two halves and a half


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "rare"), [("epfl15", 1), ("epfl10", 1), ("vnc16", 3)])
def test_real_volumes_have_their_classes(data_dir, monkeypatch, name, rare):
    monkeypatch.setattr(ablation.scenes, "DATA", data_dir)
    scene = open_scene(name)
    assert 0.02 < (scene.classes == rare).mean() < 0.12
    assert len(scene.classes) == len(scene.intensity) == 150_000
    mean = {label: scene.intensity[scene.classes == label].mean() for label in (0, rare)}
    assert mean[rare] < mean[0]  # mitochondria are darker than what surrounds them
