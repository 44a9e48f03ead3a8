"""Whole runs of single images and of thick slices: patches are flat, and the run says so."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

import vemosaic
import vemosaic.report.projection
from numeric_core import blobs
from small_runs import MODEL, SETTINGS, Cell, labels, record, results, run_cell
from vemosaic import cli
from vemosaic.diffusion import CONTRAST, Diffusion
from vemosaic.errors import VolumeError
from vemosaic.inputs import AnisotropyWarning, Input, open_input, suited_to
from vemosaic.models.model import load_model
from vemosaic.models.settings import ModelSettings
from vemosaic.pipeline import run
from vemosaic.presets import preset
from vemosaic.report import write_report
from vemosaic.volumes import open_volume
from vemosaic.volumes.intensity import measure_intensity

Told = Callable[..., str]


@pytest.fixture
def told(quick: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Told:
    """Call the command line in this process; what it told on standard error."""

    quick.setattr(vemosaic.report.projection, "MOST", 100)

    def call(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["vemosaic", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
        return capfd.readouterr().err

    return call


def micrograph(folder: Path) -> Path:
    """A single image, a stack of one."""
    image = blobs((1, 512, 512))
    tifffile.imwrite(folder / "image.tif", (image * 30 + 128).clip(0, 255).astype(np.uint8), photometric="minisblack")
    return folder / "image.tif"


def test_a_single_image_is_mapped(told: Told, tmp_path: Path) -> None:
    image, out = micrograph(tmp_path), tmp_path / "run"
    assert open_volume(image).shape == (1, 512, 512)
    options = ("--voxel-size", 5, "--out", out, "--anchors", 32, "-k", "3,4", "--words", 8)
    said = told("run", image, *options)
    assert re.search("^train: ", said, re.M)
    assert f"note: {image}: is a single slice; textures are compared within it\n" in said
    assert load_model(out / "model.safetensors").settings.slices == 1
    found = labels(out, 4)
    assert found.shape == (1, 160, 160)
    assert set(np.unique(found)) == {1, 2, 3, 4}
    working = record(out)["inputs"][0]["working"]
    assert (working["shape"], working["voxel_size"]) == ([1, 160, 160], [5.0, 16.0, 16.0])
    before = results(out)
    assert not re.search("^(train|cluster|map): ", told("run", image, *options), re.M)  # run again: nothing to do
    assert results(out) == before
    write_report(out, volume=open_input(Input(str(image), (5.0,) * 3), 16.0).working, reference=None)


def test_thick_slices_are_mapped_with_flat_patches(cell: Cell, quick: object, tmp_path: Path) -> None:
    with pytest.warns(AnisotropyWarning, match=r"30 x 16 x 16 nm \(z, y, x\) and not cubes; textures are compared wit"):
        done = run(str(cell.raw), tmp_path / "run", SETTINGS, voxel_size=(30, 16, 16), store_embedding=True)
    flat = MODEL.sampling.model_copy(update={"slices": 3, "radius": 0.0})
    assert done.settings.model == MODEL.model_copy(update={"sampling": flat})
    assert done.describer().depth == 30 / 16
    words = done.describer().words
    assert words is not None
    assert words.details.shape == (8, MODEL.architecture.semantic)  # a voxel's own texture counts in slices
    diffusion = done.describer().diffusion
    assert diffusion is not None
    assert diffusion.flat
    # The map of the run is the one that a box of it gets by itself.
    model, stack = load_model(done.folder.model), open_volume(cell.raw, voxel_size=(30, 16, 16))
    embedded = vemosaic.embed(stack, model, box=np.s_[3:9, 10:30, 5:20])
    stored = open_volume(done.folder.path / "embedding.ome.zarr", channel=1)
    np.testing.assert_allclose(stored.array[3:9, 10:30, 5:20], embedded[..., 1], atol=2e-3)


def test_cubes_are_mapped_as_ever_and_nothing_is_said(
    cell: Cell, quick: object, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    done = run_cell(cell, tmp_path / "run")
    assert done.settings.model == MODEL
    words = done.describer().words
    assert words is not None
    assert words.details.shape == (8, 0)
    diffusion = done.describer().diffusion
    spread = measure_intensity(done.first.working).spread
    assert diffusion == Diffusion(2, CONTRAST * spread, flat=False)
    assert not [w for w in recwarn if issubclass(w.category, AnisotropyWarning)]


def test_presets_of_the_papers_keep_their_cubes(cell: Cell) -> None:
    opened = open_input(Input(str(cell.raw), (30.0, 16.0, 16.0)), 16.0)
    for name in ("han2022", "cihs"):
        model = preset(name).model
        with pytest.warns(AnisotropyWarning, match="compared in all directions as if they were, and it will be less"):
            assert suited_to([opened], model) == model


def test_few_slices_are_told(tmp_path: Path) -> None:
    np.save(tmp_path / "thin.npy", blobs((5, 40, 40)))
    opened = open_input(Input(str(tmp_path / "thin.npy"), (16.0,) * 3), 16.0)
    with pytest.warns(AnisotropyWarning, match=r"thin.npy: has only 5 slices; textures are compared within each"):
        assert suited_to([opened], ModelSettings()).slices == 3


def test_volumes_of_two_kinds_are_not_learnt_from_together(cell: Cell) -> None:
    cubes, thick = (open_input(Input(str(cell.raw), (z, 16.0, 16.0)), 16.0) for z in (16.0, 50.0))
    with pytest.raises(VolumeError, match=r"50 x 16 x 16 nm against 16 x 16 x 16 nm .*; train on volumes of one kind"):
        suited_to([cubes, thick], ModelSettings())


def test_a_model_of_the_other_kind_is_refused_before_anything_is_written(
    cell: Cell, finished: Path, quick: object, tmp_path: Path
) -> None:
    model = finished / "model.safetensors"
    with pytest.raises(VolumeError, match=r"raw.tif: has 20 slices with voxels of 50 x 16 x 16 nm .*; train on"):
        run(str(cell.raw), tmp_path / "run", SETTINGS, voxel_size=(50, 16, 16), model=model)
    assert not (tmp_path / "run").exists()
    with pytest.raises(VolumeError, match="the model takes voxels for cubes"):
        vemosaic.embed(open_volume(cell.raw, voxel_size=(50, 16, 16)), load_model(model))


def test_training_from_python_chooses_as_a_run_does(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    thick = open_volume(cell.raw, voxel_size=(50, 16, 16))
    monkeypatch.setattr("vemosaic.api.ModelSettings", lambda: MODEL)
    assert vemosaic.train(thick, anchors=8).settings.slices == 3
    assert vemosaic.train(thick, anchors=8, settings=MODEL).settings.slices is None  # asked for
