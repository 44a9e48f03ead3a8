from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal
from torch.distributions import kl_divergence as divergence_of

from vemosaic.losses import kl_divergence


def draw(shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean, log_scale = torch.randn((2, *shape), generator=generator, dtype=torch.float64)
    return 3 * mean, (2 * log_scale).exp()


shapes = st.tuples(*[st.integers(1, 4)] * 3)


@settings(max_examples=20)
@given(shapes, st.integers(0, 2**31))
def test_equals_its_slow_twin(shape: tuple[int, int, int], seed: int) -> None:
    mean, scale = draw(shape, seed)
    total = 0.0
    for place in itertools.product(*map(range, shape)):
        mu, sigma = mean[place].item(), scale[place].item()
        total += (mu**2 + sigma**2 - 1 - math.log(sigma**2)) / 2
    assert kl_divergence(mean, scale).item() == pytest.approx(total / (shape[0] * shape[2]), rel=1e-12)


@settings(max_examples=20)
@given(shapes, st.integers(0, 2**31))
def test_is_the_divergence_of_the_posterior_from_the_standard_normal(shape: tuple[int, int, int], seed: int) -> None:
    mean, scale = draw(shape, seed)
    expected = divergence_of(Normal(mean, scale), Normal(torch.zeros_like(mean), torch.ones_like(scale)))
    assert kl_divergence(mean, scale).item() == pytest.approx(
        expected.sum(1).mean().item(), rel=1e-12
    )  # replicates summed, samples and dimensions averaged


def test_is_zero_for_the_standard_normal_and_grows_from_there() -> None:
    mean, scale = torch.zeros(2, 3, 4), torch.ones(2, 3, 4)
    assert kl_divergence(mean, scale).item() == 0.0
    for changed in ((mean + 0.1, scale), (mean, scale * 1.1), (mean, scale / 1.1)):
        assert kl_divergence(*changed).item() > 0


@pytest.mark.parametrize("shapes", [((2, 3), (2, 3)), ((2, 3, 4), (2, 3, 5))])
def test_wrong_shapes_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match=r"expected two tensors \(B, R, d\)"):
        kl_divergence(torch.ones(shapes[0]), torch.ones(shapes[1]))
