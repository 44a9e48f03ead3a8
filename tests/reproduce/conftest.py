"""Four tiny cells laid out as BetaSeg, and methods that train in a moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import vemosaic.reproduce.estimate
from small_runs import MODEL, made_quick
from vemosaic.datasets.betaseg import CATEGORIES, CELL_SUFFIX, CELLS, SUFFIXES, write_cell
from vemosaic.datasets.phantom import phantom_cell
from vemosaic.presets import PRESETS
from vemosaic.reproduce import Plan, Selection, betaseg_plan, reproduce
from vemosaic.settings import Settings

SHAPE = (16, 20, 24)


def draw_cells(folder: Path) -> Path:
    """Write four boxes of one phantom; nucleus, granules and mitochondria fill a corner each."""
    raw = phantom_cell((48, 48, 64), seed=2).raw
    for number, cell in enumerate(CELLS):
        z, y, x = (slice(4 * number, 4 * number + n) for n in SHAPE)
        masks = {name: np.zeros(SHAPE, np.uint8) for name in CATEGORIES}
        masks["nucleus"][:, :10, :12] = 255
        masks["granules"][:, 8:, :12] = 255
        masks["mitochondria"][:, 10:, 10:] = 255
        outline = np.zeros(SHAPE, np.uint8)
        outline[:, 6:] = 255
        files = [(SUFFIXES[name], mask) for name, mask in masks.items()]
        write_cell(folder, cell, [("source", raw[z, y, x]), *files, (CELL_SUFFIX, outline)])
    return folder


@contextmanager
def quick_methods() -> Iterator[pytest.MonkeyPatch]:
    """Tiny networks where the preset allows it, batches of 4 or 8, small samples."""
    with made_quick() as patch:
        patch.setitem(PRESETS, "default", Settings(model=MODEL, words=4, vocabularies=1, smoothing=1.0))
        for name in ("han2022", "cihs"):
            model = PRESETS[name].model
            small = model.model_copy(update={"optimiser": model.optimiser.model_copy(update={"batch": 4})})
            patch.setitem(PRESETS, name, PRESETS[name].model_copy(update={"model": small}))
        patch.setattr("vemosaic.embedding_sample.SAMPLE_BY_PATCH", 60)
        patch.setattr("vemosaic.reproduce.plan._CIHS_SHARE", 2)
        patch.setattr("vemosaic.reproduce.table.draw", lambda title, halves: title.encode())
        patch.setattr(vemosaic.reproduce.estimate, "phantom_cell", lambda _: phantom_cell((48, 48, 48)))
        yield patch


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four cells; not to be written to."""
    return draw_cells(tmp_path_factory.mktemp("betaseg"))


@pytest.fixture
def fast() -> Iterator[pytest.MonkeyPatch]:
    """Make whole reproductions a matter of seconds."""
    with quick_methods() as patch:
        yield patch


@pytest.fixture
def plan(cells: Path, fast: pytest.MonkeyPatch) -> Plan:
    """A plan for the tiny cells."""
    return betaseg_plan(cells, anchors=[8], clusters=[4, 5], width=0.25, stride=4)


@pytest.fixture(scope="session")
def reproduced(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reproduction with the default preset, complete; not to be written to."""
    out = tmp_path_factory.mktemp("reproduced") / "out"
    with quick_methods():
        plan = betaseg_plan(cells, anchors=[8], clusters=[4, 5], width=0.25, stride=4)
        reproduce(plan, out, Selection.named(["default"], ["whole-cell", "inside-cell", "slab", "leave-one-out"]))
    return out
