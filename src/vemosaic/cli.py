"""The command line: parse, call the API, show progress. Heavy imports stand inside the commands."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vemosaic import __version__
from vemosaic.errors import SettingsError, VemosaicError

if TYPE_CHECKING:
    from vemosaic.blocks.events import Listener
    from vemosaic.pipeline import Run
    from vemosaic.settings import Settings

app = typer.Typer(
    name="vemosaic",
    help="From a volume electron-microscopy dataset to an organelle map, without annotations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

INTERRUPTED = 130

VolumePath = Annotated[str, typer.Argument(help="A volume: OME-Zarr, N5, TIFF, slices, HDF5 (file.h5:/path), MRC, ...")]
RunPath = Annotated[Path, typer.Argument(help="Folder of a run.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the run; NAME.vemosaic where not given.")]
VoxelSize = Annotated[str | None, typer.Option(help="In nm, if the file lacks it: 16, or 50,4.6,4.6 (z,y,x).")]
Working = Annotated[str, typer.Option(help="Voxel size in nm to work at, or 'native'.")]
Channel = Annotated[int | None, typer.Option(help="Channel of a volume that has several, from 0.")]
Mask = Annotated[str | None, typer.Option(help="A mask of the volume: learn and map only where it is not zero.")]
Anchors = Annotated[int | None, typer.Option(help="Training budget in anchors.")]
ClusterRange = Annotated[str, typer.Option("--clusters", "-k", help="Numbers of clusters: 8, or 4-10, or 4,6,8.")]
Smoothing = Annotated[
    float | None, typer.Option(help="Gaussian over what describes the voxels, std in voxels; else the preset's.")
]
TextureWords = Annotated[
    int | None,
    typer.Option("--words", help="Texture words that describe a voxel's surroundings; 0: none; else the preset's."),
]
Fit = Annotated[str, typer.Option(help="Cluster a 'sample' of voxels, or all of them in a 'stream'.")]
Clusterer = Annotated[str | None, typer.Option(help="kmeans, mixture, pymc or hyperbolic; else the preset's.")]
References = Annotated[
    list[str] | None, typer.Option("--reference", help="labels.ome.zarr, or NAME=mask.tif, repeated; for scores.")
]
Seed = Annotated[int, typer.Option(help="Of weights, patches and clustering.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
MissingChunks = Annotated[str, typer.Option(help="'error', or 'fill' where absent chunks stand for the fill value.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Preset = Annotated[str, typer.Option(help="Which model: default, han2022 (the paper's) or cihs (its baseline).")]
Width = Annotated[float | None, typer.Option(help="Of preset han2022: factor on its channels, 1, 0.5 or 0.25.")]
Latent = Annotated[int | None, typer.Option(help="Of preset cihs: dimensions of the ball, 2 or 8.")]
Stride = Annotated[
    int | None, typer.Option(help="Of presets han2022 and cihs: embed one voxel in each block of so many an edge.")
]


def main() -> None:
    """Run the command line; what the user can mend ends in one line and exit code 2."""
    warnings.showwarning = _note
    try:
        app(prog_name="vemosaic")
    except VemosaicError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        _leave(2)
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # what typer makes of Ctrl-C
            _interrupted()
        raise


def _interrupted() -> None:
    print("interrupted: run the same command again to go on from here", file=sys.stderr)
    _leave(INTERRUPTED)


def _note(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Show our own warnings as a line; those of libraries are for developers."""
    if category.__module__.startswith("vemosaic"):
        print(f"note: {message}", file=sys.stderr)


