"""What a map of 1 Tvoxel or 1 Pvoxel takes: time, cost, storage, what breaks first. The tables of docs/scaling.md.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --measure RUN RAW

The first simulates with what was measured before, as benchmarks/results/scaling.json holds it, writes the results there
and the tables into docs/scaling.md, in a minute. The second measures anew first, on this machine: RUN is a finished run
of a real volume with k = 4 to 10, RAW the folder of a compressed Zarr 2 array of raw voxels. The rate of the embedding
is taken from benchmarks/results/embed.json, which `vemosaic bench embed VOLUME --json` printed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scaling_simulation.estimates import MACHINES, SITES, VOLUMES, WORKERS, Case, ablations, estimate, rates
from scaling_simulation.growth import last_passes, limits, storage
from scaling_simulation.parameters import parameters, values
from scaling_simulation.tables import filled, tables

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "scaling.json"
EMBED = RESULT.with_name("embed.json")
PAGE = ROOT / "docs" / "scaling.md"


def results(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole document: parameters first, then what follows from them."""
    figures = parameters(measured)
    p = values(figures)
    cases = [
        Case(site, machine, workers, voxels)
        for site in SITES
        for machine in MACHINES
        for voxels in VOLUMES
        for workers in WORKERS
    ]
    return {
        "parameters": figures,
        "measured": measured,
        "cases": [estimate(case, p) for case in cases],
        "storage": [storage(voxels, p) for voxels in VOLUMES],
        "last_passes": [row for voxels in VOLUMES for row in last_passes(voxels, p)],
        "limits": limits(p),
        "rates": rates(p),
        "ablations": ablations(p),
    }


def main() -> None:
    """Measure where asked to, simulate, write the results and the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--measure", nargs=2, type=Path, metavar=("RUN", "RAW"), help="measure vemosaic's own figures")
    asked = parser.parse_args()
    if asked.measure:
        from scaling_simulation.measuring import measure

        measured = measure(*asked.measure, json.loads(EMBED.read_text()))
    else:
        measured = json.loads(RESULT.read_text())["measured"]
    document = results(measured)
    RESULT.write_text(json.dumps(document, indent=1) + "\n")
    PAGE.write_text(filled(PAGE.read_text(), tables(document)))


if __name__ == "__main__":
    main()
