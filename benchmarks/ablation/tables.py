"""The results as Markdown tables, one of maps and one of teaching for each volume."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt

from ablation.journal import Record

KS = tuple(range(4, 15))
MIDDLE = tuple(range(6, 13))
"""Numbers of clusters over which figures are asked."""

_TITLES = {"best": "single cluster", "union": "union of clusters"}


def tables(records: Iterable[Record]) -> str:
    """Show results: means over seeds."""
    parts = []
    by_volume = sorted(records, key=lambda record: str(record["volume"]))
    for volume, group in groupby(by_volume, key=lambda record: str(record["volume"])):
        of_volume = list(group)
        maps = [record for record in of_volume if record["method"] != "teaching"]
        taught = [record for record in of_volume if record["method"] == "teaching"]
        scored = ", ".join(of_volume[0]["scored"])
        if maps:
            parts += [f"## {volume}: clusters, {scored}", "", *_maps(maps), ""]
        if taught:
            parts += [f"## {volume}: with labels, {scored}", "", *_taught(taught), ""]
    return "\n".join(parts)


def _maps(records: Sequence[Record]) -> list[str]:
    """Dice by k; its mean, least and spread over `MIDDLE`, and the means of the other scores there."""
    single = len(records[0]["scored"]) == 1  # then the Hungarian mean is that of the best cluster
    kind, title, *others = (
        ("best", "best cluster", "union") if single else ("hungarian", "Hungarian mean", "best", "union")
    )
    rows = []
    for name, group in _grouped(records, ("feature", "treatment", "method")):
        by_k = of_all(group, kind, KS)  # (seeds, ks)
        middle = of_all(group, kind, MIDDLE)
        seeds = middle.mean(1)
        numbers = [*by_k.mean(0), seeds.mean(), middle.min(), np.ptp(seeds)]
        numbers += [of_all(group, other, MIDDLE).mean() for other in others]
        rows.append([*name, str(len(group)), *_numbers(numbers)])
    span = f"k = {MIDDLE[0]}..{MIDDLE[-1]}"
    caption = f"Dice by k ({title}), mean over seeds. Over {span}: its mean, the least of any seed, the spread of the "
    caption += f"seeds' means, and the mean of the best {' and of the best '.join(_TITLES[other] for other in others)}."
    header = ["feature", "treatment", "clusterer", "seeds", *map(str, KS), "mean", "least", "spread", *others]
    return [caption, "", *markdown(header, rows)]


def of_all(records: Sequence[Record], kind: str, ks: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return the scores of one kind, ``(seeds, ks)``."""
    return np.array([[record["scores"][str(k)][kind] for k in ks] for record in records])


def _taught(records: Sequence[Record]) -> list[str]:
    """The linear probe, and Dice from so many labelled voxels, by each classifier."""
    weak = records[0]["scores"]["weak"]
    columns = [(count, learner) for learner in next(iter(weak.values())) for count in weak]
    rows = []
    for name, group in _grouped(records, ("feature", "treatment")):
        probes = [np.mean([record["scores"]["probe"][halves] for record in group]) for halves in ("space", "random")]
        taught = [np.mean([r["scores"]["weak"][count][learner] for r in group]) for count, learner in columns]
        rows.append([*name, str(len(group)), *_numbers([*probes, *taught])])
    header = ["feature", "treatment", "seeds", "probe, halves of space", "probe, random halves"]
    header += [f"{count} voxels, {learner}" for count, learner in columns]
    return ["Dice of held-out voxels, mean over seeds and draws.", "", *markdown(header, rows)]


def _grouped(records: Sequence[Record], names: Sequence[str]) -> list[tuple[tuple[str, ...], list[Record]]]:
    """Group results by some of what they are named by."""

    def named(record: Record) -> tuple[str, ...]:
        return tuple(str(record[name]) for name in names)

    return [(name, list(group)) for name, group in groupby(sorted(records, key=named), key=named)]


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]


def _numbers(values: Iterable[float]) -> list[str]:
    return [_number(value) for value in values]


def _number(value: float) -> str:
    return f"{value:.2f}"
