"""Commands that judge maps: against a reference, against each other, against what was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vemosaic.cli.application import app
from vemosaic.cli.options import AsJson, RunPath, VoxelSize, local_reference, numbers
from vemosaic.cli.telling import print_matched, print_scores
from vemosaic.errors import OutputError


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


@app.command()
def compare(
    folder: RunPath,
    other: Annotated[Path, typer.Argument(help="Folder of another run of the same volume.")],
    clusters: Annotated[
        int | None, typer.Option("--clusters", "-k", help="Only this number of clusters; else all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say which clusters of two runs of a volume are the same: what another seed or setting would have found, too."""
    from vemosaic.comparing import compare_runs

    found = compare_runs(folder, other, clusters)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        print_matched(found, clusters)


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
