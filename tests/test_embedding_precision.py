"""The dense view in float32 and in bfloat16, and on a GPU."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from numeric_core import blobs, realistic_model, volume_of
from vemosaic.blocks.grid import Unit
from vemosaic.clustering import Words
from vemosaic.devices import Precision, has_bfloat16
from vemosaic.embedding import TILE, Embedder
from vemosaic.models.model import Model, build
from vemosaic.presets import preset
from vemosaic.volumes.intensity import Intensity

INTENSITY = Intensity(centre=0.1, spread=0.9)
SHAPE = (6, 30, TILE + 20)
BOX = Unit((0, 0, 0), (1, 5, 80), (4, 20, 30))  # of two tiles


@pytest.fixture(scope="module")
def image() -> npt.NDArray[np.float32]:
    return blobs(SHAPE)


@pytest.mark.skipif(not has_bfloat16(torch.device("cpu")), reason="this processor only imitates bfloat16")
def test_in_bfloat16_the_dense_view_is_that_of_float32_within_two_hundredths_of_its_spread(
    image: npt.NDArray[np.float32],
) -> None:
    exact = Embedder(realistic_model(), INTENSITY)
    mixed = replace(exact, precision="bfloat16")
    (far, near) = (e.box(volume_of(image), BOX.origin, BOX.shape) for e in (exact, mixed))
    assert near.dtype == np.float32
    error = np.sqrt(((near - far) ** 2).mean((0, 1, 2))) / far.std((0, 1, 2))
    assert 0 < error.max() < 0.02
    rng = np.random.default_rng(0)
    words = Words(*(rng.normal(size=(5, n)).astype(np.float32) for n in (8, 2, 0)))
    for smoothing in (0.0, 1.5):
        smoothed = [replace(e, words=words, smoothing=smoothing) for e in (exact, mixed)]
        far, near = (e.box(volume_of(image), BOX.origin, BOX.shape) for e in smoothed)
        assert (np.abs(near - far).max(-1) < 0.1).mean() > 0.98  # few voxels lie between two words


def test_encoders_that_work_patch_by_patch_have_a_precision_of_their_own(image: npt.NDArray[np.float32]) -> None:
    narrow = preset("han2022", width=0.25).model
    exact = Embedder(Model(build(narrow, seed=0).eval(), narrow), INTENSITY)
    mixed = replace(exact, precision="bfloat16")
    far, near = (e.box(volume_of(image), (3, 10, 40), (2, 2, 3)) for e in (exact, mixed))
    np.testing.assert_array_equal(far, near)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("precision", "within"), [("float32", 0.005), ("bfloat16", 0.02)])
def test_a_gpu_s_tiles_are_those_of_the_processor(
    image: npt.NDArray[np.float32], precision: Precision, within: float
) -> None:
    model = realistic_model()
    expected = Embedder(model, INTENSITY).box(volume_of(image), (0, 0, 0), SHAPE)
    on_gpu = replace(model, vae=copy.deepcopy(model.vae).cuda())
    found = Embedder(on_gpu, INTENSITY, precision=precision).box(volume_of(image), (0, 0, 0), SHAPE)
    error = np.sqrt(((found - expected) ** 2).mean((0, 1, 2))) / expected.std((0, 1, 2))
    assert error.max() < within
