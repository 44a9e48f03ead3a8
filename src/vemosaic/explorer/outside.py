"""Work in a process of its own: the encoder and t-SNE must neither slow the server down nor stay in its memory."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from vemosaic.blocks.events import Event, Listener
from vemosaic.errors import VemosaicError

Chore = Callable[[Path, Listener], None]
PATIENCE = 0.2
"""Seconds between two looks at whether the work is still wanted."""


class OutsideError(VemosaicError):
    """What went wrong in the other process."""

    def __init__(self, line: str) -> None:
        problem, _, remedy = line.rpartition("; ")
        subject, _, problem = problem.partition(": ")
        super().__init__(subject, problem, remedy)


def run_outside(chore: Chore, path: Path, listen: Listener, still_wanted: Callable[[], None]) -> None:
    """Do a chore on a run in a process of its own, and wait for it.

    Parameters
    ----------
    chore
        A function of a module, called with the path and a listener.
    path
        Folder of the run.
    listen
        Hears what the chore tells.
    still_wanted
        Called several times a second. Whatever it or the listener raises stops the process.

    Raises
    ------
    VemosaicError
        Whatever the chore raised, or if the process was ended.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_carry_out, args=(chore, path, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        while True:
            if not ours.poll(PATIENCE):
                still_wanted()
                continue
            try:
                told: Event | str | None = ours.recv()
            except EOFError:
                process.join()
                raise OutsideError(
                    f"{path}: the process that did this was ended (exit code {process.exitcode}, memory may have run "
                    "out); start it again, it goes on from where it was"
                ) from None
            if told is None:
                return
            if isinstance(told, str):
                raise OutsideError(told)
            listen(told)
    finally:
        process.terminate()
        process.join()
        ours.close()


def _carry_out(chore: Chore, path: Path, pipe: Connection) -> None:
    os.nice(5)  # a slice that somebody waits for comes first
    warnings.simplefilter("ignore")
    try:
        chore(path, pipe.send)  # which fails, and ends this process, once the server is gone
    except BrokenPipeError:
        return
    except VemosaicError as error:
        pipe.send(" ".join(str(error).split()))
        return
    except Exception as error:
        pipe.send(f"{path}: failed ({type(error).__name__}: {error}); start it again, and report it if it fails again")
        return
    pipe.send(None)
