"""Results as they come: one line of JSON each, appended at once, so that an interrupted comparison goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Key = tuple[Any, ...]

NAMED_BY = ("volume", "feature", "treatment", "method", "seed")


def key(record: Record) -> Key:
    """Return what a result is named by: one of the same name replaces it."""
    return tuple(record[name] for name in NAMED_BY)


class Journal:
    """The results so far.

    Parameters
    ----------
    path
        The file; a last line that was cut short is passed over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: dict[Key, Record] = {}
        whole = True
        for line in path.read_text().splitlines(keepends=True) if path.exists() else ():
            whole = line.endswith("\n")
            try:
                record = json.loads(line)
            except ValueError:
                continue
            self._records[key(record)] = record
        if not whole:
            self._write("\n")

    def has(self, name: Key, about: str) -> bool:
        """Whether there is a result of this name that was made from the same settings and data."""
        return name in self._records and self._records[name]["about"] == about

    def add(self, record: Record) -> None:
        """Append a result."""
        self._records[key(record)] = record
        self._write(json.dumps(record) + "\n")

    def records(self) -> list[Record]:
        """Return the results, each name once, in order."""
        return [self._records[name] for name in sorted(self._records)]

    def _write(self, text: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
