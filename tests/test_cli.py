"""The command line as a user types it: what it prints, what it leaves, and what it says of bad input."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import torch
import zarr

import vemosaic
from small_runs import MODEL, SHAPE, Cell, hashes, labels, record, results
from vemosaic import cli, demo
from vemosaic.cli.options import default_out
from vemosaic.models.model import load_model
from vemosaic.settings import Settings

COMMANDS = ("run", "demo", "info", "train", "embed", "cluster", "evaluate", "report", "figures", "bench")
TINY = ("--anchors", "32", "-k", "3,4", "--words", "8")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    def refused(self) -> str:
        """Return the one line with which a command ended that could not do as told."""
        assert self.code == 2, self
        assert self.out == ""
        assert self.err.startswith("error: "), self
        assert self.err.count("\n") == 1, self.err
        assert self.err.endswith("\n")
        assert "; " in self.err, "no remedy"
        assert "Traceback" not in self.err
        return self.err


Command = Callable[..., Ended]


@pytest.fixture
def command(
    quick: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Command]:
    """Call the command line in this process, in an empty folder."""

    def leave(code: int) -> NoReturn:
        raise SystemExit(code)

    monkeypatch.setattr("vemosaic.cli.application.leave", leave)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def call(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["vemosaic", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        err = re.sub(r"^memory: up to .* GB, in stage \w+\n", "", err)  # told before all else
        return Ended(ended.value.code or 0, out, err)  # type: ignore[arg-type]

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield call


def run(command: Command, cell: Cell, *more: object) -> Ended:
    return command("run", cell.raw, "--voxel-size", 16, *TINY, *more)


def references(cell: Cell) -> list[str]:
    return [word for spec in cell.reference.specs for word in ("--reference", spec)]


class TestAsTyped:
    """Commands that do as told."""

    def test_run_says_where_things_are(self, command: Command, cell: Cell, finished: Path) -> None:
        ended = run(command, cell, *references(cell))
        assert ended.code == 0
        assert "map:    raw.vemosaic/segmentation.ome.zarr\nreport: raw.vemosaic/report.html\n" in ended.out
        assert "nucleus" in ended.out  # the table of scores
        stages = [line.partition(":")[0] for line in ended.err.splitlines()]
        assert stages == ["train", "sample", "map", "score k=3", "score k=4", "report"]
        assert results(Path("raw.vemosaic")) == results(finished)
        assert record(Path("raw.vemosaic"))["command"][:2] == ["vemosaic", "run"]

    def test_quiet_says_nothing(self, command: Command, cell: Cell) -> None:
        size = ("--voxel-size", "30,16,16")  # of which there would be a note
        assert command("run", cell.raw, *size, *TINY, "--quiet") == Ended(0, "", "")
        assert command("cluster", "raw.vemosaic", "-k", 3, "--words", 8, "-q") == Ended(0, "", "")
        assert command("embed", "raw.vemosaic", "-q") == Ended(0, "", "")
        assert command("report", "raw.vemosaic", "-q") == Ended(0, "", "")
        assert command("train", cell.raw, *size, "-o", "m", "--anchors", 8, "-q") == Ended(0, "", "")

    def test_anisotropic_voxels_get_a_note(self, command: Command, cell: Cell) -> None:
        ended = command("train", cell.raw, "--voxel-size", "30,16,16", "--anchors", 8)
        (note,) = [line for line in ended.err.splitlines() if line.startswith("note: ")]
        assert note.startswith(f"note: {cell.raw}: voxels are 30 x 16 x 16 nm (z, y, x) and not cubes")

    def test_json_is_one_document(self, command: Command, cell: Cell, finished: Path) -> None:
        ended = run(command, cell, *references(cell), "--json", "-o", "out")
        assert ended.err == ""
        told = json.loads(ended.out)
        assert told["scores"] == json.loads((finished / "scores.json").read_text())
        for name in ("segmentation", "report", "model"):
            assert Path(told[name]).is_absolute()
            assert Path(told[name]).exists()

    def test_evaluate_scores_as_the_run_did(self, command: Command, cell: Cell, finished: Path) -> None:
        known = json.loads((finished / "scores.json").read_text())
        segmentation = finished / "segmentation.ome.zarr"
        ended = command("evaluate", segmentation, *cell.reference.specs, "--json")
        assert ended.err == ""
        assert json.loads(ended.out) == known
        assert json.loads(command("evaluate", segmentation, *cell.reference.specs, "--json", "-k", 4).out) == known[1:]
        assert "granules" in command("evaluate", segmentation, *cell.reference.specs).out

    def test_evaluate_takes_any_label_image(self, command: Command, cell: Cell, finished: Path) -> None:
        np.save("map.npy", labels(finished, 3))
        assert (
            "map.npy: the file (NumPy file) does not say"
            in command("evaluate", "map.npy", *cell.reference.specs).refused()
        )
        given = ("--voxel-size", 16, "--json")
        (score,) = json.loads(command("evaluate", "map.npy", *cell.reference.specs, *given).out)
        known = json.loads((finished / "scores.json").read_text())[0]
        assert {n: score[n] for n in ("k", "mean_dice", "ari", "voi", "confusion")} == {
            n: known[n] for n in ("k", "mean_dice", "ari", "voi", "confusion")
        }

    def test_info(self, command: Command, cell: Cell) -> None:
        facts = json.loads(command("info", cell.raw, "--voxel-size", 16, "--json").out)
        assert facts["format"] == "TIFF"
        assert facts["shape"] == list(SHAPE)
        assert facts["voxel_size_nm"] == [16.0] * 3
        assert f"{SHAPE[0]} x {SHAPE[1]} x {SHAPE[2]}" in command("info", cell.raw).out

    def test_train_on_two_volumes_then_run(self, command: Command, cell: Cell) -> None:
        other = Path("other.npy").absolute()
        np.save(other, np.random.default_rng(0).integers(0, 255, (20, 30, 30), np.uint8))
        ended = command("train", cell.raw, other, "--voxel-size", 16, "--anchors", 16, "-o", "both")
        assert ended.out == "model: both/model.safetensors\n"
        assert load_model("both/model.safetensors").card["volumes"] == [str(cell.raw), str(other)]
        assert record(Path("both"))["complete"] is False
        assert run(command, cell, "--model", "both/model.safetensors", "-o", "mapped").code == 0
        assert "train" not in record(Path("mapped"))["timings"] or not Path("mapped/losses.jsonl").exists()
        assert labels(Path("mapped"), 3).shape == SHAPE

    def test_cluster_maps_anew(self, command: Command, copied: Path) -> None:
        model = (copied / "model.safetensors").read_bytes()
        ended = command("cluster", copied, "-k", 5)
        assert ended.code == 0
        assert [line.partition(":")[0] for line in ended.err.splitlines()] == ["sample", "map", "score k=5", "report"]
        assert [score["k"] for score in json.loads((copied / "scores.json").read_text())] == [5]
        assert (copied / "model.safetensors").read_bytes() == model
        assert record(copied)["settings"]["clusters"] == [5]
        assert record(copied)["complete"] is True

    def test_embed_and_report(self, command: Command, copied: Path) -> None:
        assert command("embed", copied).out == f"embedding: {copied}/embedding.ome.zarr\n"
        stored: Any = zarr.open_array(copied / "embedding.ome.zarr/0", mode="r")
        assert (stored.shape, stored.dtype) == ((4, *SHAPE), np.float16)
        (copied / "report.html").unlink()
        assert command("report", copied).out == f"report: {copied}/report.html\n"
        assert (copied / "report.html").exists()
        assert record(copied)["complete"] is True

    def test_demo(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
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

    def test_bench_views(self, command: Command, cell: Cell) -> None:
        facts = json.loads(command("bench", "views", cell.raw, "--voxel-size", 16, "--json").out)
        assert facts["largest_difference"] < 1e-4

    def test_a_run_can_be_taken_up_from_another_folder(
        self, command: Command, cell: Cell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(cell.folder)
        out = tmp_path / "run"
        given = ("--reference", "nucleus=nucleus.tif")
        assert command("run", "raw.tif", "--voxel-size", 16, *TINY, *given, "-o", out).code == 0
        monkeypatch.chdir(tmp_path)
        assert command("cluster", out, "-k", 3, "--words", 8).code == 0
        assert [score["k"] for score in json.loads((out / "scores.json").read_text())] == [3]

    @pytest.mark.parametrize("moment", [2, 9, 16])
    def test_ctrl_c_ends_with_a_line_and_the_same_command_goes_on(
        self, command: Command, cell: Cell, finished: Path, monkeypatch: pytest.MonkeyPatch, moment: int
    ) -> None:
        from vemosaic import progress

        heard = 0

        def interrupt(*_: object) -> None:
            nonlocal heard
            heard += 1
            if heard == moment:
                signal.raise_signal(signal.SIGINT)

        with monkeypatch.context() as patch:
            patch.setattr(progress.ProgressBars, "__call__", interrupt)
            ended = run(command, cell, *references(cell), "-o", "out")
        assert ended.code == 130
        assert ended.err == "interrupted: run the same command again to go on from here\n"
        assert record(Path("out"))["complete"] is False
        assert run(command, cell, *references(cell), "-o", "out").code == 0
        assert results(Path("out")) == results(finished)


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


def saved(name: str, array: npt.NDArray[Any]) -> str:
    np.save(name, array)
    return name


def noise(*shape: int, dtype: npt.DTypeLike = np.uint8) -> npt.NDArray[Any]:
    return np.random.default_rng(0).integers(0, 255, shape).astype(dtype)


def with_nan(*place: int) -> npt.NDArray[np.float32]:
    image = noise(*SHAPE, dtype=np.float32)
    image[place] = np.nan
    return image


def truncated_tiff() -> str:
    tifffile.imwrite("cut.tif", noise(*SHAPE))
    content = Path("cut.tif").read_bytes()
    Path("cut.tif").write_bytes(content[: len(content) // 2])
    return "cut.tif"


def zarr_group() -> str:
    zarr.open_group("empty.zarr", mode="w")
    return "empty.zarr"


def missing_chunk() -> str:
    array = zarr.create_array("holes.zarr", shape=SHAPE, chunks=(10, 10, 10), dtype="u1")
    array[:] = noise(*SHAPE)
    Path("holes.zarr/c/1/2/3").unlink()
    return "holes.zarr"


def other_dataset() -> str:
    with h5py.File("em.h5", "w") as file:
        file["raw"] = noise(*SHAPE)
    return "em.h5:/labels"


def text_file() -> str:
    Path("notes.txt").write_text("not an image")
    return "notes.txt"


BAD_VOLUMES: dict[str, tuple[Callable[[], str], str]] = {
    "absent": (lambda: "absent.tif", "does not exist"),
    "empty": (lambda: saved("e.npy", np.zeros((0, 20, 20), np.uint8)), "is empty"),
    "1-D": (lambda: saved("e.npy", noise(50)), "an image has at least y and x"),
    "4-D without a channel axis": (
        lambda: saved("e.npy", noise(2, 20, 20, 20)),
        "none of them is named as the channel",
    ),
    "smaller than a patch": (lambda: saved("e.npy", noise(40, 8, 40)), "fewer than the 9 that a patch needs"),
    "constant": (
        lambda: saved("e.npy", np.full(SHAPE, 7, np.uint8)),
        "every voxel looked at has the same intensity, 7",
    ),
    "zeros": (lambda: saved("e.npy", np.zeros(SHAPE, np.uint8)), "every voxel looked at has the same intensity, 0"),
    "NaN everywhere": (lambda: saved("e.npy", np.full(SHAPE, np.nan, np.float32)), "holds NaN or infinite voxels"),
    "one NaN": (lambda: saved("e.npy", with_nan(10, 18, 20)), "holds NaN or infinite voxels"),
    "one NaN in the corner": (lambda: saved("e.npy", with_nan(19, 35, 39)), "holds NaN or infinite voxels"),
    "infinity": (lambda: saved("e.npy", np.full(SHAPE, np.inf, np.float32)), "holds NaN or infinite voxels"),
    "bool": (lambda: saved("e.npy", noise(*SHAPE) > 9), "is a mask and not an image"),
    "complex": (lambda: saved("e.npy", noise(*SHAPE, dtype=complex)), "complex128"),
    "float64 out of range": (lambda: saved("e.npy", np.full(SHAPE, 1e300)), "beyond the range of float32"),
    "truncated TIFF": (truncated_tiff, "cut.tif"),
    "Zarr group with no array": (zarr_group, "empty.zarr"),
    "missing chunk": (missing_chunk, "missing"),
    "no such dataset": (other_dataset, "em.h5"),
    "unknown format": (text_file, "has no format that is known here"),
    "unknown scheme": (lambda: "ftp://host/cell.zarr", "has a scheme that is not read"),
    "unreadable S3 key": (lambda: "s3://bucket/cell.zarr", "s3://bucket/cell.zarr"),
    "no server": (lambda: "http://127.0.0.1:9/cell.zarr", "http://127.0.0.1:9/cell.zarr"),
}


class TestBadInput:
    """Every item of bad input: one line, exit code 2, and nothing that looks finished."""

    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Do not wait for servers that are not there."""
        from vemosaic.volumes import stores

        stores.metadata_context.cache_clear()
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        monkeypatch.setattr(stores, "RETRIES", {"max_retries": 1, "initial_delay": "1ms", "max_delay": "1ms"})

    @pytest.mark.parametrize("name", BAD_VOLUMES)
    def test_volumes(self, command: Command, name: str) -> None:
        make, said = BAD_VOLUMES[name]
        volume = make()
        line = command("run", volume, "--voxel-size", 16, *TINY, "-o", "out").refused()
        assert said in line
        assert volume.partition(":/l")[0] in line
        check_nothing_looks_finished()

    def test_after_bad_input_the_folder_can_be_used(self, command: Command, cell: Cell) -> None:
        BAD_VOLUMES["constant"][0]()
        command("run", "e.npy", "--voxel-size", 16, *TINY, "-o", "out").refused()
        assert run(command, cell, "-o", "out").code == 0
        assert "holds a run of another input" in command("run", "e.npy", "--voxel-size", 16, "-o", "out").refused()

    @pytest.mark.parametrize("name", ["absent", "1-D", "bool", "truncated TIFF", "unknown format"])
    def test_info_refuses_as_run_does(self, command: Command, name: str) -> None:
        make, said = BAD_VOLUMES[name]
        assert said in command("info", make()).refused()

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ("--clusters 1", "--clusters: '1' is not 2 to 255 clusters"),
            ("--clusters 300", "--clusters: '300' is not"),
            ("--clusters abc", "--clusters: 'abc' is not"),
            ("--clusters 8-4", "--clusters: '8-4' is not"),
            ("--clusters ,", "--clusters: ',' is not"),
            ("--clusters -4", "--clusters: '-4' is not"),
            ("--clusters 200000000-300000000", "--clusters"),
            ("--voxel-size=-1", "--voxel-size: '-1' is not a size in nm"),
            ("--voxel-size 4,4", "--voxel-size: '4,4' is not a size in nm"),
            ("--voxel-size nan", "--voxel-size: 'nan' is not a size in nm"),
            ("--working-voxel-size 0", "--working-voxel-size: '0' is not a size in nm"),
            ("--working-voxel-size x", "--working-voxel-size: 'x' is not a size in nm"),
            ("--working-voxel-size 70", "fewer than the 9 that a patch needs"),
            ("--anchors 5", "--anchors: 5 are fewer than one batch of 8"),
            ("--anchors 0", "--anchors"),
            ("--anchors=-7", "--anchors"),
            ("--device tpu", "--device: tpu is not there; use cpu, cuda or auto"),
            ("--preset nope", "--preset: there is no preset 'nope'"),
            ("--fit nope", "--fit: 'nope' will not do"),
            ("--words=-1", "--words: -1 will not do"),
            ("--words 1", "--words"),
            ("--words 300", "--words: 300 will not do"),
            ("--smoothing=-1", "--smoothing"),
            ("--smoothing nan", "--smoothing"),
            ("--seed=-1", "--seed: -1 will not do"),
            ("--channel 7", "channel"),
            ("--missing-chunks nope", "missing"),
            ("--model text", "text: cannot be read as a model"),
            ("--model absent", "absent: cannot be read as a model"),
            ("--mask absent", "absent: does not exist"),
            ("--mask zeros.npy", "zeros.npy: the mask"),
            ("--mask other.npy", "other.npy"),
            ("--mask few.npy --quiet", "--words: 8 were asked for, but only 3 different voxels found"),
            ("--mask few.npy --words 0 --quiet", "--clusters: 4 were asked for, but only 3 different voxels found"),
            ("--mask edge.npy", "edge.npy: the mask leaves no voxel for an anchor"),
            ("--reference absent", "absent: does not exist"),
            ("--reference nucleus=absent", "absent: does not exist"),
            ("--reference nucleus=", "nucleus=: lacks a name or a path"),
            ("--reference =zeros.npy", "=zeros.npy: lacks a name or a path"),
            ("--reference nucleus=other.npy", "other.npy: states no voxel size, and its shape 5 x 6 x 7 is not"),
            ("--reference nucleus=float.npy", "float.npy"),
            ("--reference text", "text: has no format that is known here"),
        ],
    )
    def test_options(self, command: Command, cell: Cell, options: str, said: str) -> None:
        Path("text").write_text("text")
        saved("zeros.npy", np.zeros(SHAPE, np.uint8))
        few, edge = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
        few[10, 18, 20:23] = edge[0] = 1
        saved("few.npy", few)
        saved("edge.npy", edge)
        saved("other.npy", np.ones((5, 6, 7), np.uint8))
        saved("float.npy", np.ones(SHAPE, np.float32))
        assert said in run(command, cell, "-o", "out", *options.split()).refused()
        check_nothing_looks_finished()

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_no_gpu(self, command: Command, cell: Cell) -> None:
        assert "--device: cuda is not there" in run(command, cell, "--device", "cuda").refused()

    def test_an_unknown_voxel_size_is_asked_for(self, command: Command, cell: Cell) -> None:
        line = command("run", cell.raw, *TINY).refused()
        assert f"{cell.raw}: the file (TIFF) does not say how large a voxel is; give it in nm" in line
        assert list(Path().iterdir()) == []

    @pytest.mark.parametrize(
        "words",
        [
            "run", "run a.tif --colour", "run a.tif --seed many", "walk", "cluster", "evaluate map", "bench",
            "run a.tif --anchors 1.5",
        ],
    )  # fmt: skip
    def test_wrong_usage(self, command: Command, words: str) -> None:
        ended = command(*words.split())
        assert ended.code == 2
        assert "Usage: vemosaic" in ended.err
        assert "Traceback" not in ended.err

    @pytest.mark.parametrize("name", ["embed", "cluster", "report"])
    def test_folders_without_a_run(self, command: Command, name: str) -> None:
        Path("empty").mkdir()
        assert "holds no run (no run.json); name the output folder" in command(name, "empty").refused()
        assert "holds no run" in command(name, "absent").refused()
        assert list(Path("empty").iterdir()) == []
        assert not Path("absent").exists()

    @pytest.mark.parametrize("options", ["--fit nope", "--words 300", "--smoothing=-1", "-k 1", "--device tpu"])
    def test_cluster_with_wrong_options_changes_nothing(self, command: Command, copied: Path, options: str) -> None:
        def state() -> dict[str, str]:
            return {name: digest for name, digest in hashes(copied).items() if name != ".vemosaic.lock"}

        before = state()
        command("cluster", copied, *options.split()).refused()
        assert state() == before

    @pytest.mark.parametrize("name", ["embed", "cluster", "report"])
    def test_a_run_that_was_not_trained(self, command: Command, cell: Cell, name: str) -> None:
        command("train", cell.raw, "--voxel-size", 16, "--anchors", 8, "-o", "out")
        Path("out/model.safetensors").unlink()
        found = record(Path("out"))
        found["stages"] = {}
        Path("out/run.json").write_text(json.dumps(found))
        assert "is not finished" in command(name, "out").refused()

    def test_evaluate(self, command: Command, cell: Cell, finished: Path) -> None:
        nucleus = cell.reference.specs[0]
        segmentation = finished / "segmentation.ome.zarr"
        assert "absent: does not exist" in command("evaluate", "absent", nucleus).refused()
        assert "has no such map; choose one of 3, 4" in command("evaluate", segmentation, nucleus, "-k", 7).refused()
        saved("other.npy", np.ones((5, 6, 7), np.uint8))
        assert "other.npy: states no voxel size" in command("evaluate", segmentation, "x=other.npy").refused()
        saved("float.npy", np.ones(SHAPE, np.float32))
        assert "float.npy" in command("evaluate", "float.npy", nucleus).refused()
        saved("zeros.npy", np.zeros(SHAPE, np.uint16))
        assert "zeros.npy" in command("evaluate", "zeros.npy", nucleus, "--voxel-size", 16).refused()
        saved("three.npy", np.full(SHAPE, 3, np.uint16))
        for k in (0, 2):
            ended = command("evaluate", "three.npy", nucleus, "--voxel-size", 16, "-k", k)
            assert "three.npy: holds labels up to 3" in ended.refused()

    def test_an_unwritable_place(self, command: Command, cell: Cell) -> None:
        Path("file").touch()
        assert "error: file: is a file" in run(command, cell, "-o", "file").refused()
        assert "error: file/run: cannot be written to" in run(command, cell, "-o", "file/run").refused()
        assert "error: /proc/run: cannot be written to" in run(command, cell, "-o", "/proc/run").refused()

    def test_masks_for_several_volumes(self, command: Command, cell: Cell) -> None:
        assert "--mask: is given for several volumes" in command("train", cell.raw, cell.raw, "--mask", "m").refused()

    def test_bench(self, command: Command) -> None:
        refused = command("bench", "speed").refused()
        assert "there is no benchmark 'speed'; choose one of embed, train, cluster, io, end-to-end, scaling" in refused


