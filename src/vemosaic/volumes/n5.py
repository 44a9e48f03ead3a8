"""N5 through tensorstore: axes x, y, z become z, y, x; attributes of n5-viewer, COSEM, neuroglancer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vemosaic.errors import VolumeError
from vemosaic.volumes.axes import view_as_zyx
from vemosaic.volumes.containers import images_inside, refuse_container
from vemosaic.volumes.conventions import from_pixel_resolution, from_resolution, from_transform
from vemosaic.volumes.geometry import Level, Placement, Request, assemble
from vemosaic.volumes.stores import ChunkedArray, Store
from vemosaic.volumes.volume import Triple, Volume

UNIT_FACTORS: Triple = (1.0, 1.0, 1.0)


def open_folder(store: Store, attributes: dict[str, Any], request: Request) -> Volume:
    """Open an N5 array, or a group of levels.

    Parameters
    ----------
    store
        The folder.
    attributes
        Its ``attributes.json``.
    request
        What the user asked for.

    Raises
    ------
    VolumeError
        If it is a container without an image of its own; the message lists the images inside.
    """
    if "dimensions" in attributes:
        (parent, name), *_ = store.ancestors()
        group = parent.read_json("attributes.json") or {}
        return assemble(request, "N5", [_level(store, attributes, group, name, request)])
    levels = []
    for name in _level_names(attributes):
        child = store.child(name)
        array = child.read_json("attributes.json")
        if array is None or "dimensions" not in array:
            break
        levels.append(_level(child, array, attributes, name, request))
    if not levels:
        raise refuse_container(request.source, store, images_inside(store))
    return assemble(request, "N5", levels)


def _level_names(group: Mapping[str, Any]) -> list[str]:
    """Return the names that levels have: as the group lists them, else s0, s1 and on."""
    return [path for path, _ in _declared(group)] or [f"s{i}" for i in range(32)]


def _declared(group: Mapping[str, Any]) -> list[tuple[str, object]]:
    """Return paths and transforms of COSEM's ``multiscales``, whose datasets are objects or bare names."""
    images = group.get("multiscales")
    if not isinstance(images, list) or not images or not isinstance(images[0], Mapping):
        return []
    datasets = images[0].get("datasets") or ()
    return [
        (str(d["path"]), d.get("transform")) if isinstance(d, Mapping) and "path" in d else (str(d), None)
        for d in datasets
    ]


def _level(store: Store, attributes: dict[str, Any], group: Mapping[str, Any], name: str, request: Request) -> Level:
    shape = tuple(int(n) for n in attributes["dimensions"])
    view = view_as_zyx(request.source, _letters(attributes, group, len(shape)), shape, request.channel)
    try:
        placement = _placement(attributes, group, name, request)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise VolumeError(
            str(store), f"has attributes that make no sense ({error})", "correct attributes.json"
        ) from error
    return Level(ChunkedArray("n5", store, view, request), placement)


def _letters(attributes: Mapping[str, Any], group: Mapping[str, Any], rank: int) -> str:
    """Return one letter for each stored axis, which are x, y, z unless ``axes`` names them."""
    for axes in (attributes.get("axes"), group.get("axes")):
        if isinstance(axes, list) and len(axes) == rank:
            named = "".join(str(axis).lower()[:1] or "?" for axis in axes)
            if set("zyx") <= set(named):
                return named
    return "xyz"[:rank] + "?" * (rank - 3)


def _placement(attributes: Mapping[str, Any], group: Mapping[str, Any], name: str, request: Request) -> Placement:
    """Find scale and translation, the most explicit statement first."""
    own = from_transform(attributes.get("transform")) or from_transform(dict(_declared(group)).get(name))
    if own is not None:
        return own
    factors = _triple(attributes.get("downsamplingFactors"))
    for stated in (attributes, group):
        base = from_pixel_resolution(stated) or from_resolution(request.source, stated, reverse=True)
        if base is None:
            continue
        if stated is group:
            factors = factors or _listed_factors(group, name)
        return _coarsened(base, factors or UNIT_FACTORS)
    factors = factors or _listed_factors(group, name)
    return Placement() if factors is None else _coarsened(Placement(UNIT_FACTORS, in_nm=False), factors)


def _listed_factors(group: Mapping[str, Any], name: str) -> Triple | None:
    """Return a level's factors from the group's list of them, ``scales`` or ``downsamplingFactors``."""
    names = _level_names(group)
    listed = group.get("scales") or group.get("downsamplingFactors")
    if not isinstance(listed, list) or name not in names or names.index(name) >= len(listed):
        return None
    return _triple(listed[names.index(name)])


def _coarsened(base: Placement, factors: Triple) -> Placement:
    """Place a level that averages blocks of ``factors`` base voxels: its first centre moves inwards."""
    assert base.scale is not None
    scale = np.asarray(base.scale)
    z, y, x = (float(v) for v in scale * factors)
    tz, ty, tx = (float(v) for v in base.translation + scale * (np.asarray(factors) - 1) / 2)
    return Placement((z, y, x), (tz, ty, tx), base.in_nm)


def _triple(values: object) -> Triple | None:
    """Return three numbers, in z, y, x from N5's x, y, z; ``None`` for anything else."""
    if not isinstance(values, list) or len(values) != 3 or any(isinstance(v, list) for v in values):
        return None
    x, y, z = (float(v) for v in values)
    return z, y, x
