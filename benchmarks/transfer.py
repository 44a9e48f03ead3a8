"""What a map loses when its model was trained on another volume, or when intensities are not those it was trained on.

    python benchmarks/transfer.py
    python benchmarks/transfer.py --trained epfl15@120000 --mapped epfl15-inverted epfl15-gamma2 --seeds 1 2 3
    python benchmarks/transfer.py --table benchmarks/results/transfer.json

Each volume of ``--mapped`` is described by its own model and by one trained on each volume of ``--trained``; texture
words and clusters (consensus) are found anew in it, as `vemosaic run --model` does, and labels take part in nothing
but the scores. A volume of changed intensities, as ``epfl15-inverted``, is mapped by the model of the unchanged volume
only, and compared with the map of that. Intensities are normalised by the volume's own median and spread, or
``matched``: mapped monotonically so that their quantiles are those that the model was trained on. `vemosaic run`
refuses a model of cubes for volumes in thick slices (vnc16): here it is used all the same, to see what that spares.

Results are kept and resumed as by ``accuracy.py``, with the same ``--models``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ablation.cells import Vectors
from ablation.features import LEARNED
from ablation.journal import Journal, Record
from ablation.scenes import DATA, VOLUMES, Labelled, Scene, draw
from ablation.tables import MIDDLE, markdown, of_all
from ablation.trained import Trained, Workshop
from accuracy import ROOT, Comparison, Plan, recorded, write_results
from vemosaic.blocks.grid import Unit
from vemosaic.embedding import Embedder
from vemosaic.errors import SettingsError, VemosaicError
from vemosaic.evaluation.reference import reference_from_arrays
from vemosaic.volumes import at_voxel_size, open_volume
from vemosaic.volumes.intensity import Intensity, measure_intensity, probe
from vemosaic.volumes.volume import Volume

UNLABELLED: dict[str, Callable[[], Volume]] = {
    "flyem10": lambda: at_voxel_size(open_volume(str(DATA / "flyem_medulla" / "a.ome.zarr")), 10.0),
}
"""Volumes without a reference segmentation, to train on."""

QUANTILES = np.concatenate([[0.1, 0.5], np.arange(1.0, 100.0, 2.0), [99.5, 99.9]])
"""In percent, at which intensities are matched; they are clipped beyond."""

Voxels = npt.NDArray[Any]


def pad(voxels: Voxels) -> Voxels:
    """Surround voxels ``(Z, Y, X)`` by as many zeros."""
    width = [round(n * (2 ** (1 / 3) - 1) / 2) for n in voxels.shape]
    return np.pad(voxels, [(n, n) for n in width])


CHANGES: dict[str, Callable[[Voxels], Voxels]] = {
    "inverted": lambda voxels: 255 - voxels,
    "gamma0.5": lambda voxels: 255 * (voxels / 255) ** 0.5,
    "gamma2": lambda voxels: 255 * (voxels / 255) ** 2,
    "16bit": lambda voxels: np.round(40 * voxels + 5000).astype(np.uint16),
    "padded": pad,
}
"""Changes of the intensities 0 to 255 of a volume, named by its own name and theirs."""


@dataclass(frozen=True)
class Matched(Intensity):
    """A monotone map that brings the intensities of one volume to those that a model was trained on.

    Attributes
    ----------
    seen
        Intensities of the volume, ascending.
    meant
        What each becomes.
    """

    seen: tuple[float, ...] = ()
    meant: tuple[float, ...] = ()

    @classmethod
    def of(cls, volume: Volume, trained: Volume) -> Matched:
        """Match the quantiles of a volume with those of the one that a model was trained on."""
        normal = measure_intensity(trained)
        meant = normal.normalise(np.percentile(probe(trained), QUANTILES).astype(np.float32))
        seen, first = np.unique(np.percentile(probe(volume), QUANTILES), return_index=True)
        return cls(normal.centre, normal.spread, seen=tuple(seen), meant=tuple(meant[first]))

    def normalise(self, voxels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Map voxels, any shape, as float32."""
        return np.interp(voxels, self.seen, self.meant).astype(np.float32)


