"""Features by name: each describes every voxel of some boxes by a vector, seen or learned without annotations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from ablation.cells import Cells, Image, Layout, Vectors
from ablation.dense_views import DenseViews
from ablation.filters import FilterBank, Intensity, Patches
from ablation.ideas import Equivariance, Idea, MaskedCentre, TrainedOtherwise
from ablation.levels import LevelsTogether
from ablation.prototypes import Prototypes
from ablation.trained import Trained, TwoLevels, Workshop
from vemosaic.blocks.grid import Unit
from vemosaic.errors import SettingsError
from vemosaic.models.settings import ModelSettings
from vemosaic.presets import preset
from vemosaic.volumes.volume import Shape, Volume


class Feature(Protocol):
    """What describes voxels."""

    @property
    def seeded(self) -> bool:
        """Whether the seed changes the result."""

    @property
    def standardise(self) -> bool:
        """Whether channels have no scale in common, and are brought to unit variance."""

    def about(self) -> dict[str, Any]:
        """What decides the result beside volume and seed, ready for JSON."""

    def describe(self, volume: Volume, boxes: Sequence[Unit], seed: int) -> Iterator[Vectors]:
        """Yield ``(Z, Y, X, C)`` for each box, which may reach outside the volume: it is mirrored there."""


HAND_MADE: dict[str, Feature] = {
    "intensity": Intensity(),
    "filterbank": FilterBank(),
    "patches": Patches(),
}
DEFAULT = preset("default").model


def changed(**parts: dict[str, Any]) -> ModelSettings:
    """Return the default preset with some fields of some of its parts changed."""
    settings = DEFAULT.model_dump()
    return ModelSettings.model_validate(settings | {part: settings[part] | fields for part, fields in parts.items()})


LEARNED: dict[str, ModelSettings] = {
    "default": DEFAULT,
    "han2022": preset("han2022", width=0.25).model,
    "cihs": preset("cihs").model,
    "batch32": changed(optimiser={"batch": 32}),
    "left-out": changed(objective={"false_negatives": 0.05}),
    "batch32-left-out": changed(optimiser={"batch": 32}, objective={"false_negatives": 0.05}),
    "batch32-left-out-more": changed(optimiser={"batch": 32}, objective={"false_negatives": 0.15}),
    "batch32-semantic16": changed(optimiser={"batch": 32}, architecture={"semantic": 16}),
    "one-positive": changed(optimiser={"batch": 320}, sampling={"positives": 1}),
    "fast": changed(optimiser={"learning_rate": 3e-3}),
    "slices-moved": changed(sampling={"slices": 3}),  # of volumes in slices: positives are moved as in cubes
}
"""Presets, and ideas: each is the default preset but for what its name says."""

IDEAS: dict[str, tuple[ModelSettings, Idea]] = {
    "dense-views": (LEARNED["batch32"], DenseViews()),
    "dense-views-five": (changed(optimiser={"batch": 16}), DenseViews(views=5)),
    "prototypes": (DEFAULT, Prototypes()),
    "prototypes-added": (DEFAULT, Prototypes(multi_similarity=1.0)),
    "masked-centre": (DEFAULT, MaskedCentre()),
    "equivariance": (DEFAULT, Equivariance()),
}
"""Ideas that change more than a setting."""

LEVELS: dict[str, Callable[[ModelSettings, int, Workshop], Trained]] = {
    "two-levels": TwoLevels,
    "two-levels-together": LevelsTogether,
    "two-levels-apart": partial(LevelsTogether, joined="apart"),
    "two-levels-added": partial(LevelsTogether, joined="added"),
}
"""The default preset, which sees each voxel at twice its size as well: trained on its own size only, or on both."""


def feature(name: str, workshop: Workshop) -> Feature:
    """Return the feature of a name.

    Parameters
    ----------
    name
        One of `HAND_MADE`, `LEARNED`, `IDEAS` or `LEVELS`. The budget may follow what is learned:
        ``han2022@6000``.
    workshop
        How models are trained, and where they are kept.

    Raises
    ------
    SettingsError
        If there is no such feature, or its budget is no number.
    """
    kind, at, budget = name.partition("@")
    if name in HAND_MADE:
        return HAND_MADE[name]
    if kind in (*LEARNED, *IDEAS, *LEVELS) and (budget.isdecimal() or not at):
        anchors = int(budget) if at else workshop.anchors
        if kind in LEVELS:
            return LEVELS[kind](DEFAULT, anchors, workshop)
        if kind in IDEAS:
            settings, idea = IDEAS[kind]
            return TrainedOtherwise(settings, anchors, workshop, idea)
        return Trained(LEARNED[kind], anchors, workshop)
    known = ", ".join([*HAND_MADE, *LEARNED, *IDEAS, *LEVELS])
    raise SettingsError("--features", f"there is no {name!r}", f"choose from {known}, or give a budget as default@6000")


def described(chosen: Feature, volume: Volume, layout: Layout, halo: Shape, seed: int) -> Cells:
    """Describe the boxes of a layout; what asks for it is brought to mean 0 and variance 1 over the voxels drawn."""
    image = Image.of(volume, layout, halo)
    cells = Cells(layout, halo, tuple(chosen.describe(volume, layout.grown(halo), seed)), image)
    if not chosen.standardise:
        return cells
    sample = cells.sample()
    mean, spread = sample.mean(0, dtype=np.float64), sample.std(0, dtype=np.float64)
    shift, factor = mean.astype(np.float32), (1 / np.maximum(spread, 1e-12)).astype(np.float32)
    for values in cells.values:
        values -= shift
        values *= factor
    return cells
