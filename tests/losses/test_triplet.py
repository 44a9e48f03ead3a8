from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor

from vemosaic.losses import triplet

torch.set_num_threads(1)


def draw(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_triplet(positive: Tensor, negative: Tensor, margin: float, valid: Tensor) -> float:
    rows = zip(positive.tolist(), negative.tolist(), valid.tolist(), strict=True)
    hinges = [max(0.0, near - far + margin) for near, far, counts in rows if counts]
    return sum(hinges) / len(hinges) if hinges else 0.0


@settings(max_examples=40)
@given(st.integers(1, 20), st.integers(1, 8), st.integers(0, 2**31), st.floats(0, 2))
def test_equals_pytorch_metric_learning(count: int, dimension: int, seed: int, margin: float) -> None:
    points = draw((3 * count, dimension), seed)
    parent, child, other = points.split(count)
    oracle = TripletMarginLoss(margin, distance=LpDistance(normalize_embeddings=False), reducer=MeanReducer())
    index = torch.arange(count)
    expected = oracle(points, indices_tuple=(index, index + count, index + 2 * count)).item()
    found = triplet((parent - child).norm(dim=1), (parent - other).norm(dim=1), margin).item()
    assert found == pytest.approx(expected, rel=1e-8)


@settings(max_examples=40)
@given(st.integers(1, 20), st.integers(0, 2**31))
def test_leaves_out_what_is_not_valid(count: int, seed: int) -> None:
    positive, negative = draw((count,), seed).abs(), draw((count,), seed + 1).abs()
    valid = draw((count,), seed + 2) > 0
    expected = slow_triplet(positive, negative, 0.2, valid)
    assert triplet(positive, negative, valid=valid).item() == pytest.approx(expected, rel=1e-12)
    assert triplet(positive, negative).item() == pytest.approx(
        slow_triplet(positive, negative, 0.2, torch.ones(count)), rel=1e-12
    )


def test_without_any_valid_sample_it_is_zero_and_pulls_nowhere() -> None:
    positive = torch.tensor([1.0, 2.0], requires_grad=True)
    negative = torch.tensor([torch.inf, 0.0])  # whatever stands where there is no negative
    loss = triplet(positive, negative, valid=torch.tensor([False, False]))
    loss.backward()
    assert loss.item() == 0
    assert positive.grad is not None
    assert positive.grad.tolist() == [0, 0]


def test_a_step_down_draws_the_child_near_and_drives_the_other_away() -> None:
    positive, negative = torch.tensor([1.0], requires_grad=True), torch.tensor([1.1], requires_grad=True)
    triplet(positive, negative).backward()
    assert positive.grad is not None
    assert negative.grad is not None
    assert (positive.grad.item(), negative.grad.item()) == (1, -1)


@pytest.mark.parametrize("shapes", [((3,), (4,)), ((3, 1), (3, 1))])
def test_wrong_shapes_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match=r"two tensors \(B,\)"):
        triplet(torch.zeros(shapes[0]), torch.zeros(shapes[1]))
