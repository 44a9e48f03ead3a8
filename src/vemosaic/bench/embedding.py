"""How fast voxels are embedded: the dense view, layer by layer, and presets that work patch by patch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from vemosaic.bench.bounds import Cost, beside_promised, bounded
from vemosaic.bench.conditions import Conditions
from vemosaic.bench.counting import Layer, counted, dense_layers, embedding_cost
from vemosaic.bench.peaks import Peaks, best_time, measure_peaks
from vemosaic.bench.timing import rates
from vemosaic.bench.views import random_patches
from vemosaic.blocks.grid import Unit, units
from vemosaic.embedding import TILE, Embedder, tiles_of
from vemosaic.errors import SettingsError
from vemosaic.models import han2022
from vemosaic.models.default import Encoder
from vemosaic.models.model import Model, build
from vemosaic.settings import Settings
from vemosaic.volumes.array_writing import SHARD
from vemosaic.volumes.volume import Volume

PAPER_VOXELS = 5_800.0
"""Voxels a second of the paper's encoder on an RTX 2080 Ti (Han et al. 2022, section 4.6)."""


def first_tiles(volume: Volume, count: int = 1) -> Unit:
    """Return the box of a volume's first tiles along x."""
    return units(volume.shape, (TILE, TILE, count * TILE))[0]


def first_shard(volume: Volume) -> Unit:
    """Return the box of a volume's first shard, for whose voxels words are found at once."""
    return units(volume.shape, SHARD)[0]


def dense_job(embedder: Embedder, volume: Volume, box: Unit) -> Callable[[], int]:
    """Return a job that embeds a box, which is read once; it gives the number of voxels."""
    voxels = embedder.read(volume, box)
    return lambda: sum(embedding[..., 0].numel() for _, embedding in embedder.tiles(box, voxels))


def box_cost(embedder: Embedder, box: Unit) -> Cost:
    """Return what embedding a voxel of a box costs: with words at once, without them tile by tile."""
    parts = [box] if embedder.words else tiles_of(box.origin, box.shape)
    return sum((embedding_cost(embedder, part.shape) for part in parts), Cost()).per(box.voxels)


def bench_embed(conditions: Conditions) -> dict[str, Any]:
    """Embed two tiles, a shard with words, smoothing and diffusion as in a run, and patches as the paper does."""
    volume, device = conditions.volume, conditions.device
    peaks_before = measure_peaks(device)
    plain, described = conditions.embedders()
    box, shard = first_tiles(volume, 2), first_shard(volume)
    paper = han2022.Encoder().to(device).eval()
    patches = random_patches(volume, plain.intensity, 512, paper.half_size).to(device)

    def theirs() -> int:
        with torch.inference_mode():
            return sum(paper(part[:, None])[0].shape[0] for part in torch.split(patches, 64))

    jobs = [dense_job(plain, volume, box), dense_job(described, volume, shard), theirs]
    rate, described_rate, paper_rate = rates(jobs, conditions.seconds, device)
    peaks = peaks_before.best(measure_peaks(device))
    reached = peaks.of(conditions.arithmetic)
    encoder = plain.model.encoder
    assert isinstance(encoder, Encoder)
    tile = first_tiles(volume)
    return {
        **bounded(rate, box_cost(plain, box), reached),
        **beside_promised(rate, box_cost(plain, box), device),
        "described_voxels_per_second": described_rate,
        "described": bounded(described_rate, box_cost(described, shard), reached),
        "paper_voxels_per_second": paper_rate,
        "ratio": rate / paper_rate,
        "words": Settings().words,
        "smoothing": described.smoothing,
        "diffusion": Settings().diffusion_steps,
        "device": device.type,
        "precision": conditions.arithmetic,
        "layers": [roofline(layer, tile.voxels, peaks, conditions) for layer in dense_layers(encoder, tile.shape)],
        "peaks": peaks.to_json(),
    }


@torch.inference_mode()
def roofline(layer: Layer, voxels: int, peaks: Peaks, conditions: Conditions) -> dict[str, Any]:
    """Time one convolution on its own, and say where it lies under the roofline.

    Parameters
    ----------
    layer
        With its box.
    voxels
        That the box gives in the end: what costs are counted by.
    peaks
        Of the device.
    conditions
        Where to compute, and in which precision.
    """
    device, kind = conditions.device, getattr(torch, conditions.arithmetic)
    tensors = (torch.rand(1, layer.weight[1], *layer.inputs), torch.rand(layer.weight))
    values, weight = (t.to(device, kind, memory_format=torch.channels_last_3d) for t in tensors)
    bias = torch.rand(layer.weight[0], device=device, dtype=kind)
    seconds = best_time(lambda: F.conv3d(values, weight, bias), device)
    cost = layer.cost.narrowed(conditions.arithmetic)
    least = cost.seconds(peaks.of(conditions.arithmetic))
    bound = max(least, key=least.__getitem__)
    return {
        "layer": layer.name,
        "flops_per_voxel": cost.flops / voxels,
        "bytes_per_voxel": cost.traffic / voxels,
        "flops_per_byte": cost.flops / cost.traffic,
        "bound": bound,
        "bound_gflop_per_second": cost.flops / least[bound] / 1e9,
        "gflop_per_second": cost.flops / seconds / 1e9,
        "share_of_bound": least[bound] / seconds,
    }


def bench_patches(conditions: Conditions) -> dict[str, Any]:
    """Embed voxels patch by patch as `run` does, interpolation and standardisation included."""
    settings, device, volume = conditions.settings, conditions.device, conditions.volume
    if settings.shared:
        raise SettingsError("bench patches", f"preset {settings.preset} has a dense view", "use bench embed")
    peaks_before = measure_peaks(device)
    model = Model(build(settings, seed=0).to(device).eval(), settings)
    embedder = Embedder(model, model.measure(volume))
    box = units(volume.shape, (16, 16, 16) if device.type == "cpu" else (64, 64, 64))[0]
    job = dense_job(embedder, volume, box)
    (rate,) = rates([job], conditions.seconds, device)
    peaks = peaks_before.best(measure_peaks(device))
    few = units(volume.shape, (1, 1, 8))[0]
    cost = counted(dense_job(embedder, volume, few)).per(few.voxels)
    return {
        **bounded(rate, cost, peaks),
        "preset": settings.preset,
        "device": device.type,
        "paper_voxels_per_second_on_gpu": PAPER_VOXELS,
        "peaks": peaks.to_json(),
    }
