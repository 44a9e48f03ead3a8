"""Features by name: each describes every voxel of some boxes by a vector, seen or learned without annotations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from ablation.cells import Cells, Layout, Vectors
from ablation.filters import FilterBank, Intensity, Patches
from ablation.trained import Trained, Workshop
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
LEARNED: dict[str, ModelSettings] = {
    "default": preset("default").model,
    "han2022": preset("han2022", width=0.25).model,
    "cihs": preset("cihs").model,
}


def feature(name: str, workshop: Workshop) -> Feature:
    """Return the feature of a name.

    Parameters
    ----------
    name
        One of `HAND_MADE` or `LEARNED`. The budget may follow what is learned, as in ``han2022@6000``.
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
    if kind in LEARNED and (budget.isdecimal() or not at):
        return Trained(LEARNED[kind], int(budget) if at else workshop.anchors, workshop)
    known = ", ".join([*HAND_MADE, *LEARNED])
    raise SettingsError("--features", f"there is no {name!r}", f"choose from {known}, or give a budget as default@6000")


def described(chosen: Feature, volume: Volume, layout: Layout, halo: Shape, seed: int) -> Cells:
    """Describe the boxes of a layout; what asks for it is brought to mean 0 and variance 1 over the voxels drawn."""
    cells = Cells(layout, halo, tuple(chosen.describe(volume, layout.grown(halo), seed)))
    if not chosen.standardise:
        return cells
    sample = cells.sample()
    mean, spread = sample.mean(0, dtype=np.float64), sample.std(0, dtype=np.float64)
    shift, factor = mean.astype(np.float32), (1 / np.maximum(spread, 1e-12)).astype(np.float32)
    for values in cells.values:
        values -= shift
        values *= factor
    return cells
