"""What a run is made from: volumes and reference segmentations, as the user names them and opened."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vemosaic.evaluation import Reference, open_reference
from vemosaic.volumes import at_voxel_size, open_volume
from vemosaic.volumes.volume import Shape, Slices, Volume

ISOTROPY = 1.5  # longest to shortest edge of a voxel, from which on users are told


class AnisotropyWarning(UserWarning):
    """Voxels that are far from cubes even at the working voxel size."""


@dataclass(frozen=True)
class Input:
    """How the user named a volume: its path and what the file does not say."""

    source: str
    voxel_size: tuple[float, ...] | None = None
    channel: int | None = None
    mask: str | None = None
    missing_chunks: str = "error"


@dataclass(frozen=True)
class ReferenceInput:
    """How the user named a reference segmentation: its files, and what its classes are renamed or merged to."""

    specs: tuple[str, ...]
    merge: Mapping[str, str] = field(default_factory=dict)

    def open(self, volume: OpenedInput) -> Reference:
        """Open it on the working lattice of a volume."""
        return open_reference(self.specs, volume.working, source=volume.volume).merge(self.merge)


@dataclass(frozen=True)
class OpenedInput:
    """A volume at its own resolution, on the working lattice, and the mask on that lattice."""

    request: Input
    volume: Volume
    working: Volume
    mask: Volume | None

    def describe(self) -> dict[str, Any]:
        """What ``run.json`` keeps of it."""
        return {
            "source": self.request.source,
            "given": {name: value for name, value in asdict(self.request).items() if name != "source"},
            "identity": self.working.identity(),
            "mask_identity": self.mask.identity() if self.mask else None,
            "format": self.volume.format,
            "dtype": str(self.volume.dtype),
            "shape": list(self.volume.shape),
            "voxel_size": list(self.volume.known_voxel_size()),
            "translation": list(self.volume.translation),
            "working": {
                "shape": list(self.working.shape),
                "voxel_size": list(self.working.known_voxel_size()),
                "translation": list(self.working.translation),
            },
        }  # fmt: skip


def open_input(request: Input, working_voxel_size: float | None) -> OpenedInput:
    """Open a volume and its mask on the working lattice.

    Raises
    ------
    VolumeError
        If it cannot be read, is too small, or its voxel size is not known.

    Warns
    -----
    AnisotropyWarning
        Where voxels are not cubes at the working voxel size.
    """
    volume = open_volume(
        request.source,
        voxel_size=request.voxel_size,
        channel=request.channel,
        missing_chunks=request.missing_chunks,
    )
    working = at_voxel_size(volume, working_voxel_size)
    size = working.known_voxel_size()
    if max(size) > ISOTROPY * min(size):
        warnings.warn(
            f"{request.source}: voxels are {' x '.join(f'{s:.3g}' for s in size)} nm (z, y, x) and not cubes; the map "
            "can be made, but textures are compared in all directions as if they were, and it will be less sure",
            AnisotropyWarning,
            stacklevel=2,
        )
    mask = None
    if request.mask is not None:
        inside = open_reference([f"mask={request.mask}"], working, source=volume)
        mask = Volume(_ReferenceArray(inside), working.voxel_size, working.translation, request.mask, "mask")
    return OpenedInput(request, volume, working, mask)


@dataclass(frozen=True)
class _ReferenceArray:
    """A reference segmentation as a lazy array."""

    reference: Reference
    dtype: np.dtype[np.generic] = field(default=np.dtype(np.uint8))

    @property
    def shape(self) -> Shape:
        return self.reference.shape

    def __getitem__(self, box: Slices) -> npt.NDArray[np.generic]:
        return self.reference.read([b.start for b in box], [b.stop - b.start for b in box])
