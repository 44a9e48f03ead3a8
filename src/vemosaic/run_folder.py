"""A run is a folder that explains itself: its record, and which of its stages are done and undamaged."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vemosaic.blocks.files import FileStamp, disk_errors, stamp, write_atomically
from vemosaic.blocks.lock import LOCK_NAME
from vemosaic.blocks.memory import forget_peak, peak_memory, release
from vemosaic.errors import OutputError

RECORD = "run.json"


class RunFolder:
    """The folder of a run and its record, ``run.json``.

    The record holds every setting, the inputs, timings, and for each finished stage a fingerprint of what decided its
    result with the hashes of its files. A stage counts as done only while both still hold.

    Parameters
    ----------
    path
        The folder.

    Raises
    ------
    OutputError
        If there is something in the folder that is no run, or its record cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record: dict[str, Any] = {}
        with disk_errors(path):
            present = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
            if path.exists() and not path.is_dir():
                raise OutputError(path, "is a file", "name a folder for the run")
        if RECORD in present:
            self.record = _read(path / RECORD)
        elif present - {LOCK_NAME, f"{RECORD}.partial"}:  # what a run leaves that was killed at its very beginning
            raise OutputError(path, "is not empty and holds no run", "name a new folder, or empty this one first")

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """Open the folder of an earlier run.

        Raises
        ------
        OutputError
            If there is no run in it.
        """
        with disk_errors(path):
            known = (path / RECORD).is_file()
        if not known:
            raise OutputError(path, f"holds no run (no {RECORD})", "name the output folder of vemosaic run")
        return cls(path)

    def save(self, **changes: Any) -> None:
        """Change entries of the record and write it, whole or not at all."""
        self.record |= changes
        write_atomically(self.path / RECORD, json.dumps(self.record, indent=1).encode())

    def forget(self, stage: str) -> None:
        """Take back a stage's mark, on disk with the next `save`."""
        self.record["stages"] = {n: s for n, s in self.record.get("stages", {}).items() if n != stage}

    def is_done(self, stage: str, fingerprint: str) -> bool:
        """Tell whether a stage was finished with this fingerprint and its files are as it left them."""
        known = self.record.get("stages", {}).get(stage, {})
        if known.get("fingerprint") != fingerprint:
            return False
        try:
            return all(list(stamp(self.path / name)) == s for name, s in known["files"].items())
        except OSError:
            return False

    def stamps(self) -> dict[Path, FileStamp]:
        """Return the files that finished stages left, with their hashes."""
        stages = self.record.get("stages", {}).values()
        return {self.path / name: FileStamp(*known) for stage in stages for name, known in stage["files"].items()}

    def digest(self, stage: str) -> dict[str, Any]:
        """What a finished stage left: the fingerprint and the hashes of its files, for stages that build on it.

        Raises
        ------
        OutputError
            If the stage is not finished.
        """
        done: dict[str, Any] | None = self.record.get("stages", {}).get(stage)
        if done is None:
            raise OutputError(
                self.path, f"its stage {stage!r} is not finished", "give the command that made it again, which goes on"
            )
        return done

    @contextmanager
    def stage(self, name: str, fingerprint: str, files: Sequence[Path], begun: float | None = None) -> Iterator[None]:
        """Carry a stage out: its mark is taken back first, and set with its time and its files' hashes at the end.

        What is about the result as a whole, and would now be about another one, goes before anything changes: the
        report, and the scores unless only the report is made anew. Embedding and confidence are beside the result.

        Parameters
        ----------
        name, fingerprint
            Of the stage.
        files
            What it makes.
        begun
            When its work began, by the monotonic clock, if before now.
        """
        self.forget(name)
        if name in ("embed", "confidence"):
            self.save()
        else:
            self.save(complete=False)
            with disk_errors(self.path):
                self.report.unlink(missing_ok=True)
                if name != "report":
                    self.scores.unlink(missing_ok=True)
        start = begun or time.monotonic()
        release()
        forget_peak()
        yield
        seconds = round(time.monotonic() - start, 2)
        stamps = {str(file.relative_to(self.path)): list(stamp(file)) for file in files}
        self.save(
            stages=self.record["stages"] | {name: {"fingerprint": fingerprint, "files": stamps}},
            timings=self.record.get("timings", {}) | {name: seconds},
            peak_memory=self.record.get("peak_memory", {}) | {name: peak_memory()},
        )

    @property
    def model(self) -> Path:
        """The trained model."""
        return self.path / "model.safetensors"

    @property
    def losses(self) -> Path:
        """The loss curve."""
        return self.path / "losses.jsonl"

    @property
    def checkpoint(self) -> Path:
        """Where an interrupted training goes on."""
        return self.path / ".progress/checkpoint.safetensors"

    @property
    def centres(self) -> Path:
        """Cluster centres for each k."""
        return self.path / "centres.json"

    @property
    def begun_centres(self) -> Path:
        """Cluster centres of a sample, while sums over all voxels are found that move them."""
        return self.path / ".progress/begun_centres.json"

    @property
    def clusters(self) -> Path:
        """Centres, voxels and colours of the clusters for each k."""
        return self.path / "clusters.json"

    @property
    def sample(self) -> Path:
        """A sample of voxels with their embeddings."""
        return self.path / "sample.npz"

    @property
    def segmentation(self) -> Path:
        """The map."""
        return self.path / "segmentation.ome.zarr"

    @property
    def embedding(self) -> Path:
        """The embedding of every voxel, where asked for."""
        return self.path / "embedding.ome.zarr"

    @property
    def confidence(self) -> Path:
        """How sure the cluster of every voxel is, where asked for."""
        return self.path / "confidence.ome.zarr"

    @property
    def scores(self) -> Path:
        """Scores against the reference."""
        return self.path / "scores.json"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.html"

    @property
    def progress(self) -> Path:
        """Records of what is done; may be removed from a complete run."""
        return self.path / ".progress"


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise OutputError(path, f"cannot be read ({error})", "restore it, or use a new output folder") from error
    if not isinstance(record, dict) or "vemosaic" not in record:
        raise OutputError(path, "is not the record of a vemosaic run", "use a new output folder")
    return record
