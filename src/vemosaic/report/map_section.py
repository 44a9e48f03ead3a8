"""The map: three planes, each raw, as a map, and with a reference where map and reference differ."""

from __future__ import annotations

from vemosaic.report.figures import ADDED, FOUND, MISSED, css_colour, error_labels, grey_png, indexed_png
from vemosaic.report.parts import Parts
from vemosaic.report.slices import Plane
from vemosaic.report.words import length, round_bar, text

_AXES = "zyx"
_ERROR_COLOURS = (FOUND, MISSED, ADDED)
_ERROR_OPACITY = (130, 255, 255)


def backgrounds(parts: Parts) -> str:
    """Return the CSS that puts the raw planes under maps and errors, each embedded once."""
    return "\n".join(
        f".raw-{plane.name}{{background-image:url({grey_png(plane.raw)})}}"
        for plane in parts.slices.planes
        if plane.raw is not None
    )


def section(parts: Parts) -> str:
    """Write the section."""
    ks = list(parts.content.clusterings)
    mapped = [k for k in ks if k in parts.slices.planes[0].labels]
    missing = "".join(
        f'<p class="missing by-k k{k}">The map with {k} clusters is not in the run folder.</p>'
        for k in ks
        if k not in mapped
    )
    return "\n".join(
        [
            '<section id="map"><h2>The map</h2>',
            "<p>Three slices through the volume, where the clusters are most evenly mixed. Voxels of one colour have a "
            "like texture; a colour is not the name of an organelle until somebody who knows the cell says so. "
            "Dashed lines show where the other two slices cut. Click a picture to enlarge it.</p>",
            missing,
            _tools(parts),
            *(_row(parts, plane) for plane in parts.slices.planes),
            "</section>",
        ]
    )


def _tools(parts: Parts) -> str:
    content = parts.content
    legends = "".join(
        f'<ul class="legend by-k k{k}" aria-label="Colours of the clusters">'
        + "".join(
            f"<li>{swatch(css_colour(colour))}cluster {i}</li>" for i, colour in enumerate(clustering.colours, start=1)
        )
        + "</ul>"
        for k, clustering in content.clusterings.items()
        if k <= 40  # beyond, the table of clusters serves better
    )
    slider = (
        '<label>Strength of the colours <input id="opacity" type="range" min="0" max="100" value="55"></label>'
        if parts.has_raw
        else ""
    )
    return f'<div class="tools">{slider}</div>{legends}{_error_legend(parts)}'


def _error_legend(parts: Parts) -> str:
    if not parts.structures:
        return ""
    chips = "".join(f'<label class="chip" for="c{i}">{text(name)}</label>' for i, name in enumerate(parts.structures))
    chooser = f'<div class="tools classes">Errors of {chips}</div>' if len(parts.structures) > 1 else ""
    name = text(parts.structures[0]) if len(parts.structures) == 1 else "the class"
    return (
        f'{chooser}<ul class="legend" aria-label="Colours of the errors">'
        f"<li>{swatch(css_colour(MISSED))}missed: {name}, but not in its cluster</li>"
        f"<li>{swatch(css_colour(ADDED))}falsely added: in the cluster, but not {name}</li>"
        f"<li>{swatch(css_colour(FOUND))}found: in both</li></ul>"
    )


def _row(parts: Parts, plane: Plane) -> str:
    z_name = _AXES[plane.axis]
    depth = plane.index * parts.content.voxel_size[plane.axis]
    panels = []
    if plane.raw is not None:
        cuts = (
            f'<span class="cut across" style="top:{100 * plane.cuts[0]:.2f}%"></span>'
            f'<span class="cut down" style="left:{100 * plane.cuts[1]:.2f}%"></span>'
        )
        panels.append(_panel(plane, "raw", f"Raw {plane.name} slice", cuts))
    panels.append(_panel(plane, "map", f"Map over the {plane.name} slice", _maps(parts, plane)))
    if parts.structures and plane.reference is not None:
        panels.append(_panel(plane, "error", f"Errors over the {plane.name} slice", _errors(parts, plane)))
    width = ("one", "two", "three")[len(panels) - 1]
    return (
        f"<h3>{plane.name} slice at {z_name} = {plane.index} "
        f'<span class="soft">({length(depth)} from the first)</span></h3>'
        f'<div class="row {width}">{"".join(panels)}</div>'
    )


def _panel(plane: Plane, kind: str, label: str, layers: str) -> str:
    height, width = plane.extent
    ratio = width / height
    raw = f" raw-{plane.name}" if plane.raw is not None else ""
    bar = round_bar(width)
    return (
        f'<figure class="panel {kind}"><div class="frame{raw}" tabindex="0" role="group" aria-label="{label}" '
        f'style="aspect-ratio:{ratio:.4f};width:min(100%,{80 * ratio:.1f}vh)">{layers}'
        f'<span class="scale" style="width:{100 * bar / width:.2f}%"><b>{length(bar)}</b></span></div>'
        f"<figcaption>{_CAPTIONS[kind]}</figcaption></figure>"
    )


_CAPTIONS = {"raw": "Raw image", "map": "Map", "error": "Map against reference"}


def _maps(parts: Parts, plane: Plane) -> str:
    return "".join(
        f'<img class="by-k k{k}{_sharp(plane)}" src="{indexed_png(labels, parts.content.clusterings[k].colours)}" '
        f'alt="{plane.name} slice coloured by {k} clusters">'
        for k, labels in plane.labels.items()
    )


def _errors(parts: Parts, plane: Plane) -> str:
    images = []
    for k, labels in plane.labels.items():
        matching = parts.content.scores[k].matching if k in parts.content.scores else {}
        for i, name in enumerate(parts.structures):
            if name not in matching or plane.reference is None:
                continue
            errors = error_labels(labels, plane.reference, matching[name], parts.class_names.index(name))
            images.append(
                f'<img class="by-k by-c k{k} c{i}{_sharp(plane)}" '
                f'src="{indexed_png(errors, _ERROR_COLOURS, _ERROR_OPACITY)}" '
                f'alt="{plane.name} slice: where cluster {matching[name]} of {k} and {text(name)} differ">'
            )
    return "".join(images)


def _sharp(plane: Plane) -> str:
    """Return the class that shows the voxels of a small plane as squares."""
    return " sharp" if max(next(iter(plane.labels.values())).shape) < 400 else ""


def swatch(colour: str) -> str:
    """Return a small square of a CSS colour, for legends."""
    return f'<span class="swatch" style="background:{colour}"></span>'
