"""Is a run as it was when it was finished? Every file is read and hashed, nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vemosaic.blocks.files import differing
from vemosaic.errors import OutputError, VolumeError
from vemosaic.run_folder import RECORD, RunFolder
from vemosaic.volumes.ome_writing import listed_files


@dataclass(frozen=True)
class Verified:
    """What `verify` found.

    Attributes
    ----------
    files, size
        How many files were hashed, and their bytes.
    damaged
        Those that are missing or not as they were written, sorted.
    """

    files: int
    size: int
    damaged: tuple[Path, ...]


def verify(path: Path) -> Verified:
    """Hash every file of a run, shards of maps and embeddings included, and compare with what it was left with.

    Parameters
    ----------
    path
        Folder of the run.

    Raises
    ------
    OutputError
        If there is no run in the folder, or it was not finished.
    """
    folder = RunFolder.existing(path)
    if not folder.record.get("complete"):
        raise OutputError(
            path / RECORD, "this run is not finished", "give the command that made it again, which goes on"
        )
    stamps = folder.stamps()
    lost: list[Path] = []
    for store in sorted({file.parent for file in stamps if file.name == "zarr.json"}):
        try:
            stamps |= listed_files(store)
        except VolumeError:
            lost.append(store)
    damaged = sorted({*lost, *differing(stamps)})
    return Verified(len(stamps), sum(known.size for known in stamps.values()), tuple(damaged))
