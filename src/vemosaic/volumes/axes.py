"""Axes: how a stored array of any order and rank is seen as (Z, Y, X)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from vemosaic.errors import VolumeError

T = TypeVar("T")


@dataclass(frozen=True)
class AxisView:
    """Which stored axes are z, y and x, and where the others are held.

    Attributes
    ----------
    order
        Positions of z, y and x among the stored axes; of z None where the image is a single slice without that axis.
    held
        For each stored axis that is not in space: its position and the index it is held at.
    """

    order: tuple[int | None, int, int]
    held: tuple[tuple[int, int], ...] = ()

    def index(self, box: Sequence[slice]) -> tuple[slice | int, ...]:
        """Return the index into the stored array for a ``(z, y, x)`` box."""
        at = dict(zip(self.order, box, strict=True))
        held = dict(self.held)
        return tuple(at[i] if i in at else held[i] for i in range(len(self._stored) + len(held)))

    def as_zyx(self, voxels: npt.NDArray[Any], dtype: np.dtype[np.generic]) -> npt.NDArray[np.generic]:
        """Turn what was read at `index` into ``(Z, Y, X)``, contiguous."""
        stored = self._stored
        turned = voxels.transpose([sorted(stored).index(i) for i in stored])
        return np.ascontiguousarray(turned if self.order[0] is not None else turned[None], dtype=dtype)

    def zyx(self, stored: Sequence[T], absent: T | None = None) -> tuple[T, T, T]:
        """Pick what belongs to z, y and x from a sequence with one entry for each stored axis.

        Where there is no z axis, `absent` stands for it, or what belongs to y.
        """
        z, y, x = self.order
        if z is None:
            return stored[y] if absent is None else absent, stored[y], stored[x]
        return stored[z], stored[y], stored[x]

    @property
    def _stored(self) -> list[int]:
        """Positions of the axes in space that are stored, in the order z, y, x."""
        return [i for i in self.order if i is not None]


def view_as_zyx(source: str, letters: Sequence[str], shape: Sequence[int], channel: int | None) -> AxisView:
    """Decide how a stored array becomes a volume.

    Parameters
    ----------
    source
        For messages.
    letters
        One for each stored axis: ``z``, ``y``, ``x``, ``c`` (channel), ``t`` (time), or anything else where
        the file does not say what the axis is.
    shape
        Length of each stored axis.
    channel
        Which channel the user wants, counted from 0.

    Raises
    ------
    VolumeError
        For an image without y and x, several channels and none chosen, several time points, or an axis of
        unknown meaning that is longer than one.
    """
    for letter, length in zip(letters, shape, strict=True):
        if letter == "t" and length > 1:
            raise VolumeError(
                source,
                f"is a series of {length} time points ({_sizes(letters, shape)})",
                "save one time point by itself; if these are slices, store the axis as z "
                "(in Fiji: Image > Properties, exchange frames and slices)",
            )
    spatial = {letter for letter in letters if letter in "zyx"}
    if not {"y", "x"} <= spatial:
        raise VolumeError(
            source,
            f"has {len(spatial)} axes in space ({_sizes(letters, shape)}), and an image has at least y and x",
            "give an image or a stack, for example a folder that holds its slices as numbered files",
        )
    held = []
    for position, (letter, length) in enumerate(zip(letters, shape, strict=True)):
        if letter in "zyx":
            continue
        index = _channel_index(source, length, channel) if letter == "c" else 0
        if letter not in "ct" and length > 1:
            raise VolumeError(
                source,
                f"has {len(shape)} axes ({_sizes(letters, shape)}), and none of them is named as the channel",
                "save one 3-D image, or store it as OME-Zarr or OME-TIFF, which name their axes",
            )
        held.append((position, index))
    if channel and "c" not in letters:
        raise VolumeError(source, f"has no channel axis, and channel {channel} was asked for", "leave it out")
    y, x = (list(letters).index(letter) for letter in "yx")
    z = list(letters).index("z") if "z" in spatial else None
    return AxisView((z, y, x), tuple(held))


def _channel_index(source: str, length: int, channel: int | None) -> int:
    if channel is None and length > 1:
        raise VolumeError(source, f"has {length} channels", f"choose one with --channel 0 to {length - 1}")
    index = channel or 0
    if not 0 <= index < max(1, length):
        raise VolumeError(
            source, f"has no channel {index}, only {length}", f"choose --channel 0 to {max(0, length - 1)}"
        )
    return index


def _sizes(letters: Sequence[str], shape: Sequence[int]) -> str:
    return ", ".join(f"{letter} {length}" for letter, length in zip(letters, shape, strict=True))
