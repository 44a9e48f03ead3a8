"""What a run is made from: volumes and reference segmentations, as the user names them and opened."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import numpy.typing as npt

from vemosaic.errors import VolumeError
from vemosaic.evaluation import Reference, open_reference
from vemosaic.volumes import at_voxel_size, open_volume
from vemosaic.volumes.anisotropy import CUBIC, check_extent, lies_in_slices, relative_depth
from vemosaic.volumes.intensity import padded_share
from vemosaic.volumes.padding import ImageMask, mirror_padding
from vemosaic.volumes.resampling import WorkingSize
from vemosaic.volumes.volume import Shape, Slices, Volume

if TYPE_CHECKING:
    from vemosaic.models.settings import ModelSettings


EVERYWHERE = "everywhere"
"""Instead of the path of a mask: all of the volume."""

NONZERO = "nonzero"
"""Instead of the path of a mask: all of the volume but padding."""

MUCH_PADDING = 0.05
"""Share of padding from which on it is left out where nobody says what to do: less takes no words or clusters."""


class AnisotropyWarning(UserWarning):
    """Voxels that are far from cubes even at the working voxel size, and what is made of them."""


class PaddingWarning(UserWarning):
    """Padding that is left out."""


@dataclass(frozen=True)
class Input:
    """How the user named a volume: its path and what the file does not say; and whether it was found to be padded."""

    source: str
    voxel_size: tuple[float, ...] | None = None
    channel: int | None = None
    mask: str | None = None
    missing_chunks: str = "error"
    padded: bool = False

    @classmethod
    def recorded(cls, about: Mapping[str, Any]) -> Input:
        """Take up what `OpenedInput.describe` kept of it."""
        size = about["given"]["voxel_size"]
        return cls(about["source"], **(about["given"] | {"voxel_size": None if size is None else tuple(size)}))


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

    @property
    def seen(self) -> Volume:
        """What patches see of the working volume: where it is padded, the image mirrored in the padding."""
        if not self.request.padded:
            return self.working
        return mirror_padding(self.working, self.mask if is_mask(self.request.mask) else None)

    def describe(self) -> dict[str, Any]:
        """What ``run.json`` keeps of it."""
        return {
            "source": self.request.source,
            "given": {name: value for name, value in asdict(self.request).items() if name != "source"},
            "identity": self.seen.identity(),
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


def open_input(request: Input, working_voxel_size: WorkingSize) -> OpenedInput:
    """Open a volume and its mask on the working lattice.

    Raises
    ------
    VolumeError
        If it cannot be read, is too small, or its voxel size is not known.
    """
    volume = open_volume(
        request.source,
        voxel_size=request.voxel_size,
        channel=request.channel,
        missing_chunks=request.missing_chunks,
    )
    working = at_voxel_size(volume, working_voxel_size)
    working.known_voxel_size()
    mask = None
    if request.mask == NONZERO:
        mask = image_mask(working)
    elif is_mask(request.mask):
        inside = open_reference([f"mask={request.mask}"], working, source=volume)
        mask = Volume(_ReferenceArray(inside), working.voxel_size, working.translation, request.mask, "mask")
    return OpenedInput(request, volume, working, mask)


def identities(inputs: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """What tells inputs, as `OpenedInput.describe` has them, from others."""
    return [[i["identity"], i["mask_identity"], i["working"]] for i in inputs]


def open_again(recorded: Sequence[Mapping[str, Any]], working_voxel_size: WorkingSize, run: Path) -> list[OpenedInput]:
    """Open the inputs of an earlier run, as `OpenedInput.describe` has them.

    Raises
    ------
    VolumeError
        If one is no longer there, can no longer be read, or is not the one that it was.
    """
    opened = [open_input(Input.recorded(about), working_voxel_size) for about in recorded]
    if identities([each.describe() for each in opened]) != identities(recorded):
        raise VolumeError(
            opened[0].request.source, f"is not the volume that {run} was made from", "put that one back in its place"
        )
    return opened


def is_mask(given: str | None) -> TypeGuard[str]:
    """Tell whether a mask is given, and not a word that stands for one."""
    return given not in (None, "", EVERYWHERE, NONZERO)


def image_mask(volume: Volume) -> Volume:
    """Return the mask of all but padding."""
    return Volume(ImageMask(volume), volume.voxel_size, volume.translation, volume.source, NONZERO)


def find_padding(volume: Volume, mask: Volume | str | None, to_keep: str) -> tuple[bool, Volume | None]:
    """Decide what becomes of a volume's padding.

    Parameters
    ----------
    volume
        On the working lattice.
    mask
        A mask, a word that stands for one, or None.
    to_keep
        How the user would keep the padding.

    Returns
    -------
    padded : bool
        Whether patches are to see the image mirrored in the padding: where there is much, or it was asked to be left
        out.
    mask : Volume or None
        The one given; where none is, that of all but padding if there is much.

    Warns
    -----
    PaddingWarning
        Where padding is left out by itself, with its share in the voxels looked at.
    """
    if mask == EVERYWHERE:
        return False, None
    if mask == NONZERO:
        return True, image_mask(volume)
    share = padded_share(volume)
    padded = MUCH_PADDING <= share < 1  # of nothing but zeros, what measures the intensities will say so
    if isinstance(mask, Volume):
        return padded, mask
    if not padded:
        return False, None
    warnings.warn(
        f"{volume.source}: {share:.0%} of the voxels looked at are padding (zeros); it is left out, and 0 in the map "
        f"({to_keep} maps it, too)",
        PaddingWarning,
        stacklevel=3,
    )
    return True, image_mask(volume)


def without_padding(opened: OpenedInput) -> OpenedInput:
    """Leave the padding out of a volume that has much of it, unless all was asked for: see `find_padding`."""
    given = opened.request.mask
    padded, mask = find_padding(opened.working, opened.mask if is_mask(given) else given, f"--mask {EVERYWHERE}")
    chosen = given or (NONZERO if mask else None)
    return replace(opened, request=replace(opened.request, mask=chosen, padded=padded), mask=mask)


def suited_to(inputs: Sequence[OpenedInput], model: ModelSettings) -> ModelSettings:
    """Choose between flat patches and cubes for what a model is to be trained on.

    Raises
    ------
    VolumeError
        If one volume asks for flat patches, and another one for cubes; if one has fewer voxels than a patch.

    Warns
    -----
    AnisotropyWarning
        Where voxels are not cubes at the working voxel size; it says what is made of them.
    """
    chosen = model.suited_to(*(opened.working for opened in inputs))
    for opened in inputs:
        if lies_in_slices(opened.working) != lies_in_slices(inputs[0].working) and model.shared:
            raise VolumeError(
                opened.request.source,
                f"has slices of another kind than {inputs[0].request.source}: {_voxels(opened)} against "
                f"{_voxels(inputs[0])} (z, y, x)",
                "train on volumes of one kind, or bring them to one --working-voxel-size",
            )
        check_extent(opened.working, chosen.sampling.least)
        told = _of_voxels(opened, flat=chosen.slices is not None)
        if told:
            warnings.warn(f"{opened.request.source}: {told}", AnisotropyWarning, stacklevel=2)
    return chosen


def _of_voxels(opened: OpenedInput, *, flat: bool) -> str | None:
    """Say what is made of voxels that are not cubes."""
    size, slices = opened.working.known_voxel_size(), opened.working.shape[0]
    if flat and relative_depth(opened.working) <= CUBIC:
        return f"has only {slices} slices; textures are compared within each"
    if flat and slices == 1:
        return "is a single slice; textures are compared within it"
    if flat:
        return f"voxels are {_voxels(opened)} (z, y, x) and not cubes; textures are compared within slices"
    if max(size) > CUBIC * min(size):
        return (
            f"voxels are {_voxels(opened)} (z, y, x) and not cubes; the map can be made, but textures are compared in "
            "all directions as if they were, and it will be less sure"
        )
    return None


def _voxels(opened: OpenedInput) -> str:
    return f"{' x '.join(f'{s:.3g}' for s in opened.working.known_voxel_size())} nm"


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
