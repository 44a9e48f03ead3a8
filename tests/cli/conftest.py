"""The command line, called in the process of the tests."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from command_line import Command, Ended

from vemosaic import cli


@pytest.fixture
def command(
    quick: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Command]:
    """Call the command line in this process, in an empty folder."""

    def leave(code: int) -> NoReturn:
        raise SystemExit(code)

    monkeypatch.setattr("vemosaic.cli.application.leave", leave)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def call(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["vemosaic", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        told = re.match(r"memory: up to \S+ \S+, in stage \w+\n|", err)
        assert told is not None
        return Ended(ended.value.code or 0, out, err[told.end() :], told[0])  # type: ignore[arg-type]

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield call
