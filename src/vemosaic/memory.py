"""How much memory a run needs: projected before it starts, kept to, or refused with the smallest size that would do.

What a process holds is counted from what it is made of: the tile that is computed, the shards that are read ahead and
written behind, the pool that training draws from, the sample that is clustered. None of it grows with the volume beyond
a shard, so that a teravoxel needs what a cell needs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from vemosaic.blocks.executors import Executor, InProcess, Processes
from vemosaic.embedding import TILE
from vemosaic.embedding_sample import CELL, CELLS, SAMPLE
from vemosaic.errors import SettingsError
from vemosaic.models.settings import Architecture
from vemosaic.patches import POOL_BYTES
from vemosaic.settings import Settings
from vemosaic.volumes.array_writing import SHARD
from vemosaic.volumes.padding import MARGIN
from vemosaic.volumes.stores import CACHE_BYTES

FLOAT = 4
PREFIXES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}

LIBRARIES = 900_000_000
"""The interpreter and all that it has loaded by the end: torch, tensorstore, scikit-learn, matplotlib."""

CONVOLUTIONS = 1.7
"""What a tile's convolutions hold at most, over the activations of the widest two of them that follow one another."""

TRAINING = 500_000_000
"""Patches, activations, gradients and moments of a batch."""

PATCHES = 1_000_000_000
"""A batch of patches, where each voxel is encoded by its own."""

REPORT = 400_000_000
"""The projection of the sample, and the pictures."""

TOLD_APART = 3
"""Bytes a voxel, beside its value, while image and padding are told apart."""

AHEAD = (InProcess(1, 1), InProcess(0, 0))
"""How far shards are read ahead and written behind: what is tried, the fastest first. No choice changes a voxel."""


@dataclass(frozen=True)
class Projection:
    """What a run will hold at most.

    Attributes
    ----------
    stages
        Resident memory at the peak of each stage, bytes.
    executor
        What carries it out, no further ahead and behind than the budget allows.
    """

    stages: dict[str, int]
    executor: Executor

    @property
    def peak(self) -> int:
        """The most of all stages, bytes."""
        return max(self.stages.values())

    @property
    def largest(self) -> str:
        """The stage that holds the most."""
        return max(self.stages, key=lambda stage: self.stages[stage])

    def __str__(self) -> str:
        return f"memory: up to {readable_size(self.peak)}, in stage {self.largest}"


def project(
    settings: Settings,
    shape: Sequence[int],
    executor: Executor = AHEAD[0],
    workers: int | None = None,
    padded: bool = False,
) -> Projection:
    """Project the memory of a run on the CPU; a GPU's own memory is not counted.

    Parameters
    ----------
    settings
        Of the run.
    shape
        Voxels of the largest volume on the working lattice, along z, y, x.
    executor
        As in `Projection`.
    workers
        Worker processes, whose memory is added up; None where this process does all by itself.
    padded
        Whether patches see the image mirrored in padding, for which more is read around each shard.
    """
    reach = settings.reach
    semantic = settings.model.architecture.semantic
    details = semantic if settings.detail_with(settings.model) else 0
    described = settings.dimensions + details if settings.words else semantic
    tile = math.prod(min(TILE, n) + 2 * reach for n in shape)
    if isinstance(settings.model.architecture, Architecture):
        channels = settings.model.architecture.channels
        widest = max(a + b for a, b in zip(channels[1:], channels, strict=False))
        embedding = round(tile * FLOAT * widest * CONVOLUTIONS)
    else:
        embedding = PATCHES
    halo = reach + 8
    voxels = math.prod(min(s, n) for s, n in zip(SHARD, shape, strict=True))
    read = math.prod(min(s, n) + 2 * halo for s, n in zip(SHARD, shape, strict=True)) * FLOAT
    around = math.prod(min(s, n) + 2 * (halo + MARGIN) for s, n in zip(SHARD, shape, strict=True))
    base = LIBRARIES + CACHE_BYTES + padded * around * (FLOAT + TOLD_APART)
    ahead = executor if isinstance(executor, InProcess) else AHEAD[0]
    reading, writing = 2 + ahead.read_ahead, 1 + ahead.write_behind
    cells = CELLS * FLOAT * ((CELL + 2 * reach) ** 3 * semantic + (CELL + 2 * (settings.diffusion_steps + 1)) ** 3)
    if (
        settings.diffusion_steps and settings.clusterer == "consensus"
    ):  # contacts: descriptions of the cells, pairs along three axes, and what is counted
        cells += CELLS * CELL**3 * (2 * FLOAT * described + 3 * (3 * FLOAT + 4 * 8))
    sample = SAMPLE * (settings.words * (FLOAT + 2 * 8) + (semantic + 3 * described) * 8)
    sample += SAMPLE * settings.trials * (FLOAT * described + len(settings.clusters))
    streamed = voxels * described * FLOAT * 2 if settings.fit == "stream" else 0
    pool = min(POOL_BYTES, 2 * FLOAT * math.prod(n + 2 * halo for n in shape)) * 9 // 8  # and what is read ahead
    mapping = base + embedding + reading * read + writing * voxels * len(settings.clusters)
    stages = {
        "train": base + pool + TRAINING,
        "fit": base + max(embedding, cells + sample, embedding + streamed + reading * read),
        "map": mapping if workers is None else LIBRARIES + workers * mapping,
        "report": base + REPORT,
    }
    return Projection(stages, executor)


def fit_budget(
    settings: Settings, shape: Sequence[int], budget: int | None, executor: Executor, padded: bool = False
) -> Projection:
    """Choose how far shards are read ahead and written behind so that a run keeps to a budget.

    Parameters
    ----------
    settings, shape, padded
        As in `project`.
    budget
        Bytes; None for any.
    executor
        The one that was asked for. Of a cluster only this process is counted.

    Raises
    ------
    SettingsError
        If it is too small, with the smallest that would do.
    """
    workers = executor.workers if isinstance(executor, Processes) else None
    ahead = AHEAD if isinstance(executor, InProcess) else (executor,)
    tried = [project(settings, shape, chosen, workers, padded) for chosen in ahead]
    for projection in tried:
        if budget is None or projection.peak <= budget:
            return projection
    least = tried[-1]
    raise SettingsError(
        "--memory",
        f"{readable_size(budget or 0)} are too little: stage {least.largest} needs {readable_size(least.peak)}",
        f"give {_rounded_up(least.peak)} or more" + ("" if workers is None else ", or fewer --workers"),
    )


def parse_size(text: str) -> int:
    """Read ``4GB``, ``1.5 GiB`` or ``800M`` as bytes.

    Raises
    ------
    SettingsError
        If it is something else.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([kmgt]?i?)b?\s*", text, flags=re.I)
    if found is None or found[2].upper() not in PREFIXES or float(found[1]) == 0:
        raise SettingsError("--memory", f"{text!r} is no size", "write 4GB, or 800MB")
    return int(float(found[1]) * PREFIXES[found[2].upper()])


def readable_size(size: int) -> str:
    """Write bytes in GB or MB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _rounded_up(size: int) -> str:
    return f"{math.ceil(size / 1e8) / 10:.1f}GB"
