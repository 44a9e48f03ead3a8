"""How fast voxels are given their clusters, and how fast all voxels are followed by a clustering."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vemosaic.bench.bounds import bounded
from vemosaic.bench.conditions import Conditions
from vemosaic.bench.counting import assigning_cost, describing_cost, statistics_cost
from vemosaic.bench.embedding import first_tiles
from vemosaic.bench.peaks import measure_peaks
from vemosaic.bench.timing import rates
from vemosaic.blocks.grid import Unit
from vemosaic.clustering import Clusters, assign, statistics_of
from vemosaic.settings import Settings

KS = Settings().clusters


@torch.inference_mode()
def bench_cluster(conditions: Conditions) -> dict[str, Any]:
    """Turn the embedding of a tile into labels for k = 4 to 10 as `run` does: words, means, diffusion, nearest centres.

    Beside it, what a clustering that follows all voxels does with each: its statistics for the same k.
    """
    volume, device = conditions.volume, conditions.device
    peaks_before = measure_peaks(device)
    plain, described = conditions.embedders()
    words = described.words
    assert words is not None
    tile = first_tiles(volume)
    z, y, x = (-r for r in described.reach)
    depth, height, width = (n + 2 * r for n, r in zip(tile.shape, described.reach, strict=True))
    grown = Unit(tile.index, (z, y, x), (depth, height, width))
    semantic = plain.semantic(plain.normalised(plain.read(volume, grown)), grown.origin)
    image = described.image(described.read(volume, tile), Unit(tile.index, (0, 0, 0), tile.shape))

    def describe() -> Tensor:
        return described.described(words.nearest(semantic), image)

    embedding = describe()
    clusterings = random_clusterings(embedding)

    def label() -> int:
        return assign(describe(), clusterings)[0].numel()

    def follow() -> int:
        statistics_of(embedding, clusterings)
        return tile.voxels

    rate, following = rates([label, follow], conditions.seconds, device)
    peaks = peaks_before.best(measure_peaks(device))
    channels = described.channels
    cost = describing_cost(described, tile.shape).per(tile.voxels) + assigning_cost(channels, KS)
    return {
        **bounded(rate, cost, peaks),
        "statistics": bounded(following, statistics_cost(channels, KS), peaks),
        "clusters": list(KS),
        "words": len(words.centres),
        "smoothing": described.smoothing,
        "diffusion": Settings().diffusion_steps,
        "device": device.type,
        "peaks": peaks.to_json(),
    }


def random_clusterings(embedding: torch.Tensor) -> list[Clusters]:
    """Return k-means clusterings for each k whose centres are embeddings ``(..., C)`` drawn at random."""
    flat = embedding.flatten(0, -2).cpu().numpy()
    rng = np.random.default_rng(0)
    return [Clusters(flat[rng.choice(len(flat), k, replace=False)]) for k in KS]
