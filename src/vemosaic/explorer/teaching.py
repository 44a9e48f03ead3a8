"""What scribbles teach: planes of the classifier's opinion, and where it would help most to paint next."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vemosaic.errors import SettingsError
from vemosaic.explorer.classifier import Classifier
from vemosaic.explorer.edited import Derived
from vemosaic.explorer.layers import Bytes
from vemosaic.explorer.scribbles import painted
from vemosaic.explorer.state import EditState
from vemosaic.explorer.texture import Described
from vemosaic.explorer.views import Window
from vemosaic.volumes.volume import Shape

MOST_PIXELS = 2**21
"""Of a plane that is described from the texture round each voxel; larger ones go by prototypes."""

MOST_VOXELS = 2**21
"""Of the level that is searched for uncertain spots."""

DOUBTFUL = 0.5
BESIDE = 3
"""Voxels of that level, around what was painted, that are not asked for again."""

MOST_SPOTS = 200


@dataclass(frozen=True)
class Spot:
    """A connected region where the classifier is unsure: a voxel in it, its greatest uncertainty, its voxels."""

    voxel: Shape
    uncertainty: float
    voxels: int


def classifier_of(derived: Derived, state: EditState) -> Classifier:
    """Return what is learnt from the scribbles of a state.

    Raises
    ------
    NotYet
        Before the texture of the volume is known.
    SettingsError
        If there are scribbles of fewer than two classes.
    """
    return derived.classifier(state.scribbles_key, state.scribbles, state.roots)


def preview(derived: Derived, state: EditState, window: Window) -> Bytes:
    """Return the class that the classifier gives to each pixel of a window; errors as `classifier_of`."""
    learnt = classifier_of(derived, state)
    if _fine(window):
        return _mapped(derived, state, window, window.flat(learnt.predict(derived.texture.box(window.box))))
    return _by_prototype(derived, state, window, learnt.predict(_means(derived)))


def uncertainty(derived: Derived, state: EditState, window: Window) -> Bytes:
    """Return how unsure the classifier is of each pixel of a window, 0 to 255; errors as `classifier_of`."""
    learnt = classifier_of(derived, state)
    if _fine(window):
        unsure = as_bytes(learnt.uncertainty(derived.texture.box(window.box)))
        return _mapped(derived, state, window, window.flat(unsure))
    return _by_prototype(derived, state, window, as_bytes(learnt.uncertainty(_means(derived))))


def as_bytes(fractions: npt.NDArray[np.floating[Any]]) -> Bytes:
    """Turn 0..1 into 0..255."""
    return np.asarray(np.clip(fractions * 255 + 0.5, 0, 255), np.uint8)


def doubtful_spots(derived: Derived, state: EditState) -> list[Spot]:
    """Find the regions where the classifier is unsure and nobody has painted yet, the most worthwhile first.

    Errors as `classifier_of`. Looked for at a level of some two million voxels, by prototypes.
    """
    from scipy import ndimage

    run = derived.run
    unsure = classifier_of(derived, state).uncertainty(_means(derived))
    sizes = [math.prod(level.shape) for level in run.levels]
    level = next((n for n, size in enumerate(sizes) if size <= MOST_VOXELS), len(sizes) - 1)
    box = tuple(slice(0, n) for n in run.levels[level].shape)
    doubt = unsure[derived.texture.prototypes.read(level, box)]  # type: ignore[arg-type]
    doubt *= np.asarray(run.map_level(state.k, level).array[box]).astype(bool)  # type: ignore[index]
    if not doubt.any():
        raise SettingsError("uncertainty", "the classifier is sure of everything", "look at the preview, or apply it")
    step = np.array(run.steps[level])
    places, _ = painted(state.scribbles, run.shape)
    drawn = np.zeros(doubt.shape, bool)
    drawn[tuple((places // step).clip(max=np.array(doubt.shape) - 1).T)] = True
    doubt[ndimage.binary_dilation(drawn, iterations=BESIDE)] = 0
    regions, count = ndimage.label(doubt > min(DOUBTFUL, 0.9 * float(doubt.max())))
    if count == 0:
        raise SettingsError(
            "uncertainty", "all uncertain places have been painted already", "look at the preview, or apply it"
        )
    numbers = np.arange(1, count + 1)
    weights = ndimage.sum_labels(doubt, regions, numbers)
    order = np.argsort(-weights, kind="stable")[:MOST_SPOTS]
    spots = []
    for number in numbers[order].tolist():
        peak = ndimage.maximum_position(doubt, regions, number)
        z, y, x = np.minimum(np.array(peak) * step + step // 2, np.array(run.shape) - 1).tolist()
        size = int((regions == number).sum()) * int(step.prod())
        spots.append(Spot((z, y, x), float(doubt[peak]), size))
    return spots


def _fine(window: Window) -> bool:
    return window.level == 0 and math.prod(b.stop - b.start for b in window.box) <= MOST_PIXELS


def _means(derived: Derived) -> Described:
    derived.texture.check()
    return derived.texture.means


def _by_prototype(derived: Derived, state: EditState, window: Window, table: Bytes) -> Bytes:
    prototypes = derived.texture.prototypes.read(window.level, window.box)
    return _mapped(derived, state, window, window.flat(table[prototypes]))


def _mapped(derived: Derived, state: EditState, window: Window, values: Bytes) -> Bytes:
    """Leave 0 where nothing was mapped."""
    labels = np.asarray(derived.run.map_level(state.k, window.level).array[window.box])
    return values * (window.flat(labels.astype(np.uint8)) > 0)
