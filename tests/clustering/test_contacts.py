"""Where clusters touch."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from vemosaic.clustering import Clusters, Contacts, Neighbours
from vemosaic.diffusion import BLUR, Diffusion

SHAPE = (3, 4, 5)


def image_around(diffusion: Diffusion, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    around = [n + 2 * (s - r) for n, s, r in zip(shape, diffusion.sight, diffusion.reach, strict=True)]
    return np.random.default_rng(seed).normal(size=around).astype(np.float32)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_each_two_neighbours_are_paired_once(flat: bool, masked: bool) -> None:
    diffusion = Diffusion(3, 1.5, flat)
    image = image_around(diffusion)
    inside = np.random.default_rng(1).random(SHAPE) < 0.6 if masked else None
    found = Neighbours.of(image, diffusion, inside)
    axes = (1, 2) if flat else (0, 1, 2)
    blurred = image
    for axis in axes:
        blurred = ndimage.correlate1d(blurred, BLUR, axis)
    blurred = blurred[tuple(slice(a in axes, n - (a in axes)) for a, n in enumerate(image.shape))]
    assert blurred.shape == SHAPE
    expected = {}
    for here in itertools.product(*map(range, SHAPE)):
        for axis in axes:
            there = tuple(h + (a == axis) for a, h in enumerate(here))
            if there[axis] < SHAPE[axis] and (inside is None or (inside[here] and inside[there])):
                pair = tuple(int(np.ravel_multi_index(place, SHAPE)) for place in (here, there))
                expected[pair] = math.exp(-(((blurred[here] - blurred[there]) / 1.5) ** 2) / 2)
    pairs = [tuple(pair) for pair in found.pairs.tolist()]
    assert len(set(pairs)) == len(pairs)
    assert set(pairs) == set(expected)
    np.testing.assert_allclose(found.conductances, [expected[pair] for pair in pairs], rtol=1e-5)


def test_boxes_follow_one_another() -> None:
    diffusion = Diffusion(2, 1.0, False)
    shapes = [(2, 3, 4), (1, 2, 2), (3, 3, 3)]
    boxes = [Neighbours.of(image_around(diffusion, shape, i), diffusion) for i, shape in enumerate(shapes)]
    joined = Neighbours.joined(boxes, [math.prod(shape) for shape in shapes])
    assert len(joined.pairs) == len(joined.conductances) == sum(len(box.pairs) for box in boxes)
    last = joined.pairs[-len(boxes[2].pairs) :]
    np.testing.assert_array_equal(last, boxes[2].pairs + 24 + 4)
    np.testing.assert_array_equal(joined.conductances[: len(boxes[0].pairs)], boxes[0].conductances)
    box = np.searchsorted([24, 28], joined.pairs, side="right")
    np.testing.assert_array_equal(box[:, 0], box[:, 1])  # none reaches from one into the next


@given(st.integers(1, 5), st.integers(0, 2**16))
def test_pairs_are_counted_between_clusters(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    centres, embedding = rng.normal(size=(k, 2)).astype(np.float32), rng.normal(size=(12, 2)).astype(np.float32)
    pairs = rng.integers(0, 12, (30, 2)).astype(np.int32)
    conductances = rng.random(30).astype(np.float32)
    nearest = ((embedding[:, None].astype(np.float64) - centres) ** 2).sum(-1).argmin(1)
    counts, sums = np.zeros((2, k, k))
    for (one, other), conductance in zip(pairs, conductances, strict=True):
        for i, j in {(nearest[one], nearest[other]), (nearest[other], nearest[one])}:
            counts[i, j] += 1
            sums[i, j] += conductance
    found = Contacts(embedding, Neighbours(pairs, conductances)).between(Clusters(centres))
    np.testing.assert_array_equal(found[0], counts)
    np.testing.assert_allclose(found[1], sums, rtol=1e-5)
