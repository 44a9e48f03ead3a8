"""The stages of a run that are made of shards: sums over all voxels, the map, the embedding. Others can take part.

All stand in one table, `STAGES`: a further one is a further entry.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from vemosaic.blocks.files import disk_errors, write_atomically
from vemosaic.blocks.grid import Unit, units
from vemosaic.blocks.records import Ledger, fingerprint
from vemosaic.blocks.work import Steps, Work
from vemosaic.clustering import (
    Clustering,
    Statistics,
    Streamable,
    identity_of,
    updated,
)
from vemosaic.colours import palette
from vemosaic.embedding import Embedder
from vemosaic.errors import OutputError, VolumeError
from vemosaic.image_stages import CONFIDENCE, EMBEDDING, ImageStage
from vemosaic.run_state import RunState
from vemosaic.segmentation import map_steps, statistics_steps
from vemosaic.volumes.array_writing import SHARD
from vemosaic.volumes.labels import LabelStore
from vemosaic.volumes.ome_writing import damaged_files, remove, unfinish
from vemosaic.volumes.pyramid import build_pyramid, levels

PREFERRED_K = 8


class ShardStages(RunState):
    """What a run does shard by shard, by itself, in worker processes, on a cluster, or by parts of a job array."""

    def map(self) -> None:
        """Give every voxel its cluster: the label store, with its pyramid, colours and metadata."""
        if self.map_is_done():
            return
        path, mark = self.folder.segmentation, self._mark("map")
        found = self.clusterings()
        ks = [c.k for c in found]
        with self.folder.stage("map", mark, [self.folder.clusters, path / "zarr.json"]):
            store = self.lay_out_map()
            steps = self.map_steps(store, found, mark)
            shards = units(self.first.working.shape, store.shard)
            self._carry_out("map", mark, shards, steps)
            recorded = steps.ledger.recorded(shards)
            recorded |= build_pyramid(
                store, records=self.folder.progress, fingerprint=mark, listen=self.listen, executor=self.executor
            )
            store.finish(
                recorded,
                default_k=self._shown_first(ks),
                colours={k: palette(k) for k in ks},
            )
            self._write_clusters(found, (steps.ledger.facts(shard) for shard in shards))

    def _shown_first(self, ks: Sequence[int]) -> int:
        """Choose the map that viewers show first: of the suggested k, or the one nearest to it; else nearest to 8."""
        suggested = (self.folder.record.get("suggested_k") or {}).get("k", PREFERRED_K)
        return min(ks, key=lambda k: (abs(k - suggested), k))

    def map_is_done(self) -> bool:
        """Tell whether the map is finished and every file of it as it was written."""
        return self.folder.is_done("map", self._mark("map")) and _is_whole(self.folder.segmentation)

    def lay_out_map(self) -> LabelStore:
        """Create the label store, or take up the one that was begun: shards that are done stay."""
        path, volume, mark = self.folder.segmentation, self.first.working, self._mark("map")
        self._take_up(path, mark)
        store = LabelStore.create(
            path,
            ks=[c.k for c in self.clusterings()],
            shape=volume.shape,
            voxel_size=volume.known_voxel_size(),
            translation=volume.translation,
        )
        self._map_ledger(store, mark).start()
        return store

    def map_part(self, number: int, count: int) -> None:
        """Give every voxel of one of several parts its cluster, while others do the other parts.

        Parameters
        ----------
        number, count
            Part `number`, from 1, of `count`: every so-many-th shard of the map that `lay_out_map` made.

        Raises
        ------
        OutputError
            If the map was not laid out, or the run's settings have changed since.
        """
        mark = self._mark("map")
        if not self._is_begun(self.folder.segmentation, mark):
            raise OutputError(
                self.folder.segmentation, "is not laid out for these settings", "give vemosaic run --prepare first"
            )
        steps = self.open_steps("map", mark)
        shards = units(self.first.working.shape, SHARD)[number - 1 :: count]
        self.executor.carry_out(shards, Work(steps), self.listen)

    def embed(self) -> None:
        """Store the embedding of every voxel, ``(c, z, y, x)`` float16."""
        self._make_image(EMBEDDING)

    def rate(self) -> None:
        """Store how sure the cluster of every voxel is, a channel for each k, ``(c, z, y, x)`` uint8."""
        self._make_image(CONFIDENCE)

    def _make_image(self, stage: ImageStage) -> None:
        path, mark, volume = stage.place(self.folder), self._mark(stage.name), self.first.working
        if self.folder.is_done(stage.name, mark) and _is_whole(path):
            return
        image = stage.image(self)
        with self.folder.stage(stage.name, mark, [path / "zarr.json"]):
            self._take_up(path, mark)
            store = image.store(path, volume.shape)
            steps = stage.steps(self, image, store, mark)
            shards = units(volume.shape, store.shard)
            self._carry_out(stage.name, mark, shards, steps)
            store.finish(
                steps.ledger.recorded(shards),
                voxel_size=volume.known_voxel_size(),
                translation=volume.translation,
                name=path.name.removesuffix(".ome.zarr"),
                channels=image.names,
            )

    def _follow_all(self, embedder: Embedder, begun: Sequence[Streamable], mark: str) -> list[Streamable]:
        """Bring clusterings of the sample one step nearer to all voxels, whose sums are found shard by shard."""
        steps = self.stream_steps(embedder, begun, mark)
        shards = units(self.first.working.shape, SHARD)
        self._carry_out("stream", mark, shards, steps)
        parts = (Statistics.from_bytes(self._statistics_file(unit).read_bytes()) for unit in shards)
        return updated(begun, reduce(Statistics.merge, parts))

    def open_steps(self, stage: str, mark: str) -> Steps[Any, Any]:
        """Make the steps of a stage that another process of this run has begun.

        Raises
        ------
        OutputError
            If the run has since been given other settings.
        """
        if self._mark(stage) != mark:
            raise OutputError(self.folder.path, f"its stage {stage!r} is now made with other settings", "run it again")
        return STAGES[stage].open(self, mark)

    def _carry_out(self, stage: str, mark: str, shards: Sequence[Unit], steps: Steps[Any, Any]) -> None:
        """Carry out a stage that is made of shards, here or wherever its steps can be opened."""
        work = Work(steps, StageOpener(self.folder.path.resolve(), stage, mark, self.device.type))
        self.executor.carry_out(shards, work, self.listen)

    def _mark(self, stage: str) -> str:
        """Return the fingerprint of a stage that is made of shards."""
        before = STAGES[stage].before
        if before is None:
            return self._fit_mark()
        return fingerprint(stage, self.folder.digest(before), self._about_embedding())

    def _fit_mark(self) -> str:
        return fingerprint(
            "fit", self.folder.digest("train"), self._about_embedding(), self.settings.clusters, self.settings.fit,
            self.settings.words, self.settings.trials, self.settings.dimensions, self.settings.detail,
            self.settings.smoothing, self.settings.diffusion, self.settings.seed, self.settings.clusterer,
            *([self._like["map"]] if self._like else []),
        )  # fmt: skip

    def _map_ledger(self, store: LabelStore, mark: str) -> Ledger:
        def owns(unit: Unit) -> list[Path]:
            return [file for k in store.ks for file in store.files(k, 0, unit.origin, unit.shape)]

        return self.ledger("map", mark, owns)

    def map_steps(self, store: LabelStore, found: Sequence[Clustering], mark: str) -> Steps[Any, Any]:
        """Steps that write the clusters found into a store that is laid out."""
        ledger = self._map_ledger(store, mark)
        return map_steps(self.describer(), self.first.seen, found, store, ledger, mask=self.first.mask)

    def stream_steps(self, embedder: Embedder, begun: Sequence[Streamable], mark: str) -> Steps[Any, Any]:
        """Steps that sum up what all voxels have to say of clusterings of the sample."""
        about = fingerprint(mark, identity_of(begun))  # a later version may begin with others
        ledger = self.ledger("stream", about, lambda unit: [self._statistics_file(unit)])
        volume, mask = self.first.seen, self.first.mask
        return statistics_steps(embedder, volume, begun, ledger, self._statistics_file, mask=mask)

    def _statistics_file(self, unit: Unit) -> Path:
        return self.folder.progress / "statistics" / f"{unit.name}.npz"

    def _write_clusters(self, found: Sequence[Clustering], counted: Iterable[Mapping[str, list[int]]]) -> None:
        """Write what there is to know of each cluster: centre, voxels (counted in each shard), colour."""
        sizes = {str(c.k): np.zeros(c.k, np.int64) for c in found}
        for counts in counted:
            for k, size in sizes.items():
                size += counts[k]
        document = {
            str(c.k): {
                "centres": c.centres.tolist(),
                "sizes": sizes[str(c.k)].tolist(),
                "colours": [list(colour) for colour in palette(c.k)],
            }
            for c in found
        }
        write_atomically(self.folder.clusters, json.dumps(document).encode())

    def _take_up(self, store: Path, mark: str) -> None:
        """Keep of a store the shards that were begun under this mark, remove all else; metadata are written anew."""
        if not self._is_begun(store, mark):
            remove(store)
            write_atomically(self._begun(store), mark.encode())
            return
        unfinish(store, ())
        with disk_errors(store):
            for metadata in (*store.glob("*/zarr.json"), *store.glob("labels/*/*/zarr.json")):
                metadata.unlink()

    def _begun(self, store: Path) -> Path:
        return self.folder.progress / f"{store.name}.fingerprint"

    def _is_begun(self, store: Path, mark: str) -> bool:
        begun = self._begun(store)
        return begun.exists() and begun.read_bytes() == mark.encode()


@dataclass(frozen=True)
class Stage:
    """A stage that is made of shards.

    Attributes
    ----------
    name
        Of the stage, in records and for listeners.
    before
        The stage whose result it is made from; None for a part of `fit`, which has its fingerprint.
    open
        Makes its steps, in whatever process, from the run and the stage's fingerprint; where they write is laid out.
    """

    name: str
    before: str | None
    open: Callable[[ShardStages, str], Steps[Any, Any]]


def _open_stream(run: ShardStages, mark: str) -> Steps[Any, Any]:
    begun = run.clusterings(run.folder.begun_centres)
    return run.stream_steps(run.describer(run.folder.begun_centres), begun, mark)  # type: ignore[arg-type]


def _open_map(run: ShardStages, mark: str) -> Steps[Any, Any]:
    volume, found = run.first.working, run.clusterings()
    pyramid = levels(volume.shape, volume.known_voxel_size(), volume.translation)
    return run.map_steps(LabelStore(run.folder.segmentation, [c.k for c in found], pyramid, SHARD), found, mark)


STAGES: dict[str, Stage | ImageStage] = {
    stage.name: stage
    for stage in (Stage("stream", None, _open_stream), Stage("map", "fit", _open_map), EMBEDDING, CONFIDENCE)
}


@dataclass(frozen=True)
class StageOpener:
    """Makes the steps of a run's stage in a worker process, which sees the same folder and the same input."""

    path: Path
    stage: str
    mark: str
    device: str

    def __call__(self) -> Steps[Any, Any]:
        """Open the run and its input, load the model.

        Raises
        ------
        OutputError
            If the folder is not there, or the run has since been given other settings.
        VolumeError
            If the input is not there.
        """
        return ShardStages.reopen(self.path, device=self.device).open_steps(self.stage, self.mark)


def _is_whole(store: Path) -> bool:
    """Tell whether a store is finished and every file of it is as it was written."""
    try:
        return not damaged_files(store)
    except VolumeError:
        return False
