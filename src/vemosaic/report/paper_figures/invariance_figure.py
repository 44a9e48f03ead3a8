"""Figure 3: the semantic subspace and another one, laid out by t-SNE, and what transforms do to patches in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from vemosaic.evaluation.class_sample import ClassSample, draw_voxels
from vemosaic.evaluation.invariance import invariance, subspaces
from vemosaic.evaluation.patch_transforms import KINDS, in_ball, means_at, reach, transformed_means
from vemosaic.hyperbolic import poincare
from vemosaic.models.model import Model
from vemosaic.report import projection
from vemosaic.report.figures import css_colour
from vemosaic.report.paper_figures.material import Material
from vemosaic.report.paper_figures.style import WIDTH, csv_file, json_file, pictures, swatches, title

LINKED = 4  # patches of each class whose transforms are shown
EACH = 2  # of each kind
MARKERS = {"rotation": "^", "scale": "s", "shift": "D", "all": "o"}
_SEMANTIC, _OTHER = "#0072b2", "#d55e00"

Places = npt.NDArray[np.float64]


def draw_invariance(material: Material) -> dict[str, bytes]:
    """Draw Figure 3 and its numbers: ``figure3.png``, ``.pdf``, ``.csv`` (the invariance) and ``.json``.

    Transparent dots are voxels drawn uniformly, by which t-SNE is fitted; opaque ones are as many patches of each
    class, joined by lines with their transforms, which are placed into the fitted map and change nothing of it.

    References
    ----------
    Han et al., CVPR Workshops 2022, section 4.3 and Figure 3.
    """
    model, volume = material.model, material.volume
    numbers = invariance(model, volume, material.classes, mask=material.labels)
    drawn = draw_voxels(
        volume.shape, material.classes, count=projection.MOST, each=LINKED, mask=material.labels, margin=reach(model)
    )
    linked = np.concatenate(list(drawn.by_class.values()))
    means = means_at(model, volume, material.intensity, drawn.uniform)
    own = means_at(model, volume, material.intensity, linked)
    moved = transformed_means(model, volume, material.intensity, linked, EACH, seed=1)

    laid_out: dict[str, tuple[Places, Places]] = {}
    for name, part in subspaces(model).items():
        further = [own, *(moved[kind].flatten(0, 1) for kind in KINDS)]
        placed = projection.tsne_with(
            _flat(model, means[:, part]), np.concatenate([_flat(model, z[:, part]) for z in further])
        )
        if placed is not None:
            laid_out[name] = placed
    figure = _draw(material, drawn, laid_out, numbers)
    return pictures(figure, "figure3") | {
        "figure3.csv": csv_file([_as_line(row) for row in numbers["rows"]]),
        "figure3.json": json_file({"invariance": numbers, "tsne": _points(material, drawn, laid_out)}),
    }


def _flat(model: Model, z: Tensor) -> Places:
    """Latent points ``(N, d)`` as t-SNE takes them: of the ball, their logarithms at its centre."""
    flat: Places = (poincare.log_map_origin(z) if in_ball(model) else z).numpy()
    return flat


def _draw(
    material: Material, drawn: ClassSample, laid_out: dict[str, tuple[Places, Places]], numbers: dict[str, Any]
) -> Figure:
    rows = [row for row in numbers["rows"] if row["against"] == "volume"]
    across = max(1, len(laid_out))
    chart = 0.6 + 0.55 * len({row["class"] for row in rows})
    entries = _legend(material, drawn)
    columns = min(6, len(entries))
    tallest = max((float(np.ptp(places[:, 1])) for places, _ in laid_out.values()), default=1.0)
    heights = [0.6 + 2.7 * tallest, 0.05 + 0.17 * -(-len(entries) // columns), chart]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.3), layout="constrained")
    grid = figure.add_gridspec(3, across, height_ratios=heights)
    for column, (name, (places, further)) in enumerate(laid_out.items()):
        first, last = numbers["dimensions"][name]
        ax = figure.add_subplot(grid[0, column])
        meaning = "semantic" if name == "semantic" else "not semantic"
        title(ax, "ab"[column], f"Dimensions {first} to {last}, {meaning}")
        _scatter(ax, material, drawn, places, further)
    between = figure.add_subplot(grid[1, :])
    between.axis("off")
    between.legend(handles=entries, loc="center", ncols=columns, columnspacing=1.2, handlelength=1.0, borderaxespad=0)
    ax = figure.add_subplot(grid[2, :])
    title(ax, "abc"[len(laid_out)], "How far transforms move a patch")
    _ratios(ax, rows, numbers["dimensions"])
    return figure


def _scatter(ax: Axes, material: Material, drawn: ClassSample, places: Places, further: Places) -> None:
    """Draw one map: transparent dots for the voxels it was fitted to, opaque ones for patches and their transforms."""
    colours = [css_colour(colour) for colour in material.class_colours]
    ax.scatter(
        places[:, 0],
        places[:, 1],
        s=3,
        c=[colours[c] for c in drawn.classes],
        alpha=0.35,
        linewidths=0,
        rasterized=True,
        zorder=1,
    )
    classes = np.repeat(list(drawn.by_class), [len(v) for v in drawn.by_class.values()])
    own, moved = further[: len(classes)], further[len(classes) :].reshape(len(KINDS), len(classes), EACH, 2)
    for i, (place, index) in enumerate(zip(own, classes.tolist(), strict=True)):
        for kind, there in zip(KINDS, moved[:, i], strict=True):
            for end in there:
                ax.plot(*np.stack([place, end]).T, color=colours[index], linewidth=0.7, zorder=2)
            ax.scatter(
                there[:, 0],
                there[:, 1],
                s=9,
                marker=MARKERS[kind],
                color=colours[index],
                edgecolors="black",
                linewidths=0.3,
                zorder=3,
            )
    ax.scatter(
        own[:, 0], own[:, 1], s=24, c=[colours[c] for c in classes], edgecolors="black", linewidths=0.8, zorder=4
    )
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel("t-SNE 1")
    ax.set_ylabel("t-SNE 2")


def _legend(material: Material, drawn: ClassSample) -> list[Any]:
    names = material.classes.class_names
    entries: list[Any] = [*swatches({names[i]: material.class_colours[i] for i in drawn.by_class})]
    shapes = {"patch": "o", "rotated": MARKERS["rotation"], "scaled": MARKERS["scale"], "shifted": MARKERS["shift"]}
    return entries + [
        Line2D([], [], marker=marker, linestyle="", markersize=6 if name == "patch" else 4,
               markerfacecolor="white", markeredgecolor="black", markeredgewidth=0.6, label=name)
        for name, marker in shapes.items()
    ]  # fmt: skip


def _ratios(ax: Axes, rows: list[dict[str, Any]], dimensions: dict[str, list[int]]) -> None:
    """Draw the ratios with their intervals: a band for each class, a line for each kind of transform."""
    names = list(dict.fromkeys(row["class"] for row in rows))
    kinds = [*KINDS, "all"]
    ticks = {}
    for row in rows:
        band = names.index(row["class"])
        y = band * (len(kinds) + 1) + kinds.index(row["transform"])
        ticks[y] = "all three" if row["transform"] == "all" else row["transform"]
        for subspace, colour, above in (("semantic", _SEMANTIC, 0.17), ("other", _OTHER, -0.17)):
            found = row[subspace]
            if found is not None:
                at = y - above
                ax.plot([found["low"], found["high"]], [at, at], color=colour, linewidth=1.2, solid_capstyle="butt")
                ax.plot(found["value"], at, MARKERS[row["transform"]], color=colour, markersize=3.5)
    for band, name in enumerate(names):
        middle = band * (len(kinds) + 1) + (len(kinds) - 1) / 2
        patches = next(row["patches"] for row in rows if row["class"] == name)
        ax.text(
            -0.11, middle, f"{name}\n({patches} patches)", ha="right", va="center", transform=ax.get_yaxis_transform()
        )
        if band:
            ax.axhline(band * (len(kinds) + 1) - 1, color="0.85", linewidth=0.6)
    ax.set_yticks(list(ticks), list(ticks.values()))
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(names) * (len(kinds) + 1) - 1, -1)
    ax.set_xlim(left=0)
    ax.grid(axis="x", color="0.9", linewidth=0.5)
    ax.set_axisbelow(True)
    ax.set_xlabel(
        "mean distance to transforms / mean distance of random patches of the volume, with 95 % bootstrap interval"
    )
    handles = [
        Line2D([], [], color=colour, marker="o", markersize=3.5, label=f"dimensions {first} to {last}")
        for name, colour in (("semantic", _SEMANTIC), ("other", _OTHER))
        if name in dimensions
        for first, last in [dimensions[name]]
    ]
    ax.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)


def _as_line(row: dict[str, Any]) -> dict[str, Any]:
    """Spread the intervals of a row over columns."""
    line = {key: row[key] for key in ("class", "patches", "transform", "against")}
    for name in ("semantic", "other", "quotient"):
        for key in ("value", "low", "high"):
            line[name if key == "value" else f"{name}_{key}"] = None if row[name] is None else row[name][key]
    return line


def _points(material: Material, drawn: ClassSample, laid_out: dict[str, tuple[Places, Places]]) -> dict[str, Any]:
    names = material.classes.class_names
    return {
        "voxel": drawn.uniform.tolist(),
        "class": [names[c] for c in drawn.classes],
        "places": {name: places.round(4).tolist() for name, (places, _) in laid_out.items()},
        "linked_voxel": {names[index]: voxels.tolist() for index, voxels in drawn.by_class.items()},
    }
