"""A finished small run whose texture has been read, and what is served of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from explorer_runs import SHARD, TOKEN
from starlette.testclient import TestClient

from vemosaic.explorer import chores
from vemosaic.explorer.server import create_app
from vemosaic.explorer.session import Session
from vemosaic.volumes import array_writing


@pytest.fixture(scope="session")
def described(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run with its texture; not to be written to."""
    from small_runs import made_quick

    path = Path(shutil.copytree(finished, tmp_path_factory.mktemp("described") / "run"))
    with made_quick() as patch:
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
