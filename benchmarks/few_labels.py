"""What a few labelled voxels teach on finished maps: the explorer's classifier, and a linear probe of what it sees.

    python benchmarks/few_labels.py epfl-1 epfl-11 --out few.json
    python benchmarks/few_labels.py cell-1 --scored unrecognised nucleus granules mitochondria

Each RUN is a finished run with a reference (benchmarks/main_job.py epfl --keep FOLDER makes some). Labels are drawn at
random from the dots of the map, five of each class at least; what was learnt is scored on all other dots by the mean
Dice of the classes scored: all that the reference names unless told otherwise. The probe is a logistic regression on
half of the dots, tested on the other half and in turn: halves of the volume, 24 voxels apart, and random ones.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ablation.scoring import LABELLED, Truth, draw, halves_of_space, linear_probe, mean_dice, random_halves
from vemosaic.bench import machine
from vemosaic.explorer.classifier import Classifier
from vemosaic.explorer.edited import Derived
from vemosaic.explorer.opened import OpenedRun
from vemosaic.explorer.texture import Texture
from vemosaic.volumes.points import read_at

DRAWS = 16


def opened(path: Path, scored: Sequence[str] | None = None) -> tuple[Texture, Truth]:
    """Open a finished run: its texture, computed where it is missing, and the classes of its dots."""
    run = OpenedRun(path)
    if run.reference is None:
        raise SystemExit(f"{path}: has no reference; run it with --reference")
    names = run.reference.class_names
    texture = Derived(run).texture
    texture.write()
    classes = read_at(run.reference.read, run.sample.voxel).astype(np.uint8)
    return texture, Truth(classes, names, tuple(scored or names[1:]))


def taught_dice(texture: Texture, truth: Truth, count: int, draws: int = DRAWS) -> list[float]:
    """Label so many dots, teach the explorer's classifier, and score the other dots; one mean Dice a draw."""
    dots, voxels = texture.dots, texture.run.sample.voxel
    found = []
    for number in range(draws):
        labelled, tested = draw(truth.classes, count, np.random.default_rng([number, count]))
        painted = dots.pick(labelled)
        learnt = Classifier.learn(painted, truth.classes[labelled], voxels[labelled], dots, texture.memberships)
        predicted = learnt.predict(dots)[tested]
        found.append(round(mean_dice(predicted, truth.classes[tested], truth.names, truth.scored), 4))
    return found


def probes(texture: Texture, truth: Truth) -> dict[str, float]:
    """Probe what the classifier sees of the dots, across halves of the volume and at random."""
    dots, voxels = texture.dots, texture.run.sample.voxel
    seen = np.concatenate((dots.vectors, dots.mixture.mean(texture.memberships)), 1)
    halves = {"space": halves_of_space(voxels.astype(np.float64)), "random": random_halves(len(voxels))}
    return {name: round(linear_probe(seen, truth, folds), 4) for name, folds in halves.items()}


def measure(path: Path, scored: Sequence[str] | None, draws: int) -> dict[str, Any]:
    """Measure one run."""
    texture, truth = opened(path, scored)
    taught = {str(count): taught_dice(texture, truth, count, draws) for count in LABELLED}
    return {"run": path.name, "scored": truth.scored, "taught": taught, "probe": probes(texture, truth)}


def main() -> None:
    """Measure all runs, and print their means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--scored", nargs="+", metavar="NAME", help="classes that scores are the mean of")
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--out", type=Path, help="file of the results")
    chosen = parser.parse_args()
    results = []
    for path in chosen.runs:
        results.append(measure(path, chosen.scored, chosen.draws))
        print(json.dumps(results[-1]), flush=True)
    for count in map(str, LABELLED):
        each = np.array([result["taught"][count] for result in results])
        print(f"{count:>5} labels: {each.mean():.3f}, at least {each.min():.3f}")
    for name in ("space", "random"):
        print(f"probe, {name}: {np.mean([result['probe'][name] for result in results]):.3f}")
    if chosen.out:
        chosen.out.write_text(json.dumps({"machine": machine(), "runs": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
