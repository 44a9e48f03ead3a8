"""Stores: folders of chunked arrays on local disk, in S3 or on a web server, all through tensorstore."""

from __future__ import annotations

import functools
import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt
import tensorstore as ts

from vemosaic.errors import VolumeError
from vemosaic.volumes.axes import AxisView
from vemosaic.volumes.geometry import Request
from vemosaic.volumes.volume import Shape, Slices

CACHE_BYTES = 128 * 2**20
RETRIES = {"max_retries": 6, "initial_delay": "200ms", "max_delay": "5s"}
"""Of metadata, some ten seconds in all: a wrong address is to be told soon."""

PATIENT_RETRIES = {"max_retries": 12, "initial_delay": "200ms", "max_delay": "20s"}
"""Of voxels, some two minutes in all: the server has answered before, and hours of work may wait for them."""

_SPARSE_REMEDY = (
    "copy or download it again; if empty chunks were left out on purpose, read them as the fill value "
    "with --missing-chunks fill"
)


class AccessRefusedError(VolumeError):
    """The store answers 403: no permission, or a key that is absent where keys may not be listed."""


@dataclass(frozen=True)
class Store:
    """A folder in a key-value store.

    Attributes
    ----------
    driver
        ``"file"``, ``"s3"`` or ``"http"``.
    root
        The bucket, the scheme and host of the server, or ``""`` for local files.
    path
        The folder, ending in ``"/"``; absolute for local files.
    """

    driver: str
    root: str
    path: str

    @classmethod
    def parse(cls, location: str) -> Store:
        """Make a store from a local path, ``s3://bucket/path`` or ``https://host/path``."""
        parts = urlsplit(location)
        if parts.scheme == "s3":
            return cls("s3", parts.netloc, _folder(parts.path.lstrip("/")))
        if parts.scheme in ("http", "https"):
            return cls("http", f"{parts.scheme}://{parts.netloc}", _folder(parts.path))
        local = unquote(parts.path) if parts.scheme == "file" else location
        return cls("file", "", _folder(os.path.abspath(Path(local).expanduser())))  # noqa: PTH100 (keeps links)

    def __str__(self) -> str:
        prefix = {"file": "", "s3": f"s3://{self.root}/", "http": self.root}[self.driver]
        return f"{prefix}{self.path}".rstrip("/")

    def child(self, name: str) -> Store:
        """Return a folder inside."""
        return replace(self, path=_folder(f"{self.path}{name.strip('/')}"))

    def ancestors(self) -> list[tuple[Store, str]]:
        """Return the folders that hold this one, nearest first, each with the path from it down to here."""
        parts = self.path.strip("/").split("/")
        lead = "/" if self.path.startswith("/") else ""
        return [
            (
                replace(self, path=_folder(lead + "/".join(parts[:i])) if parts[:i] else lead),
                "/".join(parts[i:]),
            )
            for i in range(len(parts) - 1, -1, -1)
        ]

    def spec(self) -> dict[str, Any]:
        """Return the tensorstore specification of this folder."""
        if self.driver == "file":
            return {"driver": "file", "path": self.path}
        if self.driver == "http":
            return {"driver": "http", "base_url": self.root, "path": self.path}
        spec: dict[str, Any] = {
            "driver": "s3",
            "bucket": self.root,
            "path": self.path,
            "aws_credentials": s3_credentials(),
        }
        if s3_endpoint():
            spec["endpoint"] = s3_endpoint()
        if s3_region():
            spec["aws_region"] = s3_region()
        return spec

    def read(self, key: str) -> bytes | None:
        """Return what lies under a key, or ``None``.

        Raises
        ------
        VolumeError
            If the store does not answer, or refuses (one that may not be listed refuses absent keys, too).
        """
        try:
            found = ts.KvStore.open(self.spec(), context=metadata_context()).result().read(key).result()
        except Exception as error:  # tensorstore raises ValueError, NotImplementedError, OSError, TimeoutError
            raise store_error(str(self), error) from error
        return found.value if found.state == "value" else None

    def read_json(self, key: str) -> dict[str, Any] | None:
        """Return the JSON object under a key, or ``None`` where there is none.

        Raises
        ------
        VolumeError
            As ``read``, and where it is no JSON object.
        """
        content = self.read(key)
        if content is None:
            return None
        try:
            parsed = json.loads(content)
        except ValueError as error:
            raise VolumeError(f"{self}/{key}", f"is no valid JSON ({error})", "copy or download it again") from error
        if not isinstance(parsed, dict):
            raise VolumeError(f"{self}/{key}", "is no JSON object", "copy or download it again")
        return parsed


