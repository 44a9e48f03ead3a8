"""Options that stand in groups are options like all others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import typer
import zarr
from typer.testing import CliRunner

from vemosaic.cli import app
from vemosaic.cli.groups import with_groups
from vemosaic.cli.options import Quiet
from vemosaic.pipeline import Run


@dataclass(frozen=True)
class Place:
    """Where."""

    depth: Annotated[int, typer.Option("--depth", "-d", help="How deep.")] = 3
    name: Annotated[str | None, typer.Option(help="Of what.")] = None


def test_a_group_is_put_together_from_its_options() -> None:
    called = []
    small = typer.Typer()

    @small.command()
    @with_groups
    def command(what: str, *, place: Place, quiet: Quiet = False) -> None:
        """Go there."""
        called.append((what, place, quiet))

    def run(*words: str) -> str:
        ended = CliRunner().invoke(small, words, catch_exceptions=False)
        assert ended.exit_code == 0, ended.output
        return ended.output

    run("one")
    run("two", "-d", "5", "--name", "cell", "-q")
    assert called == [("one", Place(), False), ("two", Place(5, "cell"), True)]
    page = run("--help")
    assert "Go there." in page
    assert [page.index(part) for part in ("--depth", "--name", "--quiet")] == sorted(
        page.index(part) for part in ("--depth", "--name", "--quiet")
    )


def test_a_sparse_volume_is_trained_on_as_it_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = zarr.create_array(
        tmp_path / "sparse.zarr", shape=(32, 32, 32), chunks=(16, 32, 32), dtype="uint8", fill_value=7
    )
    array[:16] = np.random.default_rng(0).integers(0, 255, (16, 32, 32), np.uint8)
    opened = []
    monkeypatch.setattr(Run, "train", lambda run, **_: opened.append(run.first.working.read((15, 0, 0), (2, 1, 1))[1]))
    words = ["train", str(tmp_path / "sparse.zarr"), "--voxel-size", "16", "-q", "--out"]
    assert CliRunner().invoke(app, [*words, str(tmp_path / "run"), "--missing-chunks", "fill"]).exit_code == 0
    assert opened == [7]
    refused = CliRunner().invoke(app, [*words, str(tmp_path / "other")])
    assert "is missing" in str(refused.exception)
    assert len(opened) == 1