def check_nothing_looks_finished() -> None:
    """No map, report or scores; a record, if any, that is not complete."""
    assert not [f for f in Path("out").rglob("*") if f.name in ("report.html", "scores.json", "clusters.json")]
    assert not Path("out/segmentation.ome.zarr/zarr.json").exists()
    if Path("out/run.json").exists():
        assert record(Path("out"))["complete"] is False


def started(*words: object, cwd: Path | None = None) -> subprocess.Popen[str]:
    """Start the installed command."""
    program = Path(sys.executable).with_name("vemosaic")
    return subprocess.Popen(
        [str(program), *map(str, words)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


class TestInstalled:
    """The command in a process of its own."""

    def test_version(self) -> None:
        process = started("--version")
        assert process.communicate() == (f"{vemosaic.__version__}\n", "")
        assert process.returncode == 0

    def test_help_of_everything_without_heavy_imports(self) -> None:
        program = (
            "import sys\nfrom vemosaic.cli import app\n"
            f"for words in [], *([c] for c in {COMMANDS}):\n"
            "    try:\n        app([*words, '--help'], prog_name='vemosaic')\n"
            "    except SystemExit as ended:\n        assert not ended.code\n"
            "heavy = {'torch', 'numpy', 'zarr', 'tensorstore', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
            "sys.exit(f'imported {heavy}' if heavy else 0)"
        )
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stderr
        for name in COMMANDS:
            assert f"Usage: vemosaic {name} " in said.stdout

    def test_as_a_module(self) -> None:
        said = subprocess.run(
            [sys.executable, "-m", "vemosaic", "--version"], capture_output=True, text=True, check=True
        )
        assert said.stdout == f"{vemosaic.__version__}\n"

    def test_a_whole_run_with_the_default_model(self, cell: Cell, tmp_path: Path) -> None:
        mask = np.zeros(SHAPE, np.uint8)
        mask[5:15, 10:18, 10:20] = 1
        np.save(tmp_path / "mask.npy", mask)
        words = ("--anchors", 128, "-k", 3, "--words", 8, "--mask", tmp_path / "mask.npy", "-o", tmp_path / "run")
        process = started("run", cell.raw, "--voxel-size", 16, *words, *references(cell), "--json")
        out, err = process.communicate()
        assert (process.returncode, err) == (0, "")
        assert json.loads(out)["scores"][0]["k"] == 3
        assert (tmp_path / "run/report.html").stat().st_size > 50_000
        np.testing.assert_array_equal(labels(tmp_path / "run", 3) != 0, mask != 0)

    @pytest.mark.parametrize(
        ("numbers", "code", "said"),
        [
            ([signal.SIGINT], 130, "interrupted: run the same command again to go on from here"),
            ([signal.SIGINT] * 2, 130, "interrupted: run the same command again to go on from here"),
            ([signal.SIGTERM], 143, "stopped by SIGTERM; run the same command again to go on"),
        ],
    )
    def test_ctrl_c_once_or_twice_and_sigterm_end_at_once(
        self, cell: Cell, tmp_path: Path, numbers: list[signal.Signals], code: int, said: str
    ) -> None:
        process = started("run", cell.raw, "--voxel-size", 16, "--anchors", 1_000_000, "-o", tmp_path / "run")
        deadline = time.monotonic() + 60
        while not (tmp_path / "run/run.json").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1.0)
        begun = time.monotonic()
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.05)
        out, err = process.communicate()
        assert time.monotonic() - begun < 20
        assert process.returncode == code
        assert out == ""
        assert err.splitlines()[-1] == said
        assert "Traceback" not in err
        assert record(tmp_path / "run")["complete"] is False

    def test_bad_input_has_no_traceback(self, tmp_path: Path) -> None:
        process = started("run", tmp_path / "absent.tif", cwd=tmp_path)
        assert process.communicate() == ("", f"error: {tmp_path}/absent.tif: does not exist; check the path\n")
        assert process.returncode == 2
        assert list(tmp_path.iterdir()) == []
