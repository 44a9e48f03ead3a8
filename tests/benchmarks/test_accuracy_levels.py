from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import ablation.levels
from ablation.features import LEVELS, feature
from ablation.levels import Joined, LevelsTogether, TwinSampler, half_as_wide, joint_loss
from ablation.trained import Workshop, coarser
from numeric_core import blobs, patch_at
from vemosaic.blocks.grid import Unit
from vemosaic.models.model import build
from vemosaic.models.settings import Architecture, ModelSettings, Optimiser
from vemosaic.models.vae import VAE
from vemosaic.objectives import Inputs, loss_terms
from vemosaic.patches import Sampling
from vemosaic.volumes import open_volume
from vemosaic.volumes.intensity import measure_intensity

CUBES, FLAT = (10.0, 10.0, 10.0), (50.0, 10.0, 10.0)
SMALL = ModelSettings(
    architecture=Architecture(channels=(4, 4, 6, 8), latent=8, semantic=4),
    sampling=Sampling(positives=2),
    optimiser=Optimiser(batch=8, warm_up=1),
)
NEITHER = Sampling(contrast=0.0, brightness=0.0, noise=0.0, half_size=(2.0, 3.0), positives=2)


WAYS = ("concatenated", "apart", "added")


def of_networks(joined: Joined) -> list[VAE]:
    return [build(SMALL, 1), build(half_as_wide(SMALL), 1)] if joined == "added" else [build(SMALL, 1)]


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize(("size", "slices"), [(CUBES, None), (FLAT, 3)])
def test_a_twin_lies_around_the_same_centre_and_is_twice_as_large(size, slices, axis):
    shape = (44, 46, 48)
    volume = open_volume(np.indices(shape)[axis].astype(np.float32), voxel_size=size)  # every voxel tells its place
    coarse, factors = coarser(volume)
    sampling = NEITHER.model_copy(update={"slices": slices})
    sampler = TwinSampler(volume, sampling, 1, torch.device("cpu"))
    own, twin = sampler.batch(0, 32)
    assert own.shape == twin.shape == (32, 3, slices or 16, 16, 16)
    measured = [measure_intensity(v) for v in (volume, coarse)]
    own, twin = (p.numpy() * i.spread + i.centre for p, i in zip((own, twin), measured, strict=True))
    inside = np.abs(own - shape[axis] / 2).reshape(32, -1).max(1) < 8  # no twin of theirs meets the border
    assert inside.sum() > 3
    own, twin = own[inside], twin[inside]
    if slices and axis == 0:
        assert factors == [1, 2, 2]
        np.testing.assert_allclose(twin, own, atol=1e-3)  # slices stay one apart
    else:
        centre = 2 * own - twin
        np.testing.assert_allclose(centre, np.round(centre), atol=2e-3)
        np.testing.assert_allclose(np.ptp(centre, axis=(2, 3, 4)), 0, atol=4e-3)


def test_a_patch_and_its_twin_are_recoloured_alike():
    volume = open_volume(blobs((40, 40, 40)), voxel_size=CUBES)
    plain, loud = (
        TwinSampler(volume, NEITHER.model_copy(update=change), 1, torch.device("cpu")).batch(3, 8)
        for change in ({}, {"contrast": 1.0, "brightness": 0.5})
    )
    fits = [
        [np.polyfit(p.ravel(), q.ravel(), 1) for p, q in zip(a.flatten(0, 1), b.flatten(0, 1), strict=True)]
        for a, b in zip(plain, loud, strict=True)
    ]
    np.testing.assert_allclose(fits[0], fits[1], atol=1e-3)
    assert np.ptp(fits[0], 0).min() > 0.5


@pytest.mark.parametrize("joined", WAYS)
def test_gradients_reach_both_levels(joined):
    networks = of_networks(joined)
    patches, twins = (torch.randn(4, 3, 16, 16, 16, requires_grad=True) for _ in range(2))
    joint_loss(networks, joined, patches, twins, SMALL.objective, torch.Generator().manual_seed(0)).backward()
    for level in (patches, twins):
        assert level.grad.flatten(1).abs().max(1).values.min() > 0
    for network in networks:
        for part in (network.encoder.branch.first, network.encoder.branch.fourth, network.encoder.branch.mean):
            assert part.weight.grad.abs().max() > 0


