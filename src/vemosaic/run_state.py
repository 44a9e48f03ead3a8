"""A run as it stands in its folder: settings, inputs, and what its stages have found so far."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import torch

import vemosaic
from vemosaic.blocks.events import Listener, ignore
from vemosaic.blocks.executors import Executor, InProcess
from vemosaic.blocks.grid import Unit
from vemosaic.blocks.records import Ledger
from vemosaic.clustering import (
    Clustering,
    Words,
    clustering_from_json,
)
from vemosaic.comparing import EarlierMap
from vemosaic.devices import arithmetic, computed_on
from vemosaic.diffusion import Diffusion
from vemosaic.embedding import Embedder
from vemosaic.errors import OutputError
from vemosaic.inputs import Input, OpenedInput, identities, open_again
from vemosaic.memory import Projection, fit_budget
from vemosaic.models.model import Model, load_model
from vemosaic.run_folder import RECORD, RunFolder
from vemosaic.settings import Settings, choose_device
from vemosaic.training import check_budget, default_anchors

IN_PROCESS = InProcess()


class RunState:
    """A run: its folder, settings and input, before any stage is thought of."""

    def __init__(
        self,
        folder: RunFolder,
        settings: Settings,
        inputs: Sequence[OpenedInput],
        device: str,
        listen: Listener,
        executor: Executor = IN_PROCESS,
    ) -> None:
        self.executor = executor
        self.folder = folder
        self.settings = settings
        self.inputs = tuple(inputs)
        self.device = choose_device(device)
        self.listen = listen
        self.first = self.inputs[0]

    @classmethod
    def start(
        cls,
        out: Path,
        inputs: Sequence[OpenedInput],
        settings: Settings,
        *,
        device: str = "auto",
        overwrite: bool = False,
        command: Sequence[str] | None = None,
        listen: Listener = ignore,
        executor: Executor = IN_PROCESS,
    ) -> Self:
        """Begin or go on with a run in a folder, which is created where it is missing.

        Raises
        ------
        OutputError
            If the folder holds something else, or a run of other inputs.
        SettingsError
            If there is no such device, it has not the precision, or the budget is less than one batch.
        """
        folder = RunFolder(out)
        described = [opened.describe() for opened in inputs]
        before = folder.record.get("inputs")
        other = before is not None and identities(before) != identities(described)
        if before is not None and other and not overwrite and folder.record.get("stages"):
            raise OutputError(
                out,
                f"holds a run of another input ({before[0]['source']})",
                "choose another --out, or add --overwrite",
            )
        run = cls(folder, settings, inputs, device, listen, executor)
        check_budget(run.anchors(), settings.model.optimiser.batch)
        if other:
            folder.record.pop("reference", None)
            folder.record.pop("like", None)
        if other or not _trains_alike(folder.record.get("settings", {}), settings):
            folder.forget("train")
        folder.save(
            vemosaic=vemosaic.__version__,
            complete=False,
            created=folder.record.get("created", datetime.now(UTC).isoformat(timespec="seconds")),
            preset=settings.model.preset,
            seed=settings.seed,
            device=run.device.type,
            precision=arithmetic(settings.precision, run.device),
            threads=torch.get_num_threads(),
            versions={name: version(name) for name in ("torch", "numpy", "scikit-learn", "tensorstore", "zarr")},
            command=command or folder.record.get("command"),
            inputs=described,
            settings=settings.model_dump(mode="json"),
        )
        return run

    @classmethod
    def reopen(
        cls,
        path: Path,
        *,
        device: str = "auto",
        listen: Listener = ignore,
        executor: Executor = IN_PROCESS,
        like: Path | None = None,
        **changes: Any,
    ) -> Self:
        """Take up an earlier run with its own inputs and settings, some of them changed.

        With `like`, clusters are numbered as another run has them: see `number_like`.

        Raises
        ------
        OutputError
            If there is no run in the folder, or one that this version does not understand.
        VolumeError
            If its input is no longer there, or is not the one that it was.
        pydantic.ValidationError
            If a changed setting will not do.
        """
        folder = RunFolder.existing(path)
        try:
            before = Settings.model_validate({"diffusion": 0} | folder.record["settings"])  # earlier runs had none
            recorded = folder.record["inputs"]
            recorded[0], identities(recorded), [Input.recorded(about) for about in recorded]  # all of it is there
        except (LookupError, TypeError, ValueError) as error:
            raise OutputError(
                path / RECORD,
                f"is not a record that vemosaic {vemosaic.__version__} understands",
                "use the version that made it, or begin a new run in another folder",
            ) from error
        settings = Settings.model_validate(before.model_dump() | changes)
        inputs = open_again(recorded, settings.working_voxel_size, path)
        run = cls(folder, settings, inputs, device, listen, executor)
        earlier = run.earlier_map(like, settings.clusters) if like else None
        if settings != before:
            folder.save(complete=False, settings=settings.model_dump(mode="json"))
        if earlier:
            run.number_like(earlier)
        return run

    def keep_to(self, budget: int | None) -> Projection:
        """Keep to a memory budget in bytes, None for any; return what the run will hold at most.

        Raises
        ------
        SettingsError
            If it is too small, with the smallest that would do.
        """
        projection = fit_budget(
            self.settings, self.first.working.shape, budget, self.executor, self.first.request.padded
        )
        self.executor = projection.executor
        return projection

    def earlier_map(self, folder: Path, ks: Sequence[int] | None = None) -> EarlierMap:
        """Open the map of another run of this volume, with one of these numbers of clusters.

        Raises
        ------
        OutputError, SettingsError
            As of `EarlierMap.of`.
        """
        return EarlierMap.of(folder, self.first.working, ks=ks, beside=self.folder.path)

    def number_like(self, earlier: EarlierMap | None) -> None:
        """Number the clusters that `fit` finds as an earlier map does; None: from dark to bright."""
        if earlier is None:
            self.folder.record.pop("like", None)
        else:
            same = self._like.get("map") == earlier.fingerprint
            found = {"run": str(earlier.folder), "map": earlier.fingerprint}
            self.folder.record["like"] = self._like | found if same else found

    @property
    def _like(self) -> dict[str, Any]:
        """Which map clusters are numbered by: its run and fingerprint, and how alike they are; empty without one."""
        known: dict[str, Any] = self.folder.record.get("like", {})
        return known

    def anchors(self) -> int:
        """The training budget in anchors."""
        given = self.settings.anchors
        return default_anchors(len(self.inputs), self.device) if given is None else given

    def embedder(self) -> Embedder:
        """The trained encoder, made ready for the first input."""
        model: Model = load_model(self.folder.model, self.device)
        settings = self.settings
        return Embedder.of(model, self.first.working, stride=settings.stride, precision=settings.precision)

    def clusterings(self, centres: Path | None = None) -> list[Clustering]:
        """The clusterings that `fit` found, for each k, ascending; or those of another file like its own."""
        found = json.loads((centres or self.folder.centres).read_text())["clusters"]
        return [clustering_from_json(found[k]) for k in sorted(found, key=int)]

    def describer(self, centres: Path | None = None) -> Embedder:
        """The encoder with the words, the smoothing and the diffusion that `fit` settled on: what makes the map."""
        document = json.loads((centres or self.folder.centres).read_text())
        words = document["words"]
        if words:
            words = Words.from_json(words)
        diffusion = document.get("diffusion")  # a run of an earlier version has none
        diffusion = Diffusion(**diffusion) if diffusion else None
        return replace(self.embedder(), words=words, smoothing=document["smoothing"], diffusion=diffusion)

    def ledger(self, stage: str, mark: str, owns: Callable[[Unit], Sequence[Path]]) -> Ledger:
        """Open the records of a stage whose units own files of the run."""
        return Ledger(self.folder.progress, stage, mark, owns=owns, root=self.folder.path)

    def _about_embedding(self) -> list[object]:
        about = self.folder.record["inputs"][0]
        return [
            about["identity"],
            about["mask_identity"],
            about["working"],
            computed_on(self.device, self.settings.precision),
            self.settings.stride,
        ]


def _trains_alike(before: Mapping[str, Any], settings: Settings) -> bool:
    after = settings.model_dump(mode="json")
    return all(before.get(name) == after[name] for name in ("model", "anchors", "seed"))
