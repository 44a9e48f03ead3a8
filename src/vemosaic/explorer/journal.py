"""The journal of a run: one act a line, on disk before it is shown, shared by all that have the run open."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vemosaic import __version__
from vemosaic.blocks.files import disk_errors, sync_folder
from vemosaic.errors import OutputError
from vemosaic.explorer.acts import Act, dump, parse
from vemosaic.explorer.locks import turn

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Line:
    """A line of the journal: its number from 1, the act, and the page that it came from, if any."""

    number: int
    act: Act
    page: str | None


class Journal:
    """The journal file, and the lines of it that have been read.

    Several processes may append; each line is written whole, under a lock, and synced. A line that a killed writer left
    unfinished is cut off by the next one.

    Parameters
    ----------
    path
        The file; it is made by the first act.
    identity
        Of the run's map: the journal of another map is refused.
    default_k
        What the edited map begins with, written into the first line of a new journal.

    Raises
    ------
    OutputError
        If the file is no journal, is damaged, or belongs to another map.
    """

    def __init__(self, path: Path, identity: str, default_k: int) -> None:
        self.path = path
        self.k = default_k
        self.lines: list[Line] = []
        self._identity = identity
        self._begun = False
        self._read = 0  # bytes
        self._lock = threading.RLock()
        self.refresh()

    def refresh(self) -> list[Line]:
        """Read what has been added since, by whomever, and return it."""
        with self._lock:
            try:
                with self.path.open("rb") as file:
                    file.seek(self._read)
                    added = file.read()
            except FileNotFoundError:
                return []
            except OSError as error:
                raise OutputError(self.path, f"cannot be read ({error.strerror})", "check its permissions") from error
            whole = added[: added.rfind(b"\n") + 1]
            known = len(self.lines)
            for text in whole.splitlines():
                self._take(text)
            self._read += len(whole)
            return self.lines[known:]

    def append(self, act: Act, page: str | None = None, check: Callable[[], None] = lambda: None) -> Line:
        """Add an act; it is on disk when this returns.

        Parameters
        ----------
        act
            To be added.
        page
            Which page it comes from.
        check
            Called under the lock, when all lines of others have been read; raises to refuse the act.

        Raises
        ------
        OutputError
            If the disk is full or the file cannot be written to.
        """
        with self._lock, turn(self.path.with_name(f".{self.path.name}.lock")):
            self.refresh()
            check()
            fresh = b"" if self._begun else self._first_line()
            document: dict[str, Any] = {"number": len(self.lines) + 1, "time": _now(), **dump(act)}
            if page is not None:
                document["page"] = page
            with disk_errors(self.path.parent):
                new = not self.path.exists()
                with self.path.open("ab") as file:
                    if file.tell() > self._read:
                        file.truncate(self._read)  # what a killed writer left
                    file.write(fresh + _line(document))
                    file.flush()
                    os.fsync(file.fileno())
                if new:
                    sync_folder(self.path.parent)
            return self.refresh()[-1]

    def _first_line(self) -> bytes:
        about = {"act": "begin", "number": 0, "time": _now(), "run": self._identity, "k": self.k}
        return _line({**about, "vemosaic": __version__})

    def _take(self, text: bytes) -> None:
        number = len(self.lines) + 1 if self._begun else 0
        try:
            document = json.loads(text)
            if document.pop("number") != number:
                raise ValueError
            document.pop("time")
            if number == 0:
                self._begin(document)
            else:
                page = document.pop("page", None)
                self.lines.append(Line(number, parse(document), page))
        except (ValueError, LookupError, AttributeError, TypeError, ValidationError) as error:
            raise OutputError(
                self.path,
                f"line {number + 1} is damaged, or not of a journal that vemosaic {__version__} understands",
                "restore the file from a copy, or move it away to begin anew",
            ) from error

    def _begin(self, document: dict[str, Any]) -> None:
        if document["act"] != "begin" or not isinstance(document["k"], int):
            raise ValueError
        if document["run"] != self._identity:
            raise OutputError(
                self.path,
                "is the journal of another map, or of this one before it was made anew",
                "move it away to begin anew, or give the run that it belongs to",
            )
        self.k = document["k"]
        self._begun = True


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
