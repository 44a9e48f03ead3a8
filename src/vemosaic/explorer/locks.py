"""Waiting for one's turn among several servers and commands on one run."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vemosaic.blocks.events import Listener, StageStarted, UnitDone
from vemosaic.blocks.files import disk_errors
from vemosaic.errors import OutputError

PATIENCE = 0.05
"""Seconds between two looks at a lock that another holds."""


def patience(listen: Listener) -> Callable[[], None]:
    """Return what tells a listener that one waits; the listener may raise to give up."""
    told = False

    def wait() -> None:
        nonlocal told
        listen(UnitDone("waiting", 0) if told else StageStarted("waiting", 1, unit_name="turn"))
        told = True

    return wait


@contextmanager
def turn(file: Path, still_wanted: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock that a file carries, waiting for it where another process or thread has it.

    The lock is the operating system's and ends with the process that holds it.

    Parameters
    ----------
    file
        Created where it is missing, and left there.
    still_wanted
        Called while waiting; raises to give up.

    Raises
    ------
    OutputError
        If the file cannot be made, or its file system has no locks.
    """
    with disk_errors(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                still_wanted()
                time.sleep(PATIENCE)
            except OSError as error:
                raise OutputError(
                    file.parent,
                    f"its file system has no file locks ({error.strerror})",
                    "move the run to another file system",
                ) from error
        yield
    finally:
        os.close(descriptor)
