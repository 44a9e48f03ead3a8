"""How invariant the semantic subspace of the default preset is beside the next one, on real volumes, full budget.

    python benchmarks/invariance.py
    python benchmarks/invariance.py epfl --seeds 1 2 3 --anchors 12000
    python benchmarks/invariance.py flyem --models RUN/model.safetensors

Real volumes are looked for in VEMOSAIC_DATA, or in shared/data beside the checkout. Results go to
benchmarks/results/invariance.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from vemosaic.api import train
from vemosaic.bench import machine
from vemosaic.evaluation import open_reference
from vemosaic.evaluation.invariance import invariance
from vemosaic.models.model import load_model
from vemosaic.volumes import at_voxel_size, open_volume

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("VEMOSAIC_DATA", ROOT.parent / "shared" / "data"))
VOLUMES: dict[str, tuple[str, float, dict[str, str]]] = {
    "epfl": ("epfl_ca1/raw_5nm_crop.ome.tif", 15.0, {"mitochondria": "epfl_ca1/mitochondria_5nm_crop.ome.tif"}),
    "flyem": ("flyem_medulla/a.ome.zarr", 10.0, {}),
}


def measure(name: str, seed: int, anchors: int | None, given: Path | None) -> dict[str, Any]:
    """Train on a volume, unless a model is given, and measure the invariance in it."""
    path, voxel_size, masks = VOLUMES[name]
    source = open_volume(str(DATA / path))
    volume = at_voxel_size(source, voxel_size)
    specs = [f"{label}={DATA / mask}" for label, mask in masks.items()]
    reference = open_reference(specs, volume, source=source) if specs else None
    begun = time.monotonic()
    model = load_model(given) if given else train(volume, anchors=anchors, seed=seed)
    trained = time.monotonic()
    numbers = invariance(model, volume, reference)
    return {
        **numbers,
        "volume": name,
        "seed": model.card["seed"],
        "anchors": model.card["anchors"],
        "seconds": {"train": round(trained - begun, 1), "invariance": round(time.monotonic() - trained, 1)},
    }


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("volumes", nargs="*", default=[*VOLUMES], help="epfl, flyem; both where none is named")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--anchors", type=int, help="training budget; the full one where not given")
    parser.add_argument("--models", type=Path, nargs="+", help="trained ones to measure instead of training")
    chosen = parser.parse_args()
    runs = []
    for name in chosen.volumes:
        for seed, given in [(0, m) for m in chosen.models] if chosen.models else [(s, None) for s in chosen.seeds]:
            runs.append(measure(name, seed, chosen.anchors, given))
            (headline,) = (
                row["quotient"]
                for row in runs[-1]["rows"]
                if (row["class"], row["transform"], row["against"]) == ("whole volume", "all", "volume")
            )
            print(json.dumps({"volume": name, "seed": runs[-1]["seed"], "semantic over other": headline}), flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    results = {"job": "invariance", "commit": commit.strip(), "machine": machine(), "runs": runs}
    written = ROOT / "benchmarks" / "results" / "invariance.json"
    written.parent.mkdir(exist_ok=True)
    written.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
