from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from geoopt.manifolds.stereographic import math as geoopt
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vemosaic.hyperbolic import poincare

torch.set_num_threads(1)

seeds = st.integers(0, 2**31)
curvatures = st.floats(0.1, 4)
dimensions = st.integers(1, 8)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def balls(draw: torch.Generator, count: int, dimension: int, c: float = 1.0, reach: float = 0.99) -> Tensor:
    """Points of the ball, their norms uniform up to `reach` of its radius."""
    direction = torch.nn.functional.normalize(
        torch.randn(count, dimension, generator=draw, dtype=torch.float64), dim=-1
    )
    return direction * reach * torch.rand(count, 1, generator=draw, dtype=torch.float64) / math.sqrt(c)


def tangents(draw: torch.Generator, count: int, dimension: int) -> Tensor:
    return torch.randn(count, dimension, generator=draw, dtype=torch.float64)


def agree(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-10)


@settings(max_examples=60, deadline=None)
@given(seeds, curvatures, dimensions)
def test_every_operation_equals_geoopts(seed: int, c: float, dimension: int) -> None:
    draw = generator(seed)
    k = torch.tensor(-c, dtype=torch.float64)
    x, y = balls(draw, 20, dimension, c), balls(draw, 20, dimension, c)
    v = tangents(draw, 20, dimension)
    agree(poincare.conformal_factor(x, c), geoopt.lambda_x(x, k=k, keepdim=True))
    agree(poincare.mobius_add(x, y, c), geoopt.mobius_add(x, y, k=k))
    agree(poincare.distance(x, y, c), geoopt.dist(x, y, k=k))
    agree(poincare.exp_map_origin(v, c), geoopt.expmap0(v, k=k))
    agree(poincare.log_map_origin(x, c), geoopt.logmap0(x, k=k))
    near = v * (1 - c * x.square().sum(-1, keepdim=True))  # a few units long in the ball's metric
    agree(poincare.exp_map(x, near, c), geoopt.expmap(x, near, k=k))
    agree(poincare.log_map(x, y, c), geoopt.logmap(x, y, k=k))
    agree(poincare.transport_from_origin(x, v, c), geoopt.parallel_transport0(x, v, k=k))


@settings(max_examples=40, deadline=None)
@given(seeds, curvatures, dimensions)
def test_gyroplane_distances_equal_geoopts(seed: int, c: float, dimension: int) -> None:
    draw = generator(seed)
    x, p, a = balls(draw, 12, dimension, c), balls(draw, 5, dimension, c), tangents(draw, 5, dimension)
    k = torch.tensor(-c, dtype=torch.float64)
    expected = geoopt.dist2plane(x[:, None], p, a, k=k, signed=True)
    agree(poincare.gyroplane_distance(x.view(3, 4, dimension), p, a, c), expected.view(3, 4, 5))


@settings(max_examples=40, deadline=None)
@given(seeds, curvatures, dimensions)
def test_maps_undo_each_other(seed: int, c: float, dimension: int) -> None:
    draw = generator(seed)
    x, y = balls(draw, 20, dimension, c), balls(draw, 20, dimension, c)
    agree(poincare.exp_map(x, poincare.log_map(x, y, c), c), y)
    agree(poincare.exp_map_origin(poincare.log_map_origin(y, c), c), y)
    length = torch.linalg.vector_norm(poincare.log_map(x, y, c), dim=-1, keepdim=True)
    agree((poincare.conformal_factor(x, c) * length).squeeze(-1), poincare.distance(x, y, c))


@settings(max_examples=30, deadline=None)
@given(seeds, curvatures, dimensions, st.integers(2, 12))
def test_at_the_frechet_mean_the_logarithms_cancel(seed: int, c: float, dimension: int, count: int) -> None:
    """Which is what makes it the minimum (Karcher 1977); the logarithms are geoopt's."""
    draw = generator(seed)
    x = balls(draw, 3 * count, dimension, c, reach=0.95).view(3, count, dimension)
    weights = torch.rand(3, count, generator=draw, dtype=torch.float64) + 0.01
    mean = poincare.frechet_mean(x, weights, c)
    assert mean.shape == (3, dimension)
    pulls = weights[..., None] * geoopt.logmap(mean[:, None], x, k=torch.tensor(-c, dtype=torch.float64))
    assert (pulls.sum(1).norm(dim=-1) < 1e-7 * pulls.norm(dim=-1).sum(1)).all()


