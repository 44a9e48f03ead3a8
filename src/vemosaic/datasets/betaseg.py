"""BetaSeg: whole mouse beta cells by FIB-SEM at 16 nm, in the layout in which they are published.

The folder of a cell holds its image, ``high_c1_source.tif``, and beside it a binary mask for each category.

References
----------
Müller et al., Journal of Cell Biology 220, 2021. doi:10.1083/jcb.202010039
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile

from vemosaic.blocks.grid import units
from vemosaic.errors import OutputError, ReferenceMaskError, SettingsError, VolumeError
from vemosaic.evaluation.reference import UNRECOGNISED
from vemosaic.volumes import open_volume
from vemosaic.volumes.volume import Shape, Slices, Volume

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

_OF_IMAGEJ = tuple(map(np.dtype, (np.uint8, np.uint16, np.float32)))

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


def check_cell(folder: str | Path, cell: str, *, whole: bool = False) -> Shape:
    """Find out whether a cell is as it should be before hours are spent on it.

    Parameters
    ----------
    folder, cell
        As of `betaseg_cell`.
    whole
        Whether the mask of the whole cell is needed, too.

    Returns
    -------
    tuple of int
        Voxels of the cell along z, y, x.

    Raises
    ------
    VolumeError, ReferenceMaskError
        If a file is missing or cannot be read, a mask has another shape than the image, or the mask of the whole cell
        is empty.
    """
    source, masks = betaseg_cell(folder, cell)
    shape = open_volume(source, voxel_size=VOXEL_SIZE).shape
    outline = cell_file(folder, cell, CELL_SUFFIX)
    if whole and not outline.is_file():
        raise ReferenceMaskError(
            outline, "no such file", "put the mask of the whole cell there, or leave out the protocol inside-cell"
        )
    for path in (*masks.values(), *([outline] if outline.is_file() else [])):
        mask = open_volume(path, labels=True)
        if mask.shape != shape:
            raise ReferenceMaskError(
                path,
                f"has {_size(mask.shape)} voxels but {source.name} has {_size(shape)} (z, y, x)",
                "put the mask that belongs to this image in its place",
            )
    if whole and not _holds_any(open_volume(outline, labels=True)):
        raise ReferenceMaskError(
            outline, "is empty: no voxel lies inside the cell", "put the right mask there, or leave out inside-cell"
        )
    return shape


def crop_cell(folder: str | Path, cell: str, out: str | Path, crop: Shape) -> None:
    """Copy the central box of a cell, image and masks, in the same layout.

    Parameters
    ----------
    folder, cell
        As of `betaseg_cell`.
    out
        Where the cell's own folder is made.
    crop
        Voxels of the box along z, y, x.

    Raises
    ------
    SettingsError
        If the cell is smaller.
    OutputError
        If the files cannot be written.
    """
    source, masks = betaseg_cell(folder, cell)
    image = open_volume(source, voxel_size=VOXEL_SIZE)
    box = central_box(image.shape, crop, source)
    outline = cell_file(folder, cell, CELL_SUFFIX)
    files = {SUFFIXES[name]: path for name, path in masks.items()}
    files |= {CELL_SUFFIX: outline} if outline.is_file() else {}

    def cut() -> Iterator[tuple[str, npt.NDArray[np.generic]]]:
        yield "source", image.array[box]
        for suffix, path in files.items():
            yield suffix, (open_volume(path, labels=True).array[box] != 0).astype(np.uint8) * np.uint8(255)

    write_cell(out, cell, cut())


def central_box(shape: Shape, crop: Shape, source: object) -> Slices:
    """Return the box of so many voxels in the middle of a cell.

    Raises
    ------
    SettingsError
        If the cell is smaller.
    """
    if any(c > n for c, n in zip(crop, shape, strict=True)):
        raise SettingsError(
            source, f"has {_size(shape)} voxels (z, y, x), fewer than --crop {_size(crop)}", "choose a smaller --crop"
        )
    z, y, x = (slice((n - c) // 2, (n - c) // 2 + c) for n, c in zip(shape, crop, strict=True))
    return z, y, x


def write_cell(
    folder: str | Path,
    cell: str,
    files: Iterable[tuple[str, npt.NDArray[np.generic]]],
    voxel_size: float = VOXEL_SIZE,
) -> None:
    """Write images in the published layout, with the voxel size in each TIFF (ImageJ's way, in nm).

    Parameters
    ----------
    folder
        Where the cell's own folder is made.
    cell
        Such as ``"high_c1"``.
    files
        The end of each file's name and its voxels, ``(Z, Y, X)``.
    voxel_size
        In nm.

    Raises
    ------
    OutputError
        If the files cannot be written.
    """
    try:
        cell_file(folder, cell, "source").parent.mkdir(parents=True, exist_ok=True)
        for suffix, voxels in files:
            tifffile.imwrite(
                cell_file(folder, cell, suffix),
                voxels,
                imagej=voxels.dtype in _OF_IMAGEJ,
                resolution=(1 / voxel_size, 1 / voxel_size),
                metadata={"axes": "ZYX", "spacing": voxel_size, "unit": "nm"},
                photometric="minisblack",
            )
    except OSError as error:
        raise OutputError(
            Path(folder) / cell, f"cannot be written ({error.strerror})", "choose another folder or free some space"
        ) from error


def _holds_any(mask: Volume) -> bool:
    return any(bool(mask.array[unit.slices].any()) for unit in units(mask.shape, (64, 512, 512)))


def _size(shape: Shape) -> str:
    return " x ".join(map(str, shape))
