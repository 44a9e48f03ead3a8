"""What each idea is worth: features, treatments and clusterers on volumes with a reference, in one table.

    python benchmarks/accuracy.py
    python benchmarks/accuracy.py --volumes epfl15 phantom --features default filterbank --treatments none words
    python benchmarks/accuracy.py --features default@120000 han2022@6000 cihs@12000 --pictures pictures
    python benchmarks/accuracy.py --table benchmarks/results/accuracy.json

Every feature describes the same voxels, and every treatment and clusterer works on every feature; labels take part in
nothing but the scores. Each result is appended to a journal beside the output (``accuracy.jsonl``) as it comes; run
again, and only what is missing, or was made from other settings, is done. A new idea is an entry of a registry:
`ablation.scenes.VOLUMES`, `ablation.features`, `ablation.treatments.TREATMENTS`, `ablation.clusterers.CLUSTERERS`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ablation.cells import Cells
from ablation.clusterers import CLUSTERERS, clusterer, labels
from ablation.features import HAND_MADE, IDEAS, LEARNED, LEVELS, Feature, described, feature
from ablation.journal import Journal, Record
from ablation.pictures import save_picture
from ablation.scenes import VOLUMES, Scene, open_scene
from ablation.scoring import Truth, score_clusters, score_teaching
from ablation.tables import KS, tables
from ablation.trained import Trained, Workshop
from ablation.treatments import TREATMENTS, Chain, treatment
from vemosaic.bench import machine
from vemosaic.blocks.records import fingerprint
from vemosaic.errors import SettingsError, VemosaicError
from vemosaic.volumes.volume import Shape

ROOT = Path(__file__).resolve().parents[1]
FORMAT = 2
"""Raised whenever scores come to mean something else, so that results from before are not taken for new ones."""

TEACHING = "teaching"
K_OF_PICTURES = 8


@dataclass(frozen=True)
class Plan:
    """What is to be compared.

    Attributes
    ----------
    features, treatments, clusterers, seeds
        Names, and seeds of training and clustering.
    teaching
        Whether to score as well what labels teach.
    workshop
        How models are trained.
    pictures
        Folder for pictures, or None.
    """

    features: tuple[str, ...]
    treatments: tuple[str, ...]
    clusterers: tuple[str, ...]
    seeds: tuple[int, ...]
    teaching: bool
    workshop: Workshop
    pictures: Path | None

    @property
    def methods(self) -> tuple[str, ...]:
        """The clusterers, and teaching."""
        return (*self.clusterers, TEACHING) if self.teaching else self.clusterers


@dataclass(frozen=True)
class Comparison:
    """One feature on one volume.

    Attributes
    ----------
    plan
        What is to be compared.
    scene
        The volume.
    name
        Of the feature; what is trained is named with its budget.
    feature
        Itself.
    """

    plan: Plan
    scene: Scene
    name: str
    feature: Feature

    @classmethod
    def of(cls, plan: Plan, scene: Scene, name: str) -> Comparison:
        """Look the feature up."""
        found = feature(name, plan.workshop)
        return cls(plan, scene, f"{name.split('@')[0]}@{found.anchors}" if isinstance(found, Trained) else name, found)

    @cached_property
    def identity(self) -> str:
        """Of the volume, read once."""
        return self.scene.volume.identity()

    @property
    def halo(self) -> Shape:
        """Voxels around the cells that the treatments take between them."""
        halos = [treatment(name).halo(self.scene.layout.scale) for name in self.plan.treatments]
        z, y, x = np.max(halos, axis=0).tolist()
        return z, y, x

    def suits(self, treatment_name: str, method: str) -> bool:
        """Whether a method can be used at all: hyperbolic clusters ask for points of the ball."""
        in_ball = isinstance(self.feature, Trained) and self.feature.in_ball and treatment_name == "none"
        return method != "hyperbolic" or in_ball

    def about(self, treated: Chain) -> str:
        """Fingerprint of what decides a result beside what it is named by."""
        parts = (FORMAT, self.identity, self.scene.labelled.scored, self.feature.about(), treated.about(), KS)
        return fingerprint(*parts)[:16]

    def missing(self, journal: Journal, seed: int) -> list[tuple[str, str]]:
        """Treatments and methods of which there is no result yet."""
        return [
            (name, method)
            for name in self.plan.treatments
            for method in self.plan.methods
            if self.suits(name, method)
            and not journal.has((self.scene.name, self.name, name, method, seed), self.about(treatment(name)))
        ]

    def run(self, journal: Journal) -> None:
        """Get what is missing, and the picture."""
        picture = self.plan.pictures and self.plan.pictures / f"{self.scene.name}-{self.name}.png"
        cells: Cells | None = None
        for number, seed in enumerate(self.plan.seeds):
            missing = self.missing(journal, seed)
            drawing = picture if number == 0 and picture and (missing or not picture.exists()) else None
            if not (missing or drawing):
                continue
            begun = time.monotonic()
            if cells is None or self.feature.seeded:
                del cells  # before the next ones are made
                cells = described(self.feature, self.scene.volume, self.scene.layout, self.halo, seed)
            say(f"{self.scene.name} {self.name} seed {seed}: described in {time.monotonic() - begun:.0f} s")
            for record in self.results(cells, seed, missing):
                journal.add(record)
            if drawing:
                self.draw(cells, seed, drawing)

    def results(self, cells: Cells, seed: int, wanted: Sequence[tuple[str, str]]) -> Iterator[dict[str, Any]]:
        """Yield the results of treatments and methods."""
        truth = Truth(self.scene.classes, self.scene.labelled.names, self.scene.labelled.scored)
        for name in dict.fromkeys(treated for treated, _ in wanted):
            treated = treatment(name)(cells, seed)
            for method in [method for other, method in wanted if other == name]:
                begun = time.monotonic()
                if method == TEACHING:
                    voxels = self.scene.layout.voxels() / np.array(treated.scale)
                    scores = score_teaching(treated.sample(), voxels, truth)
                else:
                    clusterings = clusterer(method)(treated, KS, seed)
                    found = labels(treated.sample(), clusterings)
                    scores = {str(k): score_clusters(each, k, truth) for k, each in zip(KS, found, strict=True)}
                yield {
                    "volume": self.scene.name,
                    "feature": self.name,
                    "treatment": name,
                    "method": method,
                    "seed": seed,
                    "about": self.about(treatment(name)),
                    "scored": list(truth.scored),
                    "scores": scores,
                    "seconds": round(time.monotonic() - begun, 1),
                    "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                }
                say(f"  {name} {method}: {time.monotonic() - begun:.0f} s")

    def draw(self, cells: Cells, seed: int, path: Path) -> None:
        """Draw the maps of all treatments and clusterers over one slice."""
        box, labelled = self.scene.picture, self.scene.labelled
        maps = {}
        for name in self.plan.treatments:
            treated = treatment(name)(cells, seed)
            for method in self.plan.clusterers:
                if self.suits(name, method):
                    (found,) = clusterer(method)(treated, [K_OF_PICTURES], seed)
                    ordered = found.ordered_by(treated.sample(), self.scene.intensity)
                    maps[f"{name}, {method}"] = labels(treated.inner(-1), [ordered])[0][0]
        raw, classes = (of.read(box.origin, box.shape)[0] for of in (labelled.volume, labelled.reference))
        title = f"{self.scene.name}, {self.name}: k = {K_OF_PICTURES}, seed {seed}"
        save_picture(path, title, raw, classes, len(labelled.names), maps)


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def write_results(path: Path, journal: Journal, job: str = "accuracy") -> None:
    """Write all results of the journal, and what the last of them were measured on."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    results = {"job": job, "commit": commit.strip(), "machine": machine(), "records": journal.records()}
    path.write_text(json.dumps(results, indent=1) + "\n")


