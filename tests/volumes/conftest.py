"""A small image that every format is written with, and servers on free ports."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from vemosaic.volumes.volume import Volume


@pytest.fixture
def image() -> npt.NDArray[np.uint8]:
    """An image whose axes differ in length, so that a swap shows."""
    return np.random.default_rng(7).integers(0, 256, (10, 12, 14), dtype=np.uint8)


@pytest.fixture
def same() -> Callable[[Volume, npt.NDArray[np.generic]], None]:
    """Assert that a volume holds an array: whole, and in a box in its middle."""

    def check(volume: Volume, expected: npt.NDArray[np.generic]) -> None:
        assert volume.shape == expected.shape
        assert volume.dtype == expected.dtype.newbyteorder("=")
        assert volume.dtype.isnative
        z, y, x = (slice(0, n) for n in volume.shape)
        np.testing.assert_array_equal(volume.array[z, y, x], expected)
        box = volume.array[2:7, 3:9, 1:11]
        np.testing.assert_array_equal(box, expected[2:7, 3:9, 1:11])
        assert box.flags.c_contiguous
        assert box.dtype == volume.dtype

    return check


@pytest.fixture
def web_server(tmp_path: Path) -> Iterator[str]:
    """Address of a server of ``tmp_path``."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
