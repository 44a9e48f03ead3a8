from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from report_fixture import MadeRun, write_run

from vemosaic.report import write_report


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., MadeRun]:
    """Writes a run of its own for one test."""
    return lambda **options: write_run(tmp_path / "run", **options)


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    """A run, with its report, that tests read and do not change."""
    run = write_run(tmp_path_factory.mktemp("report") / "run")
    write_report(run.folder, volume=run.volume, reference=run.reference)
    return run
