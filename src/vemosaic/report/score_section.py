"""The scores against a reference, and both confusion matrices as in Figure 5 of the paper."""

from __future__ import annotations

from math import isnan, nan

import numpy as np
import numpy.typing as npt

from vemosaic.colours import Colour
from vemosaic.report.content import Score
from vemosaic.report.figures import css_colour
from vemosaic.report.map_section import swatch
from vemosaic.report.parts import Parts
from vemosaic.report.words import cubic_micrometres, text


def section(parts: Parts) -> str:
    """Write the section, or nothing where nothing was scored."""
    scores = {k: s for k, s in parts.content.scores.items() if k in parts.content.clusterings}
    if not scores:
        return ""
    voxel = float(np.prod(parts.content.voxel_size))
    details = "".join(
        f'<div class="by-k k{k}"><h3>With {k} clusters</h3>{_by_class(score, colours)}'
        f'<div class="pair">{_matrices(score, colours, voxel)}</div></div>'
        for k, score in scores.items()
        for colours in [parts.content.clusterings[k].colours]
    )
    return (
        '<section id="scores"><h2>Agreement with the reference</h2>'
        "<p>Each class is matched with one cluster, so that their Dice coefficients add up to the most; the mean "
        "of these is the score of the paper. The <em>best cluster</em> is the best single one for a class, the "
        "<em>best union</em> the best set of clusters taken together: what a person could name with a few clicks.</p>"
        f'{_by_k(scores)}{details}<p class="note">Numbers in the matrices are percentages, sizes are volumes. '
        "In (a) a row says what a cluster is made of, in (b) a column says where a class went; framed fields are the "
        "matched pairs.</p></section>"
    )


def _by_k(scores: dict[int, Score]) -> str:
    """Write one line for each k."""
    names = list(dict.fromkeys(name for score in scores.values() for name in score.classes))
    best = max(scores, key=lambda k: scores[k].mean_dice)
    rows = []
    for k, score in scores.items():
        values = [score.mean_dice, score.ari, score.voi]
        values += [score.classes.get(name, {}).get("best_cluster_dice", nan) for name in names]
        mark = ' class="best"' if k == best and len(scores) > 1 else ""
        rows.append(f'<tr{mark}><th scope="row">{k}</th>{_numbers(values)}</tr>')
    head = "".join(
        f'<th scope="col" class="number">{name}</th>'
        for name in (
            "mean Dice",
            "adjusted<br>Rand index",
            "variation of<br>information",
            *(f"{text(name)},<br>best cluster" for name in names),
        )
    )
    return (
        '<div class="scroll"><table><caption>Dice: 1 is perfect. Adjusted Rand index: 1 is perfect, 0 is '
        "chance. Variation of information, in bits: 0 is perfect.</caption>"
        f'<thead><tr><th scope="col">k</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _by_class(score: Score, colours: list[Colour]) -> str:
    """Write one line for each class."""

    def shown(cluster: int | None) -> str:
        return f"{swatch(css_colour(colours[cluster - 1]))}{cluster}" if cluster else "none"

    rows = [
        f'<tr><th scope="row">{text(name)}</th><td>{shown(score.matching.get(name))}</td>'
        f"{_numbers([values['dice']])}<td>{shown(score.best_cluster(name))}</td>"
        f"{_numbers([values['best_cluster_dice'], values['best_union_dice']])}</tr>"
        for name, values in score.classes.items()
    ]
    return (
        '<div class="scroll"><table><thead><tr><th scope="col">class</th><th scope="col">matched<br>cluster</th>'
        '<th scope="col" class="number">its Dice</th><th scope="col">best<br>cluster</th>'
        '<th scope="col" class="number">its Dice</th><th scope="col" class="number">Dice of the<br>best union</th>'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _numbers(values: list[float]) -> str:
    return "".join(f'<td class="number">{"–" if isnan(value) else f"{value:.3f}"}</td>' for value in values)


def _matrices(score: Score, colours: list[Colour], voxel_nm3: float) -> str:
    table = score.confusion
    in_rows = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    in_columns = table / np.maximum(table.sum(axis=0, keepdims=True), 1)
    return _heat_map(score, in_rows, colours, voxel_nm3, "a. By rows: what each cluster is made of") + _heat_map(
        score, in_columns, colours, voxel_nm3, "b. By columns: where each class went"
    )


def _heat_map(
    score: Score, shares: npt.NDArray[np.float64], colours: list[Colour], voxel_nm3: float, caption: str
) -> str:
    """Write shares (k, n_classes) as a table whose cells are the darker the larger they are."""
    columns = "".join(
        f'<th scope="col">{text(name)}<br><small>{cubic_micrometres(int(size) * voxel_nm3)}</small></th>'
        for name, size in zip(score.class_names, score.confusion.sum(axis=0), strict=True)
    )
    matched = {(cluster - 1, score.class_names.index(name)) for name, cluster in score.matching.items()}
    rows = []
    for i, size in enumerate(score.confusion.sum(axis=1).tolist()):
        cells = "".join(
            f'<td class="{"hot" if share > 0.5 else ""}{" matched" if (i, j) in matched else ""}" '
            f'style="background:rgba(var(--hot),{share:.2f})">{100 * share:.0f}</td>'
            for j, share in enumerate(shares[i].tolist())
        )
        rows.append(
            f'<tr><th scope="row">{swatch(css_colour(colours[i]))}{i + 1} '
            f"<small>{cubic_micrometres(size * voxel_nm3)}</small></th>{cells}</tr>"
        )
    return (
        f'<div class="scroll"><table class="heat"><caption>{caption}</caption>'
        f"<thead><tr><td></td>{columns}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
