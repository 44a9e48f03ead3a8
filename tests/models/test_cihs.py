from __future__ import annotations

import pytest
import torch
from geoopt.manifolds.stereographic import math as geoopt

from vemosaic.hyperbolic import poincare
from vemosaic.losses import hyperbolic_kl, triplet
from vemosaic.models.cihs import Decoder, Encoder, Gyroplanes, HyperbolicVAE

torch.set_num_threads(1)


def vae(latent: int = 2, seed: int = 0) -> HyperbolicVAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HyperbolicVAE(Encoder(latent), Decoder(latent))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("latent", [2, 8])
def test_the_layers_are_those_of_the_paper(latent: int) -> None:
    networks = vae(latent)
    convolutions = [tuple(p.shape) for n, p in networks.encoder.named_parameters() if p.ndim == 5]
    assert convolutions == [(16, 1, 5, 5, 5), (32, 16, 5, 5, 5), (64, 32, 5, 5, 5), (128, 64, 5, 5, 5)]
    mirrored = [tuple(p.shape) for n, p in networks.decoder.named_parameters() if p.ndim == 5]
    assert mirrored == [(128, 64, 5, 5, 5), (64, 32, 5, 5, 5), (32, 16, 5, 5, 5), (16, 1, 5, 5, 5)]
    features = networks.encoder.convolutions(normal(2, 1, 10, 10, 10))
    assert features.shape == (2, 128, 2, 2, 2)
    assert networks.encoder.hidden.weight.shape == (300, 1024)
    assert networks.decoder.gyroplanes.orientation.shape == (1024, latent)
    assert networks.latent == networks.semantic == networks.encoder.semantic == latent
    assert (networks.encoder.points, networks.encoder.half_size) == (10, 2.5)


def test_means_lie_on_the_ball_and_scales_are_positive_however_large_the_input() -> None:
    encoder = vae(8).encoder
    for size in (1.0, 1e4, 1e8):
        mean, scale = encoder(size * normal(4, 1, 10, 10, 10))
        assert mean.shape == scale.shape == (4, 8)
        assert (mean.norm(dim=1) < 1).all()
        assert (scale > 0).all()


def test_replicates_go_through_as_if_each_were_alone() -> None:
    networks = vae()
    patches, noise = normal(2, 3, 10, 10, 10), normal(2, 3, 2, seed=1)
    with torch.inference_mode():
        latent = networks(patches, noise)
        assert latent.mean.shape == latent.scale.shape == latent.sample.shape == (2, 3, 2)
        assert latent.reconstruction.shape == patches.shape
        mean, scale = networks.encoder(patches[1, 2][None, None])
        step = scale * noise[1, 2] / poincare.conformal_factor(mean)
        sample = geoopt.expmap(mean, step, k=torch.tensor(-1.0))
        torch.testing.assert_close(latent.mean[1, 2], mean[0])
        torch.testing.assert_close(latent.scale[1, 2], scale[0])
        torch.testing.assert_close(latent.sample[1, 2], sample[0])
        torch.testing.assert_close(latent.reconstruction[1, 2], networks.decoder(sample)[0, 0], rtol=1e-4, atol=1e-5)


def test_gyroplanes_measure_what_geoopt_measures() -> None:
    torch.manual_seed(0)
    layer = Gyroplanes(3, 7).double()
    points = poincare.exp_map_origin(normal(5, 3).double())
    k = torch.tensor(-1.0, dtype=torch.float64)
    offsets = geoopt.expmap0(layer.offset * layer.orientation, k=k)
    normals = geoopt.parallel_transport0(offsets, layer.orientation, k=k)
    expected = geoopt.dist2plane(points[:, None], offsets, normals, k=k, signed=True)
    torch.testing.assert_close(layer(points), expected, rtol=1e-8, atol=1e-10)


def test_every_parameter_is_reached_by_reconstruction_and_divergence() -> None:
    networks = vae()
    patches = normal(2, 2, 10, 10, 10)
    latent = networks(patches, normal(2, 2, 2, seed=1))
    loss = (latent.reconstruction - patches).square().sum() + hyperbolic_kl(latent.mean, latent.scale, latent.sample)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in networks.parameters())


def test_a_few_steps_lower_the_whole_objective() -> None:
    networks = vae()
    optimiser = torch.optim.Adam(networks.parameters(), lr=1e-3, amsgrad=True)
    parents = 1.0 + 0.2 * normal(4, 1, 10, 10, 10)
    patches = torch.cat((parents, parents + 0.1 * normal(4, 1, 10, 10, 10, seed=1)), 1)
    patches[2:] -= 2
    noise = normal(4, 2, 2, seed=2)
    values = []
    for _ in range(8):
        latent = networks(patches, noise)
        parent, child = latent.mean.unbind(1)
        pull = triplet(poincare.distance(parent, child), poincare.distance(parent, child.roll(2, 0)))
        divergence = hyperbolic_kl(latent.mean, latent.scale, latent.sample)
        loss = 0.5 * (latent.reconstruction - patches).square().sum() / 4 + divergence + 1e3 * pull
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append((loss.item(), pull.item()))
    assert values[-1][0] < 0.95 * values[0][0]
    assert values[-1][1] < 0.95 * values[0][1]


@pytest.mark.parametrize("norm", [1 - 1e-5, 1.0, 1.5])
def test_the_decoder_takes_points_at_the_boundary(norm: float) -> None:
    points = (norm * torch.nn.functional.normalize(normal(3, 2), dim=1)).requires_grad_()
    patches = vae().decoder(points)
    assert patches.shape == (3, 1, 10, 10, 10)
    assert patches.isfinite().all()
    patches.sum().backward()
    assert points.grad is not None
    assert points.grad.isfinite().all()