@dataclass(frozen=True)
class Transferred:
    """The semantic means of an encoder that was trained on another volume.

    Attributes
    ----------
    trained
        How, and where models are kept.
    on
        The other volume.
    matched
        Whether intensities are matched with those of the other volume.
    """

    trained: Trained
    on: Volume
    matched: bool = False
    seeded = True
    standardise = False

    def about(self) -> dict[str, Any]:
        """What decides the result beside volume and seed, ready for JSON."""
        return {**self.trained.about(), "kind": "transferred", "on": self.on.identity(), "matched": self.matched}

    def describe(self, volume: Volume, boxes: Sequence[Unit], seed: int) -> Iterator[Vectors]:
        """Yield ``(Z, Y, X, C)`` for each box."""
        embedder = Embedder.of(self.trained.model(self.on, seed), volume)
        if self.matched:
            embedder = replace(embedder, intensity=Matched.of(volume, self.on))
        whole = hull(boxes)
        if whole.voxels > sum(box.voxels for box in boxes):
            yield from (embedder.box(volume, box.origin, box.shape) for box in boxes)
            return
        values = embedder.box(volume, whole.origin, whole.shape)  # boxes with halos overlap: each voxel once
        for box in boxes:
            first = np.subtract(box.origin, whole.origin)
            yield values[tuple(slice(o, o + n) for o, n in zip(first, box.shape, strict=True))]


def hull(boxes: Sequence[Unit]) -> Unit:
    """Return the smallest box that holds some boxes."""
    first = np.min([box.origin for box in boxes], axis=0)
    last = np.max([np.add(box.origin, box.shape) for box in boxes], axis=0)
    z, y, x = first.tolist()
    depth, height, width = (last - first).tolist()
    return Unit((0, 0, 0), (z, y, x), (depth, height, width))


def changed(labelled: Labelled, change: Callable[[Voxels], Voxels]) -> Labelled:
    """Change the intensities of a labelled volume; what the change adds around it belongs to no class."""
    volume, everything = labelled.volume, ((0, 0, 0), labelled.volume.shape)
    other = replace(volume, array=change(volume.read(*everything)), coarser=())
    classes = labelled.reference.read(*everything)
    around = pad if change is pad else np.asarray
    masks = {name: around(classes == label) for label, name in enumerate(labelled.names) if label > 0}
    return replace(labelled, volume=other, reference=reference_from_arrays(masks, other))


def unchanged(name: str) -> str:
    """Return the name of the volume of which this one is a change, or its own."""
    return name.partition("-")[0]


def open_mapped(name: str) -> Scene:
    """Open a volume to map, changed or not, and draw its voxels."""
    labelled = VOLUMES[unchanged(name)]()
    return draw(name, labelled if name in VOLUMES else changed(labelled, CHANGES[name.partition("-")[2]]))


def open_trained(name: str) -> Volume:
    """Open a volume to train on."""
    return UNLABELLED[name]() if name in UNLABELLED else VOLUMES[name]().volume


@dataclass(frozen=True)
class Transfers:
    """Which volumes are mapped by which models.

    Attributes
    ----------
    plan
        What is done with what describes their voxels.
    budgets
        For each volume to train on, its training budget in anchors; the plan's for others.
    matched
        Whether intensities are matched, or not, or both.
    """

    plan: Plan
    budgets: dict[str, int]
    matched: tuple[bool, ...]

    def name(self, trained: str) -> str:
        """Return how results name the model of a volume."""
        return f"{trained}@{self._budget(trained)}"

    def run(self, mapped: str, journal: Journal) -> None:
        """Map a volume by its own model and by all others that it is to be mapped by."""
        own = unchanged(mapped)
        scene = open_mapped(own)
        self._map(scene, own, False, journal)
        if mapped != own:
            scene = open_mapped(mapped)
        for trained in self.budgets if mapped == own else [own]:
            for matched in self.matched:
                if trained != mapped:
                    self._map(scene, trained, matched, journal)

    def _map(self, scene: Scene, trained: str, matched: bool, journal: Journal) -> None:
        model = Trained(LEARNED["default"], self._budget(trained), self.plan.workshop)
        feature = Transferred(model, open_trained(trained), matched)
        name = f"{self.name(trained)}, matched" if matched else self.name(trained)
        Comparison(self.plan, scene, name, feature).run(journal)

    def _budget(self, trained: str) -> int:
        return self.budgets.get(trained, self.plan.workshop.anchors)


