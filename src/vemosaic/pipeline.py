"""The main job: a raw volume in, an organelle map, its scores and a report out; every stage resumes."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vemosaic
from vemosaic.blocks.events import Listener, StageEnded, StageStarted, UnitDone, ignore
from vemosaic.blocks.files import disk_errors, stamp, write_atomically
from vemosaic.blocks.grid import units
from vemosaic.blocks.lock import claim
from vemosaic.blocks.records import Ledger, fingerprint
from vemosaic.clustering import Clustering, Words, assign, check_clusterer, clustering_from_json
from vemosaic.colours import palette
from vemosaic.embedding import Embedder
from vemosaic.errors import OutputError, SettingsError, VolumeError
from vemosaic.inputs import Input, OpenedInput, ReferenceInput, open_input
from vemosaic.models.model import Model, load_model, measure
from vemosaic.report import write_report
from vemosaic.run_folder import RECORD, RunFolder
from vemosaic.scoring import score_labels
from vemosaic.segmentation import (
    EmbeddingSample,
    fit_clusters,
    sample_embedding,
    stream_embedding,
    write_embedding,
    write_map,
)
from vemosaic.settings import Settings, choose_device
from vemosaic.training import check_budget, default_anchors, train
from vemosaic.volumes.array_writing import SHARD
from vemosaic.volumes.embedding_store import EmbeddingStore
from vemosaic.volumes.geometry import compare_voxel_sizes, parse_voxel_size
from vemosaic.volumes.labels import LabelStore
from vemosaic.volumes.ome_writing import damaged_files, remove, unfinish
from vemosaic.volumes.pyramid import build_pyramid

PREFERRED_K = 8
KEPT_SAMPLE = 100_000


class Run:
    """A run: its folder, settings and input, and one method for each stage.

    Stages know from their fingerprints whether they are done; each may be called again at any time. Use
    `Run.start` for a new or interrupted run and `Run.reopen` for what an earlier one left; hold
    `claim(run.folder.path)` while stages run.
    """

    def __init__(
        self,
        folder: RunFolder,
        settings: Settings,
        inputs: Sequence[OpenedInput],
        device: str,
        listen: Listener,
    ) -> None:
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
    ) -> Run:
        """Begin or go on with a run in a folder, which is created where it is missing.

        Raises
        ------
        OutputError
            If the folder holds something else, or a run of other inputs.
        SettingsError
            If there is no such device, or the budget is less than one batch.
        """
        folder = RunFolder(out)
        described = [opened.describe() for opened in inputs]
        before = folder.record.get("inputs")
        other = before is not None and _identities(before) != _identities(described)
        if before is not None and other and not overwrite and folder.record.get("stages"):
            raise OutputError(
                out,
                f"holds a run of another input ({before[0]['source']})",
                "choose another --out, or add --overwrite",
            )
        run = cls(folder, settings, inputs, device, listen)
        check_budget(run.anchors(), settings.model.optimiser.batch)
        if other:
            folder.record.pop("reference", None)
        if other or not _trains_alike(folder.record.get("settings", {}), settings):
            folder.forget("train")
        folder.save(
            vemosaic=vemosaic.__version__,
            complete=False,
            created=folder.record.get("created", datetime.now(UTC).isoformat(timespec="seconds")),
            preset=settings.model.preset,
            seed=settings.seed,
            device=run.device.type,
            threads=torch.get_num_threads(),
            versions={name: version(name) for name in ("torch", "numpy", "scikit-learn", "tensorstore", "zarr")},
            command=command or folder.record.get("command"),
            inputs=described,
            settings=settings.model_dump(mode="json"),
        )
        return run

    @classmethod
    def reopen(cls, path: Path, *, device: str = "auto", listen: Listener = ignore, **changes: Any) -> Run:
        """Take up an earlier run with its own inputs and settings, some of them changed.

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
            before = Settings.model_validate(folder.record["settings"])
            requests = [Input(i["source"], **_as_given(i["given"])) for i in folder.record["inputs"]]
            known = _identities(folder.record["inputs"])
            folder.record["inputs"][0]
        except (LookupError, TypeError, ValueError) as error:
            raise OutputError(
                path / RECORD,
                f"is not a record that vemosaic {vemosaic.__version__} understands",
                "use the version that made it, or begin a new run in another folder",
            ) from error
        settings = Settings.model_validate(before.model_dump() | changes)
        inputs = [open_input(request, settings.working_voxel_size) for request in requests]
        if _identities([opened.describe() for opened in inputs]) != known:
            raise VolumeError(
                inputs[0].request.source,
                f"is not the volume that {path} was made from",
                "put that one back in its place",
            )
        run = cls(folder, settings, inputs, device, listen)
        if settings != before:
            folder.save(complete=False, settings=settings.model_dump(mode="json"))
        return run

    def anchors(self) -> int:
        """The training budget in anchors."""
        given = self.settings.anchors
        return default_anchors(len(self.inputs), self.device) if given is None else given

    def train(
        self, model: Path | None = None, *, begin_with: Path | None = None, keep_checkpoint: bool = False
    ) -> None:
        """Train on the inputs, or adopt a model that is trained already.

        Parameters
        ----------
        model
            To adopt.
        begin_with
            Checkpoint of a shorter training of the same kind, where its learning rate is constant: see
            `vemosaic.training.train`. One that will not do is not used.
        keep_checkpoint
            Leave the last checkpoint, for a longer training to begin with.
        """
        if model is not None:
            self._adopt(model)
            return
        anchors = self.anchors()
        mark = fingerprint(
            "train", self.settings.model.model_dump(mode="json"), anchors, self.settings.seed, self.device.type,
            _identities(self.folder.record["inputs"]),
        )  # fmt: skip
        if self.folder.is_done("train", mark):
            return
        with self.folder.stage("train", mark, [self.folder.model, self.folder.losses]):
            if begin_with and begin_with.is_file() and not self.folder.checkpoint.exists():
                write_atomically(self.folder.checkpoint, begin_with.read_bytes())
            trained, losses = train(
                [i.working for i in self.inputs],
                [measure(self.settings.model, i.working) for i in self.inputs],
                self.settings.model,
                anchors=anchors,
                seed=self.settings.seed,
                device=self.device,
                masks=[i.mask for i in self.inputs],
                checkpoint=self.folder.checkpoint,
                listen=self.listen,
            )
            trained.save(self.folder.model)
            lines = "".join(line.model_dump_json(exclude_none=True) + "\n" for line in losses)
            write_atomically(self.folder.losses, lines.encode())
        if not keep_checkpoint:
            self.folder.checkpoint.unlink(missing_ok=True)

    def _adopt(self, path: Path) -> None:
        adopted = load_model(path)
        compare_voxel_sizes(self.first.working, adopted.card.get("voxel_size_nm", ()))
        mark = fingerprint("adopted", stamp(path))
        if self.folder.is_done("train", mark):
            return
        with self.folder.stage("train", mark, [self.folder.model]):
            adopted.save(self.folder.model)
            self.folder.losses.unlink(missing_ok=True)

    def embedder(self) -> Embedder:
        """The trained encoder, made ready for the first input."""
        model: Model = load_model(self.folder.model, self.device)
        return Embedder(model, model.measure(self.first.working), stride=self.settings.stride)

    def fit(self) -> None:
        """Sample the embedding and find the cluster centres for each k."""
        mark = fingerprint(
            "fit", self.folder.digest("train"), self._about_embedding(), self.settings.clusters, self.settings.fit,
            self.settings.words, self.settings.dimensions, self.settings.smoothing, self.settings.seed,
            self.settings.clusterer,
        )  # fmt: skip
        if self.folder.is_done("fit", mark):
            return
        check_clusterer(self.settings.clusterer)
        volume, settings = self.first.working, self.settings
        with self.folder.stage("fit", mark, [self.folder.centres, self.folder.sample]):
            embedder, sample = sample_embedding(
                replace(self.embedder(), smoothing=settings.smoothing),
                volume,
                words=settings.words,
                dimensions=settings.dimensions,
                mask=self.first.mask,
                seed=settings.seed,
                listen=self.listen,
            )
            batches = None
            if self.settings.fit == "stream":
                batches = stream_embedding(
                    embedder,
                    volume,
                    SHARD,
                    mask=self.first.mask,
                    seed=self.settings.seed,
                    listen=self.listen,
                )
            found = fit_clusters(sample, settings.clusters, settings.seed, batches, settings.clusterer)
            self._write_sample(sample.thinned(KEPT_SAMPLE, self.settings.seed), found)
            document = {
                "words": embedder.words
                and {"centres": embedder.words.centres.tolist(), "codes": embedder.words.codes.tolist()},
                "smoothing": embedder.smoothing,
                "clusters": {str(c.k): c.to_json() for c in found},
            }
            write_atomically(self.folder.centres, json.dumps(document).encode())

    def _write_sample(self, sample: EmbeddingSample, found: Sequence[Clustering]) -> None:
        labels = assign(torch.from_numpy(sample.embedding), found)
        arrays = {f"cluster_k{c.k}": part.numpy() for c, part in zip(found, labels, strict=True)}
        buffer = io.BytesIO()
        np.savez(
            buffer,
            allow_pickle=False,
            voxel=sample.voxel,
            embedding=sample.embedding,
            intensity=sample.intensity,
            **arrays,
        )
        write_atomically(self.folder.sample, buffer.getvalue())

    def clusterings(self) -> list[Clustering]:
        """The clusterings that `fit` found, for each k, ascending."""
        found = json.loads(self.folder.centres.read_text())["clusters"]
        return [clustering_from_json(found[k]) for k in sorted(found, key=int)]

    def describer(self) -> Embedder:
        """The encoder with the words and the smoothing that `fit` settled on: what the map is made with."""
        document = json.loads(self.folder.centres.read_text())
        words = document["words"]
        if words:
            words = Words(np.array(words["centres"], np.float32), np.array(words["codes"], np.float32))
        return replace(self.embedder(), words=words, smoothing=document["smoothing"])

    def map(self) -> None:
        """Give every voxel its cluster: the label store, with its pyramid, colours and metadata."""
        store_path = self.folder.segmentation
        mark = fingerprint("map", self.folder.digest("fit"), self._about_embedding())
        if self.folder.is_done("map", mark) and _is_whole(store_path):
            return
        embedder, volume = self.describer(), self.first.working
        found = self.clusterings()
        ks = [c.k for c in found]
        with self.folder.stage("map", mark, [self.folder.clusters, store_path / "zarr.json"]):
            self._take_up(store_path, mark)
            store = LabelStore.create(
                store_path,
                ks=ks,
                shape=volume.shape,
                voxel_size=volume.known_voxel_size(),
                translation=volume.translation,
            )
            ledger = Ledger(
                self.folder.progress,
                "map",
                mark,
                owns=lambda unit: [file for k in ks for file in store.files(k, 0, unit.origin, unit.shape)],
                root=self.folder.path,
            )
            write_map(embedder, volume, found, store, ledger, mask=self.first.mask, listen=self.listen)
            recorded = ledger.recorded(units(volume.shape, store.shard))
            recorded |= build_pyramid(store, records=self.folder.progress, fingerprint=mark, listen=self.listen)
            store.finish(
                recorded,
                default_k=PREFERRED_K if PREFERRED_K in ks else ks[len(ks) // 2],
                colours={k: palette(k) for k in ks},
            )
            self._write_clusters(found, store)

    def _write_clusters(self, found: Sequence[Clustering], store: LabelStore) -> None:
        """Write what there is to know of each cluster: centre, voxels, colour."""
        document = {
            str(c.k): {
                "centres": c.centres.tolist(),
                "sizes": count_labels(store, c.k),
                "colours": [list(colour) for colour in palette(c.k)],
            }
            for c in found
        }
        write_atomically(self.folder.clusters, json.dumps(document).encode())

    def _take_up(self, store: Path, mark: str) -> None:
        """Keep of a store the shards that were begun under this mark, remove all else; metadata are written anew."""
        begun = self.folder.progress / f"{store.name}.fingerprint"
        if not begun.exists() or begun.read_bytes() != mark.encode():
            remove(store)
            write_atomically(begun, mark.encode())
            return
        unfinish(store, ())
        with disk_errors(store):
            for metadata in (*store.glob("*/zarr.json"), *store.glob("labels/*/*/zarr.json")):
                metadata.unlink()

    def embed(self) -> None:
        """Store the embedding of every voxel, ``(c, z, y, x)`` float16."""
        path = self.folder.embedding
        mark = fingerprint("embed", self.folder.digest("train"), self._about_embedding())
        if self.folder.is_done("embed", mark) and _is_whole(path):
            return
        embedder, volume = self.embedder(), self.first.working
        with self.folder.stage("embed", mark, [path / "zarr.json"]):
            self._take_up(path, mark)
            store = EmbeddingStore.create(path, channels=embedder.channels, shape=volume.shape)
            ledger = Ledger(
                self.folder.progress,
                "embed",
                mark,
                owns=lambda unit: store.files(unit.origin, unit.shape),
                root=self.folder.path,
            )
            write_embedding(embedder, volume, store, ledger, listen=self.listen)
            store.finish(
                ledger.recorded(units(volume.shape, store.shard)),
                voxel_size=volume.known_voxel_size(),
                translation=volume.translation,
            )

    def evaluate(self, reference: ReferenceInput | None = None) -> list[dict[str, Any]]:
        """Score the map of each k against a reference segmentation; the one of an earlier run where none is given.

        A reference may have been corrected since: it is always compared anew, and written only where scores differ.
        """
        reference = reference or self.reference()
        if reference is None:
            raise SettingsError("--reference", "this run has none", "give labels.ome.zarr or NAME=mask.tif")
        opened = reference.open(self.first)
        begun = time.monotonic()
        scores = score_labels(self.folder.segmentation, opened, None, self.listen)
        mark = fingerprint("evaluate", self.folder.digest("map"), asdict(reference), scores)
        if not self.folder.is_done("evaluate", mark):
            with self.folder.stage("evaluate", mark, [self.folder.scores], begun):
                write_atomically(self.folder.scores, json.dumps(scores, indent=1).encode())
                self.folder.save(reference=list(reference.specs), reference_merge=dict(reference.merge))
        return scores

    def reference(self) -> ReferenceInput | None:
        """The reference segmentation that the run was scored against, if any."""
        specs = self.folder.record.get("reference")
        return ReferenceInput(tuple(specs), self.folder.record.get("reference_merge", {})) if specs else None

    def check_reference(self) -> None:
        """Open the reference of an earlier run, which is scored against again: better now than after the work.

        Raises
        ------
        ReferenceMaskError, VolumeError
            If it is no longer there, or no longer fits.
        """
        reference = self.reference()
        if reference:
            reference.open(self.first)

    def report(self) -> Path:
        """Write the report, anew where there is one; a run that was complete still is."""
        self.folder.digest("map")
        complete = self.folder.record["complete"]
        reference = self.reference()
        opened = reference.open(self.first) if reference else None
        with self.folder.stage("report", self._report_mark(), [self.folder.report]):
            self.listen(StageStarted("report", 1, unit_name="page"))
            page = write_report(self.folder.path, volume=self.first.working, reference=opened)
            self.listen(UnitDone("report", 1))
            self.listen(StageEnded("report"))
        self.folder.save(complete=complete)
        return page

    def _report_mark(self) -> str:
        stages = {name: done for name, done in self.folder.record["stages"].items() if name != "report"}
        return fingerprint("report", vemosaic.__version__, stages)

    def finish(self) -> None:
        """Report where anything has changed, and mark the run as complete: the last step, after all others."""
        if not self.folder.is_done("report", self._report_mark()):
            self.report()
        self.folder.save(complete=True)

    def _about_embedding(self) -> list[object]:
        about = self.folder.record["inputs"][0]
        return [
            about["identity"],
            about["mask_identity"],
            about["working"],
            self.device.type,
            self.settings.stride,
        ]


def run(
    source: str,
    out: str | Path,
    settings: Settings | None = None,
    *,
    voxel_size: float | Sequence[float] | None = None,
    channel: int | None = None,
    mask: str | None = None,
    reference: ReferenceInput | None = None,
    missing_chunks: str = "error",
    model: str | Path | None = None,
    store_embedding: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    command: Sequence[str] | None = None,
    listen: Listener = ignore,
) -> Run:
    """Map a volume: train, cluster, give every voxel its cluster, score, report. Resumes what is there.

    Parameters
    ----------
    source
        Path or address of the volume; see `vemosaic.volumes.open_volume`.
    out
        Folder of the run.
    settings
        Everything else that decides the result.
    voxel_size, channel
        What the file does not say: voxel size in nm (one number, or z, y, x) and channel.
    mask
        A mask of the volume, non-zero where to learn and to map.
    reference
        A reference segmentation, for scores; see `vemosaic.evaluation.open_reference`.
    missing_chunks
        ``"error"``, or ``"fill"`` to read the absent chunks of a sparse Zarr or N5 array as its fill value.
    model
        A trained model to use instead of training one.
    store_embedding
        Keep the embedding of every voxel as well.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``.
    overwrite
        Allow a run of another input, or a finished one of another training, to be replaced.
    command
        The command line, for the record.
    listen
        Hears of every stage.

    Returns
    -------
    Run
        Complete; its folder holds all results.

    Raises
    ------
    VemosaicError
        In one line, whatever the user can mend.
    """
    out = Path(out)
    settings = settings or Settings()
    # Whatever is wrong with what was given is told before a folder is made, or an earlier run in it touched.
    RunFolder(out)
    choose_device(device)
    check_clusterer(settings.clusterer)
    opened = open_input(
        Input(source, parse_voxel_size(voxel_size), channel, mask, missing_chunks), settings.working_voxel_size
    )
    if reference:
        reference.open(opened)
    if model:
        settings = Settings.model_validate(settings.model_dump() | {"model": load_model(model).settings})
    with claim(out):
        job = Run.start(
            out,
            [opened],
            settings,
            device=device,
            overwrite=overwrite,
            command=command,
            listen=listen,
        )
        job.check_reference()
        job.train(Path(model) if model else None)
        job.fit()
        job.map()
        if store_embedding:
            job.embed()
        if reference or job.reference():
            job.evaluate(reference)
        job.finish()
    return job


def _is_whole(store: Path) -> bool:
    """Tell whether a store is finished and every file of it is as it was written."""
    try:
        return not damaged_files(store)
    except VolumeError:
        return False


def count_labels(store: LabelStore, k: int) -> list[int]:
    """Count the voxels of clusters 1 to k, shard by shard."""
    counts = np.zeros(256, np.int64)
    for unit in units(store.levels[0].shape, store.shard):
        counts += np.bincount(store.read(k, 0, unit.origin, unit.shape).ravel(), minlength=256)
    return [int(n) for n in counts[1 : k + 1]]


def _identities(inputs: Sequence[dict[str, Any]]) -> list[list[Any]]:
    return [[i["identity"], i["mask_identity"], i["working"]] for i in inputs]


def _trains_alike(before: Mapping[str, Any], settings: Settings) -> bool:
    after = settings.model_dump(mode="json")
    return all(before.get(name) == after[name] for name in ("model", "anchors", "seed"))


def _as_given(given: dict[str, Any]) -> dict[str, Any]:
    size = given["voxel_size"]
    return given | {"voxel_size": None if size is None else tuple(size)}
