"""Commands that make something of volumes: models, maps, reports."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vemosaic.cli.application import app
from vemosaic.cli.groups import Carrying, Learning, Opening, with_groups
from vemosaic.cli.options import (
    COMPUTING,
    METHOD,
    AsJson,
    Clusterer,
    ClusterRange,
    Detail,
    Device,
    Diffusion,
    Fit,
    Like,
    Out,
    Overwrite,
    Preset,
    Quiet,
    References,
    RunPath,
    Seed,
    Smoothing,
    Stride,
    TextureWords,
    Vocabularies,
    VolumePath,
    default_out,
    local,
    local_mask,
    local_reference,
    numbers,
    options_checked,
    parse_clusters,
    preset_of,
    read_part,
)
from vemosaic.cli.telling import listening, readable, tell, tell_of
from vemosaic.errors import SettingsError

if TYPE_CHECKING:
    from vemosaic.blocks.executors import Executor
    from vemosaic.pipeline import Run


@app.command()
@with_groups
def run(
    volume: VolumePath,
    *,
    out: Out = None,
    opening: Opening,
    reference: References = None,
    clusters: ClusterRange = "4-10",
    words: TextureWords = None,
    vocabularies: Vocabularies = None,
    detail: Detail = None,
    smoothing: Smoothing = None,
    diffusion: Diffusion = None,
    fit: Fit = "sample",
    clusterer: Clusterer = None,
    like: Like = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="A model.safetensors to use instead of training one: of like tissue and voxel size, it costs "
            "up to 0.05 of Dice, else up to 0.35."
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Which model: default, han2022, cihs; that of --model where it is given.", rich_help_panel=METHOD
        ),
    ] = None,
    stride: Stride = None,
    learning: Learning,
    carrying: Carrying,
    embedding: Annotated[bool, typer.Option("--embedding", help="Keep the embedding of every voxel, too.")] = False,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="Keep how sure the cluster of every voxel is, too.")
    ] = False,
    prepare: Annotated[
        bool,
        typer.Option(
            "--prepare",
            help="Stop where the map is laid out, for `vemosaic map` to fill.",
            rich_help_panel=COMPUTING,
        ),
    ] = False,
    publish: Annotated[
        str | None, typer.Option(help="Copy the run to s3://bucket/folder, its shards as soon as they are done.")
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Map a volume: train, cluster, give every voxel its cluster, score, report. Run again to resume."""
    from vemosaic.distributed import join
    from vemosaic.inputs import ReferenceInput
    from vemosaic.pipeline import run as run_pipeline
    from vemosaic.publishing import check_destination
    from vemosaic.publishing import publish as publish_run
    from vemosaic.publishing_ahead import publishing_ahead

    settings = learning.settings(
        preset or preset_of(model),
        stride=stride,
        clusters=parse_clusters(clusters),
        fit=fit,
        clusterer=clusterer,
        words=words,
        vocabularies=vocabularies,
        detail=detail,
        smoothing=smoothing,
        diffusion=diffusion,
    )
    out = out or default_out(volume)
    if publish:
        check_destination(out, publish, overwrite=overwrite)
    ranks = join(carrying.device)
    if not ranks.is_first:  # it only trains
        carrying = replace(carrying, workers=None, scheduler=None)
    ahead = publishing_ahead(out, publish) if publish and ranks.is_first else nullcontext()
    with listening(quiet, as_json) as listen, carrying.executing() as executor, ahead:
        done = run_pipeline(
            local(volume),
            out,
            settings,
            voxel_size=numbers(opening.voxel_size),
            channel=opening.channel,
            mask=local_mask(learning.mask),
            reference=ReferenceInput(tuple(map(local_reference, reference))) if reference else None,
            missing_chunks=opening.missing_chunks,
            model=model,
            like=like,
            store_embedding=embedding,
            store_confidence=confidence,
            device=carrying.device,
            overwrite=overwrite,
            command=["vemosaic", *sys.argv[1:]],
            listen=listen,
            executor=executor,
            ranks=ranks,
            prepare=prepare,
            memory=carrying.budget(),
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
@with_groups
def info(volume: VolumePath, opening: Opening, as_json: AsJson = False) -> None:
    """Print what a volume is: format, shape, voxel size, levels, intensities."""
    from vemosaic.volumes import describe, open_volume

    facts = describe(
        open_volume(
            local(volume),
            voxel_size=numbers(opening.voxel_size),
            channel=opening.channel,
            missing_chunks=opening.missing_chunks,
        )
    )
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for key, value in facts.items():
        print(f"{key.replace('_', ' '):>16}  {readable(value)}")


@app.command()
@with_groups
def train(
    volumes: Annotated[list[str], typer.Argument(help="One or more volumes to learn from.")],
    *,
    out: Out = None,
    opening: Opening,
    preset: Preset = "default",
    learning: Learning,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Train a model on one or more volumes; map others with it by `vemosaic run VOLUME --model`."""
    from vemosaic.blocks.events import ignore
    from vemosaic.blocks.lock import claim
    from vemosaic.distributed import join
    from vemosaic.inputs import Input, is_mask, open_input, suited_to, without_padding
    from vemosaic.pipeline import Run
    from vemosaic.run_folder import RunFolder
    from vemosaic.settings import choose_device

    out = out or default_out(volumes[0])
    if is_mask(learning.mask) and len(volumes) > 1:
        raise SettingsError("--mask", "is given for several volumes", "train on one volume, or leave the mask out")
    settings = learning.settings(preset)
    RunFolder(out)
    ranks = join(device)
    choose_device(device)
    requests = [
        Input(
            local(volume),
            numbers(opening.voxel_size),
            opening.channel,
            local_mask(learning.mask),
            opening.missing_chunks,
        )
        for volume in volumes
    ]
    with listening(quiet) as listen:
        inputs = [without_padding(open_input(request, settings.working_voxel_size)) for request in requests]
        settings = settings.model_copy(update={"model": suited_to(inputs, settings.model)})
        if not ranks.is_first:
            Run(RunFolder(out), settings, inputs, device, ignore).follow(ranks)
        with claim(out):
            job = Run.start(out, inputs, settings, device=device, overwrite=overwrite, listen=listen)
            job.train(ranks=ranks)
    if not quiet:
        print(f"model: {job.folder.model}")


@app.command()
@with_groups
def embed(folder: RunPath, carrying: Carrying, quiet: Quiet = False) -> None:
    """Store the embedding of every voxel of a run, as OME-Zarr (c, z, y, x), float16."""
    with working_on(folder, carrying, quiet) as job:
        job.embed()
    if not quiet:
        print(f"embedding: {job.folder.embedding}")


@app.command()
@with_groups
def cluster(
    folder: RunPath,
    *,
    clusters: Annotated[
        str | None, typer.Option("--clusters", "-k", help="Numbers of clusters, a map for each: 8, or 4-10, or 4,6,8.")
    ] = None,
    words: TextureWords = None,
    vocabularies: Vocabularies = None,
    detail: Detail = None,
    smoothing: Smoothing = None,
    diffusion: Diffusion = None,
    fit: Fit = None,
    clusterer: Clusterer = None,
    like: Like = None,
    carrying: Carrying,
    quiet: Quiet = False,
) -> None:
    """Map a trained run anew with other numbers of clusters; what is not given stays as the run had it."""
    given = {
        "clusters": clusters and parse_clusters(clusters),
        "words": words,
        "vocabularies": vocabularies,
        "detail": detail,
        "smoothing": smoothing,
        "diffusion": diffusion,
        "fit": fit,
        "clusterer": clusterer,
        "like": like,
    }
    changes = {n: v for n, v in given.items() if v is not None}
    with working_on(folder, carrying, quiet, **changes) as job:
        job.check_reference()
        job.fit()
        job.map()
        if job.reference():
            job.evaluate()
        job.finish()
    tell(job, quiet, False)


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
def report(folder: RunPath, quiet: Quiet = False) -> None:
    """Write the report of a run anew."""
    with reopened(folder, "auto", quiet) as job:
        job.report()
    if not quiet:
        print(f"report: {job.folder.report}")


@contextmanager
def working_on(folder: Path, carrying: Carrying, quiet: bool, **changes: Any) -> Iterator[Run]:
    """Take up a run for work that is done shard by shard, and keep to the budget if there is one."""
    with carrying.executing() as executor, reopened(folder, carrying.device, quiet, executor, **changes) as job:
        budget = carrying.budget()
        if budget is not None:
            job.keep_to(budget)
        yield job


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
