"""A finished run, opened for looking at: maps, raw volume, reference and sample, each read when first asked for."""

from __future__ import annotations

import json
import threading
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vemosaic.errors import VemosaicError
from vemosaic.evaluation import Reference
from vemosaic.explorer.state import Facts
from vemosaic.inputs import OpenedInput, ReferenceInput, open_again
from vemosaic.run_folder import RunFolder
from vemosaic.volumes.labels import LabelImage, open_labels
from vemosaic.volumes.pyramid import Level, levels
from vemosaic.volumes.volume import Shape, Triple, Volume


@dataclass(frozen=True)
class Sample:
    """The voxels that are shown as dots.

    Attributes
    ----------
    voxel
        Places z, y, x, ``(N, 3)``, int64.
    embedding
        What describes them, ``(N, C)``, float32.
    clusters
        For each k the cluster of each, ``(N,)``, uint8.
    """

    voxel: npt.NDArray[np.int64]
    embedding: npt.NDArray[np.float32]
    clusters: dict[int, npt.NDArray[np.uint8]]


class OpenedRun:
    """A finished run.

    Parameters
    ----------
    path
        Its folder.

    Raises
    ------
    OutputError
        If there is no run, or its map is not finished.
    VolumeError
        If the map is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.folder = RunFolder.existing(self.path)
        self.identity: str = self.folder.digest("map")["fingerprint"]
        first = open_labels(self.folder.segmentation)
        self.ks = first.ks
        self.default_k = first.k
        self.shape: Shape = first.volume.shape
        self.voxel_size: Triple = first.volume.known_voxel_size()
        self.translation: Triple = first.volume.translation
        self.levels: tuple[Level, ...] = levels(self.shape, self.voxel_size, self.translation)
        self._maps = {first.k: first}
        self._lock = threading.RLock()

    @property
    def derived(self) -> Path:
        """Folder of what the explorer computes; may be removed, and is then computed again."""
        return self.path / "explorer" / self.identity[:12]

    @property
    def facts(self) -> Facts:
        """What acts are checked against."""
        return Facts(self.identity, self.shape, self.ks, len(self.sample.voxel))

    @property
    def steps(self) -> list[Shape]:
        """Voxels of the finest level in one voxel of each level, along z, y, x."""
        found: list[Shape] = []
        for level in self.levels:
            before = found[-1] if found else (1, 1, 1)
            z, y, x = (a * b for a, b in zip(before, level.step, strict=True))
            found.append((z, y, x))
        return found

    def map(self, k: int) -> LabelImage:
        """Open the map of k clusters."""
        with self._lock:
            if k not in self._maps:
                self._maps[k] = open_labels(self.folder.segmentation, k)
            return self._maps[k]

    def map_level(self, k: int, level: int) -> Volume:
        """Return one level of the map of k clusters."""
        volume = self.map(k).volume
        return (volume, *volume.coarser)[level]

    @cached_property
    def input(self) -> OpenedInput:
        """The raw volume, as the run read it.

        Raises
        ------
        VolumeError
            If it is no longer there, can no longer be read, or is another one now.
        """
        record = self.folder.record
        with warnings.catch_warnings(action="ignore"):
            return open_again(record["inputs"][:1], record["settings"]["working_voxel_size"], self.path)[0]

    @cached_property
    def _raw(self) -> Volume | str:
        try:
            return self.input.working
        except VemosaicError as error:
            return str(error)

    @property
    def raw(self) -> Volume | None:
        """The raw volume on the lattice of the map; ``None`` where it is no longer there, or another one now."""
        return None if isinstance(self._raw, str) else self._raw

    @property
    def no_raw(self) -> str | None:
        """Why the raw volume cannot be shown; ``None`` where it can."""
        return self._raw if isinstance(self._raw, str) else None

    @property
    def reference_names(self) -> list[str]:
        """Structures of the reference, without the rest."""
        return list(self.reference.class_names[1:]) if self.reference else []

    @cached_property
    def reference(self) -> Reference | None:
        """The reference segmentation on the lattice of the map; ``None`` without one, or where it is gone."""
        specs = self.folder.record.get("reference")
        if not specs:
            return None
        try:
            return ReferenceInput(tuple(specs), self.folder.record.get("reference_merge", {})).open(self.input)
        except VemosaicError:
            return None

    @cached_property
    def sample(self) -> Sample:
        """The voxels that are shown as dots."""
        with np.load(self.folder.sample, allow_pickle=False) as kept:
            clusters = {k: kept[f"cluster_k{k}"] for k in self.ks}
            return Sample(kept["voxel"], kept["embedding"], clusters)

    def centres(self, k: int) -> npt.NDArray[np.float64]:
        """Centres of the clusters of k, ``(k, C)``."""
        known: dict[str, Any] = json.loads(self.folder.clusters.read_text())
        return np.array(known[str(k)]["centres"], np.float64)

    def voxel_volume(self) -> float:
        """Volume of a voxel in cubic micrometres."""
        return float(np.prod(np.array(self.voxel_size) / 1000))

    def confidence(self, embedding: npt.NDArray[np.floating[Any]], k: int) -> npt.NDArray[np.float64]:
        """How much nearer the nearest of k centres is than the second, 0 to 1, for vectors ``(N, C)``."""
        centres = self.centres(k)
        squared = (centres**2).sum(1) - 2 * embedding @ centres.T + (embedding**2).sum(1)[:, None]
        nearest = np.sqrt(np.maximum(np.partition(squared, 1, axis=1)[:, :2], 0))
        return np.asarray(1 - nearest[:, 0] / np.maximum(nearest[:, 1], 1e-12))
