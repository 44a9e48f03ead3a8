"""Dice against k, with the published curves: the figure that lies beside a table."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

COLOURS = ("#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#009e73", "#cc79a7")  # Okabe and Ito
MARKERS = "oosDD^v"


@dataclass(frozen=True)
class Curve:
    """Mean Dice for each k, and how far it spreads.

    Attributes
    ----------
    label
        What it is.
    points
        For each k the mean, and the lower and the upper end of the bar through it.
    published
        Whether it is the paper's.
    """

    label: str
    points: Mapping[int, tuple[float, float, float]]
    published: bool = False


def draw(title: str, halves: Mapping[str, Sequence[Curve]]) -> bytes:
    """Draw one panel a half, as PNG.

    Parameters
    ----------
    title
        Of the figure.
    halves
        Title of each panel and its curves; those of one place have one colour in all panels.
    """
    figure = Figure(figsize=(4.6 * len(halves) + 2.6, 3.8), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    panels = figure.subplots(1, len(halves), sharey=True, squeeze=False)[0]
    for panel, (heading, curves) in zip(panels, halves.items(), strict=True):
        ours = published = 0
        for curve in curves:
            ks = sorted(curve.points)
            means, lows, highs = ([curve.points[k][part] for k in ks] for part in range(3))
            bars = [[m - low for m, low in zip(means, lows, strict=True)],
                    [high - m for m, high in zip(means, highs, strict=True)]]  # fmt: skip
            if curve.published:
                style = {"color": "0.55", "linestyle": ("--", ":", "-.")[published % 3], "zorder": 1}
                published += 1
            else:
                style = {"color": COLOURS[ours % len(COLOURS)], "marker": MARKERS[ours % len(MARKERS)], "markersize": 4}
                ours += 1
            panel.errorbar(ks, means, bars if lows != highs else None, label=curve.label, capsize=2, **style)
        panel.set_title(heading, fontsize="small")
        panel.set_xlabel("clusters, k")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("mean Dice")
    panels[0].set_ylim(0, 1)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="small", frameon=False, handlelength=3.5)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=130, metadata={"Software": None})
    return picture.getvalue()
