"""What a reproduction will take, in time and disk, from a few seconds' measurement of each method on this machine."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from vemosaic.blocks.events import Event, UnitDone
from vemosaic.blocks.grid import Unit, units
from vemosaic.clustering import Words
from vemosaic.datasets.phantom import phantom_cell
from vemosaic.embedding import Embedder
from vemosaic.embedding_sample import CELL, CELLS, SAMPLE_BY_PATCH
from vemosaic.fitting import diffusion_of
from vemosaic.models.model import Model, build, measure
from vemosaic.settings import Settings
from vemosaic.training import train
from vemosaic.volumes import open_volume
from vemosaic.volumes.array_writing import SHARD
from vemosaic.volumes.volume import Shape, Volume

CLUSTERING = {"kmeans": 0.5, "hyperbolic": 2.0}
"""Seconds that a clustering of a sample takes for each k on one core of a common machine."""

CONSENSUS = 8.0
"""Seconds that a consensus takes for each vocabulary, whatever k, with the words that are found for it."""

REPORTING = 20.0
"""Seconds for a report, of which most are its t-SNE."""

SCORING = 2e7
"""Voxels a second that are counted, for each k; once for the report and once for the table."""

PYRAMID = 8 / 7
"""All levels of a map over its first."""

CELL_FILES = 9
"""Images of a cell, a byte a voxel."""


@dataclass(frozen=True)
class Work:
    """What is left of one job.

    Attributes
    ----------
    method
        Whose.
    settings
        Of the training and the map.
    anchors
        Left to train on, in all; 0 where that is done.
    shape
        Voxels of the cell that is left to map; None where that is done.
    """

    method: str
    settings: Settings
    anchors: int
    shape: Shape | None


@dataclass(frozen=True)
class Rates:
    """How fast a method is here.

    Attributes
    ----------
    anchors
        Trained on in a second.
    voxels
        Embedded in a second.
    parameters
        Of its networks.
    """

    anchors: float
    voxels: float
    parameters: int


@dataclass(frozen=True)
class Share:
    """What one method takes: times in seconds, disk in bytes."""

    method: str
    rates: Rates
    trainings: int
    training: float
    maps: int
    mapping: float
    disk: int


@dataclass(frozen=True)
class Estimate:
    """What is left of a reproduction; times in seconds, disk in bytes.

    Attributes
    ----------
    shares
        Of each method that has something left.
    cells
        Disk for cells that are drawn or cropped.
    free
        Disk that there is.
    """

    shares: tuple[Share, ...]
    cells: int
    free: int

    @property
    def seconds(self) -> float:
        """All of it."""
        return sum(share.training + share.mapping for share in self.shares)

    @property
    def disk(self) -> int:
        """At most, all of it: labels shrink to a fraction when they are compressed."""
        return self.cells + sum(share.disk for share in self.shares)

    def lines(self) -> list[str]:
        """Say it in a few lines."""
        if not self.shares:
            return ["nothing is left to train or to map"]
        told = [
            f"{s.method}: {s.trainings} training{_s(s.trainings)} at {s.rates.anchors:,.3g} anchors/s, "
            f"{duration(s.training)}; {s.maps} map{_s(s.maps)} at {s.rates.voxels:,.3g} embedded voxels/s, "
            f"{duration(s.mapping)}; at most {_bytes(s.disk)}"
            for s in self.shares
        ]
        return [
            *told,
            f"in all about {duration(self.seconds)}, and at most {_bytes(self.disk)} of disk "
            f"({_bytes(self.free)} are free)",
        ]


def estimate(
    work: Sequence[Work],
    made: Sequence[Shape],
    out: Path,
    device: torch.device,
    seconds: float,
) -> Estimate:
    """Measure each method that has work left, and add up.

    Parameters
    ----------
    work
        What is left.
    made
        Voxels of the cells that are still to be drawn or cropped.
    out
        Where the results will lie.
    device
        Where it is computed.
    seconds
        How long to measure each method for, training and embedding together.
    """
    left = [job for job in work if job.anchors or job.shape]
    image = open_volume(phantom_cell((64, 96, 96)).raw, voxel_size=16.0) if left else None
    shares = []
    for method in dict.fromkeys(job.method for job in left):
        jobs = [job for job in left if job.method == method]
        assert image is not None
        shares.append(_share(method, jobs, measure_rates(jobs[0].settings, image, device, seconds)))
    cells = CELL_FILES * sum(math.prod(shape) for shape in made)
    existing = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    return Estimate(tuple(shares), cells, shutil.disk_usage(existing).free)


def _share(method: str, jobs: Sequence[Work], rates: Rates) -> Share:
    trained, mapped = [job for job in jobs if job.anchors], [job for job in jobs if job.shape]
    mapping, disk = 0.0, 5 * 4 * rates.parameters * len(trained)  # with its checkpoint: weights and three moments
    for job in mapped:
        assert job.shape is not None
        ks, voxels = len(job.settings.clusters), math.prod(job.shape)
        mapping += embedded_voxels(job.settings, job.shape) / rates.voxels + REPORTING
        each = CLUSTERING.get(job.settings.clusterer, CLUSTERING["kmeans"])
        mapping += job.settings.trials * CONSENSUS if job.settings.clusterer == "consensus" else ks * each
        mapping += ks * 2 * voxels / SCORING
        disk += int(ks * voxels * PYRAMID) + 4 * rates.parameters
    training = sum(job.anchors for job in trained) / rates.anchors
    return Share(method, rates, len(trained), training, len(mapped), mapping, disk)


def embedded_voxels(settings: Settings, shape: Shape) -> int:
    """How many voxels are embedded for a map, with what lies around each shard, and the sample that is clustered."""
    if not settings.model.shared:
        voxels = math.prod(shape)
        return min(voxels, SAMPLE_BY_PATCH) + math.prod(math.ceil(n / settings.stride) for n in shape)
    cells = min(CELLS, math.prod(math.ceil(n / CELL) for n in shape))
    around = 2 * settings.reach
    shards = sum(math.prod(n + around for n in shard.shape) for shard in units(shape, SHARD))
    return shards + cells * (CELL + around) ** 3


def measure_rates(settings: Settings, image: Volume, device: torch.device, seconds: float) -> Rates:
    """Train and embed for a few seconds each, after a first step that does not count."""
    model = Model(build(settings.model, 0).to(device).eval(), settings.model)
    parameters = sum(p.numel() for p in model.vae.parameters())
    return Rates(
        _training_rate(settings, image, device, seconds / 2),
        _embedding_rate(settings, model, image, device, seconds / 2),
        parameters,
    )


def _training_rate(settings: Settings, image: Volume, device: torch.device, seconds: float) -> float:
    class Enough(Exception):
        """The time is up."""

    model = settings.model
    if device.type == "cpu":  # there, the rate hardly depends on the batch, and a small one is soon measured
        small = model.optimiser.model_copy(update={"batch": min(model.optimiser.batch, 32)})
        model = model.model_copy(update={"optimiser": small})
    marks: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, UnitDone):
            marks.append(time.perf_counter())
            if len(marks) > 1 and marks[-1] - marks[0] > seconds:
                raise Enough

    batch = model.optimiser.batch
    with suppress(Enough):
        train([image], [measure(model, image)], model, anchors=400 * batch, device=device, listen=listen)
    return batch * (len(marks) - 1) / (marks[-1] - marks[0])


def _embedding_rate(settings: Settings, model: Model, image: Volume, device: torch.device, seconds: float) -> float:
    rng = np.random.default_rng(0)
    embedder = Embedder(model, measure(settings.model, image), _any_words(settings, rng), settings.smoothing)
    embedder = replace(embedder, diffusion=diffusion_of(embedder, image, settings))
    halo, reach = embedder.halo, embedder.reach
    voxels = image.read([-h for h in halo], [n + 2 * h for n, h in zip(image.shape, halo, strict=True)])
    places = np.stack([rng.integers(h, h + n, 256) for n, h in zip(image.shape, halo, strict=True)], 1)

    def embed() -> int:
        if settings.model.shared:  # and described, which takes the surroundings
            for _ in embedder.tiles(Unit((0, 0, 0), (0, 0, 0), image.shape), voxels):
                pass
            return math.prod(n + 2 * r for n, r in zip(image.shape, reach, strict=True))
        return len(embedder.voxels(voxels, places))

    embed()
    start, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds or not done:
        done += embed()
    return done / spent


def _any_words(settings: Settings, rng: np.random.Generator) -> Words | None:
    """Words where they cost what found ones do."""
    if not settings.words:
        return None
    semantic = settings.model.architecture.semantic
    widths = (
        semantic,
        min(settings.dimensions, settings.words),
        semantic if settings.detail_with(settings.model) else 0,
    )
    return Words(*(rng.normal(size=(settings.words, width)).astype(np.float32) for width in widths))


def duration(seconds: float) -> str:
    """Write a time in the unit that suits it."""
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size or (unit == "h" and seconds >= 5_400):
            return f"{seconds / size:.2g} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _bytes(amount: int) -> str:
    for size, unit in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB")):
        if amount >= size:
            return f"{amount / size:.3g} {unit}"
    return f"{amount / 1e3:.3g} kB"


def _s(count: int) -> str:
    return "" if count == 1 else "s"
