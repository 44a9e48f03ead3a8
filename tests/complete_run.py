"""A complete run of a few kilobytes, made without training, for what only moves and checks files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vemosaic.blocks.files import stamp
from vemosaic.run_folder import RunFolder
from vemosaic.volumes.embedding_store import EmbeddingStore
from vemosaic.volumes.labels import LabelStore

SHAPE = (40, 20, 20)
SHARD = (16, 16, 32)
K = 3
COLOURS = [(10, 20, 30), (40, 50, 60), (70, 80, 90)]


def labels(shift: int = 0) -> npt.NDArray[np.uint8]:
    """The map; `shift` changes its first planes only."""
    z, y, x = np.ogrid[tuple(map(slice, SHAPE))]
    drawn = (z // 9 + y // 7 + x // 5) % K + 1
    drawn[:16] = (drawn[:16] + shift) % K + 1
    return drawn.astype(np.uint8)


def write_map(folder: Path, shift: int = 0, shape: tuple[int, int, int] = SHAPE) -> None:
    """Write the label store: six shards of 40 planes in three."""
    z, y, x = (slice(0, n) for n in shape)
    path = folder / "segmentation.ome.zarr"
    store = LabelStore.create(path, ks=[K], shape=shape, voxel_size=(16, 16, 15), translation=(8, 0, 0), shard=SHARD)
    files = store.write(K, 0, (0, 0, 0), labels(shift)[z, y, x])
    store.finish({file: stamp(file) for file in files}, default_k=K, colours={K: COLOURS})


def write_embedding(folder: Path) -> None:
    """Write the embedding: one shard."""
    path = folder / "embedding.ome.zarr"
    store = EmbeddingStore.create(path, channels=2, shape=SHAPE, shard=(64, 32, 32))
    files = store.write((0, 0, 0), np.zeros((2, *SHAPE), np.float16))
    store.finish({file: stamp(file) for file in files}, voxel_size=(16, 16, 15), translation=(8, 0, 0))


def write_run(folder: Path, created: str = "2026-01-01T00:00:00+00:00", **record: Any) -> Path:
    """Write a complete run with a map, a report, scores, and what is not for others."""
    run = RunFolder(folder)
    about = {"vemosaic": "0", "created": created, "inputs": [{"identity": "f00d"}], "complete": True}
    run.save(**about | record)
    write_map(folder)
    run.report.write_text("<html>a report</html>")
    run.scores.write_text(json.dumps([{"k": K, "mean_dice": 0.5}]))
    run.model.write_bytes(bytes(1000))
    for private in (".progress/map.jsonl", "explorer/grey.json", "exports/k3.tif", "notes.txt"):
        (folder / private).parent.mkdir(exist_ok=True)
        (folder / private).write_text("not for others")
    return folder
