"""Attributes by which tools other than OME state a voxel size, in Zarr, N5 and HDF5 alike."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from vemosaic.volumes.geometry import ORIGIN, Placement, VoxelSizeWarning
from vemosaic.volumes.units import nanometres
from vemosaic.volumes.volume import Triple


def from_transform(transform: object) -> Placement | None:
    """Read the ``transform`` of COSEM and OpenOrganelle: named axes with scale, translate and units."""
    if not isinstance(transform, Mapping) or not {"axes", "scale"} <= set(transform):
        return None
    axes = [str(axis).lower() for axis in transform["axes"]]
    if not {"z", "y", "x"} <= set(axes):
        return None
    at = [axes.index(axis) for axis in "zyx"]
    scale = _picked(transform["scale"], at)
    translate = _picked(transform.get("translate") or [0.0] * len(axes), at)
    units = [nanometres(unit) for unit in _picked_units(transform.get("units"), at)]
    if None in units:
        return Placement(scale, translate, in_nm=False)
    in_nm = [unit for unit in units if unit is not None]
    return Placement(_times(scale, in_nm), _times(translate, in_nm))


def from_pixel_resolution(attributes: Mapping[str, Any]) -> Placement | None:
    """Read ``pixelResolution``, of n5-viewer and COSEM: always x, y, z, with or without a unit."""
    stated: Any = attributes.get("pixelResolution")
    unit: object = None
    if isinstance(stated, Mapping):
        stated, unit = stated.get("dimensions"), stated.get("unit")
    scale = _triple_of(stated, reverse=True)
    if scale is None:
        return None
    factor = nanometres(unit)
    if factor is None:
        return Placement(scale, in_nm=False)
    return Placement(_times(scale, [factor] * 3))


def from_resolution(source: str, attributes: Mapping[str, Any], *, reverse: bool) -> Placement | None:
    """Read ``resolution`` or ``voxel_size`` with ``units`` and ``offset``: CREMI, funlib, neuroglancer's N5.

    Parameters
    ----------
    source
        For the warning.
    attributes
        Of the array.
    reverse
        Whether the numbers stand in the order x, y, z, as in N5; otherwise z, y, x.

    Returns
    -------
    Placement or None
        Where no unit is written CREMI's and funlib's nm is taken for Zarr and HDF5, with a warning; for N5,
        where no such convention holds, the unit stays unknown.
    """
    stated = attributes.get("resolution", attributes.get("voxel_size"))
    scale = _triple_of(stated, reverse=reverse)
    if scale is None:
        return None
    offset = _triple_of(attributes.get("offset"), reverse=reverse) or ORIGIN
    units = attributes.get("units", attributes.get("unit"))
    if units is None and not reverse:
        warnings.warn(
            f"{source}: states a resolution of {' x '.join(f'{s:g}' for s in scale)} without a unit; "
            "taken as nm, as in CREMI and funlib (give --voxel-size to overrule)",
            VoxelSizeWarning,
            stacklevel=2,
        )
        units = "nm"
    named = [units] * 3 if isinstance(units, str | bytes) else list(units or [None] * 3)
    decoded = [u.decode() if isinstance(u, bytes) else u for u in (reversed(named) if reverse else named)]
    factors = [nanometres(unit) for unit in decoded]
    if len(factors) != 3 or None in factors:
        return Placement(scale, offset, in_nm=False)
    in_nm = [factor for factor in factors if factor is not None]
    return Placement(_times(scale, in_nm), _times(offset, in_nm))


def from_element_size(attributes: Mapping[str, Any]) -> Placement | None:
    """Read ``element_size_um``, of Fiji's HDF5 plug-in and PlantSeg: z, y, x in micrometres."""
    scale = _triple_of(attributes.get("element_size_um"), reverse=False)
    return None if scale is None else Placement(_times(scale, [1000.0] * 3))


def _triple_of(values: object, *, reverse: bool) -> Triple | None:
    """Return three positive numbers (offsets may have any sign) as z, y, x, or ``None``."""
    try:
        numbers = [float(v) for v in values]  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        return None
    if len(numbers) != 3:
        return None
    z, y, x = reversed(numbers) if reverse else numbers
    return z, y, x


def _picked(values: Sequence[Any], at: Sequence[int]) -> Triple:
    z, y, x = (float(values[i]) for i in at)
    return z, y, x


def _picked_units(units: object, at: Sequence[int]) -> list[object]:
    return [units[i] for i in at] if isinstance(units, Sequence) and not isinstance(units, str) else [units] * 3


def _times(values: Triple, factors: Sequence[float]) -> Triple:
    z, y, x = (v * f for v, f in zip(values, factors, strict=True))
    return z, y, x
