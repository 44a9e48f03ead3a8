"""A finished run is published to S3: file by file, checked there, and looking whole only once it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vemosaic.blocks.events import Listener, StageEnded, StageStarted, UnitDone, ignore
from vemosaic.blocks.files import FileStamp, stamp
from vemosaic.blocks.lock import claim
from vemosaic.errors import OutputError
from vemosaic.run_folder import RECORD, RunFolder
from vemosaic.volumes.ome_writing import listed_files, manifest_path
from vemosaic.volumes.remote_folder import RemoteFile, RemoteFolder

FILES = (
    "model.safetensors",
    "model.md",
    "losses.jsonl",
    "sample.npz",
    "centres.json",
    "clusters.json",
    "scores.json",
    "report.html",
    "journal.jsonl",
)
STORES = ("segmentation.ome.zarr", "embedding.ome.zarr", "confidence.ome.zarr", "edited.ome.zarr")
TRANSFERS = 4
"""How many files are on their way at a time; as many are in memory."""

ROOTS = tuple(f"{store}/zarr.json" for store in STORES)
MARKS = (*ROOTS, RECORD)
"""What makes the stores and the run look whole, in the order in which it is sent: last."""

Result = TypeVar("Result")


class ChangedError(OutputError):
    """A file is not as it was when it was made, or is gone."""


@dataclass(frozen=True)
class Publication:
    """What lies in S3.

    Attributes
    ----------
    address
        Of the run, ``s3://bucket/folder``.
    stores
        Names of the stores in it.
    files, size
        How many files it has, and their bytes.
    sent
        How many files had to be sent this time.
    """

    address: str
    stores: tuple[str, ...]
    files: int
    size: int
    sent: int


def publish(
    folder: str | Path,
    destination: str,
    *,
    stores: Sequence[str] | None = None,
    overwrite: bool = False,
    listen: Listener = ignore,
) -> Publication:
    """Copy a complete run to a folder in S3, or bring an earlier copy up to date.

    What is there already, by size and SHA-256, is not sent again, so that an interrupted publication goes on. Until all
    of it has arrived and has been compared with what was sent, the record there says that the run is not complete, and
    the stores have no root metadata: no reader takes half a store for a whole one.

    In the stores that are published, objects are removed that are no longer part of them. All else that lies in the
    destination is left alone, unless another run is replaced.

    Parameters
    ----------
    folder
        Of the run.
    destination
        ``s3://bucket/folder``, the folder that is to be the run's. Server, region and credentials are as the AWS_*
        variables say; anonymous without them.
    stores
        Which stores to publish; all that are finished where not given.
    overwrite
        Replace whatever else lies in the destination.
    listen
        Hears of the stages ``compare``, in files, and ``publish``, in bytes.

    Raises
    ------
    OutputError
        If there is no complete run in the folder, or it is damaged or being worked on; if the destination cannot be
        written to, or holds something else.
    VolumeError
        If a store is not finished, or its manifest is damaged.
    """
    folder = Path(folder)
    RunFolder.existing(folder)  # claiming it would make a folder where there is none
    with claim(folder):
        record = RunFolder.existing(folder).record
        if not record.get("complete"):
            raise OutputError(folder, "is not complete", "give the command that made it again, which goes on")
        chosen = _chosen(folder, stores)
        local = _files(folder, chosen)
        remote = RemoteFolder(destination)
        listed = remote.list()
        replaces = holds_another(remote, listed, record, overwrite)
        there = _already_there(remote, listed, local, listen)
        stale = _stale(listed.keys() - local.keys(), STORES if replaces else chosen)
        changed = (local.keys() - there.keys()) | stale
        if changed - {RECORD}:
            unmarked = unmark(remote, record, changed, stale, listed)
            there = {key: known for key, known in there.items() if key not in unmarked}
        missing = local.keys() - there.keys()
        size = sum(known.size for known in local.values())
        listen(StageStarted("publish", size, size - sum(local[key].size for key in missing), "byte"))

        def send(key: str) -> RemoteFile:
            return remote.put(key, content(folder / key, local[key]))

        def sent(key: str, _: RemoteFile) -> None:
            listen(UnitDone("publish", local[key].size))

        body = sorted(missing.difference(MARKS))
        _check(remote, there | _each(send, body, sent))
        for key in [mark for mark in MARKS if mark in missing]:
            sent(key, send(key))
        listen(StageEnded("publish"))
    return Publication(remote.address, chosen, len(local), size, len(missing))


def check_destination(folder: str | Path, destination: str, *, overwrite: bool = False) -> None:
    """Find out before hours of work whether a run could be published to a folder in S3.

    Whether it may be written to shows only when it is.

    Parameters
    ----------
    folder
        Of the run, which need not exist yet.
    destination, overwrite
        As for `publish`.

    Raises
    ------
    OutputError
        If the server does not answer, there is no such bucket, it may not be listed, or something else lies there.
    """
    remote = RemoteFolder(destination)
    holds_another(remote, remote.list(), RunFolder(Path(folder)).record, overwrite)


def _chosen(folder: Path, stores: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the stores to publish; the map itself is one of them where none are named."""
    if stores is None:
        return (STORES[0], *(store for store in STORES[1:] if (folder / store / "zarr.json").exists()))
    for store in stores:
        if store not in STORES:
            raise OutputError(folder / store, "is no store of a run", f"choose from {', '.join(STORES)}")
    return tuple(stores)


