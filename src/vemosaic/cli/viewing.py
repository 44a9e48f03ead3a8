"""Commands to look at a run, correct it, and take it elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vemosaic.cli.application import app, leave
from vemosaic.cli.mapping import reopened
from vemosaic.cli.options import Device, Quiet, RunPath, local
from vemosaic.cli.telling import listening


@app.command()
def figures(
    folder: RunPath,
    figure: Annotated[str, typer.Option(help="3, 4 or 5 of the paper, generation, or all that can be drawn.")] = "all",
    clusters: Annotated[
        int | None, typer.Option("--clusters", "-k", help="Which map; else the one with the best scores.")
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Whose errors figure 4 shows, repeated; else all that match.")
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Draw the paper's figures 3, 4 and 5 of a run, and what its model generates, with the numbers behind them."""
    from vemosaic.report.paper_figures import write_figures

    with reopened(folder, device, quiet) as job:
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
    leave(0)


@app.command()
def apply(
    folder: RunPath,
    journal: Annotated[Path | None, typer.Argument(help="A journal.jsonl; the run's own where not given.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; edited.ome.zarr in the run where not given.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Replay what was edited in the explorer, and write the edited map."""
    from vemosaic.explorer.headless import apply as apply_journal

    with listening(quiet) as listen:
        place = apply_journal(folder, journal, out=out, listen=listen)
    if not quiet:
        print(f"edited map: {place}")


@app.command()
def classify(
    folder: RunPath,
    scribbles: Annotated[str, typer.Option(help="A label image on the lattice of the map, 0 where not painted.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; edited.ome.zarr in the run where not given.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Learn classes from a few painted voxels, and give every voxel its class."""
    from vemosaic.explorer.headless import classify as classify_run

    with listening(quiet) as listen:
        place = classify_run(folder, local(scribbles), out=out, listen=listen)
    if not quiet:
        print(f"edited map: {place}")


@app.command()
def export(
    folder: RunPath,
    to: Annotated[str, typer.Option(help="ome-zarr, ome-zarr-0.4, tiff, csv (pieces), or a mesh: stl, ply, obj.")],
    class_name: Annotated[
        str | None, typer.Option("--class", help="Which class a mesh is of: its name or number.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File or folder; else in RUN/exports.")] = None,
    quiet: Quiet = False,
) -> None:
    """Write the edited map of a run in another form."""
    from vemosaic.explorer.headless import export_run

    with listening(quiet) as listen:
        place = export_run(folder, to, class_name=class_name, out=out, listen=listen)
    if not quiet:
        print(place)


@app.command()
def publish(
    folder: RunPath,
    destination: Annotated[str, typer.Argument(help="s3://bucket/folder, which becomes the run's.")],
    store: Annotated[
        list[str] | None, typer.Option(help="Only this store, repeated; all finished ones where not given.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace whatever else lies there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Copy a complete run to S3, or bring an earlier copy up to date."""
    from vemosaic.publishing import publish as publish_run

    with listening(quiet) as listen:
        done = publish_run(folder, destination, stores=store, overwrite=overwrite, listen=listen)
    if not quiet:
        print(f"published: {done.address} ({', '.join(done.stores)}; {done.files} files, {done.sent} sent)")
