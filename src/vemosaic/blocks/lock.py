"""One run at a time in a folder, or several workers of one run."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vemosaic.blocks.files import disk_errors
from vemosaic.errors import OutputError

LOCK_NAME = ".vemosaic.lock"


@contextmanager
def claim(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a folder for this run; it is created where it is missing.

    The lock is the operating system's: it ends with the process, however that ends, so that a killed run
    leaves no stale lock. The file that carries it stays (removing it would let two runs hold two files of one
    name).

    Parameters
    ----------
    folder
        Of the run.
    shared
        Hold it together with others that share it: workers that each do a part.

    Raises
    ------
    OutputError
        If another run holds the folder, or it cannot be written to.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 100).decode(errors="replace").strip()
            raise OutputError(
                folder,
                f"another run is working in it ({holder or 'unknown process'})",
                "wait until it has ended, or choose another output folder",
            ) from error
        except OSError as error:
            raise OutputError(
                folder,
                f"its file system has no file locks ({error.strerror})",
                "choose an output folder on another file system",
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode())
        yield
    finally:
        os.close(descriptor)
