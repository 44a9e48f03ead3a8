"""Benchmarks that any user can run: how fast this machine embeds and trains, beside the paper's encoder."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

import vemosaic
from vemosaic.blocks.grid import units
from vemosaic.clustering import Words
from vemosaic.datasets.phantom import phantom_cell
from vemosaic.embedding import TILE, Embedder
from vemosaic.errors import SettingsError
from vemosaic.models import han2022
from vemosaic.models.default import Encoder
from vemosaic.models.model import Model, build
from vemosaic.models.model import measure as normaliser
from vemosaic.models.settings import ModelSettings
from vemosaic.settings import Settings, choose_device
from vemosaic.training import train
from vemosaic.volumes import at_voxel_size, open_volume
from vemosaic.volumes.intensity import Intensity, measure_intensity
from vemosaic.volumes.volume import Volume

PAPER_ANCHORS = 69.4
PAPER_VOXELS = 5_800.0  # both on an RTX 2080 Ti (Han et al. 2022, section 4.6)


def measure(
    what: str,
    source: str | None,
    voxel_size: tuple[float, ...] | None,
    working: float | None,
    seconds: float,
    model: ModelSettings | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Run one benchmark and return its figures.

    Parameters
    ----------
    what
        ``"embed"``: the dense view, beside the paper's encoder patch by patch. ``"train"``: anchors a second.
        ``"patches"``: voxels a second of a preset that works patch by patch. ``"views"``: the largest difference
        between patch view and dense view.
    source
        A volume; a phantom cell where None.
    voxel_size
        In nm, if the file lacks it.
    working
        Voxel size in nm to work at; None for the volume's own.
    seconds
        Least time to measure for.
    model
        A preset, for ``"train"`` and ``"patches"``; the `default` preset where None.
    device
        Where to compute, for the same two.

    Raises
    ------
    SettingsError
        If there is no such benchmark, or it is not one for that preset.
    """
    if what not in BENCHMARKS:
        raise SettingsError("bench", f"there is no benchmark {what!r}", f"choose one of {', '.join(BENCHMARKS)}")
    opened = (
        open_volume(phantom_cell().raw, voxel_size=16.0)
        if source is None
        else open_volume(source, voxel_size=voxel_size)
    )
    volume = at_voxel_size(opened, working)
    return {
        "benchmark": what,
        "volume": source or "phantom",
        "shape": list(volume.shape),
        **BENCHMARKS[what](volume, seconds, model or ModelSettings(), choose_device(device)),
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "vemosaic": vemosaic.__version__,
    }


def bench_embed(volume: Volume, seconds: float, *_: object) -> dict[str, Any]:
    """Embed two tiles, describe the same by words and smooth them as `run` does, and embed patches as the paper does.

    The three take turns, so that noise meets all alike.
    """
    intensity = measure_intensity(volume)
    plain = Embedder(_untrained(), intensity)
    described = Embedder(plain.model, intensity, _random_words(), Settings().smoothing)
    box = units(volume.shape, (TILE, TILE, 2 * TILE))[0]
    paper = han2022.Encoder().eval()
    patches = _patches(volume, intensity, 512, paper.half_size)

    def dense(embedder: Embedder) -> Callable[[], int]:
        voxels = embedder.read(volume, box)
        return lambda: sum(embedding[..., 0].numel() for _, embedding in embedder.tiles(box, voxels))

    def theirs() -> int:
        with torch.inference_mode():
            return sum(paper(part[:, None])[0].shape[0] for part in torch.split(patches, 64))

    rates = _rates([dense(plain), dense(described), theirs], seconds)
    return {
        "voxels_per_second": rates[0],
        "described_voxels_per_second": rates[1],
        "paper_voxels_per_second": rates[2],
        "ratio": rates[0] / rates[2],
        "words": Settings().words,
        "smoothing": described.smoothing,
    }


def bench_train(volume: Volume, seconds: float, settings: ModelSettings, device: torch.device) -> dict[str, Any]:
    """Train as `run` does; the first batches, in which kernels are chosen, do not count."""
    intensity = normaliser(settings, volume)
    batch = settings.optimiser.batch
    marks: list[float] = []
    anchors = batch * 400

    class Enough(Exception):
        """The time is up."""

    def listen(event: object) -> None:
        marks.append(time.perf_counter())
        if len(marks) > 5 and marks[-1] - marks[4] > seconds:
            raise Enough

    with suppress(Enough):
        train([volume], [intensity], settings, anchors=anchors, device=device, listen=listen)
    rate = batch * (len(marks) - 5) / (marks[-1] - marks[4])
    return {
        "anchors_per_second": rate,
        "preset": settings.preset,
        "device": device.type,
        "batch": batch,
        "paper_anchors_per_second_on_gpu": PAPER_ANCHORS,
    }


