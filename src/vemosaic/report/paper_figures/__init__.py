"""The figures of Han et al. 2022, and what its model generates, drawn from any finished run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from vemosaic.blocks.events import Listener, StageEnded, StageStarted, UnitDone, ignore
from vemosaic.blocks.files import disk_errors, write_atomically
from vemosaic.errors import SettingsError
from vemosaic.evaluation.class_sample import Classes
from vemosaic.report.paper_figures.confusion_figure import draw_confusion
from vemosaic.report.paper_figures.generation_figure import draw_generation
from vemosaic.report.paper_figures.invariance_figure import draw_invariance
from vemosaic.report.paper_figures.map_figure import draw_map
from vemosaic.report.paper_figures.material import Material, gather
from vemosaic.report.paper_figures.style import style
from vemosaic.settings import choose_device
from vemosaic.volumes.volume import Volume

__all__ = ["FIGURES", "FigureWarning", "write_figures"]

FIGURES: dict[str, Callable[[Material], dict[str, bytes]]] = {
    "3": draw_invariance,
    "4": draw_map,
    "5": draw_confusion,
    "generation": draw_generation,
}
NEED_REFERENCE = ("4", "5")


class FigureWarning(UserWarning):
    """A figure that cannot be drawn from this run."""


def write_figures(
    run: Path,
    volume: Volume,
    reference: Classes | None = None,
    *,
    figure: str = "all",
    k: int | None = None,
    classes: Sequence[str] = (),
    device: str = "auto",
    listen: Listener = ignore,
) -> list[Path]:
    """Draw figures of a run into its folder ``figures``, with the numbers behind them.

    Parameters
    ----------
    run
        A folder that ``vemosaic run`` finished.
    volume
        The raw volume on the lattice of the map.
    reference
        What the run was scored against, on the same lattice. Without one, Figure 3 is coloured by cluster, and
        Figures 4 and 5 cannot be drawn.
    figure
        ``"3"``, ``"4"``, ``"5"``, ``"generation"``, or ``"all"`` that can be drawn.
    k
        Which map; the one with the largest mean Dice, or the first, where None.
    classes
        Whose errors Figure 4 shows; all that are matched with a cluster where none is named.
    device
        ``"auto"``, ``"cpu"`` or ``"cuda"``, for the model.
    listen
        Hears of the stage ``"figures"``.

    Returns
    -------
    list of Path
        The files written. The old files of a figure go before its new ones come, each whole; its JSON comes last.

    Raises
    ------
    SettingsError
        If there is no such figure, map or class, or a figure needs a reference and there is none.
    VemosaicError
        If the run is not finished or damaged, the volume is another one, or the folder cannot be written to.

    Warns
    -----
    FigureWarning
        Where all figures are asked for and there is no reference.
    """
    if figure != "all" and figure not in FIGURES:
        raise SettingsError("--figure", f"there is no figure {figure!r}", f"choose one of {', '.join(FIGURES)} or all")
    material = gather(run, volume, reference, k, classes, choose_device(device))
    wanted = list(FIGURES) if figure == "all" else [figure]
    if material.reference is None and any(name in NEED_REFERENCE for name in wanted):
        problem = "was scored against no reference, which figures 4 and 5 need"
        remedy = "map it again with --reference"
        if figure != "all":
            raise SettingsError(run, problem, remedy)
        warnings.warn(f"{run}: {problem}; {remedy}", FigureWarning, stacklevel=2)
        wanted = [name for name in wanted if name not in NEED_REFERENCE]
    listen(StageStarted("figures", len(wanted), unit_name="figure"))
    written = []
    for name in wanted:
        with style():
            files = FIGURES[name](material)
        written += _write(run / "figures", files)
        listen(UnitDone("figures", 1))
    listen(StageEnded("figures"))
    return written


def _write(folder: Path, files: dict[str, bytes]) -> list[Path]:
    """Put the files of one figure in the place of its old ones."""
    with disk_errors(folder):
        for name in files:
            (folder / name).unlink(missing_ok=True)
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]