def recorded(path: Path) -> list[Record]:
    """Read the results that were written to a file.

    Raises
    ------
    SettingsError
        If there are none.
    """
    try:
        return list(json.loads(path.read_text())["records"])
    except (OSError, ValueError, KeyError) as error:
        raise SettingsError(str(path), "holds no results", "give what --out wrote") from error


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everything = [*HAND_MADE, *LEARNED, *IDEAS, *LEVELS]
    parser.add_argument("--volumes", nargs="+", choices=[*VOLUMES], default=["epfl15", "epfl10", "vnc16", "phantom"])
    parser.add_argument("--features", nargs="+", default=everything, help="learned ones as default@120000")
    parser.add_argument("--treatments", nargs="+", default=["none", *TREATMENTS], help="joined as in smooth2+words")
    parser.add_argument("--clusterers", nargs="+", default=["kmeans"], help=", ".join(CLUSTERERS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--anchors", type=int, default=120_000, help="training budget where a feature names none")
    parser.add_argument("--stride", type=int, default=4, choices=[1, 2, 3, 4, 6, 8], help="of han2022 and cihs")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-teaching", action="store_true", help="score clusters only")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "accuracy.json")
    parser.add_argument("--models", type=Path, default=Path(tempfile.gettempdir()) / "vemosaic-accuracy")
    parser.add_argument("--pictures", type=Path, help="folder for one picture a volume and feature")
    parser.add_argument("--table", type=Path, metavar="JSON", help="print the tables of results, and do nothing else")
    return parser.parse_args(arguments)


def compare(chosen: argparse.Namespace) -> str:
    """Get the results asked for, write them, and return their tables."""
    plan = Plan(
        tuple(chosen.features),
        tuple(chosen.treatments),
        tuple(chosen.clusterers),
        tuple(chosen.seeds),
        not chosen.no_teaching,
        Workshop(chosen.models, chosen.anchors, chosen.stride, chosen.device),
        chosen.pictures,
    )
    for name in plan.features:  # mistakes are told before anything runs
        feature(name, plan.workshop)
    for name in plan.treatments:
        treatment(name)
    for name in plan.clusterers:
        clusterer(name)
    journal = Journal(chosen.out.with_suffix(".jsonl"))
    for volume in chosen.volumes:
        scene = open_scene(volume)
        for name in plan.features:
            Comparison.of(plan, scene, name).run(journal)
    write_results(chosen.out, journal)
    return tables(journal.records())


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, or show what was compared."""
    chosen = parsed(arguments)
    try:
        print(tables(recorded(chosen.table)) if chosen.table else compare(chosen))
    except VemosaicError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
