"""What is tried again, and what is told at once."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from vemosaic.blocks import Ledger, units, work
from vemosaic.blocks.records import SupersededError
from vemosaic.blocks.work import ATTEMPTS, Steps, patiently
from vemosaic.errors import OutputError, SettingsError, VemosaicError, VolumeError

UNIT = units((1, 1, 1), (1, 1, 1))[0]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(work, "PAUSE", 0.0)
    yield


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def told(number: int) -> OutputError:
    """What `disk_errors` makes of an error of the operating system."""
    try:
        raise OutputError("folder", "cannot be written to", "mend it") from os_error(number)
    except OutputError as error:
        return error


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (os_error(errno.EIO), ATTEMPTS),
        (os_error(errno.ESTALE), ATTEMPTS),
        (ConnectionError("away"), ATTEMPTS),
        (TimeoutError(), ATTEMPTS),
        (MemoryError(), ATTEMPTS),
        (RuntimeError("unknown"), ATTEMPTS),
        (VolumeError("volume", "cannot be read", "look"), ATTEMPTS),
        (told(errno.EIO), ATTEMPTS),
        (told(errno.ENOSPC), 1),
        (os_error(errno.ENOSPC), 1),
        (os_error(errno.EACCES), 1),
        (os_error(errno.EROFS), 1),
        (OutputError("run", "is now made with other settings", "run it again"), 1),
        (SettingsError("device", "there is none", "choose another"), 1),
        (SupersededError("map is now made with other settings"), 1),
        (TypeError("a mistake in the program"), 1),
    ],
    ids=repr,
)
def test_only_what_may_pass_is_tried_again(error: Exception, attempts: int) -> None:
    tried = 0

    def step() -> None:
        nonlocal tried
        tried += 1
        raise error

    with pytest.raises(type(error)) as raised:
        patiently(step)
    assert raised.value is error
    assert tried == attempts


def test_a_write_that_fails_for_a_moment_is_tried_again_from_its_beginning(tmp_path: Path) -> None:
    failures = [os_error(errno.EIO), os_error(errno.ETIMEDOUT)]

    def write(unit: object, content: bytes) -> None:
        assert not (tmp_path / "file").exists()
        (tmp_path / "file").write_bytes(content)
        if failures:
            raise failures.pop()

    ledger = Ledger(tmp_path / "records", "stage", "f", owns=lambda unit: [tmp_path / "file"], root=tmp_path)
    Steps(lambda unit: b"", lambda unit, data: data, write, ledger).attempt_write(UNIT, b"voxels")
    assert not failures
    assert ledger.is_done(UNIT)


def test_a_write_that_keeps_failing_is_one_line(tmp_path: Path) -> None:
    def write(unit: object, content: bytes) -> None:
        raise os_error(errno.EIO)

    ledger = Ledger(tmp_path / "records", "stage", "f", owns=lambda unit: [tmp_path / "file"], root=tmp_path)
    with pytest.raises(OutputError, match=rf"{tmp_path}: cannot be written to \(Input/output error\); check"):
        Steps(lambda unit: b"", lambda unit, data: data, write, ledger).attempt_write(UNIT, b"")


class OddError(VemosaicError):
    """One that is made from something else than three parts."""

    def __init__(self, place: int) -> None:
        super().__init__("file", f"is damaged at {place}", "copy it again")
        self.place = place


@pytest.mark.parametrize("error", [OutputError("run", "is full: 3; 4", "free it"), OddError(7)])
def test_errors_arrive_from_other_processes_as_they_were(error: VemosaicError) -> None:
    error.add_note("in a worker process")
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert arrived.__dict__ == error.__dict__
