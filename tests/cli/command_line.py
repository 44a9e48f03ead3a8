"""What the tests of the command line share: how a command ended, and the words of a small run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from small_runs import Cell, record

TINY = ("--anchors", "32", "-k", "3,4", "--words", "8", "--vocabularies", "1")


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, what it printed, and what it told of memory before all else."""

    code: int
    out: str
    err: str
    memory: str = ""

    def refused(self) -> str:
        """Return the one line with which a command ended that could not do as told."""
        assert self.code == 2, self
        assert self.out == ""
        assert self.err.startswith("error: "), self
        assert self.err.count("\n") == 1, self.err
        assert self.err.endswith("\n")
        assert "; " in self.err, "no remedy"
        assert "Traceback" not in self.err
        return self.err


Command = Callable[..., Ended]


def run(command: Command, cell: Cell, *more: object) -> Ended:
    return command("run", cell.raw, "--voxel-size", 16, *TINY, *more)


def references(cell: Cell) -> list[str]:
    return [word for spec in cell.reference.specs for word in ("--reference", spec)]


def saved(name: str, array: npt.NDArray[Any]) -> str:
    np.save(name, array)
    return name


def noise(*shape: int, dtype: npt.DTypeLike = np.uint8) -> npt.NDArray[Any]:
    return np.random.default_rng(0).integers(0, 255, shape).astype(dtype)


def check_nothing_looks_finished() -> None:
    """No map, report or scores; a record, if any, that is not complete."""
    assert not [f for f in Path("out").rglob("*") if f.name in ("report.html", "scores.json", "clusters.json")]
    assert not Path("out/segmentation.ome.zarr/zarr.json").exists()
    if Path("out/run.json").exists():
        assert record(Path("out"))["complete"] is False


def started(*words: object, cwd: Path | None = None) -> subprocess.Popen[str]:
    """Start the installed command."""
    program = Path(sys.executable).with_name("vemosaic")
    return subprocess.Popen(
        [str(program), *map(str, words)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
