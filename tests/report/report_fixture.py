"""A run folder as `vemosaic run` writes it, made of a synthetic cell and smoothed noise for an embedding."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from sklearn.cluster import KMeans

from vemosaic.blocks.files import stamp
from vemosaic.colours import palette
from vemosaic.evaluation.scores import confusion, score
from vemosaic.volumes.labels import LabelStore
from vemosaic.volumes.volume import Volume

SHAPE = (60, 90, 100)
VOXEL_SIZE = (16.0, 16.0, 16.0)
NAMES = ("unrecognised", "mitochondria", "nucleus")


@dataclass(frozen=True)
class InMemoryReference:
    class_names: tuple[str, ...]
    classes: npt.NDArray[np.uint8]

    def read(self, origin: Any, shape: Any) -> npt.NDArray[np.uint8]:
        return self.classes[tuple(slice(o, o + n) for o, n in zip(origin, shape, strict=True))]


@dataclass(frozen=True)
class MadeRun:
    folder: Path
    volume: Volume
    reference: InMemoryReference
    labels: dict[int, npt.NDArray[np.uint8]]


@cache
def make_cell(seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """A nucleus, striped mitochondria and noise, with their classes."""
    rng = np.random.default_rng(seed)
    z, y, x = np.indices(SHAPE)
    classes = np.zeros(SHAPE, np.uint8)
    image = 140 + 12 * ndimage.gaussian_filter(rng.normal(size=SHAPE), 2) / 0.06
    for cz, cy, cx in [(20, 20, 70), (30, 45, 80), (40, 70, 75), (25, 75, 30), (45, 15, 20)]:
        inside = ((z - cz) / 12) ** 2 + ((y - cy) / 9) ** 2 + ((x - cx) / 17) ** 2 < 1
        classes[inside] = 1
        image[inside] = (105 + 30 * np.sin(x / 1.1))[inside]
    nucleus = ((z - 30) / 26) ** 2 + ((y - 42) / 24) ** 2 + ((x - 32) / 24) ** 2 < 1
    classes[nucleus] = 2
    image[nucleus] = (95 + 25 * ndimage.gaussian_filter(rng.normal(size=SHAPE), 3) / 0.03)[nucleus]
    image += rng.normal(scale=9, size=SHAPE)
    cell = np.clip(image, 0, 255).astype(np.uint8), classes
    for array in cell:
        array.flags.writeable = False  # many runs are of the same cell
    return cell


@cache
def make_embedding(seed: int) -> npt.NDArray[np.float32]:
    """Eight texture measures of each voxel of a cell, (Z, Y, X, 8)."""
    v = make_cell(seed)[0].astype(np.float32)
    features = []
    for sigma in (1.5, 3.0):
        mean = ndimage.gaussian_filter(v, sigma)
        spread = np.sqrt(np.maximum(ndimage.gaussian_filter(v**2, sigma) - mean**2, 0))
        slopes = [ndimage.gaussian_filter(np.abs(ndimage.sobel(v, axis)), sigma) for axis in (1, 2)]
        features += [mean, spread, *slopes]
    stacked = np.stack(features, axis=-1)
    return (stacked - stacked.mean((0, 1, 2))) / stacked.std((0, 1, 2))


def write_maps(path: Path, labels: dict[int, npt.NDArray[np.uint8]], voxel_size: Any) -> None:
    """Write label images with their pyramids, each level taken by strides."""
    shape = next(iter(labels.values())).shape
    store = LabelStore.create(
        path, ks=labels, shape=shape, voxel_size=voxel_size, translation=(0, 0, 0), shard=(64, 64, 64)
    )
    recorded = {}
    for k, finest in labels.items():
        for number, level in enumerate(store.levels):
            steps = [round(a / b) for a, b in zip(level.voxel_size, voxel_size, strict=True)]
            reduced = finest[:: steps[0], :: steps[1], :: steps[2]]
            for origin in product(*(range(0, n, 64) for n in level.shape)):
                box = tuple(slice(o, o + 64) for o in origin)
                for file in store.write(k, number, origin, np.ascontiguousarray(reduced[box])):
                    recorded[file] = stamp(file)
    store.finish(recorded, default_k=min(labels), colours={k: palette(k) for k in labels})


def write_run(
    folder: Path,
    *,
    ks: tuple[int, ...] = (4, 8),
    source: str = "cell.tif",
    seed: int = 0,
) -> MadeRun:
    image, classes = make_cell(seed)
    embedding = make_embedding(seed)
    flat = embedding.reshape(-1, 8)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(flat), 400, replace=False)
    folder.mkdir(parents=True, exist_ok=True)

    labels, clusters, scores = {}, {}, []
    sample: dict[str, Any] = {
        "voxel": np.stack(np.unravel_index(chosen, SHAPE), axis=1).astype(np.int64),
        "embedding": flat[chosen].astype(np.float32),
    }
    for k in ks:
        fitted = KMeans(k, n_init=1, random_state=seed).fit(flat[chosen])
        labels[k] = (fitted.predict(flat) + 1).astype(np.uint8).reshape(SHAPE)
        clusters[str(k)] = {
            "centres": fitted.cluster_centers_.tolist(),
            "sizes": np.bincount(labels[k].ravel(), minlength=k + 1)[1:].tolist(),
            "colours": palette(k),
        }
        sample[f"cluster_k{k}"] = labels[k].ravel()[chosen]
        scores.append(score(confusion(labels[k], classes, k, len(NAMES)), NAMES))
    write_maps(folder / "segmentation.ome.zarr", labels, VOXEL_SIZE)
    np.savez(folder / "sample.npz", **sample)
    (folder / "clusters.json").write_text(json.dumps(clusters))
    (folder / "scores.json").write_text(json.dumps(scores))
    (folder / "run.json").write_text(json.dumps(run_record(source)))
    with (folder / "losses.jsonl").open("w") as file:
        for step in range(300):
            noise = rng.normal(scale=0.02, size=2)
            reconstruction, multi = np.exp(-step / 80) + 0.5 + noise[0], 0.7 * np.exp(-step / 50) + noise[1]
            line = {
                "anchors": 128 * (step + 1),
                "loss": reconstruction + 1000 * multi,
                "reconstruction": reconstruction,
                "kl": 3 - 2 * np.exp(-step / 40),
                "multi_similarity": multi,
            }
            file.write(json.dumps(line) + "\n")
    volume = Volume(image, VOXEL_SIZE, (0.0, 0.0, 0.0), source, "TIFF")  # type: ignore[arg-type]
    return MadeRun(folder, volume, InMemoryReference(NAMES, classes), labels)


def run_record(source: str) -> dict[str, Any]:
    lattice = {"shape": list(SHAPE), "voxel_size": list(VOXEL_SIZE), "translation": [0.0, 0.0, 0.0]}
    return {
        "vemosaic": "0.1.0",
        "complete": True,
        "preset": "default",
        "seed": 1,
        "device": "cpu",
        "inputs": [{"source": source, "identity": "0123456789abcdef", "format": "TIFF", **lattice, "working": lattice}],
        "settings": {
            "anchors": 38400,
            "architecture": {"channels": [24, 32, 48, 64], "latent": 64, "semantic": 8},
            "objective": {"theta_kl": 0.001, "theta_ms": 1000.0},
        },
        "timings": {"train": 183.2, "fit": 9.1, "map": 54.0, "evaluate": 3.25},
        "reference": ["mitochondria=mito.tif", "nucleus=nucleus.tif"],
    }
