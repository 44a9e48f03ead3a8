"""The report's pictures: PNG for pixels, SVG for points and curves."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from html import escape

import matplotlib
import matplotlib.ticker
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image as Pillow

from vemosaic.colours import Colour
from vemosaic.report.slices import Image

FOUND: Colour = (240, 240, 240)  # white
MISSED: Colour = (86, 180, 233)  # sky blue
ADDED: Colour = (230, 120, 0)  # orange
_INK, _CURVE = "#010203", "#010204"  # stand for the page's own colours of text and accent

LOSS_NAMES = {
    "loss": "total",
    "reconstruction": "reconstruction",
    "kl": "KL divergence",
    "multi_similarity": "multi-similarity",
    "triplet": "triplet",
}


def grey_png(grey: Image) -> str:
    """Return a grey picture ``(H, W)`` as a data URI."""
    return _data_uri(Pillow.fromarray(grey))


def indexed_png(labels: Image, colours: Sequence[Colour], opacity: Sequence[int] | None = None) -> str:
    """Return labels ``(H, W)`` as a data URI of a PNG with a palette; label 0 is transparent.

    Parameters
    ----------
    labels
        0 to ``len(colours)``.
    colours
        Of label 1 and up.
    opacity
        Of label 1 and up, 0 to 255; opaque if not given.
    """
    height, width = labels.shape
    indexed = Pillow.frombytes("P", (width, height), np.ascontiguousarray(labels).tobytes())
    indexed.putpalette([0, 0, 0, *(channel for colour in colours for channel in colour)])
    alphas = opacity if opacity is not None else [255] * len(colours)
    return _data_uri(indexed, transparency=bytes([0, *alphas]))


def error_labels(labels: Image, reference: Image, cluster: int, class_index: int) -> Image:
    """Compare one cluster with one class: 1 where both are, 2 where only the class is, 3 where only the cluster is.

    As Figure 4c of the paper, which shows the third.
    """
    ours, theirs = labels == cluster, reference == class_index
    return np.where(ours, np.where(theirs, 1, 3), np.where(theirs, 2, 0)).astype(np.uint8)


def scatter_svg(
    places: npt.NDArray[np.float64],
    groups: npt.NDArray[np.uint8],
    colours: Mapping[int, Colour],
    names: Mapping[int, str],
    title: str,
) -> str:
    """Draw points ``(N, 2)`` in [0, 1] as dots, one path for each group."""
    size = 600
    xy = (places * (size - 20) + 10).round().astype(int)
    height = int(xy[:, 1].max()) + 10
    paths = []
    for group, colour in colours.items():
        dots = "".join(f"M{x} {y}h0" for x, y in xy[groups == group].tolist())
        if dots:
            paths.append(f'<path d="{dots}" stroke="{css_colour(colour)}"><title>{escape(names[group])}</title></path>')
    return (
        f'<svg class="dots" viewBox="0 0 {size} {height}" role="img" aria-label="{escape(title)}">'
        + "".join(paths)
        + "</svg>"
    )


def loss_svg(losses: Sequence[Mapping[str, float]]) -> str | None:
    """Draw the logged losses against the anchors seen: each step faint, a running mean on top.

    Returns
    -------
    str or None
        An inline SVG that takes the page's text colour; ``None`` if fewer than two steps were logged.
    """
    names = [name for name in LOSS_NAMES if sum(name in step for step in losses) > 1]
    if not names:
        return None
    with matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "losses", "font.family": "sans-serif", "font.size": 9}
    ):
        figure = Figure(figsize=(9.6, 2.4 * ((len(names) + 1) // 2)), layout="constrained")
        axes = figure.subplots((len(names) + 1) // 2, 2, squeeze=False).ravel()
        for ax, name in zip(axes, names, strict=False):
            points = np.array([(step["anchors"], step[name]) for step in losses if name in step])
            points = points[np.isfinite(points).all(axis=1)]
            every = max(1, len(points) // 600)
            ax.plot(*points[::every].T, color=_CURVE, alpha=0.35, linewidth=0.8)
            ax.plot(*_running_mean(points)[::every].T, color=_CURVE, linewidth=1.8)
            ax.set_title(LOSS_NAMES[name], loc="left", color=_INK, fontsize=10)
            ax.set_xlabel("anchors", color=_INK)
            ax.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
            ax.tick_params(colors=_INK, labelcolor=_INK)
            ax.patch.set_visible(False)
            for side, spine in ax.spines.items():
                spine.set_visible(side in ("left", "bottom"))
                spine.set_color(_INK)
        for ax in axes[len(names) :]:
            ax.set_visible(False)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    label = f"Loss curves: {', '.join(LOSS_NAMES[name] for name in names)}, against the anchors seen"
    svg = svg.replace("<svg", f'<svg class="curves" role="img" aria-label="{escape(label)}"', 1)
    return svg.replace(_INK, "currentColor").replace(_CURVE, "var(--accent)")


def css_colour(colour: Colour) -> str:
    """Write a colour as CSS does."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _running_mean(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Smooth the second column over a twentieth of the points, as far as that reaches at both ends."""
    half = max(1, len(points) // 40)
    sums = np.concatenate([[0.0], np.cumsum(points[:, 1])])
    i = np.arange(len(points))
    low, high = np.maximum(i - half, 0), np.minimum(i + half + 1, len(points))
    return np.column_stack([points[:, 0], (sums[high] - sums[low]) / (high - low)])


def _data_uri(picture: Pillow.Image, **options: object) -> str:
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True, **options)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