def test_levels_apart_are_compared_one_by_one():
    networks = of_networks("apart")
    patches, twins = torch.randn(2, 4, 3, 16, 16, 16)
    found = joint_loss(networks, "apart", patches, twins, SMALL.objective, torch.Generator().manual_seed(0))
    noise = torch.randn((4, 3, 8), generator=torch.Generator().manual_seed(0))
    own, coarse = (loss_terms(networks[0], Inputs(level, noise), SMALL.objective) for level in (patches, twins))
    theirs = SMALL.objective.theta_ms * (coarse["multi_similarity"] - own["multi_similarity"]) / 2
    torch.testing.assert_close(found, own["loss"] + theirs)


def test_a_coarse_level_that_says_nothing_leaves_the_objective_as_it_is():
    networks = of_networks("added")
    nn.init.zeros_(networks[1].encoder.branch.mean.weight)
    nn.init.zeros_(networks[1].encoder.branch.mean.bias)
    patches, twins = torch.randn(2, 4, 3, 16, 16, 16)
    found = joint_loss(networks, "added", patches, twins, SMALL.objective, torch.Generator().manual_seed(0))
    noise = torch.randn((4, 3, 8), generator=torch.Generator().manual_seed(0))
    expected = loss_terms(networks[0], Inputs(patches, noise), SMALL.objective)["loss"]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("joined", ["concatenated", "added"])
def test_a_voxel_is_what_its_patch_and_the_twins_around_it_are(tmp_path, joined):
    """The patch's own means to rounding; the twins' those of the eight nearest coarse voxels, interpolated."""
    volume = open_volume(blobs((42, 44, 43)), voxel_size=CUBES)
    chosen = LevelsTogether(SMALL, 16, Workshop(tmp_path), joined=joined)
    (found,) = chosen.describe(volume, [Unit((0, 0, 0), (11, 12, 13), (8, 7, 9))], 1)
    assert found.shape == (8, 7, 9, 4 if joined == "added" else 8)

    def means(model, level, place):
        image = measure_intensity(level).normalise(level.read((0, 0, 0), level.shape)).astype(np.float64)
        patch = torch.from_numpy(patch_at(image, place, 3.75)).float()
        with torch.inference_mode():
            return model.encoder.branch(patch[None, None])[0][0].numpy()

    coarse, _ = coarser(volume)
    for voxel in ((11, 12, 13), (18, 18, 21), (14, 15, 16)):
        own = means(chosen.model(volume, 1), volume, voxel)
        twins = 0
        for corner in itertools.product((0, 1), repeat=3):
            place = [v // 2 - 1 + v % 2 + c for v, c in zip(voxel, corner, strict=True)]
            weight = np.prod([1 - abs(p - (v / 2 - 0.25)) for p, v in zip(place, voxel, strict=True)])
            twins = twins + weight * means(chosen.coarse_model(volume, 1), coarse, place)
        expected = own + twins if joined == "added" else np.concatenate((own, twins))
        np.testing.assert_allclose(found[tuple(np.subtract(voxel, (11, 12, 13)))], expected, atol=1e-4)


def test_models_are_kept_and_never_mixed(tmp_path, monkeypatch):
    chosen = [feature(f"{name}@16", Workshop(tmp_path)) for name in LEVELS]
    assert len({str(each.about()) for each in chosen}) == len(LEVELS)
    volume = open_volume(blobs((30, 30, 30)), voxel_size=CUBES)
    one, other = (LevelsTogether(SMALL, 16, Workshop(tmp_path), joined=joined) for joined in ("apart", "added"))
    before = [list(each._models(volume, 1)[0].vae.parameters()) for each in (one, other)]
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    monkeypatch.setattr(ablation.levels, "train_together", None)
    for each, kept in zip((one, other), before, strict=True):
        assert all(map(torch.equal, each.model(volume, 1).vae.parameters(), kept))
    assert not all(map(torch.equal, *before))
