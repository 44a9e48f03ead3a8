"""What the commands say: progress, notes, scores, where the results are."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vemosaic.blocks.events import Listener
    from vemosaic.pipeline import Run


@contextmanager
def listening(quiet: bool, as_json: bool = False) -> Iterator[Listener]:
    """Show how a command goes on; notes are for people and for logs, but not for whoever asked for silence."""
    from vemosaic.blocks.events import ignore
    from vemosaic.progress import ProgressBars

    if quiet:
        with warnings.catch_warnings(action="ignore"):
            yield ignore
    elif as_json:
        yield ignore
    else:
        with ProgressBars() as bars:
            yield bars


def tell(job: Run, quiet: bool, as_json: bool) -> None:
    """Say where the results are, and the scores where there are any."""
    folder = job.folder
    scores = json.loads(folder.scores.read_text()) if folder.scores.exists() and folder.record.get("reference") else []
    if as_json:
        places = {n: str(getattr(folder, n).absolute()) for n in ("segmentation", "report", "model")}
        print(json.dumps({"run": str(folder.path.absolute()), **places, "scores": scores}, indent=1))
    elif not quiet:
        if scores:
            print_scores(scores)
        if like := folder.record.get("like"):
            print(f"numbers and colours as in {like['run']}")
        if suggested := folder.record.get("suggested_k"):
            print(first_look(suggested["k"], suggested["reason"], folder.record["settings"]["clusters"], folder.path))
        print(f"map:    {folder.segmentation}\nreport: {folder.report}")


def first_look(k: int, reason: str, mapped: Sequence[int], run: Path) -> str:
    """Say which map of a run to look at first, or how to get the one that is suggested where it was not made."""
    if k in mapped:
        return f"look at k = {k} first: {reason}"
    command = f"vemosaic cluster {run} -k {min(mapped)}-{max(mapped)}"
    return f"k = {k}, which was not mapped, may be the best ({command}): {reason}"


def tell_of(silent: bool) -> Callable[[str], None]:
    """Return what tells a line beside the progress, or nothing."""
    return (lambda line: None) if silent else (lambda line: print(line, file=sys.stderr, flush=True))


def print_scores(scores: list[dict[str, Any]]) -> None:
    """Print the scores of each k as a table."""
    from rich import print as rich_print
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    def row(name: str, values: Iterable[float]) -> None:
        table.add_row(name, *(f"{value:.3f}" for value in values))

    table = Table("Dice", *(f"k = {s['k']}" for s in scores), box=SIMPLE_HEAD, pad_edge=False)
    row("mean", (s["mean_dice"] for s in scores))
    for name in scores[0]["class_names"]:
        if name not in scores[0]["absent"]:
            row(name, (s["classes"][name]["dice"] for s in scores))
            row("  best single", (s["classes"][name]["best_cluster_dice"] for s in scores))
    row("ARI", (s["ari"] for s in scores))
    row("VI", (s["voi"] for s in scores))
    rich_print(table)


def print_matched(found: list[dict[str, Any]], k: int | None) -> None:
    """Print how far two maps agree for each k; of a single one that was asked for, which clusters are the same."""
    from rich import print as rich_print
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table("clusters", "agreement", "mean Dice", box=SIMPLE_HEAD, pad_edge=False)
    for each in found:
        table.add_row(f"k = {each['k']}", f"{each['agreement']:.2f}", f"{each['mean_dice']:.2f}")
    rich_print(table)
    if k is None:
        print("add -k to see which clusters are the same")
        return
    table = Table("cluster", "the other's", "Dice", "voxels", box=SIMPLE_HEAD, pad_edge=False)
    for row in found[0]["clusters"]:
        table.add_row(str(row["cluster"]), str(row["other"]), f"{row['dice']:.2f}", f"{row['share']:.1%}")
    rich_print(table)


def readable(value: Any) -> str:
    """Write a value for people."""
    if isinstance(value, float):
        return f"{value:,.6g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list):
        return " x ".join(map(readable, value)) if all(isinstance(v, int | float) for v in value) else str(value)
    return str(value)
