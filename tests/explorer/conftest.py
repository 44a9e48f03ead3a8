"""A finished small run whose texture has been read, and what is served of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from explorer_runs import SHARD, TOKEN
from starlette.testclient import TestClient

from vemosaic.explorer import chores
from vemosaic.explorer.server import create_app
from vemosaic.explorer.session import Session
from vemosaic.shard_stages import ShardStages
from vemosaic.volumes import array_writing

if TYPE_CHECKING:
    from small_runs import Cell


@pytest.fixture(scope="session")
def described(cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its texture, whose map of 4 clusters is shown first; not to be written to."""
    from small_runs import made_quick, run_cell

    path = tmp_path_factory.mktemp("described") / "run"
    with made_quick(full_report=True) as patch:
        patch.setattr(ShardStages, "_shown_first", lambda self, ks: 4)  # and not what this little a cell suggests
        run_cell(cell, path, reference=cell.reference)
        patch.setattr(array_writing, "SHARD", SHARD)
        Session(path).derived.texture.write()
    return path


@pytest.fixture
def explored(described: Path, tmp_path: Path, quick: pytest.MonkeyPatch) -> Path:
    """A copy of the run, small shards and all."""
    quick.setattr(array_writing, "SHARD", SHARD)
    return Path(shutil.copytree(described, tmp_path / "run"))


@pytest.fixture
def session(explored: Path) -> Session:
    """The run, opened."""
    return Session(explored)


@pytest.fixture
def client(session: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A script that has the token; no jobs begin by themselves, and none in a process of its own."""
    monkeypatch.setattr(chores, "run_outside", lambda chore, path, listen, still_wanted: chore(path, listen))
    app = create_app(session, TOKEN, background=False)
    headers = {"Authorization": f"token {TOKEN}"}
    with TestClient(app, base_url="http://127.0.0.1:8765", headers=headers, raise_server_exceptions=False) as client:
        yield client
