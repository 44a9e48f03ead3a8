from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from geoopt.manifolds.stereographic import math as geoopt
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vemosaic.hyperbolic import poincare, wrapped_normal

torch.set_num_threads(1)

seeds = st.integers(0, 2**31)
curvatures = st.floats(0.2, 3)
dimensions = st.integers(1, 8)


def setting(seed: int, count: int, dimension: int, c: float) -> tuple[Tensor, Tensor, Tensor]:
    """Means, scales and noise."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, dimension)
    direction = torch.randn(shape, generator=generator, dtype=torch.float64) / dimension**0.5
    mean = poincare.exp_map_origin(direction, c)
    scale = 0.1 + torch.rand(shape, generator=generator, dtype=torch.float64)
    return mean, scale, torch.randn(shape, generator=generator, dtype=torch.float64)


@settings(max_examples=40, deadline=None)
@given(seeds, curvatures, dimensions)
def test_density_equals_its_twin_made_of_geoopts_parts(seed: int, c: float, dimension: int) -> None:
    """By way of the origin: logarithm at the mean, transported back, in the metric there."""
    mean, scale, noise = setting(seed, 10, dimension, c)
    k = torch.tensor(-c, dtype=torch.float64)
    z = wrapped_normal.rsample(mean, scale, noise, c)
    back = 2 * geoopt.parallel_transport0back(mean, geoopt.logmap(mean, z, k=k), k=k)
    r = math.sqrt(c) * geoopt.dist(mean, z, k=k)
    expected = torch.distributions.Normal(0, scale).log_prob(back).sum(-1) - (dimension - 1) * (r.sinh() / r).log()
    torch.testing.assert_close(wrapped_normal.log_prob(z, mean, scale, c), expected, rtol=1e-6, atol=1e-8)


@settings(max_examples=15, deadline=None)
@given(seeds, curvatures, dimensions)
def test_density_is_that_of_the_samples(seed: int, c: float, dimension: int) -> None:
    """Change of variables: the noise's density over the volume that the map gives it in the ball's measure."""
    mean, scale, noise = (t[0] for t in setting(seed, 1, dimension, c))
    z = wrapped_normal.rsample(mean, scale, noise, c)
    jacobian = torch.autograd.functional.jacobian(lambda e: wrapped_normal.rsample(mean, scale, e, c), noise)
    volume = jacobian.det().abs().log() + dimension * poincare.conformal_factor(z, c).log().squeeze(-1)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum() - volume
    torch.testing.assert_close(wrapped_normal.log_prob(z, mean, scale, c), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("mean", "scale"),
    [([0.0, 0.0], [1.0, 1.0]), ([0.6, -0.3], [0.4, 0.4]), ([-0.2, 0.7], [0.3, 0.8]), ([0.05, 0.0], [1.5, 0.5])],
)
def test_density_integrates_to_one_over_the_disc(mean: list[float], scale: list[float]) -> None:
    """In geodesic polar coordinates around the origin the disc's measure is sinh(r) dr dtheta."""
    nodes, weights = np.polynomial.legendre.leggauss(160)
    r = torch.from_numpy(8 * (nodes + 1))  # to 16: beyond lies less than 1e-12
    theta = torch.arange(1200, dtype=torch.float64) * (2 * math.pi / 1200)
    circle = torch.stack((theta.cos(), theta.sin()), -1)
    z = (r / 2).tanh()[:, None, None] * circle  # (r, theta, 2)
    centre, width = (torch.tensor(t, dtype=torch.float64).expand_as(z) for t in (mean, scale))
    density = wrapped_normal.log_prob(z, centre, width).exp().sum(1) * (2 * math.pi / 1200)
    total = (density * r.sinh() * torch.from_numpy(8 * weights)).sum().item()
    assert total == pytest.approx(1, abs=1e-5)


def test_curvature_close_to_zero_gives_the_normal_distribution() -> None:
    """There the metric is four times the Euclidean one."""
    mean, scale, noise = setting(0, 20, 3, 1.0)
    z = wrapped_normal.rsample(mean, scale, noise, 1e-10)
    torch.testing.assert_close(z, mean + scale * noise / 2, rtol=1e-6, atol=1e-8)
    expected = torch.distributions.Normal(2 * mean, scale).log_prob(2 * z).sum(-1)
    torch.testing.assert_close(wrapped_normal.log_prob(z, mean, scale, 1e-10), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", [0.0, 0.5, 1 - 1e-5, 1.0, 2.0])
def test_values_and_gradients_are_finite_at_the_boundary(dtype: torch.dtype, norm: float) -> None:
    mean = torch.tensor([[norm, 0, 0]] * 5, dtype=dtype).requires_grad_()
    scale = torch.full((5, 3), 1.0, dtype=dtype).requires_grad_()
    noise = torch.tensor([[0, 0, 0], [1e-12, 0, 0], [1, -1, 0.5], [5, 0, 0], [-40, 40, 0]], dtype=dtype)
    z = wrapped_normal.rsample(mean, scale, noise)
    values = wrapped_normal.log_prob(z, mean, scale)
    assert (z.norm(dim=-1) < 1).all()
    assert values.isfinite().all()
    (values.sum() + z.sum()).backward()
    for tensor in (mean, scale):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


def test_gradients_are_right() -> None:
    mean, scale, noise = setting(1, 3, 4, 1.0)

    def both(mean: Tensor, scale: Tensor) -> Tensor:
        return wrapped_normal.log_prob(wrapped_normal.rsample(mean, scale, noise), 0.5 * mean, scale)

    assert torch.autograd.gradcheck(both, (mean.requires_grad_(), scale.requires_grad_()))
