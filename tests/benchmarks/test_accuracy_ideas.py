from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import vemosaic.training
from ablation.dense_views import DenseViews, dense_multi_similarity, pairs, places
from ablation.features import DEFAULT, IDEAS, changed, feature
from ablation.ideas import (
    Drawn,
    Equivariance,
    Idea,
    MaskedCentre,
    otherwise,
    relative_error,
    trunk,
)
from ablation.prototypes import Prototypes, sinkhorn, swapped_prediction
from ablation.trained import Workshop
from numeric_core import PLAIN, blobs, volume_of
from vemosaic.blocks.grid import Unit
from vemosaic.losses import multi_similarity
from vemosaic.models.model import build
from vemosaic.models.settings import Objective
from vemosaic.objectives import Inputs, loss_terms
from vemosaic.patches import PatchSampler

SMALL = changed(architecture={"channels": (4, 4, 6, 8), "latent": 12, "semantic": 4}, optimiser={"batch": 4})
FLAT = SMALL.model_copy(update={"sampling": SMALL.sampling.model_copy(update={"slices": 3})})
VOLUME = volume_of(blobs((60, 50, 50)))
UNCOLOURED = {"contrast": 0.0, "brightness": 0.0, "noise": 0.0}
EVERY = [idea for _, idea in IDEAS.values()]


def names(idea):
    return type(idea).__name__


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(idea, count=4, settings=SMALL):
    sampler = PatchSampler([VOLUME], [PLAIN], idea.settings(settings).sampling, seed=0)
    batch = sampler.batch(0, count)
    noise = torch.randn(*batch.patches.shape[:2], SMALL.architecture.latent, generator=generator())
    return Drawn(batch, noise, idea.shown(batch.patches, generator()))


def networks(idea, settings=SMALL):
    with otherwise(idea):
        return vemosaic.training.build(settings, 0)


def test_without_an_idea_the_objective_is_the_presets():
    vae, given = networks(Idea()), drawn(Idea())
    expected = loss_terms(vae, Inputs(given.batch.patches, given.noise), SMALL.objective)
    found = Idea().terms(vae, given, SMALL.objective)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("settings", [SMALL, FLAT], ids=["cubes", "flat"])
@pytest.mark.parametrize("idea", EVERY, ids=names)
def test_gradients_reach_the_semantic_branch_and_the_head(idea, settings):
    vae = networks(idea, settings)
    terms = idea.terms(vae, drawn(idea, settings=settings), SMALL.objective)
    terms["loss"].backward()
    for name, parameter in vae.named_parameters():
        if name.startswith(("encoder.branch", "head")) and name != "head.bias":  # only differences of sizes count
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("idea", EVERY, ids=names)
def test_leaves_an_ordinary_model(idea, tmp_path, monkeypatch):
    monkeypatch.setitem(IDEAS, "tried", (SMALL, idea))
    chosen = feature("tried@8", Workshop(tmp_path))
    kept = chosen.model(VOLUME, 0)
    assert kept.settings == SMALL
    plain = build(SMALL, 0)
    assert kept.vae.state_dict().keys() == plain.state_dict().keys()
    assert not torch.equal(kept.encoder.branch.first.weight, plain.encoder.branch.first.weight)
    (values,) = chosen.describe(VOLUME, [Unit((0, 0, 0), (5, 6, 7), (2, 3, 4))], 0)
    assert values.shape == (2, 3, 4, 4)
    assert vemosaic.training.build is build


def test_ideas_are_told_apart():
    about = [repr(feature(name, Workshop(None)).about()) for name in ("default", *IDEAS)]
    assert len(set(about)) == len(about)


def test_a_block_of_inner_points_is_hidden():
    patches = 1 + torch.rand(40, 5, 16, 16, 16, generator=generator())
    hidden = MaskedCentre().shown(patches, generator()) == 0
    count = hidden.flatten(2).sum(-1)
    assert set(count.unique().tolist()) == {0, 6**3}
    assert 0.4 < (count > 0).float().mean() < 0.6
    one = hidden[count > 0]
    for axes in ((2, 3), (1, 3), (1, 2)):
        line = one.any(axes[1]).any(axes[0])
        first = line.int().argmax(1)
        assert torch.equal(line.sum(1), torch.full((len(one),), 6))
        assert all(each[a : a + 6].all() for each, a in zip(line, first, strict=True))
        assert (first.min(), first.max()) == (2, 8)
    flat = MaskedCentre(share=1.0).shown(patches[:, :, :3], generator()) == 0
    assert torch.equal(flat[:, :, 0], flat[:, :, 2])
    assert set(flat.flatten(2).sum(-1).unique().tolist()) == {3 * 6**2}


