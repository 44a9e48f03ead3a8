"""BetaSeg: whole mouse beta cells by FIB-SEM at 16 nm, in the layout in which they are published.

The folder of a cell holds its image, ``high_c1_source.tif``, and beside it a binary mask for each category.

References
----------
Müller et al., Journal of Cell Biology 220, 2021. doi:10.1083/jcb.202010039
"""

from __future__ import annotations

from pathlib import Path

from vemosaic.errors import ReferenceMaskError, VolumeError
from vemosaic.evaluation.reference import UNRECOGNISED

VOXEL_SIZE = 16.0
"""Voxel size in nm, along every axis."""

CELLS = ("high_c1", "high_c2", "high_c3", "high_c4")
"""The cells at high glucose; the paper trains on the first three and tests on the last."""

SUFFIXES = {
    "centrioles": "centrioles",
    "nucleus": "nucleus_mask",
    "membrane": "membrane_mask",
    "microtubules": "microtubules",
    "golgi": "golgi_corrected",
    "granules": "granules",
    "mitochondria": "mitochondria_mask",
}
"""End of each category's file name, surest first: where masks overlap, the earlier one keeps the voxel."""

CATEGORIES = tuple(SUFFIXES)
"""The seven categories in that order."""

CELL_SUFFIX = "membrane_full_mask"
"""End of the file name of the mask of the whole cell."""

FOUR_CLASSES = dict.fromkeys(("centrioles", "membrane", "microtubules", "golgi"), UNRECOGNISED)
"""For `Reference.merge`: leaves the four large classes, nucleus, granules, mitochondria and unrecognised."""


def betaseg_cell(folder: str | Path, cell: str) -> tuple[Path, dict[str, Path]]:
    """Find the files of one cell.

    Parameters
    ----------
    folder
        Where the folders of the cells lie.
    cell
        Such as ``"high_c1"``.

    Returns
    -------
    source : Path
        The image.
    masks : dict of Path
        The mask of each of `CATEGORIES`, in that order.

    Raises
    ------
    VolumeError
        If the cell or its image is missing.
    ReferenceMaskError
        If masks are missing; the message names them.
    """
    source = cell_file(folder, cell, "source")
    if not source.is_file():
        raise VolumeError(
            source,
            "no such file",
            f"give the folder that holds {cell}/{cell}_source.tif, as BetaSeg is published",
        )
    masks = {name: cell_file(folder, cell, suffix) for name, suffix in SUFFIXES.items()}
    missing = [path.name for path in masks.values() if not path.is_file()]
    if missing:
        raise ReferenceMaskError(
            source.parent,
            f"lacks {len(missing)} of the {len(masks)} masks of BetaSeg: {', '.join(missing)}",
            "put them beside the image, or name the masks you have with --reference NAME=mask.tif",
        )
    return source, masks


def cell_file(folder: str | Path, cell: str, suffix: str) -> Path:
    """Return the path of one file of a cell in the published layout, whether it exists or not."""
    return Path(folder) / cell / f"{cell}_{suffix}.tif"
