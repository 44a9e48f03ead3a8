"""Table 1 of the paper for a reproduction: for each k, mean and spread over the folds above, the test cell below."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vemosaic.blocks.files import write_atomically
from vemosaic.evaluation.protocols import WHOLE_CELL, Protocol
from vemosaic.reproduce.figure import Curve, draw
from vemosaic.reproduce.plan import FOLDS, TEST, short
from vemosaic.reproduce.published import SOURCE, TABLE_1, Published

DASH = "-"
"""Stands where a figure is still missing."""


@dataclass(frozen=True)
class Column:
    """A method and its length of training, in anchors for each training stack."""

    method: str
    anchors: int

    @property
    def label(self) -> str:
        """Its heading."""
        return f"{self.method} ({short(self.anchors)}/stack)"


@dataclass(frozen=True)
class Summary:
    """One entry of the upper half: the mean over the folds, and what stands behind it."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the folds."""
        return float(np.mean(self.values))

    @property
    def std(self) -> float:
        """Standard deviation with the number of folds as its divisor.

        The paper does not say which it gives. This is NumPy's default (ddof = 0); the estimate from a sample (ddof = 1)
        would be 1.22 times as large for three folds.
        """
        return float(np.std(self.values))


@dataclass(frozen=True)
class Table:
    """The scores of a protocol.

    Attributes
    ----------
    protocol
        How maps were scored.
    caption
        What the figures are.
    columns
        From left to right.
    ks
        Numbers of clusters, ascending.
    scores
        For each column and split what `vemosaic.evaluation.score` gave for each k; whatever is missing is not there.
    """

    protocol: Protocol
    caption: str
    columns: tuple[Column, ...]
    ks: tuple[int, ...]
    scores: Mapping[tuple[Column, str], Mapping[int, Mapping[str, Any]]]

    def value(self, column: Column, split: str, k: int) -> float | None:
        """Mean Dice of one map; None where it is missing."""
        found = self.scores.get((column, split), {}).get(k)
        return None if found is None else float(found["mean_dice"])

    def folds(self, column: Column, k: int) -> Summary | None:
        """Sum up the folds; None until all are there."""
        values = [self.value(column, split.name, k) for split in FOLDS]
        known = tuple(value for value in values if value is not None)
        return Summary(known) if len(known) == len(FOLDS) else None

    def test(self, column: Column, k: int) -> float | None:
        """The test cell; None where it is missing or not of this protocol."""
        return self.value(column, TEST.name, k) if self.protocol.test else None

    @property
    def published(self) -> tuple[Published, ...]:
        """The columns of the paper, where it scored alike."""
        return TABLE_1 if self.protocol.name == WHOLE_CELL.name else ()

    @property
    def absent(self) -> list[str]:
        """Classes that a cell lacks, which its means leave out, as lines of a note."""
        cells = {split.name: split.target for split in (*FOLDS, TEST)}
        found: dict[str, set[str]] = {}
        for (_, split), scores in self.scores.items():
            for name in {name for score in scores.values() for name in score["absent"]}:
                found.setdefault(name, set()).add(cells[split])
        return [
            f"{name} has no scored voxel in {', '.join(sorted(found[name]))}: left out there" for name in sorted(found)
        ]

    @property
    def notes(self) -> list[str]:
        """What a reader must know beside the caption."""
        source = [f"Published figures: {SOURCE}; real cells, whole"] if self.published else []
        return [*self.absent, *source]

    def bar(self, summary: Summary) -> tuple[float, float, float]:
        """Return the mean over the folds, and the ends of what the protocol puts behind it."""
        if self.protocol.spread == "range":
            return summary.mean, min(summary.values), max(summary.values)
        return summary.mean, summary.mean - summary.std, summary.mean + summary.std

    def spread(self, summary: Summary | None, plus_minus: str) -> str:
        """Write an entry of the upper half."""
        if summary is None:
            return DASH
        if self.protocol.spread == "range":
            return f"{summary.mean:.3f} ({min(summary.values):.3f}-{max(summary.values):.3f})"
        return f"{summary.mean:.3f} {plus_minus} {summary.std:.3f}"

    def rows(self, plus_minus: str) -> list[tuple[str, int, list[str]]]:
        """Return half, k and the entries of every row, ours and then the paper's."""
        upper = [
            (
                "folds",
                k,
                [self.spread(self.folds(column, k), plus_minus) for column in self.columns]
                + [_published_fold(p, k, plus_minus) for p in self.published],
            )
            for k in self.ks
        ]
        if not self.protocol.test:
            return upper
        return upper + [
            (
                "test",
                k,
                [_figure(self.test(column, k)) for column in self.columns]
                + [_figure(p.test.get(k)) for p in self.published],
            )
            for k in self.ks
        ]

    @property
    def headings(self) -> list[str]:
        """Of the columns, ours and then the paper's."""
        return [column.label for column in self.columns] + [f"published: {p.label}" for p in self.published]


def as_markdown(table: Table) -> str:
    """Write a table for a README."""
    lines = [
        f"# Table 1, protocol {table.protocol.name}",
        "",
        table.caption,
        "",
        f"| | k | {' | '.join(table.headings)} |",
        f"|---|---|{'---|' * len(table.headings)}",
        *(f"| {half} | {k} | {' | '.join(entries)} |" for half, k, entries in table.rows("±")),
        "",
        *(f"- {note}." for note in table.notes),
    ]
    return "\n".join(lines).rstrip() + "\n"


