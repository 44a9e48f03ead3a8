"""Read-only files of some folders under an address that cannot be guessed, for one other site's viewer.

See W3C TAG, "Good Practices for Capability URLs" (2014), and for the headers the Fetch standard's CORS protocol.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from pathlib import Path
from urllib.parse import urlsplit

import anyio.to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from vemosaic.errors import SettingsError

PREFIX = "/open/"


class OpenStores:
    """ASGI application that hands out the files of folders, whole or by byte ranges, once they have been opened.

    Nothing is answered but 404 until `open` or `publish` has made the key, which is part of every address. Pages of the
    site may read the answers, as CORS has it; those of any other site are refused. Programs, which name no site, may
    read them too.

    Parameters
    ----------
    site
        Address of the viewer.

    Raises
    ------
    SettingsError
        If it is no address of a site.
    """

    def __init__(self, site: str) -> None:
        try:
            parts = urlsplit(site)
            port = "" if parts.port is None else f":{parts.port}"
        except ValueError:
            parts, port = urlsplit(""), ""
        name = parts.hostname or ""
        if parts.scheme not in ("http", "https") or not name or not name.isascii() or parts.query or parts.fragment:
            raise SettingsError(
                "--neuroglancer", f"{site!r} is no address of a site", "give one such as http://[::1]:8080"
            )
        self.site = site
        """Address of the viewer, as given."""
        default = {"http": ":80", "https": ":443"}[parts.scheme]
        shown = f"[{name}]" if ":" in name else name
        self.origin = f"{parts.scheme}://{shown}{'' if port == default else port}"
        """What browsers call the site."""
        self._key: str | None = None
        self._folders: dict[str, Path] = {}
        self._contents: dict[str, bytes] = {}

    def open(self, name: str, folder: Path) -> str:
        """Let the files of a folder be read, and return the path of their address, which ends in ``/``.

        Parameters
        ----------
        name
            By which the folder goes in the address.
        folder
            It, and all that is below it; links that lead out of it are not followed.
        """
        self._folders[name] = folder
        return f"{self._prefix()}{name}/"

    def publish(self, name: str, content: bytes) -> str:
        """Let a content be read that is no file, and return the path of its address."""
        self._contents[name] = content
        return f"{self._prefix()}{name}"

    def _prefix(self) -> str:
        self._key = self._key or secrets.token_urlsafe(24)
        return f"{PREFIX}{self._key}/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for a file."""
        headers = Headers(scope=scope)
        origin = headers.get("origin")

        async def allowed(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = MutableHeaders(scope=message)
                given["Vary"] = "Origin"
                if origin == self.origin:  # whatever the answer: a viewer must tell an absent chunk from no server
                    given["Access-Control-Allow-Origin"] = self.origin
                    given["Access-Control-Expose-Headers"] = "Content-Encoding, Content-Length, Content-Range"
            await send(message)

        if origin not in (None, self.origin):
            answer: Response = _refusal(403, "the request comes from another site", "open the link from the explorer")
        else:
            answer = await self._answer(scope["method"], scope["path"], headers)
        await answer(scope, receive, allowed)

    async def _answer(self, method: str, path: str, headers: Headers) -> Response:
        key, _, rest = path.removeprefix(PREFIX).partition("/")
        if self._key is None or not hmac.compare_digest(key.encode(), self._key.encode()):
            return _refusal(404, "there is nothing at this address", "ask the explorer for a new link")
        if method == "OPTIONS":
            return _preflight(headers)
        if method not in ("GET", "HEAD"):
            return _refusal(405, "these files can only be read", "ask for them with GET", Allow="GET, HEAD, OPTIONS")
        if rest in self._contents:
            return Response(self._contents[rest], media_type="application/octet-stream")
        name, _, inner = rest.partition("/")
        found = await anyio.to_thread.run_sync(self._file, name, inner)
        if found is None:
            return _refusal(404, "there is no such file", "ask the explorer for a new link")
        file, about = found
        return FileResponse(file, stat_result=about, media_type="application/octet-stream")

    def _file(self, name: str, inner: str) -> tuple[Path, os.stat_result] | None:
        """Return a file of a folder; nothing that lies outside it by ``..``, an absolute path or a link."""
        folder = self._folders.get(name)
        if folder is None or not inner or {"", ".", ".."} & set(inner.split("/")):
            return None
        try:
            file = (folder / inner).resolve()
            about = file.stat()
        except (OSError, ValueError):
            return None
        return (file, about) if file.is_relative_to(folder.resolve()) and stat.S_ISREG(about.st_mode) else None


def _preflight(headers: Headers) -> Response:
    """Say to a browser that asks first what may be asked for; that it is a private address too, where it wonders."""
    given = {
        "Access-Control-Allow-Methods": "GET, HEAD",
        "Access-Control-Allow-Headers": "Range",
        "Access-Control-Max-Age": "600",
    }
    if headers.get("access-control-request-private-network") == "true":
        given["Access-Control-Allow-Private-Network"] = "true"
    return Response(status_code=204, headers=given)


def _refusal(status: int, problem: str, remedy: str, **headers: str) -> Response:
    return JSONResponse({"problem": problem, "remedy": remedy}, status, headers)
