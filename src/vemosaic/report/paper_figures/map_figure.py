"""Figure 4: a slice, its map, and where voxels are clustered with a class but do not belong to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vemosaic.colours import Colour
from vemosaic.report.content import Score
from vemosaic.report.figures import error_labels
from vemosaic.report.paper_figures.material import Material
from vemosaic.report.paper_figures.style import WIDTH, bare, json_file, pictures, scale_bar, swatches, title
from vemosaic.report.slices import Image, Plane, read_slices
from vemosaic.report.words import length

PIXELS = 1400  # longest side of the slice
ADDED = 3  # of `error_labels`: in the cluster, but not of the class


def draw_map(material: Material) -> dict[str, bytes]:
    """Draw Figure 4 and its numbers: ``figure4.png``, ``.pdf`` and ``.json``. It needs a reference.

    The xy slice is the one where the clusters are most evenly mixed.

    References
    ----------
    Han et al., CVPR Workshops 2022, section 4.5 and Figure 4.
    """
    reference, score = material.reference, material.score
    assert reference is not None and score is not None
    plane = read_slices(material.content, material.volume, reference, PIXELS).planes[0]
    height, width = plane.extent
    columns = 4 if height > 1.5 * width else 2
    rows = 4 // columns
    panel = WIDTH / columns
    figure = Figure(figsize=(WIDTH, rows * (panel * height / width + 0.75)), layout="constrained")
    raw, mapped, true, errors = figure.subplots(rows, columns).ravel()
    for ax in (raw, mapped, true, errors):
        bare(ax)
    assert plane.raw is not None and plane.reference is not None
    extent = (0.0, width, height, 0.0)
    depth = plane.index * material.content.voxel_size[plane.axis]

    title(raw, "a", f"Raw, slice {plane.index} ({length(depth)} deep)")
    raw.imshow(plane.raw, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="nearest")
    scale_bar(raw, width, height)

    title(mapped, "b", f"Map of {material.k} clusters")
    labels = plane.labels[material.k]
    mapped.imshow(_coloured(labels, material.clustering.colours), extent=extent, interpolation="nearest")
    _legend(mapped, {_cluster_name(score, i): c for i, c in enumerate(material.clustering.colours, start=1)})

    names, colours = list(reference.class_names), material.class_colours
    title(true, "c", "Reference segmentation")
    true.imshow(_coloured(plane.reference + np.uint8(1), colours), extent=extent, interpolation="nearest")
    shown = np.unique(plane.reference).tolist()
    _legend(true, {names[i]: colours[i] for i in shown})

    title(errors, "d", "Clustered with a class, but not of it")
    _errors(errors, material, score, plane, extent)
    return pictures(figure, "figure4") | {"figure4.json": json_file(_numbers(material, score, plane))}


def _errors(
    ax: Axes, material: Material, score: Score, plane: Plane, extent: tuple[float, float, float, float]
) -> None:
    """Draw the slice faintly, the errors of each chosen class in its colour, and the outlines of the class."""
    assert plane.raw is not None and plane.reference is not None and material.reference is not None
    names = list(material.reference.class_names)
    pale = 255 - (255 - plane.raw.astype(np.float32)) * 0.45
    ax.imshow(pale, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="nearest")
    rows, columns = plane.raw.shape
    y = (np.arange(rows) + 0.5) * extent[2] / rows
    x = (np.arange(columns) + 0.5) * extent[1] / columns
    legend = {}
    for name in material.structures:
        index, cluster = names.index(name), score.matching[name]
        colour = material.class_colours[index]
        wrong = error_labels(plane.labels[material.k], plane.reference, cluster, index) == ADDED
        ax.imshow(_coloured(wrong.astype(np.uint8), [colour]), extent=extent, interpolation="nearest")
        truth = plane.reference == index
        if truth.any() and not truth.all():
            ax.contour(x, y, truth, levels=[0.5], colors="black", linewidths=0.6)
        legend[f"cluster {cluster}, but not {name}"] = colour
    _legend(ax, legend, note="black lines: these classes in the reference")


def _coloured(labels: Image, colours: Sequence[Colour]) -> npt.NDArray[np.uint8]:
    """Colour labels ``(H, W)``, 1 to ``len(colours)``, as ``(H, W, 4)``; 0 is transparent."""
    table = np.zeros((256, 4), np.uint8)
    table[1 : len(colours) + 1, :3] = colours
    table[1 : len(colours) + 1, 3] = 255
    return table[labels]


def _cluster_name(score: Score, cluster: int) -> str:
    name = next((name for name, matched in score.matching.items() if matched == cluster), None)
    return f"{cluster}: {name}" if name else str(cluster)


def _legend(ax: Axes, named: dict[str, Colour], note: str = "") -> None:
    ax.legend(
        handles=swatches(named),
        loc="upper left",
        bbox_to_anchor=(0, 0),
        ncols=3 if max(map(len, named), default=0) < 20 else 1,
        columnspacing=1.0,
        handlelength=1.0,
        borderaxespad=0.3,
        title=note,
        title_fontsize=7,
        alignment="left",
    )


def _numbers(material: Material, score: Score, plane: Plane) -> dict[str, Any]:
    """Return where the slice lies, and for each chosen class its cluster and the errors over the whole volume."""
    total = score.confusion
    classes = {}
    for name in material.structures:
        row, column = score.matching[name] - 1, score.class_names.index(name)
        found = int(total[row, column])
        classes[name] = {
            "cluster": row + 1,
            "dice": score.classes[name]["dice"],
            "found_voxels": found,
            "added_voxels": int(total[row].sum()) - found,
            "missed_voxels": int(total[:, column].sum()) - found,
        }
    return {
        "k": material.k,
        "slice": plane.index,
        "extent_nm": {"y": plane.extent[0], "x": plane.extent[1]},
        "voxel_size_nm": list(material.content.voxel_size),
        "classes": classes,
    }
