"""The main job: a raw volume in, an organelle map, its scores and a report out; every stage resumes."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

import vemosaic
from vemosaic.blocks.events import Listener, StageEnded, StageStarted, UnitDone, ignore
from vemosaic.blocks.executors import Executor
from vemosaic.blocks.files import stamp, write_atomically
from vemosaic.blocks.lock import claim
from vemosaic.blocks.records import fingerprint
from vemosaic.clustering import (
    Clustering,
    assign,
    check_clusterer,
    suggested_k,
)
from vemosaic.comparing import EarlierMap, match_with
from vemosaic.devices import arithmetic, computed_on, for_training
from vemosaic.distributed import ALONE, Ranks
from vemosaic.embedding import Embedder
from vemosaic.embedding_sample import EmbeddingSample
from vemosaic.errors import OutputError, SettingsError
from vemosaic.fitting import fit_typical
from vemosaic.inputs import Input, ReferenceInput, identities, open_input, suited_to, without_padding
from vemosaic.memory import fit_budget
from vemosaic.models.model import Model, load_model, measure
from vemosaic.report import write_report
from vemosaic.run_folder import RunFolder
from vemosaic.run_state import IN_PROCESS
from vemosaic.scoring import score_labels
from vemosaic.settings import Settings, choose_device
from vemosaic.shard_stages import ShardStages
from vemosaic.training import Losses, train
from vemosaic.volumes.geometry import parse_voxel_size

KEPT_SAMPLE = 100_000


class Run(ShardStages):
    """A run: its folder, settings and input, and one method for each stage.

    Stages know from their fingerprints whether they are done; each may be called again at any time. Use
    `Run.start` for a new or interrupted run and `Run.reopen` for what an earlier one left; hold
    `claim(run.folder.path)` while stages run.
    """

    def train(
        self,
        model: Path | None = None,
        *,
        begin_with: Path | None = None,
        keep_checkpoint: bool = False,
        ranks: Ranks = ALONE,
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
        ranks
            The processes that train together, of which this is the first; the others `follow`.
        """
        with ranks:
            self._train(model, begin_with, ranks)
        if not keep_checkpoint:
            self.folder.checkpoint.unlink(missing_ok=True)

    def follow(self, ranks: Ranks) -> NoReturn:
        """Train along with the first process, which has the folder, and end with the training.

        Raises
        ------
        SystemExit
            When all is done that takes more than one process.
        """
        with ranks:
            if ranks.any(False):
                self._learn(ranks)
        raise SystemExit(0)

    def _train(self, model: Path | None, begin_with: Path | None, ranks: Ranks) -> None:
        if model is not None:
            ranks.any(False)  # there is nothing to follow
            self._adopt(model)
            return
        anchors = self.anchors()
        mark = fingerprint(
            "train", self.settings.model.model_dump(mode="json"), anchors, self.settings.seed,
            computed_on(self.device, for_training(self.settings.precision, self.device)),
            identities(self.folder.record["inputs"]),
        )  # fmt: skip
        if self.folder.is_done("train", mark):
            ranks.any(False)
            return
        with self.folder.stage("train", mark, [self.folder.model, self.folder.losses]):
            if begin_with and begin_with.is_file() and not self.folder.checkpoint.exists():
                write_atomically(self.folder.checkpoint, begin_with.read_bytes())
            ranks.any(True)  # from here on the others follow
            trained, losses = self._learn(ranks)
            trained.save(self.folder.model)
            lines = "".join(line.model_dump_json(exclude_none=True) + "\n" for line in losses)
            write_atomically(self.folder.losses, lines.encode())

    def _learn(self, ranks: Ranks) -> tuple[Model, list[Losses]]:
        return train(
            [i.seen for i in self.inputs],
            [measure(self.settings.model, i.working) for i in self.inputs],
            self.settings.model,
            anchors=self.anchors(),
            seed=self.settings.seed,
            device=self.device,
            precision=self.settings.precision,
            masks=[i.mask for i in self.inputs],
            checkpoint=self.folder.checkpoint,
            ranks=ranks,
            listen=self.listen,
        )

    def _adopt(self, path: Path) -> None:
        adopted = load_model(path)
        mark = fingerprint("adopted", stamp(path))
        if self.folder.is_done("train", mark):
            return
        with self.folder.stage("train", mark, [self.folder.model]):
            adopted.save(self.folder.model)
            self.folder.losses.unlink(missing_ok=True)

    def fit(self) -> None:
        """Sample the embedding and find the cluster centres for each k."""
        mark = self._fit_mark()
        if self.folder.is_done("fit", mark):
            return
        check_clusterer(self.settings.clusterer)
        settings = self.settings
        with self.folder.stage("fit", mark, [self.folder.centres, self.folder.sample]):
            fitted = fit_typical(self.embedder(), self.first.seen, settings, mask=self.first.mask, listen=self.listen)
            embedder, sample, found = fitted.embedder, fitted.sample, fitted.clusterings
            if settings.fit == "stream":
                write_atomically(self.folder.begun_centres, _described(embedder, found))
                followed = self._follow_all(embedder, found, mark)
                found = [c.ordered_by(sample.embedding, sample.intensity) for c in followed]
            found = self._numbered(sample, found)
            self._write_sample(sample.thinned(KEPT_SAMPLE, self.settings.seed), found)
            write_atomically(self.folder.centres, _described(embedder, found))
            suggestion = suggested_k(found)
            self.folder.record["suggested_k"] = suggestion and {"k": suggestion.k, "reason": suggestion.reason}
            self.folder.record["agreement"] = {str(k): round(index, 3) for k, index in fitted.agreement.items()}

    def _numbered(self, sample: EmbeddingSample, found: Sequence[Clustering]) -> list[Clustering]:
        """Number clusters as an earlier map does, where one is named and has as many; else leave them as they are."""
        if not self._like:
            return list(found)
        earlier = self.earlier_map(Path(self._like["run"]))
        if earlier.fingerprint != self._like["map"]:
            raise OutputError(earlier.folder, "has been mapped anew", f"give --like {earlier.folder} again")
        labels = assign(torch.from_numpy(sample.embedding), found)
        clusters = {c.k: part.numpy() for c, part in zip(found, labels, strict=True)}
        matched = match_with(earlier, sample.voxel, clusters)
        self._like["matched"] = {str(k): round(float(each.dice.mean()), 3) for k, each in matched.items()}
        return [c.renumbered(np.argsort(matched[c.k].other)) if c.k in matched else c for c in found]

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
    like: str | Path | None = None,
    store_embedding: bool = False,
    store_confidence: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    command: Sequence[str] | None = None,
    listen: Listener = ignore,
    executor: Executor = IN_PROCESS,
    ranks: Ranks = ALONE,
    prepare: bool = False,
    memory: int | None = None,
    tell: Callable[[str], None] | None = None,
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
        A mask of the volume, non-zero where to learn and to map. ``"nonzero"``: all but padding, that is zeros around
        the image; ``"everywhere"``: all; None: all but padding where there is much, with a warning.
    reference
        A reference segmentation, for scores; see `vemosaic.evaluation.open_reference`.
    missing_chunks
        ``"error"``, or ``"fill"`` to read the absent chunks of a sparse Zarr or N5 array as its fill value.
    model
        A trained model to use instead of training one.
    like
        Folder of a finished run of the same volume, by whose map clusters are numbered: each is the one that it shares
        most voxels with, one to one. None: from dark to bright.
    store_embedding
        Keep the embedding of every voxel as well.
    store_confidence
        Keep how sure the cluster of every voxel is as well.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``.
    overwrite
        Allow a run of another input, or a finished one of another training, to be replaced.
    command
        The command line, for the record.
    listen
        Hears of every stage.
    executor
        Who carries out what is done shard by shard: this process, worker processes, a Dask cluster.
    ranks
        The processes that train together (`vemosaic.distributed.join`); all but the first end with the training.
    prepare
        Stop where the map is laid out, for others to fill (`Run.map_part`).
    memory
        Most bytes that the run may hold; None for any.
    tell
        Hears in a line, before the work begins, how many that will be.

    Returns
    -------
    Run
        Complete unless `prepare`; its folder holds all results.

    Raises
    ------
    VemosaicError
        In one line, whatever the user can mend.
    """
    out = Path(out)
    settings = settings or Settings()
    # Whatever is wrong with what was given is told before a folder is made, or an earlier run in it touched.
    RunFolder(out)
    arithmetic(settings.precision, choose_device(device))
    check_clusterer(settings.clusterer)
    adopted = load_model(model) if model else None
    if adopted:
        settings = settings.adopting(adopted)
    opened = open_input(
        Input(source, parse_voxel_size(voxel_size), channel, mask, missing_chunks), settings.working_voxel_size
    )
    if reference:
        reference.open(opened)
    earlier = None if like is None else EarlierMap.of(Path(like), opened.working, ks=settings.clusters, beside=out)
    opened = without_padding(opened)
    if adopted:
        adopted.check(opened.working)
    else:
        settings = settings.model_copy(update={"model": suited_to([opened], settings.model)})
    if not ranks.is_first:
        Run(RunFolder(out), settings, [opened], device, ignore).follow(ranks)
    projection = fit_budget(settings, opened.working.shape, memory, executor, opened.request.padded)
    if tell:
        tell(str(projection))
    with claim(out):
        job = Run.start(
            out,
            [opened],
            settings,
            device=device,
            overwrite=overwrite,
            command=command,
            listen=listen,
            executor=projection.executor,
        )
        job.check_reference()
        job.number_like(earlier)
        job.train(Path(model) if model else None, ranks=ranks)
        job.fit()
        if prepare:
            if not job.map_is_done():
                job.lay_out_map()
            return job
        job.map()
        if store_embedding:
            job.embed()
        if store_confidence:
            job.rate()
        if reference or job.reference():
            job.evaluate(reference)
        job.finish()
    return job


def _described(embedder: Embedder, found: Sequence[Clustering]) -> bytes:
    """Write down what a map is made with: words, smoothing, diffusion, clusters."""
    words = embedder.words
    document = {
        "words": words and words.to_json(),
        "smoothing": embedder.smoothing,
        "diffusion": embedder.diffusion and embedder.diffusion.to_json(),
        "clusters": {str(c.k): c.to_json() for c in found},
    }
    return json.dumps(document).encode()
