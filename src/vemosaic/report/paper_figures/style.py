"""How the figures look, and how they become files: the size of a journal page, letters that stay text in the PDF."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from vemosaic.colours import Colour
from vemosaic.report.figures import css_colour
from vemosaic.report.words import length, round_bar

WIDTH = 180 / 25.4  # inches: the width of a page of text
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 7,
    "axes.titlesize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.03,
}


def style() -> AbstractContextManager[None]:
    """Draw and save figures inside this."""
    return matplotlib.rc_context(_STYLE)


def pictures(figure: Figure, name: str) -> dict[str, bytes]:
    """Render a figure as PNG and PDF, the same bytes for the same figure."""
    files = {}
    for ending, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None, "Creator": "vemosaic"})):
        file = io.BytesIO()
        figure.savefig(file, format=ending, metadata=metadata)
        files[f"{name}.{ending}"] = file.getvalue()
    return files


def json_file(value: Any) -> bytes:
    """Write plain data as JSON."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def csv_file(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Write rows of like keys as CSV; None becomes an empty field."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def title(ax: Axes, letter: str, words: str) -> None:
    """Put a bold letter and a title over a panel, at its left."""
    ax.set_title(rf"$\mathbf{{{letter}}}$  {words}", loc="left")


def swatches(named: Mapping[str, Colour]) -> list[Patch]:
    """Return the entries of a legend: a square of each colour."""
    return [Patch(facecolor=css_colour(colour), label=name) for name, colour in named.items()]


def bare(ax: Axes) -> None:
    """Take ticks and frame from a panel that shows an image."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def scale_bar(ax: Axes, width: float, height: float) -> None:
    """Draw a scale bar into the lower right corner of an image whose axes are in nm."""
    bar, margin = round_bar(width), 0.03 * max(width, height)
    thickness = 0.012 * max(width, height)
    left, top = width - margin - bar, height - margin - thickness
    ax.add_patch(Rectangle((left, top), bar, thickness, facecolor="white", edgecolor="black", linewidth=0.4))
    words = ax.text(left + bar / 2, top - 0.3 * margin, length(bar), color="white", ha="center", va="bottom")
    words.set_path_effects([withStroke(linewidth=1.5, foreground="black")])
