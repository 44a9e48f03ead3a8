"""Reads what a run folder says about itself; the voxels are read by `slices`."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vemosaic.errors import OutputError
from vemosaic.volumes.volume import Shape, Triple


@dataclass(frozen=True)
class Clustering:
    """The clusters of one k.

    Attributes
    ----------
    k
        Number of clusters; the labels of the map are 1 to k, 0 is not mapped.
    centres
        ``(k, D)``, in the embedding.
    sizes
        ``(k,)`` voxels of the map.
    colours
        k times red, green, blue, each 0 to 255.
    """

    k: int
    centres: npt.NDArray[np.float64]
    sizes: npt.NDArray[np.int64]
    colours: list[tuple[int, int, int]]


@dataclass(frozen=True)
class Sample:
    """Voxels drawn at random from the map, with their embeddings.

    Attributes
    ----------
    voxel
        ``(N, 3)`` z, y, x on the working lattice.
    embedding
        ``(N, D)``.
    clusters
        For each k, the cluster of each voxel, ``(N,)``, 1 to k.
    """

    voxel: npt.NDArray[np.int64]
    embedding: npt.NDArray[np.float32]
    clusters: dict[int, npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Score:
    """How one clustering agrees with the reference; see `vemosaic.evaluation`.

    Attributes
    ----------
    mean_dice, ari, voi
        Over the whole map.
    classes
        For each class its ``dice``, ``best_cluster_dice`` and ``best_union_dice``.
    matching
        Class name to its matched cluster (1 to k).
    class_names
        The columns of the table; the first is the rest, which no mask names.
    confusion
        ``(k, n_classes)`` voxels.
    """

    k: int
    mean_dice: float
    ari: float
    voi: float
    classes: dict[str, dict[str, float]]
    matching: dict[str, int]
    class_names: list[str]
    confusion: npt.NDArray[np.int64]

    def best_cluster(self, name: str) -> int:
        """Return the cluster (1 to k) whose Dice coefficient with a class is largest."""
        column = self.class_names.index(name)
        sizes = self.confusion.sum(axis=1) + self.confusion[:, column].sum()
        return int(np.argmax(2 * self.confusion[:, column] / np.maximum(sizes, 1))) + 1

    def structures(self) -> list[str]:
        """Return the classes that were scored, without the rest that no mask names."""
        return [name for name in self.class_names[1:] if name in self.classes]


@dataclass(frozen=True)
class RunContent:
    """Everything a run folder holds except its voxels.

    Attributes
    ----------
    folder
        The run.
    record
        ``run.json``.
    clusterings
        By k, rising.
    scores
        By k; empty without a reference.
    sample
        ``None`` if the run kept none.
    losses
        One dict for each logged step, with the ``anchors`` seen so far.
    """

    folder: Path
    record: dict[str, Any]
    clusterings: dict[int, Clustering]
    scores: dict[int, Score] = field(default_factory=dict)
    sample: Sample | None = None
    losses: list[dict[str, float]] = field(default_factory=list)

    @property
    def best_k(self) -> int:
        """The k with the largest mean Dice; where nothing was scored, the suggested one, or the first."""
        scored = {k: s.mean_dice for k, s in self.scores.items() if k in self.clusterings}
        if scored:
            return max(scored, key=lambda k: scored[k])
        return self.suggested[0] if self.suggested else next(iter(self.clusterings))

    @property
    def suggested(self) -> tuple[int, str] | None:
        """The k that the clustering suggests, and why; None where it does not, or that k was not mapped."""
        found = self.record.get("suggested_k")
        return (int(found["k"]), str(found["reason"])) if found and found["k"] in self.clusterings else None

    @property
    def shape(self) -> Shape:
        """Voxels of the map along z, y, x."""
        z, y, x = self.record["inputs"][0]["working"]["shape"]
        return int(z), int(y), int(x)

    @property
    def voxel_size(self) -> Triple:
        """Size of a voxel of the map in nm along z, y, x."""
        z, y, x = self.record["inputs"][0]["working"]["voxel_size"]
        return float(z), float(y), float(x)

    @property
    def labels_path(self) -> Path:
        """The maps, an OME-Zarr image with one label image for each k."""
        return self.folder / "segmentation.ome.zarr"


def read_run(folder: Path) -> RunContent:
    """Read a run folder.

    Parameters
    ----------
    folder
        What ``vemosaic run`` wrote. ``run.json`` and ``clusters.json`` are needed, the rest may be missing.

    Returns
    -------
    RunContent

    Raises
    ------
    OutputError
        If it is not a run folder, or one of its files cannot be understood.
    """
    for needed in ("run.json", "clusters.json"):
        if not (folder / needed).is_file():
            raise OutputError(
                folder,
                f"there is no {needed} in it",
                "name a folder that vemosaic run has written, or run again to finish it",
            )
    record = _read_json(folder / "run.json")
    if not isinstance(record, dict):
        raise _damaged(folder / "run.json", "it is not a JSON object")
    try:
        working = record["inputs"][0]["working"]
        if len(working["shape"]) != 3 or len(working["voxel_size"]) != 3:
            raise ValueError("the working shape and voxel size are not three numbers each")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _damaged(folder / "run.json", f"its inputs cannot be understood ({error!r})") from error
    clusterings = _parsed(folder / "clusters.json", _clusterings)
    return RunContent(
        folder=folder,
        record=record,
        clusterings=clusterings,
        scores=_parsed(folder / "scores.json", _scores) if (folder / "scores.json").is_file() else {},
        sample=_read_sample(folder / "sample.npz"),
        losses=_read_losses(folder / "losses.jsonl"),
    )


def _damaged(path: Path, problem: str) -> OutputError:
    return OutputError(path, problem, "remove this file and run vemosaic run again, which redoes only what is missing")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, f"cannot be read ({error})") from error


def _parsed(path: Path, parse: Any) -> Any:
    raw = _read_json(path)
    try:
        return parse(raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, f"cannot be understood ({error!r})") from error


def _clusterings(raw: dict[str, Any]) -> dict[int, Clustering]:
    found = {}
    for key in sorted(raw, key=int):
        item, k = raw[key], int(key)
        found[k] = Clustering(
            k=k,
            centres=np.asarray(item["centres"], dtype=np.float64).reshape(k, -1),
            sizes=np.asarray(item["sizes"], dtype=np.int64).reshape(k),
            colours=[(int(r), int(g), int(b)) for r, g, b in item["colours"]],
        )
        if len(found[k].colours) != k:
            raise ValueError(f"{len(found[k].colours)} colours for k = {k}")
    if not found:
        raise ValueError("no clustering")
    return found


def _scores(raw: list[dict[str, Any]]) -> dict[int, Score]:
    found = {}
    for item in raw:
        names = [str(name) for name in item["class_names"]]
        table = np.asarray(item["confusion"], dtype=np.int64).reshape(int(item["k"]), len(names))
        found[int(item["k"])] = Score(
            k=int(item["k"]),
            mean_dice=float(item["mean_dice"]),
            ari=float(item["ari"]),
            voi=float(item["voi"]),
            classes={str(name): dict(values) for name, values in item["classes"].items()},
            matching={str(name): int(c) for name, c in item["matching"].items() if c is not None},
            class_names=names,
            confusion=table,
        )
    return dict(sorted(found.items()))


def _read_sample(path: Path) -> Sample | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = arrays.files
            return Sample(
                voxel=arrays["voxel"].astype(np.int64).reshape(-1, 3),
                embedding=arrays["embedding"].astype(np.float32),
                clusters={int(n.removeprefix("cluster_k")): arrays[n] for n in names if n.startswith("cluster_k")},
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, f"cannot be read ({error})") from error


def _read_losses(path: Path) -> list[dict[str, float]]:
    """Read the logged steps; a line that a crash cut short is left out."""
    steps = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                step = json.loads(line)
                steps.append({str(name): float(value) for name, value in step.items() if value is not None})
            except (ValueError, TypeError, AttributeError):
                continue
    return [step for step in steps if "anchors" in step]
