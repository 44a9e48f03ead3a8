"""What all tests share: where the real volumes lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real volumes (VEMOSAIC_DATA, or shared/data beside the checkout); skips where there is none."""
    named = os.environ.get("VEMOSAIC_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "README.md").exists():
        pytest.skip(f"real data not found in {folder}")
    return folder
