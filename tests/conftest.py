"""What all tests share: where the real volumes lie, and a small run."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from small_runs import Cell  # which imports everything: only where it is used

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tensors are tiny here, and sums the same on any number of cores
for name in ("GITHUB_ACTIONS", "FORCE_COLOR", "PY_COLORS"):  # would colour what the command line prints
    os.environ.pop(name, None)
settings.register_profile("on any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("on any machine")


@pytest.fixture(scope="session", autouse=True)
def brief_collections() -> None:
    """Let the garbage collector pass over all that was imported: each run collects after every stage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real volumes (VEMOSAIC_DATA, or shared/data beside the checkout); skips where there is none."""
    named = os.environ.get("VEMOSAIC_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "README.md").exists():
        pytest.skip(f"real data not found in {folder}")
    return folder


@pytest.fixture(scope="session")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """A small phantom cell on disk; not to be written to."""
    from small_runs import draw_cell

    return draw_cell(tmp_path_factory.mktemp("cell"))


@pytest.fixture
def quick() -> Iterator[pytest.MonkeyPatch]:
    """Make whole runs a matter of a second."""
    from small_runs import made_quick

    with made_quick() as patch:
        yield patch


@pytest.fixture(scope="session")
def finished(cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the small cell, scored; not to be written to."""
    from small_runs import made_quick, run_cell

    out = tmp_path_factory.mktemp("finished") / "run"
    with made_quick(full_report=True):
        run_cell(cell, out, reference=cell.reference)
    return out


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be damaged or changed."""
    return Path(shutil.copytree(finished, tmp_path / "copied"))


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """What the command line does with Ctrl-C and SIGTERM must not outlive a test that calls it in this process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
