"""What the figures of a run are drawn from: its map of one k, its model, its volume and its reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from vemosaic.colours import Colour
from vemosaic.errors import SettingsError, VolumeError
from vemosaic.evaluation.class_sample import Classes
from vemosaic.models.model import Model, load_model
from vemosaic.report.content import Clustering, RunContent, Score, read_run
from vemosaic.report.parts import REST, class_colours
from vemosaic.report.slices import label_levels
from vemosaic.report.words import listed, numbers
from vemosaic.volumes.intensity import Intensity
from vemosaic.volumes.volume import Volume


@dataclass(frozen=True)
class Material:
    """What figures are drawn from.

    Attributes
    ----------
    content
        The run, its map of one k alone.
    k
        Which.
    model
        The trained model.
    volume
        The raw volume on the lattice of the map.
    labels
        The map, on the same lattice.
    reference
        Reference classes on the same lattice, or None.
    structures
        The classes chosen: scored, and matched with a cluster.
    """

    content: RunContent
    k: int
    model: Model
    volume: Volume
    labels: Volume
    reference: Classes | None
    structures: tuple[str, ...]

    @cached_property
    def intensity(self) -> Intensity:
        """What normalises the volume for the model."""
        return self.model.measure(self.volume)

    @property
    def clustering(self) -> Clustering:
        """The clusters."""
        return self.content.clusterings[self.k]

    @property
    def score(self) -> Score | None:
        """The scores against the reference."""
        return self.content.scores.get(self.k)

    @property
    def classes(self) -> Classes:
        """The reference; where there is none, the clusters in its place."""
        return self.reference or ClustersAsClasses(self.labels, self.k)

    @property
    def class_colours(self) -> list[Colour]:
        """Colour of each of `classes`: of the matched cluster, or of the cluster itself."""
        if self.reference is None:
            return [REST, *self.clustering.colours]
        return class_colours(self.content, self.k, list(self.reference.class_names))


@dataclass(frozen=True)
class ClustersAsClasses:
    """A map that reads like a reference: class 0 is what was not mapped."""

    labels: Volume
    k: int

    @property
    def class_names(self) -> Sequence[str]:
        """Name of each class."""
        return ["not mapped", *(f"cluster {label}" for label in range(1, self.k + 1))]

    def read(self, origin: Sequence[int], shape: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Read a box inside the map."""
        z, y, x = (slice(o, o + n) for o, n in zip(origin, shape, strict=True))
        return np.asarray(self.labels.array[z, y, x], np.uint8)


def gather(
    run: Path,
    volume: Volume,
    reference: Classes | None,
    k: int | None,
    classes: Sequence[str],
    device: torch.device | str,
) -> Material:
    """Read what the figures of a run are drawn from.

    Raises
    ------
    SettingsError
        If the run has no map of k clusters, or a class was not scored or has no cluster of its own.
    VemosaicError
        If the run is not finished, one of its files is damaged, or the volume is not the one mapped.
    """
    content = read_run(run)
    k = content.best_k if k is None else k
    if k not in content.clusterings:
        made = numbers(list(content.clusterings))
        raise SettingsError("--clusters", f"{run} has no map of {k} clusters, it has {made}", "choose one of these")
    if volume.shape != content.shape:
        raise VolumeError(
            volume.source,
            f"has {volume.shape} voxels (z, y, x), its map in {run} has {content.shape}",
            "give the volume at the voxel size of the map",
        )
    content = replace(content, clusterings={k: content.clusterings[k]})
    levels = label_levels(content, k)
    if not levels:
        raise VolumeError(content.labels_path, f"the map of {k} clusters is not whole", "run vemosaic run again")
    score = content.scores.get(k) if reference is not None else None
    return Material(
        content if score else replace(content, scores={}),
        k,
        load_model(run / "model.safetensors", device),
        volume,
        levels[0],
        reference if score else None,
        _structures(score, k, classes),
    )


def _structures(score: Score | None, k: int, chosen: Sequence[str]) -> tuple[str, ...]:
    """Check the classes chosen; all that have a cluster where none is."""
    matched = [name for name in score.structures() if name in score.matching] if score else []
    for name in chosen:
        if name not in matched:
            has = (
                f"with {k} clusters {listed(matched)} have one"
                if matched
                else "the run was scored against no reference"
            )
            raise SettingsError(
                "--class", f"no cluster is matched with {name!r}; {has}", "choose one of these, or another k"
            )
    return tuple(chosen or matched)
