"""The command in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from command_line import references, started

import vemosaic
from small_runs import SHAPE, Cell, labels, peaks_below
from vemosaic.memory import project
from vemosaic.settings import Settings

COMMANDS = ("run", "demo", "info", "train", "embed", "cluster", "evaluate", "report", "figures", "bench")


def test_version() -> None:
    process = started("--version")
    assert process.communicate() == (f"{vemosaic.__version__}\n", "")
    assert process.returncode == 0


def test_help_of_everything_without_heavy_imports() -> None:
    program = (
        "import sys\nfrom vemosaic.cli import app\n"
        f"for words in [], *([c] for c in {COMMANDS}):\n"
        "    try:\n        app([*words, '--help'], prog_name='vemosaic')\n"
        "    except SystemExit as ended:\n        assert not ended.code\n"
        "heavy = {'torch', 'numpy', 'zarr', 'tensorstore', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    for name in COMMANDS:
        assert f"Usage: vemosaic {name} " in said.stdout


def test_as_a_module() -> None:
    said = subprocess.run([sys.executable, "-m", "vemosaic", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout == f"{vemosaic.__version__}\n"


def test_a_whole_run_with_the_default_model(cell: Cell, tmp_path: Path) -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[5:15, 10:18, 10:20] = 1
    np.save(tmp_path / "mask.npy", mask)
    words = ("--anchors", 128, "-k", 3, "--words", 8, "--mask", tmp_path / "mask.npy", "-o", tmp_path / "run")
    process = started("run", cell.raw, "--voxel-size", 16, *words, *references(cell), "--json")
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert json.loads(out)["scores"][0]["k"] == 3
    assert (tmp_path / "run/report.html").stat().st_size > 50_000
    np.testing.assert_array_equal(labels(tmp_path / "run", 3) != 0, mask != 0)
    if Path("/proc/self/clear_refs").exists():  # only Linux tells
        projection = project(Settings(clusters=(3,), words=8), SHAPE)
        assert 0.3 * projection.peak < max(peaks_below(projection, tmp_path / "run").values())


def test_bad_input_has_no_traceback(tmp_path: Path) -> None:
    process = started("run", tmp_path / "absent.tif", cwd=tmp_path)
    assert process.communicate() == ("", f"error: {tmp_path}/absent.tif: does not exist; check the path\n")
    assert process.returncode == 2
    assert list(tmp_path.iterdir()) == []
