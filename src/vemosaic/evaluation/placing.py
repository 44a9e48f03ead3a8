"""Placing: where a reference lies in the space of a map, and whether the two show the same extent."""

from __future__ import annotations

import numpy as np

from vemosaic.errors import ReferenceMaskError
from vemosaic.volumes.volume import Triple, Volume


def place(reference: Volume, volume: Volume, source: Volume) -> tuple[Triple, Triple]:
    """Return the voxel size and the translation of a reference, in nm along z, y, x.

    Parameters
    ----------
    reference
        Whose voxel size may be unknown, and whose translation may be a mere 0.
    volume
        The lattice of the map.
    source
        The volume that the map was made from.

    Raises
    ------
    ReferenceMaskError
        If the voxel size is unknown and the shape is neither the source's nor the map's, or if its borders
        lie more than a voxel of the map from those of the source.
    """
    if reference.voxel_size is None:
        twin = next((v for v in (source, volume) if v.shape == reference.shape), None)
        if twin is None:
            raise ReferenceMaskError(
                reference.source,
                f"states no voxel size, and its shape {_shape(reference)} is not the {_shape(source)} "
                f"of {source.source} (z, y, x)",
                "save it with its voxel size, or in the shape of the volume",
            )
        return twin.known_voxel_size(), twin.translation
    size = np.array(reference.voxel_size)
    own_low, own_high = _corners(reference)
    low, high = _corners(source)
    tolerance = np.array(volume.known_voxel_size()) * (1 + 1e-6)
    if not any(reference.translation) and (np.abs((own_high - own_low) - (high - low)) <= tolerance).all():
        z, y, x = (low + size / 2).tolist()
        return reference.voxel_size, (z, y, x)
    if (np.abs(own_low - low) > tolerance).any() or (np.abs(own_high - high) > tolerance).any():
        raise ReferenceMaskError(
            reference.source,
            f"covers {extent(reference)} but {source.source} covers {extent(source)}",
            "give a reference of the same region, and check both voxel sizes with vemosaic info",
        )
    return reference.voxel_size, reference.translation


def _corners(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Return the outer corners of the first and the last voxel in nm, along z, y, x."""
    size = np.array(volume.known_voxel_size())
    low = np.array(volume.translation) - size / 2
    return low, low + size * volume.shape


def _shape(volume: Volume) -> str:
    return " x ".join(map(str, volume.shape))


def extent(volume: Volume) -> str:
    """Say how many voxels a volume has, of which size, and where they begin if not at the origin."""
    size = volume.known_voxel_size()
    text = f"{_shape(volume)} voxels of {' x '.join(f'{s:g}' for s in size)} nm"
    if any(volume.translation):
        text += f" from ({', '.join(f'{t:g}' for t in volume.translation)}) nm"
    return text
