"""Who may ask: the token, the names the server answers to, where requests may come from, and how large they may be."""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vemosaic.explorer.open_stores import PREFIX, OpenStores

MOST_BYTES = 8 * 2**20
"""Of a request's body."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "font-src 'self'",
        "worker-src 'self' blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
NO_TOKEN = """<!doctype html><html lang="en"><meta charset="utf-8"><title>vemosaic</title>
<h1>This link lacks its token</h1><p>Open the link that <code>vemosaic explore</code> has printed in the terminal,
with its token, or start the command again.</p></html>"""


class _Refused(Exception):
    def __init__(self, status: int, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.status, self.problem, self.remedy = status, problem, remedy


@dataclass(frozen=True)
class Guard:
    """ASGI middleware that lets through only what comes from the user's own page, or a script that has the token.

    Attributes
    ----------
    app
        What it guards.
    token
        The secret.
    hosts
        Names that the server answers to, without ports; a page on another name that resolves to this machine (DNS
        rebinding) is refused. Any port will do, as SSH forwards one to another.
    stores
        What another viewer may read; it has a key of its own.
    """

    app: ASGIApp
    token: str
    hosts: tuple[str, ...]
    stores: OpenStores

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse a request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no websockets here: the connection is refused
        headers = Headers(scope=scope)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    given[name] = value
                if "Cache-Control" not in given:
                    given["Cache-Control"] = "no-store"
            await send(message)

        try:
            host = self._check_host(headers)
            if scope["path"].startswith(PREFIX):
                await self.stores(scope, receive, guarded)
                return
            self._check_origin(headers, host)
            if scope["path"] == "/" and (query := dict(parse_qsl(scope["query_string"].decode("latin-1")))).get(
                "token"
            ):
                self._check_token(query.pop("token"))
                await self._welcome(guarded, headers, query)
                return
            self._check_token(self._given_token(headers))
            self._check_body(scope["method"], headers)
            await self.app(scope, _limited(receive), guarded)
        except _Refused as refused:
            page = scope["path"] == "/" and refused.status == 403
            await _answer(guarded, refused, NO_TOKEN if page else None)

    def _check_host(self, headers: Headers) -> str:
        host = headers.get("host", "")
        name = urlsplit(f"//{host}").hostname if _is_host(host) else None
        if name is None or name not in self.hosts:
            raise _Refused(403, "this name is not one that the explorer answers to", "open the link that was printed")
        return host

    def _check_origin(self, headers: Headers, host: str) -> None:
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            raise _Refused(403, "the request comes from another site", "open the link that was printed")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and origin is None:
            navigates = headers.get("sec-fetch-mode") == "navigate"
            if not navigates:
                raise _Refused(403, "the request comes from another site", "open the link that was printed")

    def _check_token(self, given: str) -> None:
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            raise _Refused(403, "the token is missing or wrong", "open the link that vemosaic explore has printed")

    def _given_token(self, headers: Headers) -> str:
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "token":
            return token.strip()
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return ""
        kept = cookies.get(_cookie_name(headers))
        return kept.value if kept else ""

    async def _welcome(self, send: Send, headers: Headers, query: dict[str, str]) -> None:
        """Keep the token in a cookie, and take it out of the address."""
        cookie = f"{_cookie_name(headers)}={self.token}; HttpOnly; SameSite=Strict; Path=/"
        place = "/" + (f"?{urlencode(query)}" if query else "")
        await send(
            {
                "type": "http.response.start",
                "status": 303,
                "headers": [(b"location", place.encode("latin-1")), (b"set-cookie", cookie.encode("latin-1"))],
            }
        )
        await send({"type": "http.response.body", "body": b""})

    def _check_body(self, method: str, headers: Headers) -> None:
        if method in ("GET", "HEAD"):
            return
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise _Refused(415, "only JSON is understood", "send Content-Type: application/json")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MOST_BYTES:
            raise _Refused(413, "the request is too large", "send it in smaller parts")


def _cookie_name(headers: Headers) -> str:
    """Name the cookie after the port: cookies of one host are shared by all its ports, and so by several servers."""
    port = headers.get("host", "").rpartition(":")[2]
    return f"vemosaic_token_{port if port.isdigit() else 80}"


def _is_host(host: str) -> bool:
    return bool(host) and not set(host) & set("/?#@\\ ")


def _limited(receive: Receive) -> Receive:
    """Refuse a body that is larger than it may be, whatever it said of itself."""
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MOST_BYTES:
            raise HTTPException(413, "the request is too large")  # the kind that the framework passes on
        return message

    return limited


async def _answer(send: Send, refused: _Refused, page: str | None) -> None:
    body = page or json.dumps({"problem": refused.problem, "remedy": refused.remedy})
    kind = b"text/html; charset=utf-8" if page else b"application/json"
    await send({"type": "http.response.start", "status": refused.status, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": body.encode()})
