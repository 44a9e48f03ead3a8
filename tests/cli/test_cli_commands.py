"""Commands that do as told: what they print and what they leave."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from command_line import TINY, Command, Ended, references, run

from small_runs import MODEL, SETTINGS, SHAPE, Cell, labels, record, results
from vemosaic import cli, demo
from vemosaic.cli.options import default_out
from vemosaic.cli.telling import first_look
from vemosaic.memory import project
from vemosaic.models.model import load_model
from vemosaic.settings import Settings


def test_run_says_where_things_are(command: Command, cell: Cell, finished: Path) -> None:
    ended = run(command, cell, *references(cell))
    assert ended.code == 0
    assert ended.memory == f"{project(SETTINGS, SHAPE)}\n"
    assert "map:    raw.vemosaic/segmentation.ome.zarr\nreport: raw.vemosaic/report.html\n" in ended.out
    assert "nucleus" in ended.out  # the table of scores
    stages = [line.partition(":")[0] for line in ended.err.splitlines()]
    assert stages == ["train", "sample", "fit", "map", "score k=3", "score k=4", "report"]
    assert results(Path("raw.vemosaic")) == results(finished)
    assert record(Path("raw.vemosaic"))["command"][:2] == ["vemosaic", "run"]


def test_a_suggested_k_that_was_not_mapped_comes_with_the_command_that_maps_it(command: Command, copied: Path) -> None:
    assert first_look(6, "why", [4, 6, 8], copied) == "look at k = 6 first: why"
    told = first_look(4, "why", [3, 5], copied)
    assert told == f"k = 4, which was not mapped, may be the best (vemosaic cluster {copied} -k 3-5): why"
    words = re.search(r"\((.*)\)", told).group(1).split()  # type: ignore[union-attr]
    assert command(*words[1:], "--words", 8, "-q").code == 0
    assert set(np.unique(labels(copied, 4))) == {1, 2, 3, 4}


def test_quiet_says_nothing(command: Command, cell: Cell) -> None:
    size = ("--voxel-size", "30,16,16")  # of which there would be a note
    assert command("run", cell.raw, *size, *TINY, "--quiet") == Ended(0, "", "")
    assert command("cluster", "raw.vemosaic", "-k", 3, "--words", 8, "-q") == Ended(0, "", "")
    assert command("embed", "raw.vemosaic", "-q") == Ended(0, "", "")
    assert command("report", "raw.vemosaic", "-q") == Ended(0, "", "")
    assert command("train", cell.raw, *size, "-o", "m", "--anchors", 8, "-q") == Ended(0, "", "")


def test_anisotropic_voxels_get_a_note(command: Command, cell: Cell) -> None:
    ended = command("train", cell.raw, "--voxel-size", "30,16,16", "--anchors", 8)
    (note,) = [line for line in ended.err.splitlines() if line.startswith("note: ")]
    assert note.startswith(f"note: {cell.raw}: voxels are 30 x 16 x 16 nm (z, y, x) and not cubes")


def test_json_is_one_document(command: Command, cell: Cell, finished: Path) -> None:
    ended = run(command, cell, *references(cell), "--json", "-o", "out")
    assert ended.err == ""
    told = json.loads(ended.out)
    assert told["scores"] == json.loads((finished / "scores.json").read_text())
    for name in ("segmentation", "report", "model"):
        assert Path(told[name]).is_absolute()
        assert Path(told[name]).exists()


def test_evaluate_scores_as_the_run_did(command: Command, cell: Cell, finished: Path) -> None:
    known = json.loads((finished / "scores.json").read_text())
    segmentation = finished / "segmentation.ome.zarr"
    ended = command("evaluate", segmentation, *cell.reference.specs, "--json")
    assert ended.err == ""
    assert json.loads(ended.out) == known
    assert json.loads(command("evaluate", segmentation, *cell.reference.specs, "--json", "-k", 4).out) == known[1:]
    assert "granules" in command("evaluate", segmentation, *cell.reference.specs).out


def test_evaluate_takes_any_label_image(command: Command, cell: Cell, finished: Path) -> None:
    np.save("map.npy", labels(finished, 3))
    assert (
        "map.npy: the file (NumPy file) does not say" in command("evaluate", "map.npy", *cell.reference.specs).refused()
    )
    given = ("--voxel-size", 16, "--json")
    (score,) = json.loads(command("evaluate", "map.npy", *cell.reference.specs, *given).out)
    known = json.loads((finished / "scores.json").read_text())[0]
    assert {n: score[n] for n in ("k", "mean_dice", "ari", "voi", "confusion")} == {
        n: known[n] for n in ("k", "mean_dice", "ari", "voi", "confusion")
    }


def test_runs_are_compared_and_numbered_alike(command: Command, cell: Cell, finished: Path, copied: Path) -> None:
    words = ("compare", finished, copied)
    ended = command(*words)
    assert (ended.code, ended.err) == (0, "")
    assert [line.split() for line in ended.out.splitlines()[3:5]] == [["k", "=", k, "1.00", "1.00"] for k in "34"]
    assert ended.out.endswith("add -k to see which clusters are the same\n")
    assert [line.split()[:3] for line in command(*words, "-k", 3).out.splitlines()[-4:-1]] == [
        [number, number, "1.00"] for number in "123"
    ]
    assert [each["k"] for each in json.loads(command(*words, "--json").out)] == [3, 4]
    nowhere = command("compare", finished, "nowhere")
    assert nowhere.code == 2
    assert nowhere.err == "error: nowhere: holds no run (no run.json); name the output folder of vemosaic run\n"
    itself = command("cluster", copied, "--like", copied)
    assert itself.code == 2
    assert itself.err.endswith("is the run itself; name another run of the same volume\n")
    numbered = command("cluster", copied, "--like", finished, "--smoothing", 1)
    assert numbered.code == 0
    assert f"numbers and colours as in {finished}\n" in numbered.out


def test_info(command: Command, cell: Cell) -> None:
    facts = json.loads(command("info", cell.raw, "--voxel-size", 16, "--json").out)
    assert facts["format"] == "TIFF"
    assert facts["shape"] == list(SHAPE)
    assert facts["voxel_size_nm"] == [16.0] * 3
    assert f"{SHAPE[0]} x {SHAPE[1]} x {SHAPE[2]}" in command("info", cell.raw).out


def test_train_on_two_volumes_then_run(command: Command, cell: Cell) -> None:
    other = Path("other.npy").absolute()
    np.save(other, np.random.default_rng(0).integers(0, 255, (20, 30, 30), np.uint8))
    ended = command("train", cell.raw, other, "--voxel-size", 16, "--anchors", 16, "-o", "both")
    assert ended.out == "model: both/model.safetensors\n"
    assert load_model("both/model.safetensors").card["volumes"] == [str(cell.raw), str(other)]
    assert record(Path("both"))["complete"] is False
    assert run(command, cell, "--model", "both/model.safetensors", "-o", "mapped").code == 0
    assert "train" not in record(Path("mapped"))["timings"] or not Path("mapped/losses.jsonl").exists()
    assert labels(Path("mapped"), 3).shape == SHAPE


def test_a_model_brings_its_voxel_size(command: Command, cell: Cell) -> None:
    command("train", cell.raw, "--voxel-size", 16, "--working-voxel-size", 20, "--anchors", 16, "-o", "coarse")
    mapped = run(command, cell, "--model", "coarse/model.safetensors", "-o", "mapped")
    assert (mapped.code, "unlike" in mapped.err) == (0, False), mapped.err
    assert record(Path("mapped"))["inputs"][0]["working"]["voxel_size"] == [20.0] * 3
    chosen = run(command, cell, "--model", "coarse/model.safetensors", "--working-voxel-size", "native", "-o", "chosen")
    assert "unlike the 20 x 20 x 20 nm of the model" not in chosen.err  # a quarter more or less is like
    assert record(Path("chosen"))["inputs"][0]["working"]["voxel_size"] == [16.0] * 3


def test_cluster_maps_anew(command: Command, copied: Path) -> None:
    model = (copied / "model.safetensors").read_bytes()
    ended = command("cluster", copied, "-k", 5)
    assert ended.code == 0
    assert [line.partition(":")[0] for line in ended.err.splitlines()] == [
        "sample",
        "fit",
        "map",
        "score k=5",
        "report",
    ]
    assert [score["k"] for score in json.loads((copied / "scores.json").read_text())] == [5]
    assert (copied / "model.safetensors").read_bytes() == model
    assert record(copied)["settings"]["clusters"] == [5]
    assert record(copied)["complete"] is True


def test_embed_and_report(command: Command, copied: Path) -> None:
    assert command("embed", copied).out == f"embedding: {copied}/embedding.ome.zarr\n"
    stored: Any = zarr.open_array(copied / "embedding.ome.zarr/0", mode="r")
    assert (stored.shape, stored.dtype) == ((4, *SHAPE), np.float16)
    (copied / "report.html").unlink()
    assert command("report", copied).out == f"report: {copied}/report.html\n"
    assert (copied / "report.html").exists()
    assert record(copied)["complete"] is True


def test_demo(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "SHAPE", (48, 48, 48))
    monkeypatch.setattr(demo, "ANCHORS", 8)
    monkeypatch.setattr(demo, "CLUSTERS", (6,))
    monkeypatch.setattr(demo, "Settings", partial(Settings, model=MODEL, words=8))
    ended = command("demo")
    assert ended.code == 0
    assert "mitochondria" in ended.out
    assert "report: demo.vemosaic/run/report.html" in ended.out
    before = results(Path("demo.vemosaic/run"))
    phantom = next(Path("demo.vemosaic/phantom").rglob("*_source.tif"))
    phantom.write_bytes(phantom.read_bytes()[:1_000])  # killed while it was written
    assert command("demo", "-q") == Ended(0, "", "")
    assert results(Path("demo.vemosaic/run")) == before
    (score,) = json.loads(command("demo", "--seed", 2, "--json").out)["scores"]
    assert score["k"] == 6
    assert results(Path("demo.vemosaic/run")) != before


def test_bench_views(command: Command, cell: Cell) -> None:
    facts = json.loads(command("bench", "views", cell.raw, "--voxel-size", 16, "--json").out)
    assert facts["largest_difference"] < 1e-4


def test_a_run_can_be_taken_up_from_another_folder(
    command: Command, cell: Cell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(cell.folder)
    out = tmp_path / "run"
    given = ("--reference", "nucleus=nucleus.tif")
    assert command("run", "raw.tif", "--voxel-size", 16, *TINY, *given, "-o", out).code == 0
    monkeypatch.chdir(tmp_path)
    assert command("cluster", out, "-k", 3, "--words", 8).code == 0


@pytest.mark.parametrize(
    ("volume", "out"),
    [
        ("cell.ome.zarr", "cell"), ("/data/cell.ome.zarr/", "cell"), ("s3://bucket/a/cell.n5", "cell"),
        ("cell.OME.TIF", "cell"), ("cell.nii.gz", "cell"), ("cell.v2.tif", "cell.v2"), ("file.h5:/em/raw", "raw"),
        ("slices", "slices"), (".", "run"), ("cell", "cell"),
    ],
)  # fmt: skip
def test_the_run_is_named_after_its_volume(volume: str, out: str) -> None:
    assert default_out(volume) == Path(f"{out}.vemosaic")


@pytest.mark.parametrize(
    ("text", "ks"),
    [("8", (8,)), ("4-6", (4, 5, 6)), ("6,4", (4, 6)), ("4-5, 9,5", (4, 5, 9)), ("2", (2,)), ("255", (255,))],
)
def test_numbers_of_clusters(text: str, ks: tuple[int, ...]) -> None:
    assert cli.parse_clusters(text) == ks
