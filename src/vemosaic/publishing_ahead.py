"""Finished shards of a run are copied to S3 while the run goes on, so that publishing it has less to send."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from vemosaic.blocks.files import FileStamp
from vemosaic.publishing import STORES, ChangedError, content, holds_another, unmark
from vemosaic.run_folder import RunFolder
from vemosaic.volumes.remote_folder import RemoteFolder

LOOK_EVERY = 5.0
"""Seconds between looking for what has been finished."""


@contextmanager
def publishing_ahead(folder: str | Path, destination: str, look_every: float = LOOK_EVERY) -> Iterator[None]:
    """Copy finished shards to where a run is to be published, in a thread, while the block runs.

    A shard is sent when its record says that it is done, and only if it has the SHA-256 that stands there; one at a
    time, so that no more than that is in memory. Before the first one is sent, an earlier copy of the run no longer
    looks whole. Where another run lies, or anything else, nothing is done: `publish` replaces it when there is a whole
    run to take its place.

    Nothing hangs on it: `publish` compares all that lies there and sends what is missing. So whatever goes wrong here
    ends the copying without a word, and is told by `publish` if it is still so.

    Parameters
    ----------
    folder
        Of the run, which need not exist yet.
    destination
        As for `publish`.
    look_every
        Seconds between looking for what has been finished.
    """
    stopped = Event()
    thread = Thread(
        target=_copy, args=(Path(folder), destination, look_every, stopped), name="vemosaic publisher", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stopped.set()
    thread.join()


def _copy(folder: Path, address: str, look_every: float, stopped: Event) -> None:
    """Send what is finished as it comes, until the run has ended or something is in the way."""
    destination: _Destination | None = None
    seen: dict[str, int] = {}
    with suppress(Exception):
        while not stopped.wait(look_every):
            for key, known in _finished(folder, seen):
                if stopped.is_set():
                    return
                destination = destination or _Destination(folder, address)
                if not destination.has(key, known):
                    with suppress(ChangedError):  # it is being made anew
                        destination.put(key, content(folder / key, known))


class _Destination:
    """Where the run is to lie; it no longer looks whole once something in it is replaced.

    Raises
    ------
    OutputError
        If something else than the run lies there.
    """

    def __init__(self, folder: Path, address: str) -> None:
        self._remote = RemoteFolder(address)
        self._record = RunFolder.existing(folder).record
        self._listed = self._remote.list()
        self._looks_whole = True
        holds_another(self._remote, self._listed, self._record, overwrite=False)

    def has(self, key: str, known: FileStamp) -> bool:
        """Tell whether a file is there already, from an earlier copy."""
        held = self._listed.get(key)
        return held is not None and held.size == known.size and self._remote.sha256(key) == known.sha256

    def put(self, key: str, shard: bytes) -> None:
        """Send a file."""
        if self._looks_whole:
            unmark(self._remote, self._record, STORES, (), self._listed)
            self._looks_whole = False
        self._remote.put(key, shard)


def _finished(folder: Path, seen: dict[str, int]) -> Iterator[tuple[str, FileStamp]]:
    """Yield the shards of stores, by their paths below the run, whose records have been written since they were seen.

    Records are those of `vemosaic.blocks.records.Ledger`; one that has been superseded names files that are no longer
    as it says.
    """
    for stage in sorted(RunFolder(folder).progress.glob("*/")):
        for entry in sorted(os.scandir(stage), key=lambda entry: entry.name):
            written = entry.stat().st_mtime_ns
            if not entry.name.endswith(".json") or seen.get(entry.path) == written:
                continue
            seen[entry.path] = written
            files = json.loads(Path(entry.path).read_bytes())["files"]
            for key, known in files.items():
                if key.startswith(tuple(f"{store}/" for store in STORES)):
                    yield key, FileStamp(**known)
