from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch

from numeric_core import PLAIN, realistic_model
from vemosaic.bench.bounds import Cost
from vemosaic.bench.conditions import random_words
from vemosaic.bench.counting import (
    assigning_cost,
    counted,
    dense_layers,
    describing_cost,
    embedding_cost,
    statistics_cost,
)
from vemosaic.diffusion import Diffusion
from vemosaic.embedding import Embedder
from vemosaic.models.settings import Architecture
from vemosaic.smoothing import smooth

SMALL = Architecture(channels=(2, 3, 4, 5), latent=6, semantic=3)
BOX = (6, 7, 9)


@pytest.mark.parametrize("slices", [None, 1, 3])
@torch.inference_mode()
def test_layers_cost_what_torch_counts(slices: Literal[1, 3] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = realistic_model(SMALL, slices=slices).encoder
    folded = encoder.branch._folded()
    monkeypatch.setattr(type(encoder.branch), "_folded", lambda _: folded)  # folding is not a layer
    voxels = torch.rand(1, 1, *(n + 2 * h for n, h in zip(BOX, encoder.halo, strict=True)))
    layers = dense_layers(encoder, BOX)
    assert [layer.name for layer in layers] == ["first", "second", "third", "fourth", "mean"]
    assert layers[-1].outputs == BOX == tuple(encoder.dense(voxels).shape[2:])
    assert sum((layer.cost for layer in layers), Cost()) == counted(lambda: encoder.dense(voxels))


def test_gradients_are_counted() -> None:
    layer, values = torch.nn.Linear(5, 7, bias=False), torch.rand(3, 5)
    forward = counted(lambda: layer(values))
    assert forward == Cost(2 * 3 * 5 * 7, 4 * (3 * 5 + 5 * 7 + 3 * 7))
    both = counted(lambda: layer(values).sum().backward())
    assert both.flops == 2 * forward.flops  # the values need no gradient
    assert both.traffic == 2 * forward.traffic


def test_words_and_smoothing() -> None:
    """Every product and addition that a loop would do, and every number that it would take or give."""
    plain = Embedder(realistic_model(SMALL), PLAIN)
    embedder = Embedder(plain.model, PLAIN, random_words(3, 2), smoothing=0.75)
    depth, height, width = (n + 2 * r for n, r in zip(BOX, embedder.reach, strict=True))
    count, channels = embedder.words.centres.shape
    voxels = depth * height * width
    flops, numbers = 2 * channels * count * voxels, (channels + embedder.channels) * voxels
    for table, taps in ((embedder.words.details, embedder.detail_taps), (embedder.words.codes, embedder.taps)):
        codes = np.zeros((*(n + len(t) - 1 for n, t in zip(BOX, taps, strict=True)), table.shape[1]), np.float32)
        for axis in (2, 1, 0):
            numbers += codes.size
            only = tuple(taps[axis] if a == axis else [1.0] for a in range(3))
            codes = smooth(torch.from_numpy(codes), only).numpy()
            flops += sum(2 for _ in itertools.product(range(codes.size), taps[axis]))
            numbers += codes.size
        assert codes.shape[:3] == BOX
    assert describing_cost(embedder, BOX) == Cost(flops, 4 * numbers)
    grown = sum((layer.cost for layer in dense_layers(plain.model.encoder, (depth, height, width))), Cost())
    assert embedding_cost(embedder, BOX) == grown + Cost(flops, 4 * numbers)


@pytest.mark.parametrize("flat", [False, True])
def test_a_step_of_diffusion_takes_a_product_for_each_neighbour_and_one_for_the_voxel(flat: bool) -> None:
    diffusion = Diffusion(2, 1.0, flat)
    embedder = Embedder(realistic_model(SMALL), PLAIN, random_words(3, 2), smoothing=0.75, diffusion=diffusion)
    depth, height, width = (n + 2 * r for n, r in zip(BOX, diffusion.reach, strict=True))
    values = np.zeros((depth, height, width, embedder.channels), np.float32)
    flops = numbers = 0
    for _ in range(diffusion.steps):
        after = values[1:-1, 1:-1, 1:-1] if not flat else values[:, 1:-1, 1:-1]
        flops += after.size * (2 * (4 if flat else 6) + 1)
        numbers += values.size + after.size + 3 * after[..., 0].size  # and how well neighbours conduct
        values = after
    assert values.shape[:3] == BOX
    smoothed = describing_cost(replace(embedder, diffusion=None), (depth, height, width))
    assert describing_cost(embedder, BOX) == smoothed + Cost(flops, 4 * numbers)


def test_a_plain_embedding_costs_its_layers_alone() -> None:
    plain = Embedder(realistic_model(SMALL), PLAIN)
    assert describing_cost(plain, BOX) == Cost()
    assert embedding_cost(plain, BOX) == sum((layer.cost for layer in dense_layers(plain.model.encoder, BOX)), Cost())


def test_assigning_takes_one_product_with_all_centres() -> None:
    product = counted(lambda: torch.rand(10, 6) @ torch.rand(6, 4 + 5))
    assert 10 * assigning_cost(6, (4, 5)).flops == product.flops
    assert assigning_cost(6, (4, 5)).traffic == 6 * 4 + 2  # one vector in, two labels out


def test_statistics_cost_an_addition_for_each_clustering_beside() -> None:
    beside = statistics_cost(6, (4, 5)).flops - assigning_cost(6, (4, 5)).flops
    assert beside == 2 * 2 * (6 + 2)
