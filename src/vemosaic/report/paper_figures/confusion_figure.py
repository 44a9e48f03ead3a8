"""Figure 5: what each cluster is made of, and where each class went, as two confusion matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from vemosaic.report.content import Score
from vemosaic.report.figures import css_colour
from vemosaic.report.paper_figures.material import Material
from vemosaic.report.paper_figures.style import WIDTH, csv_file, json_file, pictures, title
from vemosaic.report.words import cubic_micrometres


def draw_confusion(material: Material) -> dict[str, bytes]:
    """Draw Figure 5 and its numbers: ``figure5.png``, ``.pdf``, ``.csv`` (voxels) and ``.json``. It needs a reference.

    References
    ----------
    Han et al., CVPR Workshops 2022, section 4.5 and Figure 5.
    """
    score = material.score
    assert score is not None
    table = score.confusion
    voxel = float(np.prod(material.content.voxel_size))
    in_rows = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    in_columns = table / np.maximum(table.sum(axis=0, keepdims=True), 1)
    figure = Figure(figsize=(WIDTH, 1.6 + 0.3 * score.k), layout="constrained")
    left, right = figure.subplots(1, 2)
    image = _matrix(left, material, score, in_rows, voxel)
    title(left, "a", "Within clusters (rows sum to 100 %)")
    _matrix(right, material, score, in_columns, voxel)
    title(right, "b", "Within classes (columns sum to 100 %)")
    bar = figure.colorbar(image, ax=[left, right], shrink=0.7, pad=0.01)
    bar.set_ticks([0, 0.5, 1], labels=["0 %", "50 %", "100 %"])
    bar.outline.set_linewidth(0.6)
    rows = [
        {"cluster": i + 1, "voxels": int(row.sum()), **dict(zip(score.class_names, row.tolist(), strict=True))}
        for i, row in enumerate(table)
    ]
    numbers: dict[str, Any] = {
        "k": score.k,
        "class_names": score.class_names,
        "voxels": table.tolist(),
        "within_rows": in_rows.round(6).tolist(),
        "within_columns": in_columns.round(6).tolist(),
        "matching": score.matching,
        "voxel_nm3": voxel,
    }
    return pictures(figure, "figure5") | {"figure5.csv": csv_file(rows), "figure5.json": json_file(numbers)}


def _matrix(ax: Axes, material: Material, score: Score, shares: npt.NDArray[np.float64], voxel_nm3: float) -> AxesImage:
    """Draw shares (k, classes) with their percentages; matched pairs are framed, rows carry the cluster's colour."""
    k, classes = shares.shape
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i in range(k):
        for j in range(classes):
            ink = "white" if shares[i, j] > 0.55 else "black"
            ax.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", color=ink)
    for name, cluster in score.matching.items():
        corner = (score.class_names.index(name) - 0.5, cluster - 1.5)
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="#e69f00", linewidth=1.6, clip_on=False, zorder=3))
    for i, colour in enumerate(material.clustering.colours):
        ax.add_patch(
            Rectangle((-0.035, (k - 1 - i) / k), 0.025, 1 / k, transform=ax.transAxes, facecolor=css_colour(colour),
                      edgecolor="white", linewidth=0.6, clip_on=False)
        )  # fmt: skip
    sizes = score.confusion.sum(axis=1)
    columns = score.confusion.sum(axis=0)
    ax.set_yticks(range(k), [f"{i + 1}   {cubic_micrometres(int(sizes[i]) * voxel_nm3)}" for i in range(k)])
    ax.set_xticks(
        range(classes),
        [f"{n}\n{cubic_micrometres(int(s) * voxel_nm3)}" for n, s in zip(score.class_names, columns, strict=True)],
        rotation=0 if classes <= 3 else 45,
        ha="center" if classes <= 3 else "right",
        rotation_mode="default" if classes <= 3 else "anchor",
    )
    ax.tick_params(length=0)
    ax.tick_params(axis="y", pad=9)
    ax.set_ylabel("cluster and its volume")
    ax.set_xlabel("reference class and its volume")
    for spine in ax.spines.values():
        spine.set_visible(False)
    return image
