from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

import ablation.scenes
import transfer
from ablation.cells import lay_out
from ablation.scenes import Labelled
from ablation.tables import KS
from vemosaic.datasets.betaseg import FOUR_CLASSES
from vemosaic.datasets.phantom import phantom_cell
from vemosaic.evaluation.reference import reference_from_arrays
from vemosaic.volumes import open_volume
from vemosaic.volumes.intensity import measure_intensity


def phantom(seed):
    """A phantom cell in miniature."""
    cell = phantom_cell((48, 64, 64), seed=seed)
    volume = open_volume(cell.raw, voxel_size=16.0)
    reference = reference_from_arrays(cell.masks, volume).merge(FOUR_CLASSES)
    return Labelled(volume, reference, reference.class_names, reference.class_names)


@pytest.fixture(scope="module")
def small():
    return phantom(1)


@pytest.fixture
def measure(small, tmp_path, monkeypatch, capsys):
    """Run the command on two phantoms, one of which takes the place of EPFL; its arguments, to what it printed."""
    monkeypatch.setitem(ablation.scenes.VOLUMES, "epfl15", lambda: small)
    monkeypatch.setitem(ablation.scenes.VOLUMES, "phantom", partial(phantom, 2))
    monkeypatch.setattr(ablation.scenes, "lay_out", partial(lay_out, count=1_500, voxels=40_000))

    def run(*arguments):
        where = ["--out", str(tmp_path / "transfer.json"), "--models", str(tmp_path / "models")]
        transfer.main([*where, "--anchors", "128", "--seeds", "1", *arguments])
        return capsys.readouterr().out

    return run


def test_prints_what_each_map_loses(measure, tmp_path):
    chosen = ("--trained", "epfl15", "--mapped", "phantom", "epfl15-gamma2", "--intensity", "matched")
    printed = measure(*chosen)
    rows = [row.strip("| ").split(" | ") for row in printed.splitlines() if row.startswith(("| phantom", "| epfl"))]
    assert [row[:4] for row in rows] == [
        ["epfl15-gamma2", "epfl15@128", "matched", "1"],
        ["phantom", "epfl15@128", "matched", "1"],
    ]
    for _, _, _, _, dice, own, loss, _ in rows:
        assert float(own) - float(dice) == pytest.approx(float(loss), abs=1.1e-3)
    assert len(list((tmp_path / "models").glob("*.safetensors"))) == 2
    results = json.loads((tmp_path / "transfer.json").read_text())
    assert (results["job"], len(results["records"])) == ("transfer", 4)
    assert measure("--table", str(tmp_path / "transfer.json")) == printed
    journal = (tmp_path / "transfer.jsonl").read_text()
    assert measure(*chosen) == printed
    assert (tmp_path / "transfer.jsonl").read_text() == journal


def test_matching_undoes_a_gamma(small):
    changed = transfer.changed(small, transfer.CHANGES["gamma2"])
    everything = ((0, 0, 0), small.volume.shape)
    meant = measure_intensity(small.volume).normalise(small.volume.read(*everything))
    found = transfer.Matched.of(changed.volume, small.volume).normalise(changed.volume.read(*everything))
    plain = measure_intensity(changed.volume).normalise(changed.volume.read(*everything))
    assert np.abs(found - meant).mean() < 0.02 < np.abs(plain - meant).mean()


@pytest.mark.parametrize("name", transfer.CHANGES)
def test_changes_leave_the_classes_where_they_are(small, name):
    other = transfer.changed(small, transfer.CHANGES[name])
    assert other.names == small.names
    (raw, classes), (raw_before, before) = (
        (of.volume.read((0, 0, 0), of.volume.shape), of.reference.read((0, 0, 0), of.volume.shape))
        for of in (other, small)
    )
    inside = tuple(slice((n - m) // 2, (n + m) // 2) for n, m in zip(raw.shape, before.shape, strict=True))
    np.testing.assert_array_equal(classes[inside], before)
    assert (classes > 0).sum() == (before > 0).sum()
    assert abs(np.corrcoef(raw[inside].ravel(), raw_before.ravel())[0, 1]) > 0.9
    assert (raw.size == raw_before.size) == (name != "padded")


def test_as_many_zeros_as_voxels_are_put_around():
    padded = transfer.pad(np.ones((48, 64, 64), np.uint8))
    assert padded.mean() == pytest.approx(0.5, abs=0.02)


def record(volume, feature, seed, dice):
    scores = {str(k): {"best": dice, "union": dice, "hungarian": dice} for k in KS}
    named = {"volume": volume, "feature": feature, "treatment": "words", "method": "consensus", "seed": seed}
    return {**named, "scored": ["mitochondria"], "scores": scores}


def test_only_seeds_that_both_maps_have_are_compared():
    own = [record("epfl15", "epfl15@128", seed, dice) for seed, dice in ((1, 0.8), (2, 0.7), (3, 0.1))]
    others = [record("epfl15", "phantom@64", seed, 0.6) for seed in (1, 2)]
    (row,) = [line for line in transfer.table([*own, *others]).splitlines() if line.startswith("| epfl15")]
    assert row == "| epfl15 | phantom@64 | own | 2 | 0.600 | 0.750 | 0.150 | 0.200 |"


@pytest.mark.parametrize("wrong", ["wish", "epfl15@many"])
def test_a_mistake_is_told_in_one_line_before_anything_runs(measure, tmp_path, wrong):
    with pytest.raises(SystemExit, match=rf"--trained.*'{wrong}'"):
        measure("--trained", wrong)
    assert not (tmp_path / "transfer.jsonl").exists()


def test_results_that_are_none_are_told_in_one_line(tmp_path):
    with pytest.raises(SystemExit, match=r"nothing.json: holds no results"):
        transfer.main(["--table", str(tmp_path / "nothing.json")])
