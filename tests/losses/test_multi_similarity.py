from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import MultiSimilarityLoss
from torch import Tensor

from vemosaic.losses import multi_similarity


class NegativeDistance(LpDistance):
    """Minus the Euclidean distance: a similarity, as Wang et al. 2019 have it."""

    def __init__(self) -> None:
        super().__init__(normalize_embeddings=False)
        self.is_inverted = True

    def compute_mat(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        return -super().compute_mat(query_emb, ref_emb)


def slow_multi_similarity(
    semantic: Tensor, alpha: float, beta: float, margin: float, false_negatives: float = 0.0
) -> float:
    """Eq. 3 with both signs turned, pair by pair; indices as in the paper. The nearest negatives may be left out."""
    points = semantic.tolist()
    samples, replicates = len(points), len(points[0])
    total = 0.0
    for i in range(samples):
        for j in range(replicates):
            positive = 0.0
            negatives = []
            for k in range(replicates):
                if k != j:
                    positive += math.exp(alpha * (math.dist(points[i][j], points[i][k]) - margin))
                for other in range(samples):
                    if other != i:
                        negatives.append(math.dist(points[i][j], points[other][k]))
            left = sorted(negatives)[int(false_negatives * len(negatives)) :]
            negative = sum(math.exp(-beta * (distance - margin)) for distance in left)
            total += math.log(1 + positive) / alpha + math.log(1 + negative) / beta
    return total / (samples * replicates)


def draw(shape: tuple[int, int, int], seed: int, spread: float = 1.0) -> Tensor:
    return spread * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mean_distances(semantic: Tensor) -> tuple[float, float]:
    """Mean distance of positive pairs and of negative pairs."""
    points = semantic.detach().flatten(0, 1)
    distance = torch.cdist(points, points)
    sample = torch.arange(len(semantic)).repeat_interleave(semantic.shape[1])
    same = sample[:, None] == sample[None]
    itself = torch.eye(len(points), dtype=torch.bool)
    return distance[same & ~itself].mean().item(), distance[~same].mean().item()


shapes = st.tuples(st.integers(2, 5), st.integers(2, 5), st.integers(1, 8))
scales = st.floats(0.2, 10)
margins = st.floats(-1, 3)


@settings(max_examples=40)
@given(shapes, st.integers(0, 2**31), st.floats(0.01, 5), scales, scales, margins, st.just(0.0) | st.floats(0, 0.99))
def test_equals_its_slow_twin(
    shape: tuple[int, int, int], seed: int, spread: float, alpha: float, beta: float, margin: float, share: float
) -> None:
    semantic = draw(shape, seed, spread)
    expected = slow_multi_similarity(semantic, alpha, beta, margin, share)
    assert multi_similarity(semantic, alpha, beta, margin, share).item() == pytest.approx(expected, rel=1e-8)


def test_what_is_taken_for_a_false_negative_is_not_pushed_away() -> None:
    semantic = torch.tensor([[[0.0], [0.1]], [[0.3], [0.4]], [[5.0], [5.1]]], dtype=torch.float64, requires_grad=True)
    multi_similarity(semantic, margin=1.0, false_negatives=0.5).backward()  # 2 of 4: for the first two, each other
    gradient = semantic.grad
    assert gradient is not None
    whole = semantic.detach().clone().requires_grad_()
    multi_similarity(whole, margin=1.0).backward()
    assert whole.grad is not None
    # Those at 5 push the second sample down; the first one, no longer, pushes it up.
    assert gradient[1].sum() > 0 > whole.grad[1].sum()


@settings(max_examples=20)
@given(shapes, st.integers(0, 2**31), scales, scales, margins)
def test_equals_pytorch_metric_learning_with_minus_the_distance_as_similarity(
    shape: tuple[int, int, int], seed: int, alpha: float, beta: float, margin: float
) -> None:
    # There the exponents are -alpha (S - base) and beta (S - base); with S = -d and base = -margin they are ours.
    oracle = MultiSimilarityLoss(alpha, beta, base=-margin, distance=NegativeDistance())
    semantic = draw(shape, seed)
    sample = torch.arange(shape[0]).repeat_interleave(shape[1])
    expected = oracle(semantic.flatten(0, 1), sample).item()
    assert multi_similarity(semantic, alpha, beta, margin).item() == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_a_step_down_shrinks_positive_distances_and_widens_negative_ones(seed: int) -> None:
    centres = draw((8, 1, 8), seed, spread=0.5)
    semantic = (centres + draw((8, 5, 8), seed + 100, spread=0.3)).requires_grad_()
    multi_similarity(semantic).backward()
    assert semantic.grad is not None
    before = mean_distances(semantic)
    after = mean_distances(semantic - 0.1 * semantic.grad)
    assert after[0] < before[0]
    assert after[1] > before[1]


def test_gradients_are_right() -> None:
    assert torch.autograd.gradcheck(multi_similarity, (draw((3, 3, 4), 0).requires_grad_(),))


def test_gradients_are_finite_where_points_coincide() -> None:
    semantic = torch.zeros(3, 4, 8).requires_grad_()
    multi_similarity(semantic).backward()
    assert semantic.grad is not None
    assert semantic.grad.isfinite().all()


def test_far_points_do_not_overflow() -> None:
    semantic = draw((4, 3, 8), 0, spread=1e4).float().requires_grad_()
    loss = multi_similarity(semantic, alpha=10, beta=10)
    loss.backward()
    assert loss.isfinite()
    assert semantic.grad is not None
    assert semantic.grad.isfinite().all()


def test_order_of_samples_and_replicates_does_not_matter() -> None:
    semantic = draw((4, 3, 8), 1)
    shuffled = semantic[torch.tensor([2, 0, 3, 1])][:, torch.tensor([1, 2, 0])]
    assert multi_similarity(shuffled).item() == pytest.approx(multi_similarity(semantic).item(), rel=1e-12)


@pytest.mark.parametrize("shape", [(4, 8), (1, 5, 8), (4, 1, 8)])
def test_batches_without_a_positive_or_a_negative_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="B >= 2, R >= 2"):
        multi_similarity(torch.zeros(shape))
