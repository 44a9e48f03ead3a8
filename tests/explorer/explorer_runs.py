"""What the tests of the explorer share."""

from __future__ import annotations

import json
import time
from typing import Any

from starlette.testclient import TestClient

TOKEN = "the-token"
SHARD = (16, 32, 32)


def act(client: TestClient, what: str, /, **fields: Any) -> dict[str, Any]:
    """Do an act, and return the answer."""
    answer = client.post("/api/acts", json={"act": what, **fields})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def wait(client: TestClient, name: str, state: str = "done") -> dict[str, Any]:
    """Wait for a job to end in a certain way."""
    for _ in range(500):
        job = next(job for job in client.get("/api/jobs").json() if job["id"] == name)
        if job["state"] not in ("waiting", "running"):
            assert job["state"] == state, json.dumps(job)
            return dict(job)
        time.sleep(0.02)
    raise AssertionError("the job has not ended")


def wait_until_complete(client: TestClient) -> dict[str, Any]:
    """Wait until nothing that the acts need is missing."""
    for _ in range(500):
        state = client.get("/api/state").json()
        if not state["incomplete"]:
            return dict(state)
        time.sleep(0.02)
    raise AssertionError("the map is still incomplete")