def bench_patches(volume: Volume, seconds: float, settings: ModelSettings, device: torch.device) -> dict[str, Any]:
    """Embed voxels patch by patch as `run` does, interpolation and standardisation included."""
    if settings.shared:
        raise SettingsError("bench patches", f"preset {settings.preset} has a dense view", "use bench embed")
    model = Model(build(settings, seed=0).to(device).eval(), settings)
    embedder = Embedder(model, model.measure(volume))
    box = units(volume.shape, (16, 16, 16) if device.type == "cpu" else (64, 64, 64))[0]
    voxels = embedder.read(volume, box)

    def embed() -> int:
        return sum(int(embedding[..., 0].cpu().numel()) for _, embedding in embedder.tiles(box, voxels))

    (rate,) = _rates([embed], seconds)
    return {
        "voxels_per_second": rate,
        "preset": settings.preset,
        "device": device.type,
        "paper_voxels_per_second_on_gpu": PAPER_VOXELS,
    }


def bench_views(volume: Volume, seconds: float, *_: object) -> dict[str, Any]:
    """Compare patch view and dense view at random voxels, at least 2,000 of them."""
    intensity = measure_intensity(volume)
    return {"voxels": 2_000, "largest_difference": view_difference(_untrained(), volume, intensity, 2_000)}


BENCHMARKS: dict[str, Callable[[Volume, float, ModelSettings, torch.device], dict[str, Any]]] = {
    "embed": bench_embed,
    "train": bench_train,
    "patches": bench_patches,
    "views": bench_views,
}


def view_difference(model: Model, volume: Volume, intensity: Intensity, count: int, seed: int = 0) -> float:
    """Largest difference between the semantic means of both views at random voxels.

    The patch view interpolates each voxel's own 16 x 16 x 16 grid and knows nothing of the dense one.
    """
    encoder = model.encoder
    assert isinstance(encoder, Encoder)
    rng = np.random.default_rng(seed)
    voxels = np.stack([rng.integers(0, n, count) for n in volume.shape], 1)
    largest = 0.0
    for part in np.array_split(voxels, max(1, count // 250)):
        boxes = _boxes_around(volume, intensity, part, encoder.halo)
        with torch.inference_mode():
            means = encoder(_patches_within(boxes, encoder.half_size)[:, None])[0][:, : encoder.semantic]
            dense = encoder.dense(boxes[:, None])[..., 0, 0, 0]
        largest = max(largest, float((means - dense).abs().max()))
    return largest


def _boxes_around(volume: Volume, intensity: Intensity, voxels: np.ndarray, reach: int) -> torch.Tensor:
    """Normalised boxes of 2 reach + 1 voxels an edge around voxels ``(N, 3)``, mirrored at the border."""
    boxes = np.stack([volume.read([int(i) - reach for i in v], (2 * reach + 1,) * 3) for v in voxels])
    return torch.from_numpy(intensity.normalise(boxes))


def _patches_within(boxes: torch.Tensor, half_size: float) -> torch.Tensor:
    """Patches ``(N, 16, 16, 16)`` on axis-aligned grids in the middle of boxes."""
    reach = boxes.shape[-1] // 2
    line = torch.linspace(-half_size / reach, half_size / reach, 16)
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    grid = torch.stack((x, y, z), -1).expand(len(boxes), -1, -1, -1, -1)
    return F.grid_sample(boxes[:, None], grid, align_corners=True)[:, 0]


def _patches(volume: Volume, intensity: Intensity, count: int, half_size: float) -> torch.Tensor:
    rng = np.random.default_rng(0)
    voxels = np.stack([rng.integers(0, n, count) for n in volume.shape], 1)
    return _patches_within(_boxes_around(volume, intensity, voxels, int(np.ceil(half_size))), half_size)


def _untrained() -> Model:
    settings = ModelSettings()
    return Model(build(settings, seed=0).eval(), settings)


def _random_words() -> Words:
    """Words where they cost what found ones do."""
    settings = Settings()
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(settings.words, settings.model.architecture.semantic))
    codes = rng.normal(size=(settings.words, settings.dimensions))
    return Words(centres.astype(np.float32), codes.astype(np.float32))


def _rates(jobs: list[Callable[[], int]], seconds: float) -> list[float]:
    """Rate of each job, after one call of each to warm up; they take turns, so that noise meets all alike."""
    for job in jobs:
        job()
    amounts, times = [0] * len(jobs), [0.0] * len(jobs)
    while min(times) < seconds / len(jobs):
        for number, job in enumerate(jobs):
            start = time.perf_counter()
            amounts[number] += job()
            times[number] += time.perf_counter() - start
    return [amount / spent for amount, spent in zip(amounts, times, strict=True)]