def table(records: Iterable[Record]) -> str:
    """Show what each map loses against that of the volume's own model, over the seeds that both have."""
    by_name: dict[tuple[str, str], dict[int, Record]] = {}
    for record in records:
        by_name.setdefault((record["volume"], record["feature"]), {})[record["seed"]] = record
    own = {volume: found for (volume, model), found in by_name.items() if model.partition("@")[0] == volume}
    rows = []
    for (volume, model), found in by_name.items():
        best = own.get(unchanged(volume), {})
        seeds = sorted(found.keys() & best.keys())
        if best is found or not seeds:
            continue
        dice, own_dice = (_dice([of[seed] for seed in seeds]) for of in (found, best))
        loss = own_dice - dice
        numbers = [dice.mean(), own_dice.mean(), loss.mean(), loss.max()]
        name, _, matched = model.partition(", ")
        rows.append([volume, name, matched or "own", str(len(seeds)), *(f"{number:.3f}" for number in numbers)])
    header = ["mapped", "trained on", "intensity", "seeds", "Dice", "own model's", "loss", "most of a seed"]
    caption = (
        f"Dice of the best cluster, or Hungarian mean of several classes; mean over k = {MIDDLE[0]}..{MIDDLE[-1]}."
    )
    return "\n".join([caption, "", *markdown(header, rows), ""])


def _dice(records: Sequence[Record]) -> npt.NDArray[np.float64]:
    """Return the mean over `MIDDLE` of each result."""
    kind = "best" if len(records[0]["scored"]) == 1 else "hungarian"
    return of_all(records, kind, MIDDLE).mean(1)


def budget(text: str) -> tuple[str, int | None]:
    """Read the name of a volume to train on, and its budget as in ``epfl15@120000``."""
    name, at, anchors = text.partition("@")
    if name not in (*VOLUMES, *UNLABELLED) or (at and not anchors.isdecimal()):
        known = ", ".join([*VOLUMES, *UNLABELLED])
        raise SettingsError("--trained", f"there is no {text!r}", f"choose from {known}, with a budget as epfl15@6000")
    return name, int(anchors) if at else None


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    changes = [f"{name}-{change}" for name in VOLUMES if name.startswith("epfl") for change in CHANGES]
    mapped = ["epfl15", "epfl10", "phantom", "phantom2", "vnc16", *(f"epfl15-{change}" for change in CHANGES)]
    parser.add_argument("--mapped", nargs="+", choices=[*VOLUMES, *changes], default=mapped, metavar="VOLUME")
    parser.add_argument("--trained", nargs="+", default=["epfl15", "phantom", "flyem10"], help="or as epfl15@120000")
    parser.add_argument("--intensity", nargs="+", choices=["own", "matched"], default=["own", "matched"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--anchors", type=int, default=120_000, help="training budget where --trained names none")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "transfer.json")
    parser.add_argument("--models", type=Path, default=Path(tempfile.gettempdir()) / "vemosaic-accuracy")
    parser.add_argument("--table", type=Path, metavar="JSON", help="print the table of results, and do nothing else")
    return parser.parse_args(arguments)


def measure(chosen: argparse.Namespace) -> str:
    """Get the results asked for, write them, and return their table."""
    workshop = Workshop(chosen.models, chosen.anchors, device=chosen.device)
    plan = Plan((), ("words",), ("consensus",), tuple(chosen.seeds), False, workshop, None)
    budgets = {name: anchors or chosen.anchors for name, anchors in map(budget, chosen.trained)}
    transfers = Transfers(plan, budgets, tuple(way == "matched" for way in chosen.intensity))
    journal = Journal(chosen.out.with_suffix(".jsonl"))
    for mapped in chosen.mapped:
        transfers.run(mapped, journal)
    write_results(chosen.out, journal, "transfer")
    return table(journal.records())


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, or show what was measured."""
    chosen = parsed(arguments)
    try:
        print(table(recorded(chosen.table)) if chosen.table else measure(chosen))
    except VemosaicError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
