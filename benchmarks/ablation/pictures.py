"""One picture for each volume and feature: the maps of all treatments and clusterers over one slice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vemosaic.colours import palette

OPACITY = 0.45
COLUMNS = 4  # at most

Plane = npt.NDArray[np.uint8]


def save_picture(
    path: Path, title: str, raw: npt.NDArray[np.float32], classes: Plane, n_classes: int, maps: Mapping[str, Plane]
) -> None:
    """Draw the raw slice, the reference, and maps over the slice.

    Parameters
    ----------
    path
        A PNG file.
    title
        Above all.
    raw
        ``(Y, X)``.
    classes
        Of the reference, ``(Y, X)``, 0 to ``n_classes - 1``; class 0 is left uncoloured.
    n_classes
        How many there are.
    maps
        By their titles: clusters from 1, ``(Y, X)``.
    """
    from matplotlib.figure import Figure

    grey = _grey(raw)
    panels = {"raw": grey, "reference": _painted(grey, classes, n_classes - 1)}
    panels |= {name: _painted(grey, labels, int(labels.max())) for name, labels in maps.items()}
    rows = -(-len(panels) // COLUMNS)
    columns = -(-len(panels) // rows)
    height, width = raw.shape
    figure = Figure(figsize=(3.2 * columns, 3.2 * rows * height / width + 0.3 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, (name, image) in zip(axes, panels.items(), strict=False):
        axis.imshow(image, interpolation="nearest")
        axis.set_title(name, fontsize=9)
    figure.suptitle(title, fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _grey(raw: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    low, high = np.percentile(raw, [1, 99])
    scaled = np.clip((raw - low) / max(float(high - low), 1e-6), 0, 1)
    return np.repeat(scaled[..., None], 3, axis=2)


def _painted(grey: npt.NDArray[np.float64], labels: Plane, count: int) -> npt.NDArray[np.float64]:
    """Lay the colours of labels from 1 over a grey image."""
    colours = np.array([(0, 0, 0), *palette(max(1, count))]) / 255
    opacity = np.where(labels > 0, OPACITY, 0)[..., None]
    return (1 - opacity) * grey + opacity * colours[labels]
