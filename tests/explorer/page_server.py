"""Serves a small run to a browser; run as a program it is the server, so that it can be killed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, Self

from explorer_runs import SHARD, TOKEN


class Served:
    """A server of a run, in a process of its own.

    Parameters
    ----------
    run
        Folder of a finished run.
    slow
        Seconds that each step of the jobs somebody asked for is drawn out by, so that they can be met half done.
    """

    def __init__(self, run: Path, slow: float = 0.0) -> None:
        self.run = run
        self.slow = slow
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def link(self) -> str:
        return f"{self.origin}/?token={TOKEN}"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        arguments = [sys.executable, __file__, str(self.run), str(self.port), str(self.slow)]
        paths = os.pathsep.join(map(str, [Path(__file__).parent, Path(__file__).parents[1]]))
        self._process = subprocess.Popen(arguments, env={**os.environ, "PYTHONPATH": paths})
        for _ in range(600):
            assert self._process.poll() is None, "the server has ended"
            try:
                self.state()
                return
            except OSError:  # not there yet
                time.sleep(0.05)
        raise AssertionError("the server does not answer")

    def kill(self) -> None:
        """End the server as a power cut would."""
        self._process.kill()
        self._process.wait()

    def state(self) -> dict[str, Any]:
        return self._ask("state")

    def act(self, what: str, **fields: Any) -> dict[str, Any]:
        """Do an act as a script would."""
        return self._ask("acts", json.dumps({"act": what, **fields}).encode())

    def _ask(self, what: str, body: bytes | None = None) -> dict[str, Any]:
        headers = {"Authorization": f"token {TOKEN}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.origin}/api/{what}", body, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return dict(json.load(answer))


def main(run: Path, port: int, slow: float) -> None:
    """Serve a run that was made with small tiles and shards."""
    from small_runs import made_quick
    from vemosaic.explorer import jobs
    from vemosaic.explorer.serving import serve
    from vemosaic.volumes import array_writing

    heard = jobs.Job._hear

    def drawn_out(job: jobs.Job, event: Any) -> None:
        heard(job, event)
        if job.kind not in ("grey", "texture", "layout"):
            time.sleep(slow)

    with made_quick() as patch:
        patch.setattr(array_writing, "SHARD", SHARD)
        patch.setattr(jobs.Job, "_hear", drawn_out)
        serve(run, port=port, token=TOKEN, tell=lambda _: None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
