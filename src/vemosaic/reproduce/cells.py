"""The cells of a reproduction: checked before anything long starts, drawn or cropped where the plan says so."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vemosaic.blocks.events import Listener, StageEnded, StageStarted, UnitDone
from vemosaic.blocks.files import disk_errors, sync_folder
from vemosaic.datasets.betaseg import (
    CELL_SUFFIX,
    CELLS,
    FOUR_CLASSES,
    VOXEL_SIZE,
    betaseg_cell,
    cell_file,
    central_box,
    check_cell,
    crop_cell,
)
from vemosaic.datasets.phantom import write_betaseg
from vemosaic.evaluation import Reference, Scope, open_reference
from vemosaic.evaluation.protocols import Protocol
from vemosaic.inputs import Input, OpenedInput, ReferenceInput, open_input
from vemosaic.reproduce.plan import Plan, Selection
from vemosaic.volumes import open_volume
from vemosaic.volumes.resampling import WorkingSize
from vemosaic.volumes.volume import Shape


@dataclass(frozen=True)
class Cell:
    """One cell in the published layout: its image, and the files of its reference segmentation."""

    name: str
    folder: Path

    @property
    def is_made(self) -> bool:
        """Whether its files are there; they come whole or not at all."""
        return (self.folder / self.name).is_dir()

    def identity(self) -> str | None:
        """By what the image is known; None where it is not made yet."""
        return self.open(VOXEL_SIZE).working.identity() if self.is_made else None

    @property
    def source(self) -> Path:
        """The image."""
        return betaseg_cell(self.folder, self.name)[0]

    @property
    def reference(self) -> ReferenceInput:
        """The four large classes, settled by the order of confidence."""
        masks = betaseg_cell(self.folder, self.name)[1]
        return ReferenceInput(tuple(f"{name}={path}" for name, path in masks.items()), FOUR_CLASSES)

    @property
    def outline(self) -> Path:
        """The mask of the whole cell."""
        return cell_file(self.folder, self.name, CELL_SUFFIX)

    def open(self, working_voxel_size: WorkingSize) -> OpenedInput:
        """Open it on the working lattice; BetaSeg's voxels are known, whatever the files say."""
        return open_input(Input(str(self.source), (VOXEL_SIZE,) * 3), working_voxel_size)

    def scope(self, protocol: Protocol, opened: OpenedInput, stride: int) -> Scope:
        """What a protocol scores of this cell."""
        inside: Reference | None = None
        if protocol.inside_cell:
            inside = open_reference([f"cell={self.outline}"], opened.working, source=opened.volume)
        return Scope(protocol.places(opened.working.shape, stride), inside, protocol.classes)

    def reference_identity(self, protocol: Protocol) -> list[str]:
        """By what the masks that a protocol uses are known."""
        paths = [*betaseg_cell(self.folder, self.name)[1].values(), *([self.outline] if protocol.inside_cell else [])]
        return [open_volume(path, labels=True).identity() for path in paths]


def check_cells(plan: Plan, selection: Selection) -> dict[str, Shape]:
    """Return the voxels of every cell that takes part, as it is trained on and mapped.

    Raises
    ------
    VemosaicError
        If a cell or a mask is missing, a mask has another shape, a cell mask that is needed is empty, or a cell is
        smaller than its crop or than what a protocol scores.
    """
    shapes: dict[str, Shape] = {}
    for name in selection.cells:
        if plan.drawn:
            shape, source = plan.phantom_shape, "phantom cell"
        else:
            shape = check_cell(plan.cells, name, whole=selection.inside_cell)
            source = str(cell_file(plan.cells, name, "source"))
        if plan.crop:
            central_box(shape, plan.crop, source)
        shapes[name] = plan.crop or shape
    for shape in {shapes[split.target] for split in selection.splits}:
        for protocol in selection.protocols:
            protocol.places(shape, plan.stride)
    return shapes


def cell_of(plan: Plan, name: str, out: Path) -> Cell:
    """Return a cell as it is trained on and mapped, whether it is drawn and cropped yet or not."""
    if plan.crop:
        return Cell(name, out / "crops")
    return Cell(name, out / "phantoms" if plan.drawn else Path(plan.cells))


def prepare_cells(plan: Plan, selection: Selection, out: Path, listen: Listener) -> dict[str, Cell]:
    """Draw or crop the cells, where the plan says so and that was not done before.

    Each is made beside its place and moved there whole.

    Raises
    ------
    OutputError
        If they cannot be written.
    ReferenceMaskError
        If no voxel of a crop lies inside the cell, and a protocol needs one.
    """
    uncropped = plan.model_copy(update={"crop": None})
    if plan.drawn:
        _make([cell_of(uncropped, name, out) for name in selection.cells], listen, "draw", partial(_draw, plan))
    cells = [cell_of(plan, name, out) for name in selection.cells]
    if plan.crop:
        folder, crop = cell_of(uncropped, CELLS[0], out).folder, plan.crop
        _make(cells, listen, "crop", lambda name, to: crop_cell(folder, name, to, crop))
        for cell in cells:  # a crop may lie outside the cell
            check_cell(cell.folder, cell.name, whole=selection.inside_cell)
    return {cell.name: cell for cell in cells}


def _draw(plan: Plan, name: str, folder: Path) -> None:
    write_betaseg(folder, name, plan.phantom_shape, plan.seed + CELLS.index(name), VOXEL_SIZE)


def _make(cells: Sequence[Cell], listen: Listener, stage: str, make: Callable[[str, Path], None]) -> None:
    missing = [cell for cell in cells if not cell.is_made]
    if not missing:
        return
    listen(StageStarted(stage, len(missing), unit_name="cell"))
    for cell in missing:
        partial_folder = cell.folder.with_name(cell.folder.name + ".partial")
        with disk_errors(cell.folder):
            shutil.rmtree(partial_folder, ignore_errors=True)
            make(cell.name, partial_folder)
            cell.folder.mkdir(parents=True, exist_ok=True)
            (partial_folder / cell.name).rename(cell.folder / cell.name)
            sync_folder(cell.folder)
            partial_folder.rmdir()
        listen(UnitDone(stage, 1))
    listen(StageEnded(stage))
