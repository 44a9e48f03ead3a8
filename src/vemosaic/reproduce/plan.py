"""The plan of a reproduction: which cells, methods and lengths of training, and the jobs that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from vemosaic.datasets.betaseg import CELLS, VOXEL_SIZE
from vemosaic.errors import SettingsError
from vemosaic.evaluation.protocols import WHOLE_CELL, Protocol, find_protocol
from vemosaic.presets import preset
from vemosaic.settings import Settings
from vemosaic.volumes.volume import Shape

METHODS = ("han2022", "default", "cihs")
"""The paper's method, ours, and the paper's baseline: presets by name."""

LATENT = 8
"""Dimensions of the ball of CIHS, as Han et al. ran it."""

CLASSES = 4

PAPER_ANCHORS = {"han2022": (2_000_000, 3_000_000), "default": (2_000_000, 3_000_000), "cihs": (10_000_000,)}
"""Anchors for each training stack (section 4.1)."""

# For two cores: nine training stacks (3 x 2 + 3) and four maps of each method, within an hour in all.
PHANTOM_SHAPE = (96, 160, 160)
PHANTOM_ANCHORS = {"han2022": (1_280,), "default": (16_384,), "cihs": (2_560,)}
PHANTOM_WIDTH = 0.25
PHANTOM_STRIDE = 4

_CIHS_SHARE = PAPER_ANCHORS["cihs"][0] // PAPER_ANCHORS["han2022"][0]


@dataclass(frozen=True)
class Split:
    """Which cells are trained on, and which one is mapped."""

    name: str
    train: tuple[str, ...]
    target: str


FOLDS = tuple(
    Split(f"fold{number}", tuple(cell for cell in CELLS[:3] if cell != held_out), held_out)
    for number, held_out in enumerate(CELLS[:3], start=1)
)
"""3-fold cross-validation over the first three cells."""

TEST = Split("test", CELLS[:3], CELLS[3])
"""The test on the fourth cell."""


class Plan(BaseModel):
    """Everything that decides the figures of a reproduction, beside the voxels of its cells."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cells: str
    """Folder of the cells, as BetaSeg is published; `"phantom"` for cells that are drawn."""
    phantom_shape: tuple[int, int, int] = PHANTOM_SHAPE
    anchors: dict[str, tuple[int, ...]]
    """Lengths of training of each method, in anchors for each training stack."""
    clusters: tuple[int, ...] = tuple(range(4, 11))
    width: float = 1.0
    stride: Literal[1, 2, 3, 4, 6, 8] = 1
    crop: tuple[int, int, int] | None = None
    seed: int = 1

    @property
    def drawn(self) -> bool:
        """Whether the cells are phantoms."""
        return self.cells == "phantom"

    def settings(self, method: str, anchors: int, stacks: int) -> Settings:
        """Return the settings of one training and of the maps made with it.

        Parameters
        ----------
        method
            One of `METHODS`.
        anchors
            For each training stack.
        stacks
            How many there are.
        """
        return preset(
            method,
            width=self.width if method == "han2022" else None,
            latent=LATENT if method == "cihs" else None,
            anchors=anchors * stacks,
            clusters=self.clusters,
            stride=None if method == "default" else self.stride,
            seed=self.seed,
        ).model_copy(update={"working_voxel_size": VOXEL_SIZE})

    def caption(self, protocol: Protocol, methods: Sequence[str] = METHODS) -> str:
        """Say what the figures of a table of some methods are, and in what it is less than the paper's experiment."""
        spread = "mean +- standard deviation over the folds (ddof = 0)"
        if protocol.spread == "range":
            spread = "mean and (smallest-largest) over the folds"
        cells = "four phantom cells" if self.drawn else "BetaSeg, cells high_c1 to high_c4"
        lines = [
            f"Mean Dice on {cells}, protocol {protocol.name}: {protocol.sentence}. Folds: train on two of cells 1-3, "
            f"map the third; {spread}." + (" Test: train on cells 1-3, map cell 4." if protocol.test else ""),
            "Anchors for each training stack: "
            + "; ".join(f"{method} {' and '.join(map(short, self.anchors[method]))}" for method in methods)
            + (f". cihs has a latent dimension of {LATENT}." if "cihs" in methods else "."),
        ]
        smaller = [
            *([f"phantom cells of {_times(self.phantom_shape)} voxels (z, y, x)"] if self.drawn else []),
            *([f"the central {_times(self.crop)} voxels (z, y, x) of each cell"] if self.crop else []),
            *(["other lengths of training than the paper's"] if self.anchors != PAPER_ANCHORS else []),
            *([f"han2022 at width {self.width:g}"] if self.width != 1 and "han2022" in methods else []),
            *([f"of {_times((self.stride,) * 3)} voxels, han2022 and cihs embed one, and only such are scored for "
               "every method"] if self.stride > 1 else []),
        ]  # fmt: skip
        if smaller:
            lines.append(f"Smaller than the paper's experiment: {'; '.join(smaller)}.")
        return " ".join(lines)


