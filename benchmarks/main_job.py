"""The main job as a user types it, on real volumes: time, peak memory and Dice, for several seeds.

    python benchmarks/main_job.py epfl --seeds 1 2 3
    python benchmarks/main_job.py flyem
    python benchmarks/main_job.py vnc --seeds 1 2 3
    python benchmarks/main_job.py demo
    python benchmarks/main_job.py epfl --seeds 11 12 13 14 --also "--model epfl-1/model.safetensors" --out luck.json

Real volumes are looked for in VEMOSAIC_DATA, or in shared/data beside the checkout. Results go to
benchmarks/results/NAME.json, or where --out says; the runs themselves stay in the folder that --keep names.
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

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("VEMOSAIC_DATA", ROOT.parent / "shared" / "data"))
VEMOSAIC = Path(sys.executable).with_name("vemosaic")


def command(job: str, out: Path, seed: int) -> list[str]:
    """Return the command line of a job, as a user would type it."""
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
    return ["vemosaic", "run", *jobs[job], "--out", str(out), "--seed", str(seed)]


def measure(job: str, out: Path, seed: int, also: list[str]) -> dict[str, Any]:
    """Run a job in a process of its own; memory of each stage in bytes, time in seconds."""
    words = [*command(job, out, seed), *also]
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
        **{
            score: {
                name: {s["k"]: round(s["classes"][name][score], 4) for s in scores}
                for name in (scores[0]["classes"] if scores else [])
            }
            for score in ("dice", "best_cluster_dice")
        },
        "mean_dice": {s["k"]: round(s["mean_dice"], 4) for s in scores},
    }


def main() -> None:
    """Measure one job and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=["epfl", "flyem", "vnc", "demo"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--keep", type=Path, help="folder where the runs stay")
    parser.add_argument("--also", default="", help="further options of vemosaic, as one word")
    parser.add_argument("--out", type=Path, help="file of the results")
    chosen = parser.parse_args()
    folder = chosen.keep or Path(tempfile.mkdtemp(prefix="vemosaic-"))
    runs = []
    for seed in chosen.seeds:
        out = folder / f"{chosen.job}-{seed}"
        shutil.rmtree(out, ignore_errors=True)
        runs.append(measure(chosen.job, out, seed, shlex.split(chosen.also)))
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