@settings(max_examples=30, deadline=None)
@given(seeds, curvatures, dimensions, st.floats(0.05, 0.95))
def test_the_frechet_mean_of_two_points_lies_on_their_geodesic(seed: int, c: float, dimension: int, t: float) -> None:
    draw = generator(seed)
    x = balls(draw, 2, dimension, c, reach=0.95)
    weights = torch.tensor([1 - t, t], dtype=torch.float64)
    expected = geoopt.geodesic(
        torch.tensor([t], dtype=torch.float64), x[0], x[1], k=torch.tensor(-c, dtype=torch.float64)
    )
    torch.testing.assert_close(poincare.frechet_mean(x, weights, c), expected, rtol=1e-6, atol=1e-8)


def test_the_frechet_mean_takes_points_at_the_boundary_and_float32() -> None:
    ring = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    torch.testing.assert_close(poincare.frechet_mean(ring), torch.zeros(2))
    close = torch.tensor([[0.999, 0.0], [0.999, 0.001], [0.998, 0.0]])
    exact = poincare.frechet_mean(poincare.project(close).double())
    torch.testing.assert_close(poincare.frechet_mean(close).double(), exact, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(poincare.frechet_mean(close[:1]), poincare.project(close[0]))


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "project": lambda x, y: poincare.project(x) + y,
    "conformal_factor": lambda x, y: poincare.conformal_factor(x) + y,
    "mobius_add": poincare.mobius_add,
    "distance": poincare.distance,
    "exp_map_origin": lambda x, y: poincare.exp_map_origin(30 * x) + y,
    "log_map_origin": lambda x, y: poincare.log_map_origin(x) + y,
    "exp_map": poincare.exp_map,
    "log_map": poincare.log_map,
    "transport_from_origin": poincare.transport_from_origin,
    "gyroplane_distance": lambda x, y: poincare.gyroplane_distance(x, y, y + 1),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", OPERATIONS)
def test_values_and_gradients_are_finite_at_and_beyond_the_boundary(name: str, dtype: torch.dtype) -> None:
    directions = torch.tensor([[1, 0, 0], [-1, 0, 0], [3, 4, 0], [1, -2, 2]], dtype=dtype)
    directions = directions / directions.norm(dim=-1, keepdim=True)
    norms = torch.tensor([0, 1e-20, 0.5, 1 - 1e-5, 1 - 1e-9, 1, 1 + 1e-7, 7], dtype=dtype)
    points = (norms[:, None, None] * directions).flatten(0, 1)
    x = points.repeat_interleave(len(points), 0).requires_grad_()  # every pair, equal points too
    y = points.repeat(len(points), 1).requires_grad_()
    values = OPERATIONS[name](x, y)
    assert values.isfinite().all()
    values.sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    assert x.grad.isfinite().all()
    assert y.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("c", [0.3, 1.0, 4.0])
def test_projection_keeps_direction_and_what_lies_inside(dtype: torch.dtype, c: float) -> None:
    inside = balls(generator(0), 50, 5, c).to(dtype)
    assert torch.equal(poincare.project(inside, c), inside)
    outside = inside / inside.norm(dim=-1, keepdim=True) * torch.linspace(1, 3, 50, dtype=dtype)[:, None] / math.sqrt(c)
    kept = poincare.project(outside, c)
    assert (c * kept.square().sum(-1) < 1).all()
    torch.testing.assert_close(torch.nn.functional.cosine_similarity(kept, outside), torch.ones(50, dtype=dtype))
    reach = (1 - poincare.MARGINS[dtype]) / math.sqrt(c)
    torch.testing.assert_close(kept.norm(dim=-1), torch.full((50,), reach, dtype=dtype))


def test_distances_keep_their_precision_near_the_boundary() -> None:
    """In float32, where the textbook form loses all digits."""
    x = 0.9985 * torch.nn.functional.normalize(torch.randn(200, 3, generator=generator(1)), dim=-1)
    y = x + 1e-5 * torch.randn(200, 3, generator=generator(2))
    exact = poincare.distance(x.double(), y.double())
    torch.testing.assert_close(poincare.distance(x, y).double(), exact, rtol=2e-4, atol=0)
    torch.testing.assert_close(
        poincare.log_map(x, y).double(), poincare.log_map(x.double(), y.double()), rtol=2e-3, atol=1e-8
    )


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"project"}))
def test_gradients_are_right(name: str) -> None:
    x, y = balls(generator(3), 4, 3).requires_grad_(), balls(generator(4), 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(OPERATIONS[name], (x, y))


def test_the_logarithm_is_differentiable_where_points_coincide() -> None:
    x = torch.tensor([0.3, -0.5], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda y: poincare.log_map(x, y), x)
    torch.testing.assert_close(jacobian, torch.eye(2, dtype=torch.float64))
