"""Files that are whole or absent, their hashes, and disk errors that a user can act on."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from vemosaic.errors import OutputError

Item = TypeVar("Item")

HASHING = 4
"""Threads that hash files."""

AT_ONCE = 8
"""Items that such a thread is given at a time."""


class FileStamp(NamedTuple):
    """By what a file's content is known: its SHA-256 as hexadecimal digits, and its size in bytes."""

    sha256: str
    size: int


def stamp(path: Path) -> FileStamp:
    """Hash a file.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileStamp(digest, os.fstat(file.fileno()).st_size)


def differing(stamps: Mapping[Path, FileStamp]) -> list[Path]:
    """Return the files that are missing or differ from their stamps, sorted; they are hashed in parallel."""

    def differs(file: Path) -> bool:
        try:
            return stamp(file) != stamps[file]
        except OSError:
            return True

    return list(filter_in_parallel(differs, sorted(stamps)))


def filter_in_parallel(holds: Callable[[Item], bool], items: Iterable[Item]) -> Iterator[Item]:
    """Yield, in order, those items for which something holds; few of them are in hand at once, however many there are.

    Parameters
    ----------
    holds
        Called in several threads: something that waits for the disk, or hashes.
    items
        To choose from.
    """
    left = iter(items)

    def chosen(some: list[Item]) -> list[Item]:
        return [item for item in some if holds(item)]

    with ThreadPoolExecutor(max_workers=HASHING) as pool:
        given: deque[Future[list[Item]]] = deque()
        try:
            while some := list(itertools.islice(left, AT_ONCE)):
                given.append(pool.submit(chosen, some))
                if len(given) > 2 * HASHING:
                    yield from given.popleft().result()
            while given:
                yield from given.popleft().result()
        finally:
            for future in given:
                future.cancel()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that after a crash at any moment it is there as a whole or as it was before.

    The folder is created where it is missing. Only one process may write to a path at a time.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written to.
    """
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        partial.replace(path)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make what was renamed or removed in a folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn what the operating system refuses, while one writes below a folder, into one line for the user.

    Raises
    ------
    OutputError
        In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(
                folder,
                "the disk is full",
                "free some space and run the same command again, finished blocks are kept",
            ) from error
        raise OutputError(
            folder,
            f"cannot be written to ({error.strerror or error})",
            "check the folder and its permissions, or choose another output folder",
        ) from error