def as_latex(table: Table) -> str:
    r"""Write a table for a paper; needs ``\usepackage{booktabs}``."""
    rows = table.rows(r"$\pm$")
    body: list[str] = []
    for half in dict.fromkeys(half for half, _, _ in rows):
        body += [r"\midrule"] + [f"{k} & {' & '.join(entries)} \\\\" for h, k, entries in rows if h == half]
    caption = " ".join([table.caption, *(f"{note}." for note in table.notes)]).replace("+-", r"$\pm$")
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(caption)}}}",
            rf"\begin{{tabular}}{{r{'c' * len(table.headings)}}}",
            r"\toprule",
            f"$k$ & {' & '.join(map(_latex, table.headings))} \\\\",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def as_csv(table: Table) -> str:
    """Write a table with one figure a line, for a spreadsheet or a plot."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["source", "method", "half", "k", "mean", "std", "smallest", "largest"])
    for column in table.columns:
        for k in table.ks:
            s = table.folds(column, k)
            entries = [s.mean, s.std, min(s.values), max(s.values)] if s else [None] * 4
            writer.writerow(["here", column.label, "folds", k, *map(_plain, entries)])
        for k in table.ks if table.protocol.test else ():
            writer.writerow(["here", column.label, "test", k, _plain(table.test(column, k)), *[DASH] * 3])
    for p in table.published:
        for k in table.ks:
            mean, std = p.folds.get(k, (None, None))
            writer.writerow(["published", p.label, "folds", k, _plain(mean), _plain(std), DASH, DASH])
        for k in table.ks:
            writer.writerow(["published", p.label, "test", k, _plain(p.test.get(k)), *[DASH] * 3])
    return text.getvalue()


def as_json(table: Table) -> str:
    """Write a table with every fold and every class."""
    columns = []
    for column in table.columns:
        upper = {}
        for k in table.ks:
            s = table.folds(column, k)
            upper[str(k)] = None if s is None else {"mean": s.mean, "std": s.std, "folds": list(s.values)}
        maps = {
            split.name: {
                str(k): {name: score[name] for name in ("mean_dice", "classes", "matching", "absent")}
                for k, score in table.scores.get((column, split.name), {}).items()
            }
            for split in (*FOLDS, TEST)
        }
        test = {str(k): table.test(column, k) for k in table.ks}
        columns.append(
            {"method": column.method, "anchors_per_stack": column.anchors, "folds": upper, "test": test, "maps": maps}
        )
    published = [
        {
            "label": p.label,
            "folds": {str(k): {"mean": mean, "std": std} for k, (mean, std) in p.folds.items()},
            "test": {str(k): value for k, value in p.test.items()},
        }
        for p in table.published
    ]
    document = {
        "protocol": table.protocol.name,
        "caption": table.caption,
        "notes": table.notes,
        "clusters": list(table.ks),
        "columns": columns,
        "published": published,
    }
    return json.dumps(document, indent=1) + "\n"


WRITERS = {".csv": as_csv, ".json": as_json, ".tex": as_latex, ".md": as_markdown}


def curves(table: Table, half: str) -> list[Curve]:
    """Return Dice against k for every column of one half, ours and then the paper's; only what is there."""
    found = []
    for column in table.columns:
        if half == "folds":
            points = {k: table.bar(s) for k in table.ks if (s := table.folds(column, k))}
        else:
            points = {k: (v, v, v) for k in table.ks if (v := table.test(column, k)) is not None}
        found.append(Curve(column.label, points))
    for p in table.published:
        if half == "folds":
            points = {k: (mean, mean - std, mean + std) for k, (mean, std) in p.folds.items() if k in table.ks}
        else:
            points = {k: (v, v, v) for k, v in p.test.items() if k in table.ks}
        found.append(Curve(f"published: {p.label}", points, published=True))
    return found


def write_table(folder: Path, table: Table) -> Path:
    """Write a table in all formats and its figure, each whole or not at all; return the Markdown.

    Raises
    ------
    OutputError
        If the folder cannot be written to.
    """
    path = folder / f"table-{table.protocol.name}"
    for ending, write in WRITERS.items():
        write_atomically(path.with_suffix(ending), write(table).encode())
    spread = "standard deviation" if table.protocol.spread == "std" else "range"
    halves = {f"folds, mean and {spread}": curves(table, "folds")}
    if table.protocol.test:
        halves["test"] = curves(table, "test")
    write_atomically(path.with_suffix(".png"), draw(f"Protocol {table.protocol.name}", halves))
    return path.with_suffix(".md")


def _published_fold(published: Published, k: int, plus_minus: str) -> str:
    if k not in published.folds:
        return DASH
    mean, std = published.folds[k]
    return f"{mean:.3f} {plus_minus} {std:.3f}"


def _figure(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}"


def _plain(value: float | None) -> str:
    return DASH if value is None else f"{value:.6f}".rstrip("0")


def _latex(text: str) -> str:
    for character in "%&#_":
        text = text.replace(character, f"\\{character}")
    return text