class ChunkedArray:
    """A Zarr or N5 array seen as ``(Z, Y, X)``; decoded chunks share one bounded cache.

    Parameters
    ----------
    driver
        ``"zarr"`` (version 2), ``"zarr3"`` or ``"n5"``.
    store
        Folder of the array.
    view
        Which of its axes are z, y, x.
    request
        Its ``missing_chunks`` says whether an absent chunk is an error or the fill value.

    Raises
    ------
    VolumeError
        If its metadata are damaged, or in a form that tensorstore does not read.
    """

    def __init__(self, driver: str, store: Store, view: AxisView, request: Request) -> None:
        self._made_of = (driver, store, view, request)
        self._view = view
        self._source = request.source
        try:
            self._array = ts.open(
                {
                    "driver": driver,
                    "kvstore": store.spec(),
                    "fill_missing_data_reads": request.missing_chunks == "fill",
                    "recheck_cached_data": "open",
                },
                read=True,
                open=True,
                context=shared_context(),
            ).result()
        except Exception as error:  # see Store.read
            raise store_error(str(store), error) from error
        self.shape: Shape = view.zyx(tuple(int(n) for n in self._array.shape), absent=1)
        self.dtype: np.dtype[np.generic] = np.dtype(self._array.dtype.numpy_dtype).newbyteorder("=")

    def __getitem__(self, box: Slices, /) -> npt.NDArray[np.generic]:
        """Read a box inside the array.

        Raises
        ------
        VolumeError
            If a chunk is missing or damaged, or the store does not answer.
        """
        try:
            voxels = self._array[self._view.index(box)].read().result()
        except Exception as error:  # see Store.read
            raise store_error(self._source, error) from error
        return self._view.as_zyx(voxels, self.dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        return ChunkedArray, self._made_of


@functools.cache
def shared_context() -> ts.Context:
    """Return the context in which all voxels are read in this process: one cache, and patience."""
    return ts.Context(
        {
            "cache_pool": {"total_bytes_limit": CACHE_BYTES},
            "http_request_retries": PATIENT_RETRIES,
            "s3_request_retries": PATIENT_RETRIES,
        }
    )


@functools.cache
def metadata_context() -> ts.Context:
    """Return the context in which metadata are read."""
    return ts.Context({"http_request_retries": RETRIES, "s3_request_retries": RETRIES})


def store_error(source: str, error: Exception) -> VolumeError:
    """Say in one line what tensorstore reports: the chunk or key, and what to do."""
    said = re.split(r" \[\w[\w-]*='", " ".join(str(error).split()))[0] or type(error).__name__
    said = re.sub(r"^[A-Z_]+: ", "", said)[:400]
    text = str(error)
    if re.search(r"chunk \{.*\} stored at .* is missing", said):
        return VolumeError(source, said.removesuffix(" is missing") + " is missing", _SPARSE_REMEDY)
    if "PERMISSION_DENIED" in text or "UNAUTHENTICATED" in text:
        if "http_response_code" not in text:
            return AccessRefusedError(source, "may not be read", "check the permissions of the file or folder")
        return AccessRefusedError(
            source,
            "may not be read, or does not exist (the server answers 403)",
            "check the path; for a private bucket set AWS_PROFILE or AWS_ACCESS_KEY_ID",
        )
    if "NoSuchBucket" in text:
        return VolumeError(source, "the bucket does not exist", "check its name, and AWS_ENDPOINT_URL if it is set")
    if "is not registered" in said:
        return VolumeError(
            source, f"is stored with a codec that is not supported ({said})", "rewrite it with zstd, blosc or gzip"
        )
    busy = re.search(r"retry attempts failed.*(?:http_response_code='|\[HTTP code )(\d+)", text, re.S)
    if busy:
        return VolumeError(
            source,
            f"the server does not serve it (it answers {busy[1]} again and again)",
            "run the same command again later, which goes on where it stopped",
        )
    if "retry attempts failed" in text or "CURL error" in text or isinstance(error, TimeoutError):
        return VolumeError(source, f"the server does not answer ({said})", "check the address and the network")
    return VolumeError(source, f"cannot be read ({said})", "copy or download it again, or check its metadata")


def s3_endpoint() -> str | None:
    """Return the address of the S3 server that the environment names; ``None`` is that of AWS."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def s3_region() -> str | None:
    """Return the region that the environment names, and for a server of one's own some region."""
    named = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return named or ("us-east-1" if s3_endpoint() else None)


def s3_credentials() -> dict[str, str]:
    """Say whose credentials to use, as tensorstore has it.

    Anonymous unless the environment says who we are: looking for credentials costs seconds a time.
    """
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return {"type": "environment"}
    if os.environ.get("AWS_PROFILE"):
        return {"type": "profile", "profile": os.environ["AWS_PROFILE"]}
    return {"type": "anonymous"}


def _folder(path: str) -> str:
    return path.rstrip("/") + "/" if path.strip("/") else path
