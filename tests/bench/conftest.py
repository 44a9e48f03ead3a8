"""What the benchmarks' tests share: machines that are measured in no time, a small volume."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

import vemosaic.bench.peaks
from numeric_core import blobs


@pytest.fixture(scope="session")
def image() -> npt.NDArray[np.uint8]:
    return np.clip(128 + 40 * blobs((12, 20, 30)), 0, 255).astype(np.uint8)


@pytest.fixture
def modest(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Try the machine with small matrices, arrays and files."""
    for name, value in {"MATRIX": 64, "VECTOR": 2**14, "FILE": 2**14}.items():
        monkeypatch.setattr(vemosaic.bench.peaks, name, value)
    monkeypatch.setattr(vemosaic.bench.peaks.best_time, "__defaults__", (0.0,))
    return monkeypatch
