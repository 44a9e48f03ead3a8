from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch

import vemosaic.bench
from numeric_core import PLAIN, blobs, patch_at, realistic_model, volume_of
from vemosaic.bench import measure, view_difference
from vemosaic.errors import SettingsError
from vemosaic.models.han2022 import Encoder as PaperEncoder
from vemosaic.models.model import Model
from vemosaic.models.settings import Architecture, ModelSettings, Optimiser
from vemosaic.presets import preset

SMALL = Architecture(channels=(4, 5, 6, 7), latent=6, semantic=3)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return blobs((12, 20, 30))


@pytest.fixture
def model() -> Model:
    return realistic_model(SMALL)


def test_both_views_agree(image: np.ndarray, model: Model) -> None:
    assert 0 < view_difference(model, volume_of(image), PLAIN, 600) < 1e-5


def test_a_dense_view_that_is_wrong_shows(image: np.ndarray, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    folded = model.encoder.branch._folded()
    shifted = torch.roll(folded, 1, dims=-1)
    monkeypatch.setattr(type(model.encoder.branch), "_folded", lambda _: shifted)
    assert view_difference(model, volume_of(image), PLAIN, 50) > 0.01


def test_a_patch_view_on_another_grid_shows(image: np.ndarray, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(model.encoder), "half_size", 3.5)
    assert view_difference(model, volume_of(image), PLAIN, 50) > 0.01


@pytest.mark.parametrize("half_size", [3.75, 4.0])
def test_patches_equal_scipy_s_interpolation(image: np.ndarray, half_size: float) -> None:
    voxels = np.array([[0, 0, 0], [11, 19, 29], [5, 7, 20]])
    boxes = vemosaic.bench._boxes_around(volume_of(image), PLAIN, voxels, 4)
    patches = vemosaic.bench._patches_within(boxes, half_size)
    expected = np.stack([patch_at(image.astype(np.float64), voxel, half_size) for voxel in voxels])
    np.testing.assert_allclose(patches, expected, rtol=0, atol=1e-5)


def test_measures_what_it_says(image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = ModelSettings(architecture=Architecture(channels=(2, 2, 2, 2)), optimiser=Optimiser(batch=2))
    monkeypatch.setattr(vemosaic.bench, "ModelSettings", lambda: small)
    monkeypatch.setattr(vemosaic.bench.han2022, "Encoder", functools.partial(PaperEncoder, width=1 / 32))
    source = str(tmp_path / "image.npy")
    np.save(source, image)
    embed = measure("embed", source, None, None, 0.01)
    assert embed["shape"] == [12, 20, 30]
    assert embed["ratio"] == pytest.approx(embed["voxels_per_second"] / embed["paper_voxels_per_second"])
    assert measure("train", source, (16.0,), None, 0.01)["anchors_per_second"] > 0
    views = measure("views", source, (8.0,), 16.0, 0.0)
    assert views["shape"] == [6, 10, 15]  # at the working voxel size
    assert views["voxels"] == 2000
    assert views["largest_difference"] < 1e-5
    assert views["machine"]["torch"] == torch.__version__


def test_measures_presets_that_work_patch_by_patch(image: np.ndarray, tmp_path: Path) -> None:
    source = str(tmp_path / "image.npy")
    np.save(source, image)
    narrow = preset("han2022", width=0.25).model
    facts = measure("patches", source, (16.0,), None, 0.01, narrow)
    assert facts["voxels_per_second"] > 0
    assert (facts["preset"], facts["device"]) == ("han2022", "cpu")
    with pytest.raises(SettingsError, match="preset default has a dense view; use bench embed"):
        measure("patches", source, (16.0,), None, 0.01)


def test_unknown_benchmark_names_those_there_are() -> None:
    with pytest.raises(SettingsError, match="no benchmark 'sleep'; choose one of embed, train, patches, views"):
        measure("sleep", None, None, None, 1.0)
