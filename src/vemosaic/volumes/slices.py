"""A folder of numbered slices, PNG or TIFF, read slice by slice; or a single PNG image."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile

from vemosaic.errors import VolumeError
from vemosaic.volumes.arrays import RecentlyRead, ViewedArray, unreadable
from vemosaic.volumes.axes import view_as_zyx
from vemosaic.volumes.geometry import Level, Request, assemble
from vemosaic.volumes.volume import Volume

SUFFIXES = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF"}
PNG_HEADER = slice(16, 26)  # width, height, bit depth, colour type: bytes of the IHDR chunk


class MissingSliceWarning(UserWarning):
    """The numbers of a folder's slices have a gap."""


class SliceStack:
    """Slices on disk as one array ``(Z, Y, X)`` or ``(Z, Y, X, C)``; pickles as its paths.

    Parameters
    ----------
    files
        One for each slice, in order.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)
        first = _decoded(self.files[0])
        self._slice_shape = first.shape
        self.shape: tuple[int, ...] = (len(self.files), *first.shape)
        self.dtype: np.dtype[np.generic] = first.dtype
        self._kept = RecentlyRead(self._read)

    def __getitem__(self, index: Any, /) -> npt.NDArray[np.generic]:
        """Read a box given by one slice or integer for each axis."""
        return np.stack([self._kept.get(number)[index[1:]] for number in range(len(self.files))[index[0]]])

    def _read(self, number: int) -> npt.NDArray[np.generic]:
        image = _decoded(self.files[number])
        if image.shape != self._slice_shape or image.dtype != self.dtype:
            raise _odd_slice(self.files[number], self.files[0])
        return image

    def __reduce__(self) -> tuple[Any, ...]:
        return SliceStack, (self.files,)


def slice_files(folder: Path) -> list[Path]:
    """Return the slices in a folder in the order of their numbers (2 before 10), hidden files left out."""
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise unreadable(folder, error) from error
    files = [entry for entry in entries if entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".")]
    return sorted(files, key=lambda file: _natural(file.name))


def open_file(path: Path, request: Request) -> Volume:
    """Open a single PNG image, a volume of one slice.

    Raises
    ------
    VolumeError
        If it is damaged, or has another name.
    """
    if path.suffix.lower() != ".png":
        raise VolumeError(path, "is a PNG image under another name", "let its name end in .png")
    return open_files(path, [path], request)


def open_files(folder: Path, files: Sequence[Path], request: Request) -> Volume:
    """Open the slices of a folder; the header of each is looked at.

    Raises
    ------
    VolumeError
        If a slice differs from the first in size or type (the message names it), is damaged, or is a stack.

    Warns
    -----
    MissingSliceWarning
        If a number is missing.
    """
    kinds = {SUFFIXES[file.suffix.lower()] for file in files}
    if len(kinds) > 1:
        raise VolumeError(folder, "holds both PNG and TIFF files", "keep the slices of one image in one folder")
    expected = _header(files[0])
    for file in files[1:]:
        if _header(file) != expected:
            raise _odd_slice(file, files[0])
    _warn_of_gaps(folder, files)
    stack = SliceStack(files)
    letters = "zyxc"[: len(stack.shape)]
    view = view_as_zyx(request.source, letters, stack.shape, request.channel)
    return assemble(request, f"{kinds.pop()} slices", [Level(ViewedArray(stack, view, request.source))])


def _header(file: Path) -> object:
    """Return what tells the size and type of a slice, without decoding it."""
    try:
        if SUFFIXES[file.suffix.lower()] == "PNG":
            with file.open("rb") as opened:
                header = opened.read(PNG_HEADER.stop)[PNG_HEADER]
            if len(header) < PNG_HEADER.stop - PNG_HEADER.start:
                raise ValueError("the file ends within its header")
            return header
        with tifffile.TiffFile(file) as tiff:
            if len(tiff.pages) != 1:
                raise VolumeError(
                    file,
                    f"holds {len(tiff.pages)} pages where one slice is expected",
                    "give this file by itself",
                )
            return tiff.pages[0].shape, tiff.pages[0].dtype
    except VolumeError:
        raise
    except Exception as error:  # see tiff.open_file
        raise unreadable(file, error) from error


def _decoded(file: Path) -> npt.NDArray[np.generic]:
    try:
        if SUFFIXES[file.suffix.lower()] == "PNG":
            return np.asarray(imagecodecs.png_decode(file.read_bytes()))
        return np.asarray(tifffile.imread(file))
    except Exception as error:  # see tiff.open_file
        raise unreadable(file, error) from error


def _odd_slice(file: Path, first: Path) -> VolumeError:
    return VolumeError(
        file,
        f"differs in size or type from the first slice, {first.name}",
        "bring all slices to one size and type, or move it out of the folder",
    )


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts the numbers in a name by value."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name.lower())]


def _warn_of_gaps(folder: Path, files: Sequence[Path]) -> None:
    """Warn where the last number in the names goes up by more than its usual step."""
    numbers = [[int(n) for n in re.findall(r"\d+", file.stem)] for file in files]
    if len(files) < 3 or not all(numbers):
        return
    steps = np.diff([n[-1] for n in numbers])
    usual = int(np.min(steps))
    odd = np.flatnonzero(steps != usual)
    if usual > 0 and odd.size:
        warnings.warn(
            f"{folder}: {odd.size} gaps in the numbers of the slices, the first after "
            f"{files[int(odd[0])].name}; the slices on both sides are taken as neighbours",
            MissingSliceWarning,
            stacklevel=2,
        )
