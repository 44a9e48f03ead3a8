"""An S3 server on a free port, moto behind a wrapper that counts, refuses, damages and slows what a test says."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock, Thread
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

BUCKET = "maps"
KEYS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
WHO = ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION")


@dataclass(frozen=True)
class Request:
    """A request as it arrived.

    Attributes
    ----------
    method, key
        What it does, and to which object; the bucket's name where it is about none.
    signature
        Whose it is.
    """

    method: str
    key: str
    signature: str = field(default="", compare=False)


@dataclass
class FaultyS3:
    """The server, and what it does to requests.

    Attributes
    ----------
    refuse
        Gives the status line and the body that answer a request, or ``None`` where it is to be served.
    tamper
        Changes the content of a PUT on its way.
    tag
        Changes the tags that it answers with, each in its quotes.
    """

    endpoint: str = ""
    requests: list[Request] = field(default_factory=list)
    refuse: Callable[[Request], tuple[str, str] | None] = lambda request: None
    tamper: Callable[[Request, bytes], bytes] = lambda request, content: content
    tag: Callable[[str], str] = lambda tag: tag

    @cached_property
    def bucket(self) -> Any:
        """The bucket as boto3 sees it, with all rights and without waiting for a server that refuses."""
        config = Config(retries={"max_attempts": 1})
        return boto3.resource("s3", endpoint_url=self.endpoint, config=config, **KEYS).Bucket(BUCKET)

    def keys(self, method: str) -> list[str]:
        """Keys that requests of a method were about, in order."""
        return [request.key for request in self.requests if request.method == method]

    def reset(self) -> None:
        """Forget the requests, and serve them all from now on."""
        self.requests.clear()
        for name in ("refuse", "tamper", "tag"):
            setattr(self, name, type(self).__dataclass_fields__[name].default)

    def __call__(
        self, environ: dict[str, Any], start: Callable[..., Any], serve: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer a request, as WSGI has it."""
        bucket, _, key = environ["PATH_INFO"].strip("/").partition("/")
        request = Request(environ["REQUEST_METHOD"], key or bucket, environ.get("HTTP_AUTHORIZATION", ""))
        content = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        self.requests.append(request)
        refused = self.refuse(request)
        if refused:
            start(refused[0], [("Content-Type", "application/xml")])
            return [refused[1].encode()]
        if request.method == "PUT":
            content = self.tamper(request, content)
        environ["wsgi.input"] = io.BytesIO(content)

        def started(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            return start(status, [(n, self.tag(v) if n.lower() == "etag" else v) for n, v in headers], *more)

        answer = b"".join(serve(environ, started))
        return [answer if key else re.sub(rb"(?<=<ETag>)[^<]+", lambda tag: self.tag(tag[0].decode()).encode(), answer)]


@contextmanager
def served() -> Iterator[FaultyS3]:
    """A server with a public bucket, in which everybody may write."""
    s3 = FaultyS3()
    moto = DomainDispatcherApplication(create_backend_app)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server(
        "127.0.0.1",
        0,
        lambda environ, start: s3(environ, start, moto),
        threaded=True,
        request_handler=MotoRequestHandler,
    )
    s3.endpoint = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    s3.bucket.create(ACL="public-read-write")
    yield s3
    s3.reset()
    s3.bucket.objects.all().delete()
    s3.bucket.delete()
    server.shutdown()


def used(s3: FaultyS3, patch: pytest.MonkeyPatch) -> FaultyS3:
    """Empty the server and make it the user's, who has no credentials."""
    for name in WHO:
        patch.delenv(name, raising=False)
    patch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    s3.reset()
    s3.bucket.objects.all().delete()
    s3.requests.clear()
    return s3


def busy(times: int, status: str = "503 Slow Down") -> Callable[[Request], tuple[str, str]]:
    """Refuse a number of requests."""
    left = iter(range(times))
    return lambda request: (status, "<Error><Code>SlowDown</Code></Error>") if next(left, None) is not None else None


def each_refused(times: int, status: str = "500 Internal Server Error") -> Callable[[Request], tuple[str, str] | None]:
    """Refuse every request a number of times."""
    seen: dict[Request, int] = {}
    lock = Lock()

    def refuse(request: Request) -> tuple[str, str] | None:
        with lock:
            seen[request] = seen.get(request, 0) + 1
            return (status, "") if seen[request] % (times + 1) else None

    return refuse