def _files(folder: Path, stores: Iterable[str]) -> dict[str, FileStamp]:
    """Return what is to be published, by its path below the run, with what its content should be."""
    manifests = [manifest_path(folder / store) for store in stores]
    found = {file: known for store in stores for file, known in listed_files(folder / store).items()}
    plain = [folder / name for name in (*FILES, RECORD) if (folder / name).exists()]
    plain += [*manifests, *(folder / store / "zarr.json" for store in stores)]
    found |= {file: stamp(file) for file in plain}
    return {file.relative_to(folder).as_posix(): known for file, known in found.items()}


def holds_another(
    remote: RemoteFolder, listed: Mapping[str, RemoteFile], record: Mapping[str, Any], overwrite: bool
) -> bool:
    """Tell whether something else than this run lies in the destination, and may be replaced."""
    if not listed:
        return False
    held = None
    if RECORD in listed:
        try:
            held = _identity(json.loads(remote.read(RECORD)))
        except ValueError:
            held = None
    if held is not None and held == _identity(record):
        return False
    if not overwrite:
        raise OutputError(
            remote,
            "holds something that is no run" if held is None else "holds another run",
            "name another folder, or add --overwrite to replace it",
        )
    return True


def _identity(record: Any) -> object:
    """By what a run is known through all its changes: when it was begun, and on what; ``None`` if it is no run."""
    try:
        return record["created"], [opened["identity"] for opened in record["inputs"]]
    except (KeyError, TypeError):
        return None


def _already_there(
    remote: RemoteFolder, listed: Mapping[str, RemoteFile], local: Mapping[str, FileStamp], listen: Listener
) -> dict[str, RemoteFile]:
    """Return what lies in the destination as it should."""
    alike = [key for key, known in local.items() if key in listed and listed[key].size == known.size]
    if not alike:
        return {}
    listen(StageStarted("compare", len(alike), unit_name="file"))
    digests = _each(remote.sha256, alike, lambda *_: listen(UnitDone("compare", 1)))
    listen(StageEnded("compare"))
    return {key: listed[key] for key, digest in digests.items() if digest == local[key].sha256}


def _stale(others: Iterable[str], stores: Sequence[str]) -> set[str]:
    """Return those objects beside the run's own that would be taken for part of it."""
    names = {*FILES, *(manifest_path(Path(store)).name for store in stores)}
    return {key for key in others if key in names or key.startswith(tuple(f"{store}/" for store in stores))}


def unmark(
    remote: RemoteFolder,
    record: Mapping[str, Any],
    changed: Iterable[str],
    stale: Iterable[str],
    listed: Mapping[str, RemoteFile],
) -> set[str]:
    """Take back what says that the run and those of its stores are whole that change, then remove what is stale.

    The record comes last: until it is this run's, another one that is replaced is still known to be another.
    """
    changing = {key.split("/")[0] for key in changed}
    roots = {root for root in ROOTS if root.split("/")[0] in changing}
    remote.remove(sorted(roots & listed.keys()))
    remote.remove(sorted(set(stale) - roots))
    remote.put(RECORD, json.dumps({**record, "complete": False}, indent=1).encode())
    return {RECORD, *roots}


def content(file: Path, known: FileStamp) -> bytes:
    """Read a file that is as it should be.

    Raises
    ------
    ChangedError
        If it is not, or cannot be read.
    """
    try:
        read = file.read_bytes()
        if hashlib.sha256(read).hexdigest() == known.sha256:
            return read
        problem = "is damaged, or has been changed since publishing began"
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    raise ChangedError(file, problem, "give the command that made it again, which mends it, and publish again")


def _each(
    work: Callable[[str], Result], keys: Sequence[str], done: Callable[[str, Result], object]
) -> dict[str, Result]:
    """Work on some keys at a time, and tell of each in this thread; whatever is raised drops those not begun."""
    results = {}
    with ThreadPoolExecutor(max_workers=TRANSFERS) as pool:
        begun = {pool.submit(work, key): key for key in keys}
        try:
            for future in as_completed(begun):
                key = begun[future]
                results[key] = future.result()
                done(key, results[key])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return results


def _check(remote: RemoteFolder, expected: Mapping[str, RemoteFile]) -> None:
    listed = remote.list()
    differing = sorted(key for key, known in expected.items() if listed.get(key) != known)
    if differing:
        raise OutputError(
            remote,
            f"{len(differing)} of {len(expected)} files are not there as they were sent (such as {differing[0]})",
            "give the same command again, which sends only these",
        )
