"""What has been finished of a stage, written down so that a rerun does only what is missing or damaged.

A unit owns its files. It is begun (its record and its files are removed), written, and completed: the record,
with the hash of every file, is renamed into place only after the files are on disk. The idea is that of
iohub's ``ngff/_write_units.py`` (BSD-3, Chan Zuckerberg Biohub); here the record vouches for content, not
only presence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vemosaic.blocks.files import FileStamp, disk_errors, filter_in_parallel, stamp, write_atomically
from vemosaic.blocks.grid import Unit

LEFTOVER_ENDINGS = (".__lock", ".partial")
"""What a killed writer leaves beside a file: tensorstore's, and that of `write_atomically`."""


def fingerprint(*parts: object) -> str:
    """Hash whatever decides a stage's result: settings, input identity, model, version.

    Parameters
    ----------
    *parts
        Anything that JSON can hold; dictionaries count the same in any order.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class SupersededError(RuntimeError):
    """A worker that outlived its run was about to write what another run now writes with other settings."""


class Ledger:
    """The records of one stage.

    Parameters
    ----------
    folder
        Where records lie, beside the output and not inside it; each stage has its own folder there.
    stage
        The stage's name, fit for a folder name.
    fingerprint
        Hash of everything that decides the result; records with another one do not count.
    owns
        Tells which files a unit writes: all of them, and no other unit writes any of them.
    root
        Folder that all those files lie below; records name them relative to it, so that the whole can be
        moved.
    """

    def __init__(
        self,
        folder: Path,
        stage: str,
        fingerprint: str,
        *,
        owns: Callable[[Unit], Sequence[Path]],
        root: Path,
    ) -> None:
        self.stage = stage
        self.root = root
        self._folder = folder / stage
        self._fingerprint = fingerprint
        self._owns = owns

    def start(self) -> None:
        """Say which fingerprint is wanted from now on: workers of an earlier run that still live write no more."""
        if self._wanted() != self._fingerprint:
            write_atomically(self._mark, self._fingerprint.encode())

    def begin(self, unit: Unit) -> None:
        """Mark a unit as in flight; remove its record, its files and what a killed writer left beside.

        Raises
        ------
        SupersededError
            If another fingerprint is wanted meanwhile.
        """
        if self._wanted() not in (None, self._fingerprint):
            raise SupersededError(f"{self.stage} of {self.root} is now made with other settings")
        with disk_errors(self.root):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._in_flight(unit).touch()
            self._record(unit).unlink(missing_ok=True)
            for file in self._owns(unit):
                file.unlink(missing_ok=True)
                for ending in LEFTOVER_ENDINGS:
                    file.with_name(file.name + ending).unlink(missing_ok=True)

    def complete(self, unit: Unit, facts: Mapping[str, Any] | None = None) -> None:
        """Record that the files of a unit are on disk, with their hashes.

        Parameters
        ----------
        unit
            The unit.
        facts
            What else there is to know of it, for whoever puts the stage together: anything that JSON can hold.

        Raises
        ------
        RuntimeError
            If the unit has not written all the files that it owns.
        """
        unwritten = [file for file in self._owns(unit) if not file.exists()]
        if unwritten:
            raise RuntimeError(f"unit {unit.name} of {self.stage} has not written {unwritten[0]}, which it owns")
        files = {str(file.relative_to(self.root)): stamp(file)._asdict() for file in self._owns(unit)}
        record = self._expected(unit) | {"files": files, "facts": facts or {}}
        write_atomically(self._record(unit), json.dumps(record, indent=1).encode())
        self._in_flight(unit).unlink(missing_ok=True)

    def is_done(self, unit: Unit) -> bool:
        """Tell whether a unit is recorded with this fingerprint and its files have the recorded hashes."""
        recorded = self.files(unit)
        if recorded is None or set(recorded) != set(self._owns(unit)):
            return False
        try:
            return all(stamp(file) == known for file, known in recorded.items())
        except OSError:
            return False

    def done(self, units: Sequence[Unit]) -> set[Unit]:
        """Return those units that are done; files are hashed in parallel."""
        return set(filter_in_parallel(self.is_done, units))

    def files(self, unit: Unit) -> dict[Path, FileStamp] | None:
        """Return what a unit's record vouches for, or None where none has this fingerprint."""
        try:
            record = self._read(unit)
            files = {self.root / name: FileStamp(**known) for name, known in record.pop("files").items()}
            record.pop("facts")
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        return files if record == self._expected(unit) else None

    def facts(self, unit: Unit) -> dict[str, Any]:
        """Return what `complete` was told of a unit that is done."""
        facts: dict[str, Any] = self._read(unit)["facts"]
        return facts

    def _read(self, unit: Unit) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self._record(unit).read_bytes())
        return record

    def recorded(self, units: Iterable[Unit]) -> dict[Path, FileStamp]:
        """Return what the records of these units vouch for, for a final check of the whole."""
        return {file: known for unit in units for file, known in (self.files(unit) or {}).items()}

    def _expected(self, unit: Unit) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "unit": unit.name,
            "origin": list(unit.origin),
            "shape": list(unit.shape),
            "fingerprint": self._fingerprint,
        }

    @property
    def _mark(self) -> Path:
        return self._folder / "fingerprint"

    def _wanted(self) -> str | None:
        try:
            return self._mark.read_text()
        except OSError:
            return None

    def _record(self, unit: Unit) -> Path:
        return self._folder / f"{unit.name}.json"

    def _in_flight(self, unit: Unit) -> Path:
        return self._folder / f"{unit.name}.in-flight"