def test_the_decoder_must_give_the_whole_patch_back():
    vae, given = networks(MaskedCentre()), drawn(MaskedCentre(share=1.0))
    found = MaskedCentre().terms(vae, given, SMALL.objective)["reconstruction"]
    restored = vae(given.seen, given.noise).reconstruction
    expected = (restored - given.batch.patches).square().sum() / (4 * 16**3)
    torch.testing.assert_close(found, expected)


def test_sinkhorn_assigns_equally_many_points_to_each_prototype():
    scores = 3 * torch.randn(60, 5, generator=generator()) + torch.tensor([4.0, 0, 0, 0, -4])
    assigned = sinkhorn(scores, 200)
    torch.testing.assert_close(assigned.sum(1), torch.ones(60))
    torch.testing.assert_close(assigned.sum(0), torch.full((5,), 12.0))
    torch.testing.assert_close(sinkhorn(scores, 3).sum(1), torch.ones(60))
    ratio = assigned.log() - scores  # a factor for each point, another for each prototype
    torch.testing.assert_close(ratio - ratio[:1], (ratio - ratio[:1])[:, :1].expand(-1, 5), atol=1e-3, rtol=1e-3)


def test_swapped_prediction_is_that_of_a_slow_twin():
    semantic = torch.randn(3, 3, 2, generator=generator())
    prototypes = torch.randn(4, 2, generator=generator(1))
    scores = [[[-(math.dist(z, c) ** 2) / 2 for c in prototypes.tolist()] for z in of] for of in semantic.tolist()]
    assigned = sinkhorn(2 * torch.tensor(scores).flatten(0, 1), 3).unflatten(0, (3, 3)).tolist()
    terms = []
    for sample in range(3):
        for one in range(3):
            norm = math.log(sum(map(math.exp, scores[sample][one])))
            for other in {0, 1, 2} - {one}:
                pairs = zip(assigned[sample][other], scores[sample][one], strict=True)
                terms.append(-sum(q * (s - norm) for q, s in pairs))
    assert swapped_prediction(semantic, prototypes, 3).item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_prototypes_stand_beside_the_metric_loss_or_in_its_place():
    vae, given = networks(Prototypes()), drawn(Prototypes())
    alone, both = (idea.terms(vae, given, SMALL.objective) for idea in (Prototypes(), Prototypes(multi_similarity=0.5)))
    metric = Idea().terms(vae, given, SMALL.objective)["multi_similarity"]
    torch.testing.assert_close(both["multi_similarity"], alone["multi_similarity"] + 0.5 * metric)


def test_sizes_are_compared_within_samples():
    told, true = np.random.default_rng(0).normal(size=(2, 3, 4))
    error = [
        (told[b, i] - told[b, j] - true[b, i] + true[b, j]) ** 2
        for b in range(3)
        for i in range(4)
        for j in range(4)
        if i != j
    ]
    assert relative_error(*map(torch.from_numpy, (told, true))).item() == pytest.approx(np.mean(error))
    vae, given = networks(Equivariance()), drawn(Equivariance())
    alone, weighed = (Equivariance(w).terms(vae, given, SMALL.objective)["multi_similarity"] for w in (0.0, 2.0))
    features = trunk(vae.encoder.branch, given.seen.flatten(0, 1)[:, None]).flatten(1)
    expected = relative_error(vae.get_submodule("head")(features).view(4, 5), given.batch.half_size.log())
    torch.testing.assert_close(weighed - alone, 2 * expected)


