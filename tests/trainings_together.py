"""One of several processes that train together, as torchrun starts them: ``trainings_together.py OUT``.

Each process writes what its trainings came to into ``OUT/RANK.json``, weights as hashes or lists of numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vemosaic.training
from numeric_core import PLAIN, blobs, volume_of
from vemosaic.blocks.events import Event, Listener, StageStarted, UnitDone
from vemosaic.distributed import ALONE, Ranks, join
from vemosaic.errors import VemosaicError
from vemosaic.hierarchy import HierarchicalSampling
from vemosaic.models.settings import Architecture, ModelSettings, Optimiser
from vemosaic.patches import Batch, PatchSampler, Sampling
from vemosaic.presets import preset
from vemosaic.training import train

STEPS = 20
SMALL = ModelSettings(
    architecture=Architecture(channels=(4, 4, 6, 8), latent=8, semantic=4),
    sampling=Sampling(positives=2),
    optimiser=Optimiser(batch=7, warm_up=3, clip=100.0),  # an odd batch: processes have unequal parts
)
HIERARCHY = preset("cihs").model.model_copy(
    update={
        "sampling": HierarchicalSampling(parent=(3.0, 5.0), child=(1.5, 2.5)),
        "optimiser": Optimiser(batch=5, learning_rate=1e-3, warm_up=0, schedule="constant"),
    }
)
VOLUMES = [volume_of(blobs((30, 40, 40))), volume_of(blobs((24, 28, 60), seed=1))]


def training(settings: ModelSettings, steps: int, ranks: Ranks = ALONE, **more: Any) -> dict[str, Any]:
    """Loss curve and weights of a training on two volumes."""
    budget = steps * settings.optimiser.batch
    model, losses = train(VOLUMES, [PLAIN, PLAIN], settings, anchors=budget, ranks=ranks, **more)
    weights = torch.cat([p.detach().flatten() for p in model.vae.parameters()]).double().numpy()
    return {
        "losses": [line.model_dump(exclude_none=True) for line in losses],
        "norms": [float(np.abs(part).sum()) for part in np.array_split(weights, 50)],
        "hash": hashlib.sha256(weights.tobytes()).hexdigest(),
    }


def in_double(settings: ModelSettings, steps: int, ranks: Ranks = ALONE) -> dict[str, Any]:
    """The same in float64, where the order of sums is all but lost."""
    build, draw = vemosaic.training.build, PatchSampler.batch

    def drawn(self: PatchSampler, step: int, anchors: int) -> Batch:
        batch = draw(self, step, anchors)
        return replace(batch, patches=batch.patches.double())

    vemosaic.training.build = lambda settings, seed: build(settings, seed).double()
    PatchSampler.batch = drawn  # type: ignore[method-assign]
    try:
        return training(settings, steps, ranks)
    finally:
        vemosaic.training.build, PatchSampler.batch = build, draw  # type: ignore[method-assign]


def terminated(after: int, ranks: Ranks) -> Listener:
    """Let the last process get a SIGTERM in a step."""
    seen = 0

    def listen(event: Event) -> None:
        nonlocal seen
        seen += isinstance(event, UnitDone)
        if seen == after and isinstance(event, UnitDone) and ranks.rank == ranks.count - 1:
            signal.raise_signal(signal.SIGTERM)

    return listen


def stopped_and_resumed(checkpoint: Path, ranks: Ranks) -> dict[str, Any]:
    """One process gets a SIGTERM in step 4 of 8; all stop there, and go on."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    code = None
    try:
        training(SMALL, 8, ranks, checkpoint=checkpoint, listen=terminated(4, ranks))
    except SystemExit as ended:
        code = ended.code
    ranks.any(False)  # all have stopped
    begun: list[Event] = []
    resumed = training(SMALL, 8, ranks, checkpoint=checkpoint, listen=begun.append)
    assert isinstance(begun[0], StageStarted)
    return {"code": code, "done": begun[0].done, "resumed": resumed, "undisturbed": training(SMALL, 8, ranks)}


def message(act: Callable[[], object]) -> str:
    """What the user is told when something goes wrong."""
    try:
        act()
    except VemosaicError as error:
        return str(error)
    return ""


def abandoned(ranks: Ranks) -> None:
    """Wait for the others, of which one is no more."""
    if ranks.rank == ranks.count - 1:
        os._exit(0)
    with ranks:
        ranks.any(False)


def main(out: Path) -> None:
    """Carry out all trainings in turn."""
    ranks = join("cpu")
    found = {
        "count": ranks.count,
        "small": training(SMALL, STEPS, ranks),
        "double": in_double(SMALL, STEPS, ranks),
        "hierarchy": training(HIERARCHY, 3, ranks),
        "stopped": stopped_and_resumed(out / "checkpoint.safetensors", ranks),
        "different": message(lambda: training(SMALL, 1, ranks, seed=ranks.rank)),
    }
    (out / f"{ranks.rank}.json").write_text(json.dumps(found))
    ranks.any(False)  # all have written
    lost = message(lambda: abandoned(ranks))
    (out / "lost").write_text(lost)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    os._exit(0)  # as the command line ends after an error: gloo's threads do not bear an interpreter that is going
