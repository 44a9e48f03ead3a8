"""Commands that repeat the paper's experiments, and measure this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vemosaic.cli.application import app
from vemosaic.cli.options import (
    AsJson,
    ClusterRange,
    Device,
    Latent,
    Memory,
    Precision,
    Preset,
    Quiet,
    Scheduler,
    Seed,
    VoxelSize,
    Width,
    Working,
    chosen_settings,
    executing,
    integers,
    local,
    numbers,
    parse_clusters,
)
from vemosaic.cli.telling import listening, readable
from vemosaic.errors import SettingsError

if TYPE_CHECKING:
    from vemosaic.bench import Teams


MOST_SHOWN = 22
"""Characters of a figure in a table, and so of a hash."""


@app.command()
def reproduce(
    experiment: Annotated[str, typer.Argument(help="betaseg, or phantom for four drawn cells.")],
    folder: Annotated[Path | None, typer.Argument(help="betaseg: where high_c1 to high_c4 lie.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder; else EXPERIMENT.reproduction.")] = None,
    methods: Annotated[str, typer.Option(help="Which, with commas.")] = "han2022,default,cihs",
    protocol: Annotated[
        str, typer.Option(help="How to score: whole-cell, inside-cell, slab, leave-one-out; several with commas.")
    ] = "whole-cell",
    only: Annotated[str | None, typer.Option(help="'folds' or 'test', where not both halves are wanted.")] = None,
    anchors: Annotated[str | None, typer.Option(help="Anchors a stack, one length or two: 20000,30000.")] = None,
    clusters: ClusterRange = "4-10",
    width: Annotated[float | None, typer.Option(help="Factor on the channels of han2022: 1, 0.5, 0.25.")] = None,
    stride: Annotated[int | None, typer.Option(help="han2022, cihs: embed one voxel in a block of so many.")] = None,
    crop: Annotated[str | None, typer.Option(help="Central box of each cell, in voxels: 200, or 100,200,200.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only estimate time and disk.")] = False,
    seed: Seed = 1,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Run the paper's experiments: 3 folds and a test, its Table 1. Run again to resume."""
    from vemosaic.reproduce import Selection, betaseg_plan, phantom_plan, project
    from vemosaic.reproduce import reproduce as run_reproduction

    chosen: dict[str, Any] = {
        "anchors": integers("--anchors", anchors, (1, 2)),
        "clusters": parse_clusters(clusters),
        "width": width,
        "stride": stride,
        "crop": integers("--crop", crop, (1, 3)),
        "seed": seed,
    }
    if chosen["crop"] is not None:
        chosen["crop"] = chosen["crop"] * (3 // len(chosen["crop"]))
    if experiment not in ("betaseg", "phantom"):
        raise SettingsError("reproduce", f"there is no experiment {experiment!r}", "choose betaseg or phantom")
    if (experiment == "betaseg") != (folder is not None):
        remedy = "name it after betaseg" if folder is None else "leave it out, phantoms are drawn"
        raise SettingsError("reproduce", f"{experiment} {'needs a' if folder is None else 'takes no'} folder", remedy)
    plan = betaseg_plan(folder, **chosen) if folder is not None else phantom_plan(**chosen)
    out = out or Path(f"{experiment}.reproduction")
    selection = Selection.named(methods.split(","), protocol.split(","), only)
    with listening(quiet) as listen:
        if dry_run or not quiet:
            print(*project(plan, out, selection, device=device).lines(), sep="\n", flush=True)
        if dry_run:
            return
        tables = run_reproduction(
            plan,
            out,
            selection,
            device=device,
            command=["vemosaic", *sys.argv[1:]],
            say=(lambda line: None) if quiet else (lambda line: print(line, file=sys.stderr, flush=True)),
            listen=listen,
        )
    if not quiet:
        print(*(f"table:  {table}" for table in tables), sep="\n")


@app.command()
def bench(
    what: Annotated[str, typer.Argument(help="embed, train, cluster, io, end-to-end, scaling, patches or views.")],
    volume: Annotated[str | None, typer.Argument(help="A real volume; a phantom cell where not given.")] = None,
    voxel_size: VoxelSize = None,
    working_voxel_size: Working = "native",
    seconds: Annotated[float, typer.Option(help="Least time to measure for.")] = 20.0,
    voxels: Annotated[
        str | None,
        typer.Option(help="Repeat the volume in mirror images: 16M; of scaling, several: 4M,16M,1.1G."),
    ] = None,
    workers: Annotated[
        str | None, typer.Option(help="Worker processes that map; of scaling, several numbers: 1,2.")
    ] = None,
    scheduler: Scheduler = None,
    model: Annotated[
        Path | None, typer.Option(help="A model.safetensors to map with; an untrained one where not given.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for temporary data; the system's where not given.")
    ] = None,
    memory: Memory = None,
    preset: Preset = "default",
    width: Width = None,
    latent: Latent = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "cpu",
    precision: Precision = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure how fast this machine embeds, trains, clusters, reads, writes and maps, and what bounds it."""
    from vemosaic.bench import measure
    from vemosaic.memory import parse_size

    settings = chosen_settings(preset, working_voxel_size, width=width, latent=latent, precision=precision)
    facts = measure(
        what,
        local(volume) if volume else None,
        numbers(voxel_size),
        settings.working_voxel_size,
        seconds,
        settings.model,
        device,
        folder=out,
        voxels=parse_voxels(voxels),
        teams=_teams(integers("--workers", workers, tuple(range(1, 9))), scheduler, device),
        trained=model,
        memory=parse_size(memory) if memory else None,
        precision=settings.precision,
    )
    if as_json:
        print(json.dumps(facts, indent=1))
    else:
        print(*_lines(facts), sep="\n")


def _teams(workers: tuple[int, ...] | None, scheduler: str | None, device: str) -> Teams:
    """Name the executors that were asked for, after this process alone."""
    counts: tuple[int | None, ...] = workers or ((None,) if scheduler else ())
    called = {count: f"{scheduler or 'processes'}{f', {count} workers' if count else ''}" for count in counts}
    alone = {"in process": partial(executing, None, None, device)}
    return alone | {name: partial(executing, count, scheduler, device) for count, name in called.items()}


def _lines(facts: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """Write figures for people, one a line; a list of objects as a table, a column for each."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _lines(value, f"{within}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            columns = [dict(_flat(column)) for column in value]
            yield f"{within}{name}:"
            for row in columns[0]:
                yield f"{row:>36}" + "".join(
                    f"  {readable(column[row])[:MOST_SHOWN]:>{MOST_SHOWN}}" for column in columns
                )
        else:
            yield f"{within + name:>36}  {readable(value)}"


def _flat(facts: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{within}{name}.")
        else:
            yield within + name, value


def parse_voxels(text: str | None) -> tuple[int, ...]:
    """Read ``16M`` or ``4M,16M,1.1G`` as numbers of voxels; none where nothing is given.

    Raises
    ------
    SettingsError
        If it is something else.
    """
    units = {"k": 1e3, "M": 1e6, "G": 1e9}
    found = []
    for part in text.split(",") if text else []:
        number, unit = (part[:-1], units[part[-1]]) if part[-1:] in units else (part, 1.0)
        try:
            found.append(round(float(number) * unit))
        except (ValueError, OverflowError):
            raise SettingsError("--voxels", f"{text!r} are no voxels", "write 16M, or 4M,16M,1.1G") from None
    return tuple(found)
