"""Runs of the small cell that are killed at a given moment: ``python killed_runs.py RAW OUT [stored] MOMENT...``.

A moment is the n-th time that a run tells of its progress or changes something on disk; 0 lets it live and counts them.
With ``stored`` they cluster in a stream, and store embedding and confidence. Each run lies in ``OUT/MOMENT``; a line
says how it ended, as the wait status, and how many moments it saw.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import vemosaic.training
from small_runs import SETTINGS, Cell, made_quick, run_cell
from vemosaic.volumes.array_writing import ShardedArray

DISK = [(Path, "replace"), (Path, "unlink"), (Path, "mkdir"), (shutil, "rmtree"), (ShardedArray, "write")]


def main(raw: Path, out: Path, moments: list[int], more: dict[str, Any]) -> None:
    """Fork a child for each moment: a process that has used no thread yet can be forked."""
    for moment in moments:
        child = os.fork()
        if child == 0:
            count = killed_run(Cell(raw.parent), out / str(moment), moment, more)
            print(count, flush=True)
            os._exit(0)
        print(moment, os.waitpid(child, 0)[1], flush=True)


def killed_run(cell: Cell, out: Path, moment: int, more: dict[str, Any]) -> int:
    """Run until the moment; return how many there were."""
    passed = 0

    def tick(*_: object) -> None:
        nonlocal passed
        passed += 1
        if passed == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def ticking(plain: Callable[..., Any]) -> Callable[..., Any]:
        def ticked(*arguments: Any, **more: Any) -> Any:
            tick()
            result = plain(*arguments, **more)
            tick()
            return result

        return ticked

    with made_quick() as patch:
        patch.setattr(vemosaic.training, "CHECKPOINT_SECONDS", 0.0)
        for owner, name in DISK:
            patch.setattr(owner, name, ticking(getattr(owner, name)))
        run_cell(cell, out, reference=cell.reference, listen=tick, **more)
    return passed


if __name__ == "__main__":
    raw, out, *rest = sys.argv[1:]
    stored = {
        "settings": SETTINGS.model_copy(update={"fit": "stream"}), "store_embedding": True, "store_confidence": True,
    }  # fmt: skip
    moments = [int(word) for word in rest if word != "stored"]
    main(Path(raw), Path(out), moments, stored if "stored" in rest else {})