@pytest.mark.parametrize(("points", "along"), [(22, 2), (28, 3)])
@pytest.mark.parametrize("settings", [SMALL, FLAT], ids=["cubes", "flat"])
def test_outputs_of_a_view_are_those_of_its_patches_and_lie_there(points, along, settings):
    sampling = DenseViews(points).settings(settings).sampling
    slices = sampling.slices
    grids = sampling.draw(torch.tensor([[30, 25, 25], [9, 20, 31]]), generator())
    spacing = (grids.points[0, 0, 0, 0, 1] - grids.points[0, 0, 0, 0, 0]).norm()
    torch.testing.assert_close(spacing, 2 * grids.half_size[0, 0] / (points - 1), rtol=1e-4, atol=0)
    low, high = SMALL.sampling.half_size
    assert 2 * low / 15 - 1e-4 < spacing < 2 * high / 15 + 1e-4
    found = places(grids.points)
    assert found.shape == (2, 2, along ** (2 if slices else 3), 3)
    last = [slice(None) if slices else slice(-16, None), slice(0, 16), slice(-16, None)]
    expected = grids.points[1, 1][tuple(last)].flatten(0, 2).mean(0)  # at the high end of z and x, the low one of y
    place = found[1, 1].view(1 if slices else along, along, along, 3)[-1, 0, -1]
    torch.testing.assert_close(place, expected)
    branch = build(settings, 0).encoder.branch
    view = torch.randn(1, 1, slices or points, points, points, generator=generator())
    outputs = branch.mean(trunk(branch, view))[:, :, ::3, ::3, ::3]
    torch.testing.assert_close(outputs[:, :, -1, 0, -1], branch(view[:, :, last[0], last[1], last[2]])[0])


def test_places_of_a_batch_are_those_of_the_volume():
    ramp = np.indices((60, 50, 50)).astype(np.float32)
    whole = []
    for axis in range(3):
        settings = DenseViews().settings(SMALL).sampling.model_copy(update=UNCOLOURED)
        batch = PatchSampler([volume_of(ramp[axis])], [PLAIN], settings, seed=0).batch(0, 3)
        whole.append(places(batch.patches[..., None].expand(*batch.patches.shape, 3))[..., 0])
    # A volume that holds its own coordinates: what patches show there, on average, is where their centres are.
    torch.testing.assert_close(torch.stack(whole, -1).flatten(1, 2), batch.centres, atol=1e-3, rtol=0)


def test_corresponding_outputs_are_positive_and_other_regions_negative():
    where = torch.randn(3, 2, 4, 3, generator=generator())
    points = [(b, r, where[b, r, p]) for b in range(3) for r in range(2) for p in range(4)]
    positive, negative = pairs(where, 2.0)
    for i, (b, r, one) in enumerate(points):
        for j, (other_b, other_r, other) in enumerate(points):
            near = math.dist(one, other) <= 2
            assert positive[i, j] == (b == other_b and r != other_r and near)
            assert negative[i, j] == (b != other_b)
    assert 0 < positive.sum() < 3 * 2 * 4 * 4


def test_with_one_output_a_view_the_loss_is_the_presets():
    outputs = torch.randn(5, 3, 1, 4, generator=generator())
    here = torch.zeros(5, 3, 1, 3)
    objective = Objective(alpha=2.0, beta=0.5, margin=0.7)
    found = dense_multi_similarity(outputs, here, 2.0, objective)
    torch.testing.assert_close(found, multi_similarity(outputs[:, :, 0], 2.0, 0.5, 0.7))
    apart = here.clone()
    apart[:, :, 0, 0] = 5.0 * torch.arange(3)  # no output of a region has a partner
    assert dense_multi_similarity(outputs, apart, 2.0, objective) < found


def test_of_views_the_middle_patch_is_reconstructed():
    idea = DenseViews()
    vae, given = networks(idea), drawn(idea, count=3)
    middle = given.seen[:, :, 2:18, 2:18, 2:18]
    latent = vae(middle, given.noise)
    expected = (latent.reconstruction - middle).square().sum() / (3 * 16**3)
    torch.testing.assert_close(idea.terms(vae, given, SMALL.objective)["reconstruction"], expected)


def test_ideas_begin_as_the_preset():
    for name, (settings, _) in IDEAS.items():
        assert settings.model_copy(update={"optimiser": DEFAULT.optimiser}) == DEFAULT, name
