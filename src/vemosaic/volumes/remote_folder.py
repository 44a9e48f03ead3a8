"""A folder in S3 that is written to: whole objects with checksums, retried, listed and read back, by obstore."""

from __future__ import annotations

import hashlib
import mimetypes
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from vemosaic.errors import OutputError
from vemosaic.volumes.stores import s3_credentials, s3_endpoint, s3_region

RETRIES = 12
"""Of a request that the server answers with 429 or 5xx, or not at all: some two minutes in all."""

FIRST_RETRIES = 6
"""Of the very first request, some ten seconds in all: a wrong address is to be told soon."""

FIRST_WAIT = timedelta(milliseconds=200)
LONGEST_WAIT = timedelta(seconds=20)
"""Waits double from the one to the other, each with some chance in it."""

TIMEOUT = timedelta(minutes=15)
"""Of one request: an object of 100 MB over a slow line, beside three others."""

SHA256 = "sha256"
"""Under which of an object's metadata its SHA-256 stands, as hexadecimal digits."""


class RemoteFile(NamedTuple):
    """By what an object is known without reading it: its size in bytes and its tag, which changes with its content."""

    size: int
    tag: str


class RemoteFolder:
    """A folder in S3; objects in it are named by their path below it.

    Whose credentials are used, and which server, is as for reading (`vemosaic.volumes.stores`).

    Parameters
    ----------
    address
        ``s3://bucket/folder``.

    Raises
    ------
    OutputError
        If it is no such address, there is no such bucket, it may not be listed, or the server does not answer.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        folder = parts.path.strip("/")
        if parts.scheme != "s3" or not parts.netloc or not folder:
            raise OutputError(address, "is no folder in S3", "give s3://bucket/folder")
        self.address = f"s3://{parts.netloc}/{folder}"
        with self._errors():
            next(iter(obstore.list(_connect(parts.netloc, folder, FIRST_RETRIES))), None)
            self._store = _connect(parts.netloc, folder, RETRIES)

    def __str__(self) -> str:
        return self.address

    def list(self) -> dict[str, RemoteFile]:
        """Return all objects in the folder and the folders below it."""
        with self._errors():
            return {
                found["path"]: RemoteFile(found["size"], _tag(found["e_tag"]))
                for some in obstore.list(self._store)
                for found in some
            }

    def read(self, key: str) -> bytes:
        """Return the content of an object."""
        with self._errors():
            return bytes(obstore.get(self._store, key).bytes())

    def sha256(self, key: str) -> str | None:
        """Return the SHA-256 that `put` noted beside an object, or ``None``."""
        with self._errors():
            return obstore.get(self._store, key, options={"head": True}).attributes.get(SHA256)

    def put(self, key: str, content: bytes) -> RemoteFile:
        """Write an object, whole or not at all, and make sure that what has arrived is what was sent.

        The request carries the SHA-256, which AWS and others compare before they take the object. The tag of an
        object is the MD5 of its content, as the server finds it; where it is not, as with encryption by a key of KMS,
        the object is read back.

        Raises
        ------
        OutputError
            If the server refuses it, or has received something else.
        """
        digest = hashlib.sha256(content).hexdigest()
        attributes = {"Content-Type": mimetypes.guess_type(key)[0] or "application/octet-stream", SHA256: digest}
        with self._errors():
            put = obstore.put(self._store, key, content, attributes=attributes, use_multipart=False)
        tag = _tag(put["e_tag"])
        told = tag == hashlib.md5(content, usedforsecurity=False).hexdigest()
        if not told and hashlib.sha256(self.read(key)).hexdigest() != digest:
            self.remove([key])
            raise OutputError(f"{self}/{key}", "arrived damaged", "give the same command again, which goes on")
        return RemoteFile(len(content), tag)

    def remove(self, keys: Sequence[str]) -> None:
        """Remove objects."""
        if keys:
            with self._errors():
                obstore.delete(self._store, list(keys))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Say in one line what obstore reports.

        Raises
        ------
        OutputError
            In place of its errors.
        """
        try:
            yield
        except (BaseError, OSError) as error:
            raise _output_error(self.address, error) from error


def _connect(bucket: str, folder: str, retries: int) -> S3Store:
    endpoint = s3_endpoint()
    more: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
    credentials = s3_credentials()
    if credentials["type"] == "profile":
        more["credential_provider"] = _profile(credentials["profile"])
    if s3_region():
        more["region"] = s3_region()
    return S3Store(
        bucket,
        prefix=folder,
        checksum_algorithm="sha256",
        skip_signature=credentials["type"] == "anonymous",
        client_options={"allow_http": bool(endpoint and endpoint.startswith("http://")), "timeout": TIMEOUT},
        retry_config={
            "max_retries": retries,
            "retry_timeout": timedelta(minutes=5),
            "backoff": {"init_backoff": FIRST_WAIT, "max_backoff": LONGEST_WAIT, "base": 2},
        },
        **more,
    )


def _profile(name: str) -> Any:
    """Return the credentials of a profile, which boto3 knows to find and to renew."""
    try:
        import boto3
        from botocore.exceptions import BotoCoreError
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError as error:
        raise OutputError(
            f"AWS_PROFILE={name}",
            "is only understood with boto3, which is not installed",
            "pip install boto3, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead",
        ) from error
    try:
        return Boto3CredentialProvider(boto3.Session(profile_name=name))
    except (BotoCoreError, ValueError) as error:
        raise OutputError(
            f"AWS_PROFILE={name}", f"cannot be used ({error})", "see ~/.aws/config, or run aws configure"
        ) from error


def _tag(tag: str | None) -> str:
    return (tag or "").strip('"')


def _output_error(address: str, error: Exception) -> OutputError:
    text = " ".join(str(error).split("\n\nDebug source")[0].split())
    code = re.search(r"<Code>(\w+)</Code>", text)
    if "NoSuchBucket" in text:
        return OutputError(
            address, "the bucket does not exist", "create it, or check its name, and AWS_ENDPOINT_URL if it is set"
        )
    if "AuthorizationHeaderMalformed" in text or "incorrectly configured region" in text:
        region = re.search(r"<Region>([\w-]+)</Region>", text)
        return OutputError(
            address, "is in another region", f"set AWS_REGION to {region[1] if region else 'that of the bucket'}"
        )
    status = re.search(r"status code: (\d+)", text)
    if status and status[1] in ("401", "403"):
        anonymous = s3_credentials()["type"] == "anonymous"
        return OutputError(
            address,
            f"may not be written to (the server answers {code[1] if code else status[1]})",
            "set AWS_PROFILE or AWS_ACCESS_KEY_ID"
            if anonymous
            else "check the credentials, which must be allowed to list, read, write and delete there",
        )
    if status and re.search(r"after \d+ retries", text):
        return OutputError(
            address,
            f"the server does not take it (it answers {status[1]} again and again)",
            "give the same command again later, which goes on where it stopped",
        )
    if "HTTP error" in text:
        return OutputError(
            address,
            f"the server does not answer ({text.rsplit('HTTP error: ', 1)[-1]})",
            "check the address and the network, and give the same command again, which goes on where it stopped",
        )
    return OutputError(address, f"cannot be written to ({text[-300:]})", "check the address, and what the server says")
