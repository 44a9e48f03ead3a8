from __future__ import annotations

import numpy as np
import pytest
import torch

from numeric_core import PLAIN, blobs, patch_at, realistic_model, volume_of
from vemosaic.bench import view_difference
from vemosaic.bench.views import boxes_around, patches_within
from vemosaic.models.model import Model
from vemosaic.models.settings import Architecture

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
    boxes = boxes_around(volume_of(image), PLAIN, voxels, 4)
    patches = patches_within(boxes, half_size)
    expected = np.stack([patch_at(image.astype(np.float64), voxel, half_size) for voxel in voxels])
    np.testing.assert_allclose(patches, expected, rtol=0, atol=1e-5)
