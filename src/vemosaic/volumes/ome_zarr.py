"""OME-Zarr images, 0.4 and 0.5 (and the drafts before): axes, units and transformations to levels in nm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vemosaic.errors import VolumeError
from vemosaic.volumes.axes import AxisView, view_as_zyx
from vemosaic.volumes.geometry import Level, Placement, Request, assemble
from vemosaic.volumes.stores import ChunkedArray, Store
from vemosaic.volumes.units import nanometres
from vemosaic.volumes.volume import Triple, Volume
from vemosaic.volumes.zarr_node import ZarrNode, read_node


def multiscale_of(node: ZarrNode) -> dict[str, Any] | None:
    """Return the first multiscale image that a group declares, if it declares one."""
    images = node.ome.get("multiscales")
    if isinstance(images, list) and images and isinstance(images[0], dict):
        return images[0]
    return None


def open_image(node: ZarrNode, multiscale: dict[str, Any], request: Request, only: str | None = None) -> Volume:
    """Open a multiscale image, or one of its levels.

    Parameters
    ----------
    node
        The image's group.
    multiscale
        Its metadata.
    request
        What the user asked for.
    only
        Path of the one level to open, as written in the metadata; all levels where it is ``None``.

    Raises
    ------
    VolumeError
        If the metadata are not as OME-NGFF has them, or an array is missing.
    """
    version = node.ome.get("version") or multiscale.get("version") or ("0.5" if node.zarr_format == 3 else "0.4")
    try:
        datasets = [d for d in multiscale["datasets"] if only in (None, d["path"])]
        levels = [_level(node.store, multiscale, dataset, request) for dataset in datasets]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise VolumeError(
            request.source,
            f"has OME-Zarr metadata that do not follow the specification ({type(error).__name__}: {error})",
            "have the OME-NGFF validator show where, and correct them",
        ) from error
    if not levels:
        raise VolumeError(request.source, "declares an image without arrays", "check how it was written")
    return assemble(request, f"OME-Zarr {version}", _coarsening(levels))


def _level(group: Store, multiscale: dict[str, Any], dataset: dict[str, Any], request: Request) -> Level:
    store = group.child(dataset["path"])
    array = read_node(store)
    if array is None or not array.is_array:
        raise VolumeError(request.source, f"lacks the array {dataset['path']} that its metadata name", "copy it again")
    axes = _axes(multiscale, array)
    letters = _letters(axes)
    if len(letters) != len(array.shape):
        raise ValueError(f"{len(letters)} axes for an array of {len(array.shape)} dimensions")
    view = view_as_zyx(request.source, letters, array.shape, request.channel)
    scale, translation = np.ones(len(axes)), np.zeros(len(axes))
    transformed = False
    for transformation in [
        *dataset.get("coordinateTransformations", ()),
        *multiscale.get("coordinateTransformations", ()),
    ]:
        if transformation["type"] == "scale":
            factor = np.asarray(transformation["scale"], dtype=float)
            scale, translation = scale * factor, translation * factor
            transformed = True
        elif transformation["type"] == "translation":
            translation = translation + np.asarray(transformation["translation"], dtype=float)
        elif transformation["type"] != "identity":
            raise ValueError(f"a transformation of type {transformation['type']!r}")
    placement = _placement(view, axes, scale, translation) if transformed else Placement()
    return Level(ChunkedArray(array.driver, store, view, request), placement)


def _axes(multiscale: dict[str, Any], array: ZarrNode) -> list[dict[str, Any]]:
    """Return the axes as objects; 0.3 has bare names, and before it they were always t, c, z, y, x."""
    stated = multiscale.get("axes") or list("tczyx"[-len(array.shape) :])
    return [{"name": axis} if isinstance(axis, str) else axis for axis in stated]


def _letters(axes: Sequence[dict[str, Any]]) -> list[str]:
    """Return one letter an axis, from its type, or its name where it has no type."""
    letters = []
    for axis in axes:
        name, kind = str(axis["name"]).lower(), axis.get("type")
        if kind == "space" or (kind is None and name in ("z", "y", "x")):
            letters.append(name if name in ("z", "y", "x") else "s")
        elif kind in ("time", "channel"):
            letters.append(kind[0])
        else:
            letters.append(name if name in ("t", "c") else "?")
    spatial = [i for i, letter in enumerate(letters) if letter in "zyxs"]
    if len(spatial) == 3 and {letters[i] for i in spatial} != {"z", "y", "x"}:
        for i, letter in zip(spatial, "zyx", strict=True):  # named otherwise: in the order of the specification
            letters[i] = letter
    return letters


def _placement(
    view: AxisView,
    axes: Sequence[dict[str, Any]],
    scale: np.typing.NDArray[np.float64],
    translation: np.typing.NDArray[np.float64],
) -> Placement:
    units = [nanometres(axis.get("unit")) for axis in view.zyx(axes)]
    size = _triple(view.zyx(scale.tolist()))
    place = _triple(view.zyx(translation.tolist(), absent=0.0))
    if not all(np.isfinite(s) and s > 0 for s in size):
        raise ValueError(f"a scale of {size} (z, y, x)")
    if None in units:
        return Placement(size, place, in_nm=False)
    in_nm = [unit for unit in units if unit is not None]
    return Placement(
        _triple([s * u for s, u in zip(size, in_nm, strict=True)]),
        _triple([t * u for t, u in zip(place, in_nm, strict=True)]),
    )


def _coarsening(levels: list[Level]) -> list[Level]:
    """Order the levels from fine to coarse; files have them so, but nothing makes them."""
    if any(level.placement.scale is None for level in levels):
        return levels
    return sorted(levels, key=lambda level: float(np.prod(level.placement.scale or (0.0,))))


def _triple(values: Sequence[float]) -> Triple:
    z, y, x = values
    return float(z), float(y), float(x)
