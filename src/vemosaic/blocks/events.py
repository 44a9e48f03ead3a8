"""What a stage tells while it runs: progress bars, journals and tests are plain listeners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class StageStarted:
    """A stage begins.

    Attributes
    ----------
    stage
        Its name.
    total
        All there is to do, in ``unit_name``.
    done
        What an earlier run has already done of it; the rate of this run does not count it.
    unit_name
        What amounts are counted in: ``"voxel"``, ``"anchor"``.
    """

    stage: str
    total: int
    done: int = 0
    unit_name: str = "voxel"


@dataclass(frozen=True)
class UnitDone:
    """A further ``amount`` of the stage is done, and, where it has a record, on disk."""

    stage: str
    amount: int


@dataclass(frozen=True)
class StageEnded:
    """All of the stage is done."""

    stage: str


Event = StageStarted | UnitDone | StageEnded
Listener = Callable[[Event], None]
"""Called in the thread that runs the stage, in the order in which things happened."""


def ignore(event: Event) -> None:
    """Listen to nothing."""
