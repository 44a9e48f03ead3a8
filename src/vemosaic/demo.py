"""The demonstration: a phantom cell drawn, mapped and scored, so that anyone sees the whole machinery turn."""

from __future__ import annotations

from pathlib import Path

from vemosaic.blocks.events import Listener, ignore
from vemosaic.datasets.betaseg import FOUR_CLASSES, betaseg_cell
from vemosaic.datasets.phantom import write_betaseg
from vemosaic.inputs import ReferenceInput
from vemosaic.pipeline import Run, run
from vemosaic.settings import Settings

SHAPE = (96, 160, 160)
ANCHORS = 36_000
CLUSTERS = (4, 6, 8)


def run_demo(out: Path, *, seed: int = 1, listen: Listener = ignore) -> Run:
    """Draw a phantom cell in BetaSeg's layout, run the main job on it, and score its four large classes.

    The phantom is drawn each time, in seconds: files that were cut short or drawn from another seed need no thought.

    Parameters
    ----------
    out
        Folder; the phantom lies in ``out/phantom``, the run in ``out/run``.
    seed
        Of the phantom and the run.
    listen
        Hears of every stage.
    """
    data = out / "phantom"
    write_betaseg(data, cell="high_c1", shape=SHAPE, seed=seed)
    source, masks = betaseg_cell(data, "high_c1")
    settings = Settings(anchors=ANCHORS, clusters=CLUSTERS, seed=seed)
    reference = ReferenceInput(tuple(f"{name}={path}" for name, path in masks.items()), FOUR_CLASSES)
    return run(str(source), out / "run", settings, reference=reference, overwrite=True, listen=listen)
