"""Starting the server: a free port, a token, the link to open."""

from __future__ import annotations

import secrets
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from vemosaic.errors import SettingsError
from vemosaic.explorer.neuroglancer import SITE
from vemosaic.explorer.security import LOOPBACK
from vemosaic.explorer.session import Session

PORT = 8765
TRIES = 50
SHUTDOWN = 1
"""Seconds that open connections are waited for at the end."""


def serve(
    path: Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str | None = None,
    neuroglancer: str = SITE,
    tell: Callable[[str], None],
) -> None:
    """Serve a run until interrupted.

    Parameters
    ----------
    path
        Folder of a finished run.
    host
        Address to listen on. Anything but the loopback lets others of the network in who have the token, unencrypted.
    port
        The first free one from 8765 where not given; 0 for any.
    token
        A new random one where not given.
    neuroglancer
        Address of the neuroglancer that links lead to.
    tell
        Called with the link once it will be answered.

    Raises
    ------
    SettingsError
        If the port is taken, there is no such address, or `neuroglancer` is none.
    VemosaicError
        If there is no finished run in the folder.
    """
    listening = _listen(host, port)
    import uvicorn
    from threadpoolctl import threadpool_limits

    from vemosaic.explorer.server import create_app

    threadpool_limits(
        1, "blas"
    )  # planes are asked for side by side: threads within each of them would wait for one another

    session = Session(path)
    secret = token or secrets.token_urlsafe(24)
    name = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    hosts = LOOPBACK if host in LOOPBACK else (*LOOPBACK, host, *_own_names())
    app = create_app(session, secret, hosts=hosts, viewer=neuroglancer)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=SHUTDOWN
    )
    server = uvicorn.Server(config)
    shown = f"[{name}]" if ":" in name else name
    tell(f"http://{shown}:{listening.getsockname()[1]}/?token={quote(secret)}")
    server.run(sockets=[listening])


def _own_names() -> list[str]:
    """Return the names and addresses by which this machine is known."""
    name = socket.gethostname()
    try:
        addresses = [str(found[4][0]) for found in socket.getaddrinfo(name, None)]
    except OSError:
        addresses = []
    return [n.lower() for n in (name, socket.getfqdn(), *addresses)]


def _listen(host: str, port: int | None) -> socket.socket:
    """Open a listening socket."""
    tries = range(PORT, PORT + TRIES) if port is None else [port]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    problem = ""
    for number in tries:
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY only so
        if sys.platform != "win32":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, number))
            listening.listen(128)
            return listening
        except (OSError, OverflowError) as error:
            listening.close()
            problem = str(getattr(error, "strerror", None) or error)
    raise SettingsError(f"{host}, port {tries[0]}", f"cannot be used ({problem})", "give another --port or --host")
