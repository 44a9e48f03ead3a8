"""Options, folders and files that will not do: one line, exit code 2, and nothing that looks finished."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import TINY, Command, check_nothing_looks_finished, run, saved

from small_runs import SHAPE, Cell, hashes, record


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
        ("--vocabularies 0", "--vocabularies: 0 will not do"),
        ("--vocabularies 2", "--vocabularies"),
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
def test_options(command: Command, cell: Cell, options: str, said: str) -> None:
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
def test_no_gpu(command: Command, cell: Cell) -> None:
    assert "--device: cuda is not there" in run(command, cell, "--device", "cuda").refused()


def test_an_unknown_voxel_size_is_asked_for(command: Command, cell: Cell) -> None:
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
def test_wrong_usage(command: Command, words: str) -> None:
    ended = command(*words.split())
    assert ended.code == 2
    assert "Usage: vemosaic" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("name", ["embed", "cluster", "report"])
def test_folders_without_a_run(command: Command, name: str) -> None:
    Path("empty").mkdir()
    assert "holds no run (no run.json); name the output folder" in command(name, "empty").refused()
    assert "holds no run" in command(name, "absent").refused()
    assert list(Path("empty").iterdir()) == []
    assert not Path("absent").exists()


@pytest.mark.parametrize("options", ["--fit nope", "--words 300", "--smoothing=-1", "-k 1", "--device tpu"])
def test_cluster_with_wrong_options_changes_nothing(command: Command, copied: Path, options: str) -> None:
    def state() -> dict[str, str]:
        return {name: digest for name, digest in hashes(copied).items() if name != ".vemosaic.lock"}

    before = state()
    command("cluster", copied, *options.split()).refused()
    assert state() == before


@pytest.mark.parametrize("name", ["embed", "cluster", "report"])
def test_a_run_that_was_not_trained(command: Command, cell: Cell, name: str) -> None:
    command("train", cell.raw, "--voxel-size", 16, "--anchors", 8, "-o", "out")
    Path("out/model.safetensors").unlink()
    found = record(Path("out"))
    found["stages"] = {}
    Path("out/run.json").write_text(json.dumps(found))
    assert "is not finished" in command(name, "out").refused()


def test_evaluate(command: Command, cell: Cell, finished: Path) -> None:
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


def test_an_unwritable_place(command: Command, cell: Cell) -> None:
    Path("file").touch()
    assert "error: file: is a file" in run(command, cell, "-o", "file").refused()
    assert "error: file/run: cannot be written to" in run(command, cell, "-o", "file/run").refused()
    assert "error: /proc/run: cannot be written to" in run(command, cell, "-o", "/proc/run").refused()


def test_masks_for_several_volumes(command: Command, cell: Cell) -> None:
    assert "--mask: is given for several volumes" in command("train", cell.raw, cell.raw, "--mask", "m").refused()


def test_bench(command: Command) -> None:
    refused = command("bench", "speed").refused()
    assert "there is no benchmark 'speed'; choose one of embed, train, cluster, io, end-to-end, scaling" in refused
