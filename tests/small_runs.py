"""What the tests of whole runs share: a small cell on disk, a small model, and how two runs are compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

import vemosaic.clustering.merging
import vemosaic.embedding_sample
import vemosaic.pipeline
import vemosaic.report.projection
from vemosaic.blocks.events import Event, Listener, StageStarted, UnitDone
from vemosaic.blocks.files import write_atomically
from vemosaic.datasets.phantom import phantom_cell
from vemosaic.embedding import tiles_of
from vemosaic.evaluation import Reference
from vemosaic.inputs import ReferenceInput
from vemosaic.memory import Projection, readable_size
from vemosaic.models.settings import Architecture, ModelSettings, Optimiser
from vemosaic.patches import Sampling
from vemosaic.pipeline import Run, run
from vemosaic.presets import PRESETS
from vemosaic.settings import Settings
from vemosaic.volumes.labels import LabelStore, open_labels
from vemosaic.volumes.volume import Volume

SHAPE = (20, 36, 40)
MODEL = ModelSettings(
    architecture=Architecture(channels=(4, 4, 6, 8), latent=8, semantic=4),
    sampling=Sampling(positives=2),
    optimiser=Optimiser(batch=8, warm_up=3),
)
SETTINGS = Settings(model=MODEL, anchors=32, clusters=(3, 4), words=8, vocabularies=1, diffusion=2)
TILE = 16
SHARD = (16, 32, 32)


@contextmanager
def made_quick(*, full_report: bool = False) -> Iterator[pytest.MonkeyPatch]:
    """Small model, small tiles and shards, a stand-in for the report: the same machinery in a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "default", Settings(model=MODEL, diffusion=SETTINGS.diffusion))
        if full_report:
            patch.setattr(vemosaic.report.projection, "MOST", 100)
        else:
            patch.setattr(vemosaic.pipeline, "write_report", _write_short_report)
        patch.setattr(tiles_of, "__defaults__", (TILE,))
        patch.setattr(vemosaic.embedding_sample, "SAMPLE_BY_PATCH", 300)
        hold_a_small_vote(patch)
        patch.setitem(LabelStore.create.__func__.__kwdefaults__, "shard", SHARD)  # type: ignore[attr-defined]
        yield patch


def hold_a_small_vote(patch: pytest.MonkeyPatch) -> None:
    """Let fewer clusterings vote on fewer fine clusters: the consensus would take most of a small run's time."""
    patch.setattr(vemosaic.clustering.merging, "FINE", 32)
    patch.setattr(vemosaic.clustering.merging, "VOTES", 15)


class Killed(BaseException):
    """The process ends here."""


def killed_at(number: int, stage: str | None = None) -> Listener:
    """Return what listens, and ends the process once so many units of a stage, or of any, are done."""
    done = 0

    def listen(event: Event) -> None:
        nonlocal done
        done += isinstance(event, UnitDone) and stage in (None, event.stage)
        if done >= number:
            raise Killed

    return listen


def _write_short_report(run: Path, *, volume: Volume, reference: Reference | None) -> Path:
    write_atomically(run / "report.html", f"{volume.source} {reference and reference.class_names}".encode())
    return run / "report.html"


@dataclass(frozen=True)
class Cell:
    """A small phantom on disk."""

    folder: Path

    @property
    def raw(self) -> Path:
        """The image, 16 nm, which the file does not say."""
        return self.folder / "raw.tif"

    @property
    def reference(self) -> ReferenceInput:
        """Nucleus and granules."""
        return ReferenceInput((f"nucleus={self.folder / 'nucleus.tif'}", f"granules={self.folder / 'granules.tif'}"))


def draw_cell(folder: Path) -> Cell:
    """Write a small phantom cell and two of its masks."""
    phantom = phantom_cell((48, 64, 64), seed=3)
    z, y, x = (slice((whole - n) // 2, (whole + n) // 2) for whole, n in zip(phantom.raw.shape, SHAPE, strict=True))
    tifffile.imwrite(folder / "raw.tif", phantom.raw[z, y, x])
    for name in ("nucleus", "granules"):
        tifffile.imwrite(folder / f"{name}.tif", phantom.masks[name][z, y, x].astype(np.uint8))
    return Cell(folder)


def run_cell(cell: Cell, out: Path, settings: Settings = SETTINGS, **more: Any) -> Run:
    """Map the small cell."""
    return run(str(cell.raw), out, settings, voxel_size=16.0, **more)


@dataclass
class Heard:
    """A listener that keeps all events."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        """Keep an event."""
        self.events.append(event)

    @property
    def stages(self) -> list[str]:
        """Stages that were begun, in order."""
        return [event.stage for event in self.events if isinstance(event, StageStarted)]

    @property
    def worked(self) -> set[str]:
        """Stages that did something beside scoring, which is always done anew."""
        return {stage for stage in self.stages if not stage.startswith("score")}


def hashes(folder: Path) -> dict[str, str]:
    """Hash every file below a folder."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def results(folder: Path) -> dict[str, str]:
    """Hash every result of a run: all files but its record, its report (which shows timings) and its progress."""
    beside = ("run.json", "report.html", ".progress/", ".vemosaic.lock")
    return {name: digest for name, digest in hashes(folder).items() if not name.startswith(beside)}


def record(folder: Path) -> dict[str, Any]:
    """Read ``run.json``."""
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found


def peaks_below(projection: Projection, folder: Path) -> dict[str, int]:
    """Peaks of a run's stages, in bytes, none above what was projected."""
    peaks: dict[str, int] = record(folder)["peak_memory"]
    for stage, peak in peaks.items():
        assert peak <= projection.stages.get(stage, projection.peak), f"{stage}: {readable_size(peak)}"
    return peaks


def labels(folder: Path, k: int) -> npt.NDArray[np.generic]:
    """Read the whole map of k clusters."""
    volume = open_labels(folder / "segmentation.ome.zarr", k).volume
    z, y, x = (slice(0, n) for n in volume.shape)
    return volume.array[z, y, x]
