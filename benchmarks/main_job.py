"""The main job as a user types it, on real volumes: time, peak memory and Dice, for several seeds.

    python benchmarks/main_job.py epfl --seeds 1 2 3
    python benchmarks/main_job.py flyem
    python benchmarks/main_job.py vnc --seeds 1 2 3
    python benchmarks/main_job.py phantom --cell 2 --seeds 1 11 12
    python benchmarks/main_job.py demo
    python benchmarks/main_job.py epfl --seeds 11 12 13 14 --also "--model epfl-1/model.safetensors" --out luck.json

Real volumes are looked for in VEMOSAIC_DATA, or in shared/data beside the checkout. Results go to
benchmarks/results/NAME.json, or where --out says; the runs themselves stay in the folder that --keep names. "matched"
is the mean Dice of the classes that are asked for, each matched with a cluster; others count towards clusters only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from vemosaic.datasets.betaseg import betaseg_cell
from vemosaic.datasets.phantom import write_betaseg
from vemosaic.evaluation import score

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("VEMOSAIC_DATA", ROOT.parent / "shared" / "data"))
VEMOSAIC = Path(sys.executable).with_name("vemosaic")


MATCHED = {
    "vnc": ("unrecognised", "label 1", "label 3"),  # intracellular space, membrane, mitochondria
    "phantom": ("unrecognised", "nucleus", "granules", "mitochondria"),
}
"""Classes that are matched with clusters, where it is not all of them that count."""


def command(job: str, out: Path, seed: int, cell: int) -> list[str]:
    """Return the command line of a job, as a user would type it; a phantom cell is drawn beside its run."""
    if job == "demo":
        return ["vemosaic", "demo", "--out", str(out), "--seed", str(seed)]
    jobs = {
        "epfl": [
            str(DATA / "epfl_ca1/raw_5nm_crop.ome.tif"),
            *("--working-voxel-size", "15", "--clusters", "4-14"),
            *("--reference", f"mitochondria={DATA / 'epfl_ca1/mitochondria_5nm_crop.ome.tif'}"),
        ],
        "vnc": [
            str(DATA / "vnc_sstem/raw.ome.tif"),
            *("--clusters", "4-12"),
            *("--reference", str(DATA / "vnc_sstem/labels.ome.tif")),
        ],
        "flyem": [str(DATA / "flyem_medulla/a.ome.zarr"), "--working-voxel-size", "10"],
    }
    told = phantom(out.parent / f"cell-{cell}", cell) if job == "phantom" else jobs[job]
    return ["vemosaic", "run", *told, "--out", str(out), "--seed", str(seed)]


def phantom(folder: Path, cell: int) -> list[str]:
    """Draw a phantom cell, and return what a user would type to map it."""
    write_betaseg(folder, seed=cell)
    source, masks = betaseg_cell(folder, "high_c1")
    references = [f"--reference={name}={masks[name]}" for name in MATCHED["phantom"][1:]]
    return [str(source), "--clusters", "4-12", "--anchors", "36000", *references]


def matched(job: str, scores: list[dict[str, Any]]) -> dict[int, float]:
    """Match the classes that are asked for with clusters, and none else; mean Dice for each k."""
    found = {}
    for each in scores:
        names = each["class_names"]
        again = score(np.array(each["confusion"]), names, MATCHED.get(job, names))
        found[each["k"]] = round(again["mean_dice"], 4)
    return found


def measure(job: str, out: Path, seed: int, cell: int, also: list[str]) -> dict[str, Any]:
    """Run a job in a process of its own; memory of each stage in bytes, time in seconds."""
    words = [*command(job, out, seed, cell), *also]
    start = time.monotonic()
    process = subprocess.Popen([str(VEMOSAIC), *words[1:]], stdout=subprocess.DEVNULL)
    status = process.wait()
    seconds = time.monotonic() - start
    if status:
        raise SystemExit(f"{' '.join(words)} ended with status {status}")
    run = out / "run" if job == "demo" else out
    record = json.loads((run / "run.json").read_text())
    scores = json.loads((run / "scores.json").read_text()) if (run / "scores.json").exists() else []
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "peak_memory": record["peak_memory"],
        "timings": record["timings"],
        "agreement": record["agreement"],
        "suggested_k": record["suggested_k"] and record["suggested_k"]["k"],
        **{
            kind: {
                name: {s["k"]: round(s["classes"][name][kind], 4) for s in scores}
                for name in (scores[0]["classes"] if scores else [])
            }
            for kind in ("dice", "best_cluster_dice")
        },
        "mean_dice": {s["k"]: round(s["mean_dice"], 4) for s in scores},
        "matched": matched(job, scores),
    }


def main() -> None:
    """Measure one job and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=["epfl", "flyem", "vnc", "phantom", "demo"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--cell", type=int, default=1, help="which phantom cell is drawn")
    parser.add_argument("--keep", type=Path, help="folder where the runs stay")
    parser.add_argument("--also", default="", help="further options of vemosaic, as one word")
    parser.add_argument("--out", type=Path, help="file of the results")
    chosen = parser.parse_args()
    folder = chosen.keep or Path(tempfile.mkdtemp(prefix="vemosaic-"))
    runs = []
    for seed in chosen.seeds:
        out = folder / f"{chosen.job}-{seed}"
        shutil.rmtree(out, ignore_errors=True)
        runs.append(measure(chosen.job, out, seed, chosen.cell, shlex.split(chosen.also)))
        print(json.dumps(runs[-1]), flush=True)
    if chosen.keep is None:
        shutil.rmtree(folder)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    machine = {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}
    results = {"job": chosen.job, "also": chosen.also, "commit": commit.strip(), "machine": machine, "runs": runs}
    written = chosen.out or ROOT / "benchmarks" / "results" / f"{chosen.job}.json"
    written.parent.mkdir(parents=True, exist_ok=True)
    written.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
