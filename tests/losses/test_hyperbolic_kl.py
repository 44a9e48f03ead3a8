from __future__ import annotations

import math

import pytest
import torch
from geoopt.manifolds.stereographic import math as geoopt
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vemosaic.hyperbolic import poincare, wrapped_normal
from vemosaic.losses import hyperbolic_kl

torch.set_num_threads(1)

MINUS_ONE = torch.tensor(-1.0, dtype=torch.float64)


def posterior(shape: tuple[int, int, int], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, scale and a sample."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(shape, generator=generator, dtype=torch.float64) / shape[2] ** 0.5
    mean = poincare.exp_map_origin(direction)
    scale = 0.1 + torch.rand(shape, generator=generator, dtype=torch.float64)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return mean, scale, wrapped_normal.rsample(mean, scale, noise)


def slow_log_density(z: Tensor, mean: Tensor, scale: Tensor) -> float:
    """Of one point, dimension by dimension; logarithm and distance are geoopt's."""
    factor = 2 / (1 - sum(m * m for m in mean.tolist()))
    total = 0.0
    for direction, sigma in zip(geoopt.logmap(mean, z, k=MINUS_ONE).tolist(), scale.tolist(), strict=True):
        u = factor * direction
        total += -0.5 * (u / sigma) ** 2 - math.log(sigma * math.sqrt(2 * math.pi))
    r = geoopt.dist(mean, z, k=MINUS_ONE).item()
    return total - (len(z) - 1) * math.log(math.sinh(r) / r)


@settings(max_examples=25)
@given(st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 8)), st.integers(0, 2**31))
def test_equals_its_slow_twin(shape: tuple[int, int, int], seed: int) -> None:
    mean, scale, sample = posterior(shape, seed)
    origin, one = torch.zeros(shape[2], dtype=torch.float64), torch.ones(shape[2], dtype=torch.float64)
    expected = 0.0
    for i in range(shape[0]):
        for j in range(shape[1]):
            expected += slow_log_density(sample[i, j], mean[i, j], scale[i, j])
            expected -= slow_log_density(sample[i, j], origin, one)
    assert hyperbolic_kl(mean, scale, sample).item() == pytest.approx(expected / shape[0], rel=1e-6, abs=1e-9)


def test_on_the_line_its_mean_is_the_divergence_of_normal_distributions() -> None:
    """One dimension has no curvature: the ball is the real line, a point's place its signed distance from 0."""
    place, sigma = 1.3, 0.4
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(200_000, 1, 1, generator=generator, dtype=torch.float64)
    mean = poincare.exp_map_origin(torch.full_like(noise, place / 2))
    scale = torch.full_like(noise, sigma)
    found = hyperbolic_kl(mean, scale, wrapped_normal.rsample(mean, scale, noise)).item()
    expected = 0.5 * (place**2 + sigma**2 - 1) - math.log(sigma)
    assert found == pytest.approx(expected, abs=0.01)


def test_is_zero_where_posterior_and_prior_are_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    zero, noise = torch.zeros(5, 2, 3), torch.randn(5, 2, 3, generator=generator)
    one = torch.ones(5, 2, 3)
    assert hyperbolic_kl(zero, one, wrapped_normal.rsample(zero, one, noise)).item() == pytest.approx(0, abs=1e-6)


def test_wrong_shapes_are_refused() -> None:
    mean, scale, sample = posterior((2, 2, 3), 0)
    with pytest.raises(ValueError, match=r"three tensors \(B, R, d\)"):
        hyperbolic_kl(mean, scale, sample[:, :1])
    with pytest.raises(ValueError, match=r"three tensors \(B, R, d\)"):
        hyperbolic_kl(mean[0], scale[0], sample[0])
