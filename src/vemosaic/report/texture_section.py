"""The clusters: how much of the volume each takes, what it looks like, and how near one lies to another."""

from __future__ import annotations

from math import isnan, prod

import numpy as np
import numpy.typing as npt

from vemosaic.report.content import Sample, Score
from vemosaic.report.figures import css_colour, grey_png, scatter_svg
from vemosaic.report.map_section import swatch
from vemosaic.report.parts import Parts
from vemosaic.report.projection import FEWEST
from vemosaic.report.slices import FIELD, PATCH, Patch, as_grey
from vemosaic.report.words import cubic_micrometres, figures, length, percent, text


def clusters(parts: Parts) -> str:
    """Write the table of the clusters."""
    tables = "".join(
        f'<div class="by-k k{k} scroll">{_cluster_table(parts, k)}</div>' for k in parts.content.clusterings
    )
    return (
        '<section id="clusters"><h2>The clusters</h2><p>How much of the volume each cluster takes, and how bright '
        f"it is.</p>{tables}</section>"
    )


def _cluster_table(parts: Parts, k: int) -> str:
    clustering = parts.content.clusterings[k]
    intensity = parts.slices.intensity.get(k)
    score = parts.content.scores.get(k)
    voxel = prod(parts.content.voxel_size)
    total = max(1, int(clustering.sizes.sum()))
    head = [
        '<th scope="col">Cluster',
        '<th scope="col" class="number">Share',
        '<th scope="col" class="number">Volume',
    ]
    if intensity is not None:
        head.append('<th scope="col" class="number">Mean grey value<br>in the slices above')
    if score:
        head.append('<th scope="col">In the reference')
    rows = []
    for i, (size, colour) in enumerate(zip(clustering.sizes.tolist(), clustering.colours, strict=True)):
        cells = [
            f'<th scope="row">{swatch(css_colour(colour))}cluster {i + 1}</th>',
            f'<td class="number">{percent(size / total)}</td>',
            f'<td class="number">{cubic_micrometres(size * voxel)}</td>',
        ]
        if intensity is not None:
            cells.append(f'<td class="number">{_grey(float(intensity[i]), parts.slices.contrast)}</td>')
        if score:
            cells.append(f"<td>{text(_made_of(score, i))}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><thead><tr>{'</th>'.join(head)}</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _made_of(score: Score, row: int) -> str:
    """Name the classes of at least 5 % of a cluster, the largest first."""
    counts = score.confusion[row]
    shares = counts / max(1, int(counts.sum()))
    return ", ".join(
        f"{score.class_names[j]} {percent(shares[j])}"
        for j in np.argsort(-shares, kind="stable").tolist()
        if shares[j] >= 0.05
    )


def _grey(value: float, contrast: tuple[float, float]) -> str:
    """Write a grey value with a swatch as bright as the slices show it."""
    if isnan(value):
        return "–"
    shown = int(as_grey(np.array([value], dtype=np.float32), contrast)[0])
    return f"{figures(value)} {swatch(css_colour((shown, shown, shown)))}"


def patches(parts: Parts) -> str:
    """Write the gallery of the patches nearest to each centre."""
    size = parts.content.voxel_size
    intro = (
        '<section id="patches"><h2>What each cluster looks like</h2>'
        f"<p>The sampled voxels nearest to the centre of each cluster, in the xy plane: {PATCH} voxels wide "
        f"({length(PATCH * size[2])}). The yellow square is the field of {FIELD} voxels that the computer saw. "
        "Rest the pointer on a patch for its place.</p>"
    )
    if parts.content.sample is None:
        return f'{intro}<p class="missing">The run kept no sample of voxels.</p></section>'
    if not parts.has_raw:
        return f'{intro}<p class="missing">The raw images are not at hand, so there are no patches.</p></section>'
    galleries = "".join(
        f'<div class="gallery by-k k{k}">{"".join(_line(parts, k, i, row) for i, row in enumerate(rows))}</div>'
        for k, rows in parts.patches.items()
    )
    return f"{intro}{galleries}</section>"


def _line(parts: Parts, k: int, i: int, row: list[Patch]) -> str:
    colour = css_colour(parts.content.clusterings[k].colours[i])
    start, width = 100 * (PATCH // 2 - FIELD // 2) / PATCH, 100 * FIELD / PATCH
    field = f'<i style="left:{start:.2f}%;top:{start:.2f}%;width:{width:.2f}%;height:{width:.2f}%"></i>'
    images = "".join(
        f'<span class="patch" title="z {z}, y {y}, x {x}"><img src="{grey_png(patch.grey)}" '
        f'alt="patch of cluster {i + 1} at z {z}, y {y}, x {x}">{field}</span>'
        for patch in row
        for z, y, x in [patch.voxel]
    )
    return (
        f'<div class="line"><span class="name">{swatch(colour)}cluster {i + 1}</span>'
        f"{images or '<span class=soft>no sampled voxel</span>'}</div>"
    )


def neighbours(parts: Parts) -> str:
    """Write the t-SNE, by cluster and by reference."""
    intro = (
        '<section id="tsne"><h2>How textures relate</h2><p>Each dot is a voxel drawn at random; dots that lie close '
        "have a like texture (t-SNE of the embedding). Distances between far groups, and the sizes of groups, mean "
        "little.</p>"
    )
    sample = parts.content.sample
    if sample is None or parts.places is None:
        why = (
            "The run kept no sample of voxels"
            if sample is None
            else f"The sample has fewer than {FEWEST} different voxels"
        )
        return f'{intro}<p class="missing">{why}.</p></section>'
    plots = "".join(_plots(parts, sample, parts.places, k) for k in parts.content.clusterings if k in sample.clusters)
    return f"{intro}{plots}</section>"


def _plots(parts: Parts, sample: Sample, places: npt.NDArray[np.float64], k: int) -> str:
    """Draw the points by cluster and, where there is one, by reference."""
    colours = dict(enumerate(parts.content.clusterings[k].colours, start=1))
    names = {cluster: f"cluster {cluster}" for cluster in colours}
    title = f"{len(parts.points)} voxels coloured by {k} clusters"
    dots = scatter_svg(places, sample.clusters[k][parts.points], colours, names, title)
    if parts.classes is None:
        return f'<div class="row one by-k k{k}">{_plot(dots, "By cluster")}</div>'

    colours = dict(enumerate(parts.class_colours(k, parts.class_names)))
    names = dict(enumerate(parts.class_names))
    title = f"{len(parts.points)} voxels coloured by reference class"
    classes = scatter_svg(places, parts.classes, colours, names, title)
    legend = "".join(f"<li>{swatch(css_colour(colours[i]))}{text(name)}</li>" for i, name in names.items())
    caption = f'By reference; a class has the colour of the cluster it is matched with<ul class="legend">{legend}</ul>'
    return f'<div class="row two by-k k{k}">{_plot(dots, "By cluster")}{_plot(classes, caption)}</div>'


def _plot(svg: str, caption: str) -> str:
    return f'<figure class="panel">{svg}<figcaption>{caption}</figcaption></figure>'
