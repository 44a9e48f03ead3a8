"""TIFF, OME-TIFF and ImageJ TIFF stacks: memory-mapped where uncompressed, else read page by page."""

from __future__ import annotations

import logging
import weakref
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from vemosaic.errors import VolumeError
from vemosaic.volumes.arrays import Indexable, MappedFile, RecentlyRead, ViewedArray, truncated, unreadable
from vemosaic.volumes.axes import view_as_zyx
from vemosaic.volumes.geometry import Level, Placement, Request, assemble
from vemosaic.volumes.units import nanometres
from vemosaic.volumes.volume import Volume


class TiffPages:
    """Pages of a TIFF series, decoded when asked for; the latest are kept. Pickles as its path.

    Parameters
    ----------
    path
        The file.
    number
        Which of its series.

    Raises
    ------
    VolumeError
        If a page is missing or reaches beyond the end of the file.
    """

    def __init__(self, path: Path, number: int) -> None:
        self.path, self.number = path, number
        file = tifffile.TiffFile(path)
        weakref.finalize(self, file.close)  # also where a page is found wanting below
        series = file.series[number]
        self.shape: tuple[int, ...] = series.shape
        self.dtype: np.dtype[np.generic] = np.dtype(series.dtype)
        self._pages = list(series.pages)
        for page in self._pages:
            _check_page(path, page)
        for handle in {id(page.parent): page.parent.filehandle for page in self._pages}.values():
            handle.open()  # tifffile has closed the other files of an OME set
            handle.set_lock(True)
            weakref.finalize(self, handle.close)
        rank = len(self.shape) - _stack_axes(path, series)
        self._stack_shape, self._page_shape = self.shape[:-rank], self.shape[-rank:]
        self._kept = RecentlyRead(self._decode)

    def __getitem__(self, index: Any, /) -> npt.NDArray[np.generic]:
        """Read a box given by one slice or integer for each stored axis."""
        rank = len(self._stack_shape)
        numbers = np.arange(len(self._pages)).reshape(self._stack_shape)[index[:rank]]
        pages = [self._kept.get(int(n))[index[rank:]] for n in np.ravel(numbers)]
        return np.stack(pages).reshape(*np.shape(numbers), *pages[0].shape)

    def _decode(self, number: int) -> npt.NDArray[np.generic]:
        return np.asarray(self._pages[number].asarray(maxworkers=1)).reshape(self._page_shape)

    def __reduce__(self) -> tuple[Any, ...]:
        return TiffPages, (self.path, self.number)


def _check_page(path: Path, page: Any) -> None:
    if page is None:
        raise VolumeError(path, "lacks a page that its metadata name", "copy or write it again, with all its files")
    file = Path(page.parent.filehandle.path)
    size = file.stat().st_size
    end = max((o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False)), default=0)
    if end > size:
        raise truncated(file, size, end)


def _stack_axes(path: Path, series: Any) -> int:
    """Return how many of a series' axes run over its pages; the others lie inside each page."""
    for axes in range(len(series.shape)):
        if np.prod(series.shape[:axes], dtype=int) == len(series.pages):
            return axes
    raise VolumeError(path, "has pages that do not divide its axes evenly", "save it as a plain stack")


def open_file(path: Path, request: Request) -> Volume:
    """Open a TIFF stack.

    Raises
    ------
    VolumeError
        If it is damaged, cut short, no image, or holds several.
    """
    with _Complaints() as complaints:
        try:
            with tifffile.TiffFile(path) as tiff:
                number, series = _only_stack(path, tiff)
                letters = _letters(series.axes)
                view = view_as_zyx(request.source, letters, series.shape, request.channel)
                placement = _placement(tiff, series)
                name = "OME-TIFF" if tiff.is_ome else "ImageJ TIFF" if tiff.is_imagej else "TIFF"
                stored = _stored(path, series, number)
        except Exception as error:  # tifffile raises struct.error, KeyError, zlib.error and others for broken files
            complaints.raise_for(path)
            raise error if isinstance(error, VolumeError) else unreadable(path, error) from error
    complaints.raise_for(path)
    return assemble(request, name, [Level(ViewedArray(stored, view, request.source), placement)])