@dataclass(frozen=True)
class Selection:
    """What of a plan is run now.

    Attributes
    ----------
    methods
        Some of `METHODS`.
    splits
        Some of `FOLDS` and `TEST`.
    protocols
        How the maps are scored.
    """

    methods: tuple[str, ...] = METHODS
    splits: tuple[Split, ...] = (*FOLDS, TEST)
    protocols: tuple[Protocol, ...] = (WHOLE_CELL,)

    @classmethod
    def named(cls, methods: Sequence[str], protocols: Sequence[str], only: str | None = None) -> Selection:
        """Select by names.

        Parameters
        ----------
        methods
            Some of `METHODS`.
        protocols
            Some of `vemosaic.evaluation.protocols.PROTOCOLS`.
        only
            ``"folds"`` or ``"test"``; both where None.

        Raises
        ------
        SettingsError
            If something has no such name.
        """
        halves = {None: (*FOLDS, TEST), "folds": FOLDS, "test": (TEST,)}
        if only not in halves:
            raise SettingsError("--only", f"there is no half {only!r}", "choose folds or test, or leave it out")
        for method in methods:
            if method not in METHODS:
                raise SettingsError(
                    "--methods", f"there is none named {method!r}", f"choose from {', '.join(METHODS)}, with commas"
                )
        found = [find_protocol(name) for name in dict.fromkeys(protocols)]
        return cls(tuple(dict.fromkeys(methods)), halves[only], tuple(found))

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells that take part, in order."""
        needed = {cell for split in self.splits for cell in (*split.train, split.target)}
        return tuple(cell for cell in CELLS if cell in needed)

    @property
    def inside_cell(self) -> bool:
        """Whether the masks of whole cells are needed."""
        return any(protocol.inside_cell for protocol in self.protocols)


@dataclass(frozen=True)
class Job:
    """One training, and the map of one cell that is made with it."""

    method: str
    anchors: int
    split: Split
    out: Path = field(repr=False)

    @property
    def training(self) -> Path:
        """Folder of the run that trains."""
        return column_folder(self.out, self.method, self.anchors) / self.split.name / "training"

    @property
    def model(self) -> Path:
        """The trained model."""
        return self.training / "model.safetensors"

    @property
    def map(self) -> Path:
        """Folder of the run that maps."""
        return column_folder(self.out, self.method, self.anchors) / self.split.name / self.split.target

    def describe(self) -> str:
        """Say in a line what the job is."""
        train = ", ".join(self.split.train)
        return f"{self.method}, {short(self.anchors)} anchors/stack, {self.split.name}: {train} -> {self.split.target}"


def column_folder(out: Path, method: str, anchors: int) -> Path:
    """Return where the runs of one column of the table lie."""
    return out / "runs" / f"{method}-{anchors}"


def jobs_of(plan: Plan, selection: Selection, out: Path) -> list[Job]:
    """List the jobs, shorter trainings first."""
    return [
        Job(method, anchors, split, out)
        for method in selection.methods
        for anchors in sorted(plan.anchors[method])
        for split in selection.splits
    ]


def betaseg_plan(
    folder: str | Path,
    *,
    anchors: Sequence[int] | None = None,
    clusters: Sequence[int] | None = None,
    width: float | None = None,
    stride: int | None = None,
    crop: Shape | None = None,
    seed: int = 1,
) -> Plan:
    """Plan the paper's experiment on BetaSeg, as it is where nothing else is given.

    Parameters
    ----------
    folder
        Where the folders of the four cells lie.
    anchors
        Lengths of training in anchors for each stack, one or two; CIHS is trained for five times the first, as in the
        paper.
    clusters
        Numbers of clusters, k.
    width
        Factor on the channels of han2022.
    stride
        Edge of the blocks of which han2022 and cihs embed one voxel.
    crop
        Central box of each cell, voxels along z, y, x.
    seed
        Of weights, patches and clustering.

    Raises
    ------
    SettingsError
        If one of them will not do.
    """
    return _plan(
        cells=str(Path(folder).absolute()),
        anchors=_lengths(anchors) or PAPER_ANCHORS,
        clusters=clusters, width=width, stride=stride, crop=crop, seed=seed,
    )  # fmt: skip


def phantom_plan(
    *,
    shape: Shape = PHANTOM_SHAPE,
    anchors: Sequence[int] | None = None,
    clusters: Sequence[int] | None = None,
    width: float | None = None,
    stride: int | None = None,
    crop: Shape | None = None,
    seed: int = 1,
) -> Plan:
    """Plan the same on four phantom cells, small enough for two cores where nothing else is given.

    Parameters
    ----------
    shape
        Voxels of each phantom along z, y, x.
    anchors, clusters, width, stride, crop, seed
        As of `betaseg_plan`; the seed is that of the first phantom, too.

    Raises
    ------
    SettingsError
        If one of them will not do.
    """
    return _plan(
        cells="phantom",
        phantom_shape=shape,
        anchors=_lengths(anchors) or PHANTOM_ANCHORS,
        clusters=clusters, width=width or PHANTOM_WIDTH, stride=stride or PHANTOM_STRIDE, crop=crop, seed=seed,
    )  # fmt: skip


def _plan(**given: object) -> Plan:
    try:
        plan = Plan.model_validate({name: value for name, value in given.items() if value is not None})
        batches = {method: plan.settings(method, 1, 2).model.optimiser.batch for method in METHODS}
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingsError(f"--{first['loc'][-1]}", f"{first['input']!r} will not do", first["msg"].lower()) from error
    if min(plan.clusters) < CLASSES:
        raise SettingsError(
            "--clusters", f"{min(plan.clusters)} are fewer than the {CLASSES} classes", f"give {CLASSES} or more"
        )
    for method, batch in batches.items():
        fewest = min(plan.anchors[method])
        if fewest < batch:
            raise SettingsError(
                "--anchors", f"{fewest} a stack are fewer than one batch of {batch}", f"give {batch} or more"
            )
    return plan


def _lengths(anchors: Sequence[int] | None) -> dict[str, tuple[int, ...]] | None:
    if anchors is None:
        return None
    lengths = tuple(sorted(set(anchors)))
    if not 1 <= len(lengths) <= 2:
        raise SettingsError("--anchors", f"{len(lengths)} lengths are given", "give one or two, as in 20000,30000")
    return {"han2022": lengths, "default": lengths, "cihs": (_CIHS_SHARE * lengths[0],)}


def short(anchors: int) -> str:
    """Write a number of anchors as the paper does: 2M, 10k, 2560."""
    for factor, suffix in ((1_000_000, "M"), (1_000, "k")):
        if anchors >= factor and anchors * 10 % factor == 0:
            return f"{anchors / factor:g}{suffix}"
    return f"{anchors}"


def _times(shape: Shape) -> str:
    return " x ".join(map(str, shape))
