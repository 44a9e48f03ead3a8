from __future__ import annotations

from typing import Any

import pytest
import torch

from numeric_core import PLAIN, blobs, volume_of
from vemosaic.devices import has_bfloat16
from vemosaic.hierarchy import HierarchicalSampling, choose_negatives
from vemosaic.hyperbolic import poincare
from vemosaic.losses import hyperbolic_kl, kl_divergence, multi_similarity, reconstruction
from vemosaic.models.model import build
from vemosaic.models.settings import ModelSettings, Optimiser
from vemosaic.models.vae import VAE
from vemosaic.objectives import draw_inputs, loss_terms
from vemosaic.patches import Batch, PatchSampler
from vemosaic.presets import preset


def settings_of(name: str) -> ModelSettings:
    """A preset with small batches, and for a hierarchy small patches."""
    model = preset(name, **({"width": 0.25} if name == "han2022" else {})).model
    changes: dict[str, object] = {"optimiser": Optimiser(batch=6)}
    if name == "cihs":
        changes["sampling"] = HierarchicalSampling(parent=(3.0, 5.0), child=(1.5, 2.5))
    return model.model_copy(update=changes)


def batch_of(settings: ModelSettings) -> Batch:
    return PatchSampler([volume_of(blobs((40, 40, 40)))], [PLAIN], settings.sampling, seed=1).batch(0, 6)


def seeded(device: torch.device | str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(5)


def terms_of(vae: VAE, batch: Batch, settings: ModelSettings, **how: Any) -> dict[str, torch.Tensor]:
    inputs = draw_inputs(vae, batch, settings.objective, seeded(batch.patches.device))
    return loss_terms(vae, inputs, settings.objective, **how)


@pytest.mark.parametrize("name", ["default", "han2022"])
def test_multi_similarity_objective_is_equation_4(name: str) -> None:
    settings = settings_of(name)
    vae, batch = build(settings, seed=0), batch_of(settings)
    terms = terms_of(vae, batch, settings)
    latent = vae(batch.patches, torch.randn((6, 5, 64), generator=seeded()))
    theta = {"default": 0.03, "han2022": 1e-3}[name]
    parts = (
        reconstruction(batch.patches, latent.reconstruction),
        kl_divergence(latent.mean, latent.scale),
        multi_similarity(latent.mean[..., :8]),
    )
    assert [terms[n].item() for n in ("reconstruction", "kl", "multi_similarity")] == [p.item() for p in parts]
    assert terms["loss"].item() == pytest.approx((parts[0] + theta * parts[1] + 1e3 * parts[2]).item(), rel=1e-6)


def test_triplet_objective_is_the_bound_and_the_hinge_on_poincare_distances() -> None:
    settings = settings_of("cihs")
    vae, batch = build(settings, seed=0), batch_of(settings)
    terms = terms_of(vae, batch, settings)
    generator = seeded()
    latent = vae(batch.patches, torch.randn((6, 2, 2), generator=generator))
    negatives, valid = choose_negatives(batch.centres, batch.half_size, batch.volume, generator)
    hinges = []
    for i in range(6):
        if valid[i]:
            near = poincare.distance(latent.mean[i, 0], latent.mean[i, 1])
            far = poincare.distance(latent.mean[i, 0], latent.mean[negatives[i], 1])
            hinges.append((near - far + 0.2).clamp(min=0))
    assert hinges
    error = sum(0.5 * (batch.patches[i] - latent.reconstruction[i]).square().sum() for i in range(6)) / 6
    expected = error + hyperbolic_kl(latent.mean, latent.scale, latent.sample) + 1e3 * torch.stack(hinges).mean()
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert terms["triplet"].item() == pytest.approx(torch.stack(hinges).mean().item(), rel=1e-5)


@pytest.mark.parametrize("name", ["default", "han2022", "cihs"])
def test_every_parameter_learns_and_nothing_is_infinite(name: str) -> None:
    settings = settings_of(name)
    vae = build(settings, seed=0)
    terms_of(vae, batch_of(settings), settings)["loss"].backward()
    for label, parameter in vae.named_parameters():
        assert parameter.grad is not None, label
        assert torch.isfinite(parameter.grad).all(), label
        assert parameter.grad.abs().sum() > 0, label


@pytest.mark.parametrize("name", ["default", "han2022", "cihs"])
def test_steps_down_the_objective_lower_it(name: str) -> None:
    settings = settings_of(name)
    vae, batch = build(settings, seed=0), batch_of(settings)
    optimiser = torch.optim.Adam(vae.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss = terms_of(vae, batch, settings)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.99 * losses[0]


def in_both_precisions(name: str, device: str) -> list[tuple[VAE, dict[str, torch.Tensor]]]:
    """Networks with the same weights, and the terms of the same batch, in float32 and in bfloat16."""
    settings = settings_of(name)
    sampler = PatchSampler(
        [volume_of(blobs((40, 40, 40)))], [PLAIN], settings.sampling, seed=1, device=torch.device(device)
    )
    batch, found = sampler.batch(0, 6), []
    for precision in ("float32", "bfloat16"):
        vae = build(settings, seed=0).to(device)
        found.append((vae, terms_of(vae, batch, settings, precision=precision)))
    return found


@pytest.mark.skipif(not has_bfloat16(torch.device("cpu")), reason="this processor only imitates bfloat16")
@pytest.mark.parametrize("name", ["default", "han2022"])
def test_in_bfloat16_terms_are_those_of_float32_and_have_its_type(name: str) -> None:
    (_, exact), (vae, rounded) = in_both_precisions(name, "cpu")
    assert {term.dtype for term in rounded.values()} == {torch.float32}
    rounded["loss"].backward()
    assert {p.dtype for p in vae.parameters()} == {p.grad.dtype for p in vae.parameters()} == {torch.float32}
    values, expected = (torch.stack([term.detach() for term in terms.values()]) for terms in (rounded, exact))
    assert not torch.equal(values, expected)
    torch.testing.assert_close(values, expected, rtol=1e-2, atol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["default", "han2022"])
def test_in_bfloat16_gradients_are_those_of_float32(name: str) -> None:
    """On a GPU: of those on a CPU nobody should learn, see `vemosaic.devices.for_training`."""
    gradients = []
    for vae, terms in in_both_precisions(name, "cuda"):
        terms["loss"].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in vae.parameters()]))
    exact, rounded = gradients
    assert (exact - rounded).norm() < 0.1 * exact.norm()


def test_hyperbolic_networks_keep_to_float32() -> None:
    settings = settings_of("cihs")
    vae, batch = build(settings, seed=0), batch_of(settings)
    exact, asked = (terms_of(vae, batch, settings, precision=p) for p in ("float32", "bfloat16"))
    assert all(torch.equal(exact[name], asked[name]) for name in exact)