def _only_stack(path: Path, tiff: tifffile.TiffFile) -> tuple[int, Any]:
    """Return the one series that has three axes, or where none has them the only series."""
    if not len(tiff.pages):
        raise VolumeError(path, "holds no pages", "copy or download it again")
    images = list(enumerate(tiff.series))
    stacks = [(i, s) for i, s in images if len(_letters(s.axes)) >= 3] or images
    if len(stacks) > 1:
        sizes = ", ".join(f"{s.axes} {'x'.join(map(str, s.shape))}" for _, s in stacks)
        raise VolumeError(path, f"holds {len(stacks)} images ({sizes})", "save the one to use as a file of its own")
    return stacks[0]


def _letters(axes: str) -> str:
    """Return tifffile's axes with an unnamed stack axis (I, Q) as z where there is none, samples as channel."""
    letters = axes.lower().replace("s", "c")
    if "z" not in letters and (unnamed := [letter for letter in "iq" if letters.count(letter) == 1]):
        letters = letters.replace(unnamed[0], "z")
    return letters


def _stored(path: Path, series: Any, number: int) -> Indexable:
    page = series.keyframe
    if series.dataoffset is not None and page.compression == 1 and page.fillorder == 1 and page.bitspersample % 8 == 0:
        dtype = np.dtype(series.dtype).newbyteorder(page.parent.byteorder)
        return MappedFile(Path(page.parent.filehandle.path), dtype, series.shape, series.dataoffset)
    return TiffPages(path, number)


def _placement(tiff: tifffile.TiffFile, series: Any) -> Placement:
    if tiff.is_ome:
        return _ome_placement(tiff.ome_metadata or "", series.name)
    if tiff.is_imagej:
        return _imagej_placement(tiff, series)
    return Placement()


def _ome_placement(xml: str, name: str) -> Placement:
    """Read PhysicalSizeX, Y, Z, whose unit is µm unless stated."""
    images = [e for e in ElementTree.fromstring(xml).iter() if e.tag.endswith("}Image") or e.tag == "Image"]
    named = [image for image in images if image.get("Name") == name] or images
    pixels = next((e for image in named[:1] for e in image.iter() if e.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return Placement()
    sizes = []
    for axis in "ZYX":
        size = pixels.get(f"PhysicalSize{axis}")
        factor = nanometres(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        sizes.append(float(size) * factor if size is not None and factor is not None else 0.0)
    z, y, x = sizes
    if pixels.get("SizeZ") == "1":
        z = z or y  # a single slice is taken to be as thick as its pixels are high
    return Placement((z, y, x)) if min(z, y, x) > 0 else Placement()


def _imagej_placement(tiff: tifffile.TiffFile, series: Any) -> Placement:
    """Read ImageJ's spacing (z) and the resolution tags (y, x: pixels for each unit).

    A single slice has no spacing; it is taken to be as thick as its pixels are high.
    """
    metadata = tiff.imagej_metadata or {}
    factor = nanometres(metadata.get("unit"))
    tags = series.keyframe.tags
    sizes = [float(metadata.get("spacing") or 0.0)]
    for tag in ("YResolution", "XResolution"):
        numerator, denominator = tags[tag].value if tag in tags else (0, 1)
        sizes.append(denominator / numerator if numerator else 0.0)
    if "z" not in _letters(series.axes):
        sizes[0] = sizes[0] or sizes[1]
    if factor is None or min(sizes) <= 0:
        return Placement()
    z, y, x = (size * factor for size in sizes)
    return Placement((z, y, x))


class _Complaints(logging.Handler):
    """Listens to tifffile, which logs broken page chains as errors and then goes on with fewer pages."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(" ".join(record.getMessage().split())[:200])

    def raise_for(self, path: Path) -> None:
        """Raise what was heard first, if anything was."""
        if self.heard:
            raise VolumeError(
                path, f"is damaged ({self.heard[0]})", "copy or download it again, or save it anew with Fiji"
            )

    def __enter__(self) -> _Complaints:
        self._logger = logging.getLogger("tifffile")
        self._logger.addHandler(self)
        self._propagate, self._logger.propagate = self._logger.propagate, False
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = self._propagate
