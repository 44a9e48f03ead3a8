"""Commands that make something of volumes: models, maps, scores, reports."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vemosaic.cli.application import app
from vemosaic.cli.options import (
    Anchors,
    AsJson,
    Channel,
    Clusterer,
    ClusterRange,
    Device,
    Fit,
    Latent,
    Mask,
    Memory,
    MissingChunks,
    Out,
    Preset,
    Quiet,
    References,
    RunPath,
    Scheduler,
    Seed,
    Smoothing,
    Stride,
    TextureWords,
    VolumePath,
    VoxelSize,
    Width,
    Workers,
    Working,
    chosen_settings,
    default_out,
    executing,
    local,
    local_reference,
    numbers,
    options_checked,
    parse_clusters,
    preset_of,
    read_part,
)
from vemosaic.cli.telling import listening, print_scores, readable, tell, tell_of
from vemosaic.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from vemosaic.blocks.executors import Executor
    from vemosaic.pipeline import Run


@app.command()
def run(
    volume: VolumePath,
    out: Out = None,
    voxel_size: VoxelSize = None,
    working_voxel_size: Working = "16",
    channel: Channel = None,
    mask: Mask = None,
    reference: References = None,
    clusters: ClusterRange = "4-10",
    anchors: Anchors = None,
    words: TextureWords = None,
    smoothing: Smoothing = None,
    fit: Fit = "sample",
    clusterer: Clusterer = None,
    preset: Annotated[
        str | None, typer.Option(help="Which model: default, han2022, cihs; that of --model where it is given.")
    ] = None,
    width: Width = None,
    latent: Latent = None,
    stride: Stride = None,
    missing_chunks: MissingChunks = "error",
    model: Annotated[Path | None, typer.Option(help="A model.safetensors to use instead of training one.")] = None,
    embedding: Annotated[bool, typer.Option("--embedding", help="Keep the embedding of every voxel, too.")] = False,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="Keep how sure the cluster of every voxel is, too.")
    ] = False,
    seed: Seed = 1,
    device: Device = "auto",
    workers: Workers = None,
    scheduler: Scheduler = None,
    memory: Memory = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Stop where the map is laid out, for `vemosaic map` to fill.")
    ] = False,
    publish: Annotated[
        str | None, typer.Option(help="Copy the complete run to s3://bucket/folder, which becomes the run's.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run of another input.")] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Map a volume: train, cluster, give every voxel its cluster, score, report. Run again to resume."""
    from vemosaic.distributed import join
    from vemosaic.inputs import ReferenceInput
    from vemosaic.memory import parse_size
    from vemosaic.pipeline import run as run_pipeline
    from vemosaic.publishing import check_destination
    from vemosaic.publishing import publish as publish_run

    settings = chosen_settings(
        preset or preset_of(model),
        working_voxel_size,
        width=width,
        latent=latent,
        stride=stride,
        anchors=anchors,
        clusters=parse_clusters(clusters),
        fit=fit,
        clusterer=clusterer,
        words=words,
        smoothing=smoothing,
        seed=seed,
    )
    out = out or default_out(volume)
    if publish:
        check_destination(out, publish, overwrite=overwrite)
    ranks = join(device)
    if not ranks.is_first:  # it only trains
        workers = scheduler = None
    with listening(quiet, as_json) as listen, executing(workers, scheduler, device) as executor:
        done = run_pipeline(
            local(volume),
            out,
            settings,
            voxel_size=numbers(voxel_size),
            channel=channel,
            mask=local(mask) if mask else None,
            reference=ReferenceInput(tuple(map(local_reference, reference))) if reference else None,
            missing_chunks=missing_chunks,
            model=model,
            store_embedding=embedding,
            store_confidence=confidence,
            device=device,
            overwrite=overwrite,
            command=["vemosaic", *sys.argv[1:]],
            listen=listen,
            executor=executor,
            ranks=ranks,
            prepare=prepare,
            memory=parse_size(memory) if memory else None,
            tell=tell_of(quiet or as_json or not ranks.is_first),
        )
    if prepare:
        if not quiet:
            print(f"ready:  vemosaic map {done.folder.path} --part 1/N, and so on to N/N; then this command to finish")
        return
    if publish:
        with listening(quiet, as_json) as listen:
            publish_run(out, publish, overwrite=overwrite, listen=listen)
    tell(done, quiet, as_json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for phantom and run.")] = Path("demo.vemosaic"),
    seed: Seed = 1,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Draw a synthetic cell, map it, and print how well its organelles were found."""
    from vemosaic.demo import run_demo

    with listening(quiet, as_json) as listen:
        done = run_demo(out, seed=seed, listen=listen)
    tell(done, quiet, as_json)


@app.command()
def info(
    volume: VolumePath,
    voxel_size: VoxelSize = None,
    channel: Channel = None,
    missing_chunks: MissingChunks = "error",
    as_json: AsJson = False,
) -> None:
    """Print what a volume is: format, shape, voxel size, levels, intensities."""
    from vemosaic.volumes import describe, open_volume

    facts = describe(
        open_volume(local(volume), voxel_size=numbers(voxel_size), channel=channel, missing_chunks=missing_chunks)
    )
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for key, value in facts.items():
        print(f"{key.replace('_', ' '):>16}  {readable(value)}")


@app.command()
def train(
    volumes: Annotated[list[str], typer.Argument(help="One or more volumes to learn from.")],
    out: Out = None,
    voxel_size: VoxelSize = None,
    working_voxel_size: Working = "16",
    channel: Channel = None,
    mask: Mask = None,
    anchors: Anchors = None,
    preset: Preset = "default",
    width: Width = None,
    latent: Latent = None,
    seed: Seed = 1,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run of another input.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a model on one or more volumes; map others with it by `vemosaic run VOLUME --model`."""
    from vemosaic.blocks.events import ignore
    from vemosaic.blocks.lock import claim
    from vemosaic.distributed import join
    from vemosaic.inputs import Input, open_input, suited_to
    from vemosaic.pipeline import Run
    from vemosaic.run_folder import RunFolder
    from vemosaic.settings import choose_device

    out = out or default_out(volumes[0])
    if mask is not None and len(volumes) > 1:
        raise SettingsError("--mask", "is given for several volumes", "train on one volume, or leave the mask out")
    settings = chosen_settings(preset, working_voxel_size, width=width, latent=latent, anchors=anchors, seed=seed)
    RunFolder(out)
    ranks = join(device)
    choose_device(device)
    requests = [Input(local(v), numbers(voxel_size), channel, local(mask) if mask else None) for v in volumes]
    with listening(quiet) as listen:
        inputs = [open_input(request, settings.working_voxel_size) for request in requests]
        settings = settings.model_copy(update={"model": suited_to(inputs, settings.model)})
        if not ranks.is_first:
            Run(RunFolder(out), settings, inputs, device, ignore).follow(ranks)
        with claim(out):
            job = Run.start(out, inputs, settings, device=device, overwrite=overwrite, listen=listen)
            job.train(ranks=ranks)
    if not quiet:
        print(f"model: {job.folder.model}")


@app.command()
def embed(
    folder: RunPath,
    device: Device = "auto",
    workers: Workers = None,
    scheduler: Scheduler = None,
    memory: Memory = None,
    quiet: Quiet = False,
) -> None:
    """Store the embedding of every voxel of a run, as OME-Zarr (c, z, y, x), float16."""
    with executing(workers, scheduler, device) as executor, reopened(folder, device, quiet, executor) as job:
        keep_to(job, memory)
        job.embed()
    if not quiet:
        print(f"embedding: {job.folder.embedding}")


@app.command()
def cluster(
    folder: RunPath,
    clusters: Annotated[str | None, typer.Option("--clusters", "-k", help="Numbers of clusters: 8 or 4-10.")] = None,
    fit: Annotated[str | None, typer.Option(help="Cluster a 'sample' of voxels, or all in a 'stream'.")] = None,
    clusterer: Annotated[str | None, typer.Option(help="consensus, kmeans, mixture, pymc or hyperbolic.")] = None,
    words: Annotated[int | None, typer.Option(help="Texture words; 0: a voxel's own patch alone.")] = None,
    smoothing: Annotated[float | None, typer.Option(help="Gaussian over what describes the voxels, in voxels.")] = None,
    device: Device = "auto",
    workers: Workers = None,
    scheduler: Scheduler = None,
    memory: Memory = None,
    quiet: Quiet = False,
) -> None:
    """Map a trained run anew with other numbers of clusters; what is not given stays as the run had it."""
    chosen = {"fit": fit, "clusterer": clusterer, "words": words, "smoothing": smoothing}
    given = chosen | {"clusters": clusters and parse_clusters(clusters)}
    changes = {n: v for n, v in given.items() if v is not None}
    with executing(workers, scheduler, device) as executor, reopened(folder, device, quiet, executor, **changes) as job:
        keep_to(job, memory)
        job.check_reference()
        job.fit()
        job.map()
        if job.reference():
            job.evaluate()
        job.finish()
    tell(job, quiet, False)


@app.command()
def evaluate(
    segmentation: Annotated[Path, typer.Argument(help="A map: segmentation.ome.zarr, or any label image.")],
    reference: Annotated[list[str], typer.Argument(help="labels.ome.zarr, or NAME=mask.tif, repeated.")],
    clusters: Annotated[int | None, typer.Option("--clusters", "-k", help="Which of its maps; else all.")] = None,
    voxel_size: VoxelSize = None,
    as_json: AsJson = False,
) -> None:
    """Score a map against a reference segmentation."""
    from vemosaic.scoring import score_file

    scores = score_file(segmentation, [local_reference(r) for r in reference], clusters, numbers(voxel_size))
    if as_json:
        print(json.dumps(scores, indent=1))
    else:
        print_scores(scores)


@app.command("map")
def map_part(
    folder: RunPath,
    part: Annotated[str, typer.Option(help="Which of how many parts: 3/100.")],
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Do one of several parts of a run's map, beside others: for job arrays. `run` lays out the map and finishes it."""
    from vemosaic.blocks.lock import claim
    from vemosaic.pipeline import Run
    from vemosaic.run_folder import RunFolder

    number, count = read_part(part)
    RunFolder.existing(folder)
    with listening(quiet) as listen, claim(folder, shared=True):
        Run.reopen(folder, device=device, listen=listen).map_part(number, count)


@app.command()
def verify(folder: RunPath, as_json: AsJson = False) -> None:
    """Read every file of a finished run, and tell which are missing or not as they were written."""
    from vemosaic.verifying import verify as verify_run

    found = verify_run(folder)
    damaged = [str(path.relative_to(folder)) for path in found.damaged]
    if as_json:
        print(json.dumps({"files": found.files, "bytes": found.size, "damaged": damaged}, indent=1))
    else:
        print(*(f"damaged: {name}" for name in damaged), f"{found.files:,} files, {found.size:,} bytes read", sep="\n")
    if damaged:
        raise OutputError(
            folder,
            f"{len(damaged)} of {found.files:,} files are missing or damaged (such as {damaged[0]})",
            "give the command that made the run again, which does only these anew",
        )


@app.command()
def report(folder: RunPath, quiet: Quiet = False) -> None:
    """Write the report of a run anew."""
    with reopened(folder, "auto", quiet) as job:
        job.report()
    if not quiet:
        print(f"report: {job.folder.report}")


def keep_to(job: Run, memory: str | None) -> None:
    """Keep a run to a budget, if there is one."""
    from vemosaic.memory import parse_size

    if memory:
        job.keep_to(parse_size(memory))


@contextmanager
def reopened(folder: Path, device: str, quiet: bool, executor: Executor | None = None, **changes: Any) -> Iterator[Run]:
    """Take up a run and hold its folder."""
    from vemosaic.blocks.executors import InProcess
    from vemosaic.blocks.lock import claim
    from vemosaic.pipeline import Run
    from vemosaic.run_folder import RunFolder

    RunFolder.existing(folder)
    with listening(quiet) as listen, claim(folder):
        with options_checked():
            job = Run.reopen(folder, device=device, listen=listen, executor=executor or InProcess(), **changes)
        yield job