def _leave(code: int) -> None:
    """End at once, waiting for no thread: what is on disk is whole."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


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
    seed: Seed = 1,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run of another input.")] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Map a volume: train, cluster, give every voxel its cluster, score, report. Run again to resume."""
    from vemosaic.inputs import ReferenceInput
    from vemosaic.pipeline import run as run_pipeline

    settings = _settings(
        preset or _preset_of(model),
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
    out = out or _default_out(volume)
    with _listening(quiet, as_json) as listen:
        done = run_pipeline(
            _local(volume),
            out,
            settings,
            voxel_size=_numbers(voxel_size),
            channel=channel,
            mask=_local(mask) if mask else None,
            reference=ReferenceInput(tuple(map(_local_reference, reference))) if reference else None,
            missing_chunks=missing_chunks,
            model=model,
            store_embedding=embedding,
            device=device,
            overwrite=overwrite,
            command=["vemosaic", *sys.argv[1:]],
            listen=listen,
        )
    _tell(done, quiet, as_json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for phantom and run.")] = Path("demo.vemosaic"),
    seed: Seed = 1,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Draw a synthetic cell, map it, and print how well its organelles were found."""
    from vemosaic.demo import run_demo

    with _listening(quiet, as_json) as listen:
        done = run_demo(out, seed=seed, listen=listen)
    _tell(done, quiet, as_json)


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
        open_volume(_local(volume), voxel_size=_numbers(voxel_size), channel=channel, missing_chunks=missing_chunks)
    )
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for key, value in facts.items():
        print(f"{key.replace('_', ' '):>16}  {_readable(value)}")


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
    from vemosaic.blocks.lock import claim
    from vemosaic.inputs import Input, open_input
    from vemosaic.pipeline import Run
    from vemosaic.run_folder import RunFolder
    from vemosaic.settings import choose_device

    out = out or _default_out(volumes[0])
    if mask is not None and len(volumes) > 1:
        raise SettingsError("--mask", "is given for several volumes", "train on one volume, or leave the mask out")
    settings = _settings(preset, working_voxel_size, width=width, latent=latent, anchors=anchors, seed=seed)
    RunFolder(out)
    choose_device(device)
    requests = [Input(_local(v), _numbers(voxel_size), channel, _local(mask) if mask else None) for v in volumes]
    with _listening(quiet) as listen:
        inputs = [open_input(request, settings.working_voxel_size) for request in requests]
        with claim(out):
            job = Run.start(out, inputs, settings, device=device, overwrite=overwrite, listen=listen)
            job.train()
    if not quiet:
        print(f"model: {job.folder.model}")


@app.command()
def embed(folder: RunPath, device: Device = "auto", quiet: Quiet = False) -> None:
    """Store the embedding of every voxel of a run, as OME-Zarr (c, z, y, x), float16."""
    with _reopened(folder, device, quiet) as job:
        job.embed()
    if not quiet:
        print(f"embedding: {job.folder.embedding}")


@app.command()
def cluster(
    folder: RunPath,
    clusters: Annotated[str | None, typer.Option("--clusters", "-k", help="Numbers of clusters: 8 or 4-10.")] = None,
    fit: Annotated[str | None, typer.Option(help="Cluster a 'sample' of voxels, or all in a 'stream'.")] = None,
    clusterer: Annotated[str | None, typer.Option(help="kmeans, mixture, pymc or hyperbolic.")] = None,
    words: Annotated[int | None, typer.Option(help="Texture words; 0: a voxel's own patch alone.")] = None,
    smoothing: Annotated[float | None, typer.Option(help="Gaussian over what describes the voxels, in voxels.")] = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Map a trained run anew with other numbers of clusters; what is not given stays as the run had it."""
    chosen = {"fit": fit, "clusterer": clusterer, "words": words, "smoothing": smoothing}
    given = chosen | {"clusters": clusters and parse_clusters(clusters)}
    with _reopened(folder, device, quiet, **{n: v for n, v in given.items() if v is not None}) as job:
        job.check_reference()
        job.fit()
        job.map()
        if job.reference():
            job.evaluate()
        job.finish()
    _tell(job, quiet, False)


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

    scores = score_file(segmentation, [_local_reference(r) for r in reference], clusters, _numbers(voxel_size))
    if as_json:
        print(json.dumps(scores, indent=1))
    else:
        _print_scores(scores)


@app.command()
def report(folder: RunPath, quiet: Quiet = False) -> None:
    """Write the report of a run anew."""
    with _reopened(folder, "auto", quiet) as job:
        job.report()
    if not quiet:
        print(f"report: {job.folder.report}")


@app.command()
def figures(
    folder: RunPath,
    figure: Annotated[str, typer.Option(help="3, 4, 5, generation, or all.")] = "all",
    clusters: Annotated[int | None, typer.Option("--clusters", "-k", help="Which map; else the best one.")] = None,
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Whose errors figure 4 shows, repeated; else all that match.")
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Draw the paper's figures 3, 4 and 5 of a run, and what its model generates, with the numbers behind them."""
    from vemosaic.report.paper_figures import write_figures

    with _reopened(folder, device, quiet) as job:
        reference = job.reference()
        written = write_figures(
            folder,
            job.first.working,
            reference.open(job.first) if reference else None,
            figure=figure,
            k=clusters,
            classes=classes or (),
            device=device,
            listen=job.listen,
        )
    if not quiet:
        print("\n".join(f"{'numbers' if path.suffix in ('.json', '.csv') else 'figure'}: {path}" for path in written))


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
        "anchors": _integers("--anchors", anchors, (1, 2)),
        "clusters": parse_clusters(clusters),
        "width": width,
        "stride": stride,
        "crop": _integers("--crop", crop, (1, 3)),
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
    with _listening(quiet) as listen:
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
    what: Annotated[str, typer.Argument(help="embed, train, patches or views.")],
    volume: Annotated[str | None, typer.Argument(help="A real volume; a phantom cell where not given.")] = None,
    voxel_size: VoxelSize = None,
    working_voxel_size: Working = "native",
    seconds: Annotated[float, typer.Option(help="Least time to measure for.")] = 20.0,
    preset: Preset = "default",
    width: Width = None,
    latent: Latent = None,
    device: Annotated[str, typer.Option(help="Of train and patches: cpu or cuda.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Measure how fast this machine embeds and trains, beside the paper's encoder."""
    from vemosaic.bench import measure

    settings = _settings(preset, working_voxel_size, width=width, latent=latent)
    source, size = _local(volume) if volume else None, settings.working_voxel_size
    facts = measure(what, source, _numbers(voxel_size), size, seconds, settings.model, device)
    print(json.dumps(facts, indent=1) if as_json else "\n".join(f"{k:>24}  {_readable(v)}" for k, v in facts.items()))


@app.command()
def explore(
    folder: RunPath,
    host: Annotated[str, typer.Option(help="Address to listen on; best left as it is.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="The first free one from 8765 where not given.")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the link.")] = False,
    neuroglancer: Annotated[
        str | None, typer.Option(help="Address of a neuroglancer of your own; the public one where not given.")
    ] = None,
) -> None:
    """Look at a run, name and correct its classes, teach it by scribbles: opens a page in the browser."""
    from vemosaic.explorer.neuroglancer import SITE
    from vemosaic.explorer.serving import serve

    def tell(link: str) -> None:
        print(f"Open {link}\n(Ctrl-C ends the server; nothing is lost)", flush=True)
        if not no_browser:
            import webbrowser

            webbrowser.open(link)

    serve(folder, host=host, port=port, neuroglancer=neuroglancer or SITE, tell=tell)
    _leave(0)


@app.command()
def apply(
    folder: RunPath,
    journal: Annotated[Path | None, typer.Argument(help="A journal.jsonl; the run's own where not given.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder; edited.ome.zarr where not given.")] = None,
    quiet: Quiet = False,
) -> None:
    """Replay what was edited in the explorer, and write the edited map."""
    from vemosaic.explorer.headless import apply as apply_journal

    with _listening(quiet) as listen:
        place = apply_journal(folder, journal, out=out, listen=listen)
    if not quiet:
        print(f"edited map: {place}")


@app.command()
def classify(
    folder: RunPath,
    scribbles: Annotated[str, typer.Option(help="A label image on the lattice of the map, 0 where not painted.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder; edited.ome.zarr where not given.")] = None,
    quiet: Quiet = False,
) -> None:
    """Learn classes from a few painted voxels, and give every voxel its class."""
    from vemosaic.explorer.headless import classify as classify_run

    with _listening(quiet) as listen:
        place = classify_run(folder, _local(scribbles), out=out, listen=listen)
    if not quiet:
        print(f"edited map: {place}")


@app.command()
def export(
    folder: RunPath,
    to: Annotated[str, typer.Option(help="ome-zarr, ome-zarr-0.4, tiff, csv (pieces), or a mesh: stl, ply, obj.")],
    class_name: Annotated[str | None, typer.Option("--class", help="Of a mesh: name or number of a class.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File or folder; else in RUN/exports.")] = None,
    quiet: Quiet = False,
) -> None:
    """Write the edited map of a run in another form."""
    from vemosaic.explorer.headless import export_run

    with _listening(quiet) as listen:
        place = export_run(folder, to, class_name=class_name, out=out, listen=listen)
    if not quiet:
        print(place)


@contextmanager
def _reopened(folder: Path, device: str, quiet: bool, **changes: Any) -> Iterator[Run]:
    from vemosaic.blocks.lock import claim
    from vemosaic.pipeline import Run
    from vemosaic.run_folder import RunFolder

    RunFolder.existing(folder)
    with _listening(quiet) as listen, claim(folder):
        with _options_checked():
            job = Run.reopen(folder, device=device, listen=listen, **changes)
        yield job


def _settings(name: str, working: str, **chosen: Any) -> Settings:
    from vemosaic.presets import preset

    with _options_checked():
        return preset(name, **chosen).model_copy(update={"working_voxel_size": _working(working)})


def _preset_of(model: Path | None) -> str:
    from vemosaic.models.model import load_model

    return "default" if model is None else load_model(model).settings.preset


@contextmanager
def _options_checked() -> Iterator[None]:
    """Name the option where a setting that was typed will not do."""
    from pydantic import ValidationError

    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        field = [part for part in first["loc"] if isinstance(part, str)][-1]
        name = "--" + field.replace("_", "-")
        raise SettingsError(name, f"{first['input']!r} will not do", first["msg"].lower()) from error


def parse_clusters(text: str) -> tuple[int, ...]:
    """Read ``8``, ``4-10`` or ``4,6,8`` as numbers of clusters, ascending.

    Raises
    ------
    SettingsError
        If it is none of these, or a number is not 2 to 255.
    """
    found: set[int] = set()
    try:
        for part in text.split(","):
            first, _, last = part.strip().partition("-")
            low, high = int(first), int(last or first)
            if not 2 <= low <= high <= 255:
                raise ValueError
            found.update(range(low, high + 1))
    except ValueError:
        raise SettingsError("--clusters", f"{text!r} is not 2 to 255 clusters", "write 8, or 4-10, or 4,6,8") from None
    return tuple(sorted(found))


def _numbers(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in (1, 3) or not all(0 < v < float("inf") for v in values):
        raise SettingsError("--voxel-size", f"{text!r} is not a size in nm", "write 16, or 50,4.6,4.6 for z,y,x")
    return values * 3 if len(values) == 1 else values


def _integers(option: str, text: str | None, lengths: tuple[int, ...]) -> tuple[int, ...] | None:
    """Read positive whole numbers with commas, as many as one of `lengths`; nothing where nothing is given."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in lengths or not all(part.isdecimal() and int(part) > 0 for part in parts):
        counts = " or ".join(map(str, lengths))
        raise SettingsError(option, f"{text!r} will not do", f"write {counts} whole numbers above 0, with commas")
    return tuple(map(int, parts))


def _working(text: str) -> float | None:
    if text == "native":
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise SettingsError("--working-voxel-size", f"{text!r} is not a size in nm", "write 16, or native")
    return value


def _local(path: str) -> str:
    """Make a local path absolute, so that a run can be taken up from another folder."""
    return path if "://" in path else str(Path(path).absolute())


def _local_reference(spec: str) -> str:
    from vemosaic.evaluation import split_spec

    name, path = split_spec(spec)
    return f"{name}={_local(path)}" if name else _local(path)


def _default_out(volume: str) -> Path:
    """Name the folder of a run after its volume, in the current folder."""
    name = volume.rstrip("/").replace(":/", "/").rsplit("/", 1)[-1]
    for ending in (".ome.zarr", ".zarr", ".n5", ".ome.tiff", ".ome.tif", ".nii.gz"):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
            break
    else:
        name = name.rsplit(".", 1)[0] if "." in name.strip(".") else name
    return Path(f"{name.strip('.') or 'run'}.vemosaic")


@contextmanager
def _listening(quiet: bool, as_json: bool = False) -> Iterator[Listener]:
    """Show how a command goes on; notes are for people and for logs, but not for whoever asked for silence."""
    from vemosaic.blocks.events import ignore
    from vemosaic.progress import ProgressBars

    if quiet:
        with warnings.catch_warnings(action="ignore"):
            yield ignore
    elif as_json:
        yield ignore
    else:
        with ProgressBars() as bars:
            yield bars


def _tell(job: Run, quiet: bool, as_json: bool) -> None:
    """Say where the results are, and the scores where there are any."""
    folder = job.folder
    scores = json.loads(folder.scores.read_text()) if folder.scores.exists() and folder.record.get("reference") else []
    if as_json:
        places = {n: str(getattr(folder, n).absolute()) for n in ("segmentation", "report", "model")}
        print(json.dumps({"run": str(folder.path.absolute()), **places, "scores": scores}, indent=1))
    elif not quiet:
        if scores:
            _print_scores(scores)
        print(f"map:    {folder.segmentation}\nreport: {folder.report}")


def _print_scores(scores: list[dict[str, Any]]) -> None:
    from rich import print as rich_print
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    def row(name: str, values: Iterable[float]) -> None:
        table.add_row(name, *(f"{value:.3f}" for value in values))

    table = Table("Dice", *(f"k = {s['k']}" for s in scores), box=SIMPLE_HEAD, pad_edge=False)
    row("mean", (s["mean_dice"] for s in scores))
    for name in scores[0]["class_names"]:
        if name not in scores[0]["absent"]:
            row(name, (s["classes"][name]["dice"] for s in scores))
            row("  best single", (s["classes"][name]["best_cluster_dice"] for s in scores))
    row("ARI", (s["ari"] for s in scores))
    row("VI", (s["voi"] for s in scores))
    rich_print(table)


def _readable(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.6g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list):
        return " x ".join(map(_readable, value)) if all(isinstance(v, int | float) for v in value) else str(value)
    return str(value)
