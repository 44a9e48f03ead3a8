"""Runs of volumes that are padded with zeros."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile

import vemosaic
from small_runs import SETTINGS, SHAPE, Cell, labels
from vemosaic.blocks.grid import Unit
from vemosaic.errors import VolumeError
from vemosaic.inputs import PaddingWarning
from vemosaic.models.model import load_model
from vemosaic.pipeline import Run, run
from vemosaic.segmentation import map_unit

FAST = SETTINGS.model_copy(update={"anchors": 8, "clusters": (3,)})


def test_padding_is_left_out(quick: object, cell: Cell, tmp_path: Path) -> None:
    image = np.maximum(tifffile.imread(cell.raw), 1)
    inside = np.zeros(SHAPE, np.uint8)
    inside[:, 12:, 10:] = 1
    np.save(tmp_path / "padded.npy", image * inside)
    np.save(tmp_path / "inside.npy", inside)
    source = str(tmp_path / "padded.npy")
    told = r"padded\.npy: \d\d% of the voxels looked at are padding .* \(--mask everywhere maps it, too\)"
    with pytest.warns(PaddingWarning, match=told):
        run(source, tmp_path / "without", FAST, voxel_size=16)
    with warnings.catch_warnings(action="error"):
        run(source, tmp_path / "file", FAST, voxel_size=16, mask=str(tmp_path / "inside.npy"))
        run(source, tmp_path / "nonzero", FAST, voxel_size=16, mask="nonzero")
        run(source, tmp_path / "all", FAST, voxel_size=16, mask="everywhere")
    assert (labels(tmp_path / "all", 3) != 0).all()
    np.testing.assert_array_equal(labels(tmp_path / "file", 3) != 0, inside != 0)
    for out in ("nonzero", "without"):
        np.testing.assert_array_equal(labels(tmp_path / out, 3), labels(tmp_path / "file", 3))
    again = Run.reopen(tmp_path / "without")
    assert again.first.mask is not None
    assert again.first.mask.identity() == again.folder.record["inputs"][0]["mask_identity"]
    seen, beside = again.first.seen.read((0, 0, 0), SHAPE), again.first.working.read((0, 0, 0), SHAPE)
    np.testing.assert_array_equal(seen[:, 12:, :10], beside[:, 12:, 20:10:-1])
    assert not beside[:, 12:, :10].any()


def test_padding_is_seen_alike_by_all(quick: object, cell: Cell, tmp_path: Path) -> None:
    image = np.maximum(tifffile.imread(cell.raw), 1)
    image[:, :, :12] = 0
    np.save(tmp_path / "padded.npy", image)
    with pytest.warns(PaddingWarning):
        job = run(str(tmp_path / "padded.npy"), tmp_path / "run", FAST, voxel_size=16)
    model = load_model(job.folder.model)
    with pytest.warns(PaddingWarning):
        found = vemosaic.cluster(image, model, 3, voxel_size=16, words=8, vocabularies=1, diffusion=2)
    np.testing.assert_array_equal(found, labels(tmp_path / "run", 3))
    again = Run.reopen(tmp_path / "run")
    unit = Unit((0, 0, 0), (0, 0, 0), (16, 32, 32))
    (whole,) = map_unit(  # as a worker process does
        again.describer(), unit, again.describer().read(again.first.seen, unit), again.clusterings(), again.first.mask
    )
    np.testing.assert_array_equal(whole, found[:16, :32, :32])
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["inputs"][0]["given"].pop("padded") is True
    (tmp_path / "run/run.json").write_text(json.dumps(record))
    with pytest.raises(VolumeError, match=r"is not the volume that .* was made from"):
        Run.reopen(tmp_path / "run")  # made by a version that showed patches black
