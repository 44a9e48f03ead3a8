"""Axes: how a stored array of any order and rank is seen as (Z, Y, X)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from vemosaic.errors import VolumeError

T = TypeVar("T")


@dataclass(frozen=True)
class AxisView:
    """Which stored axes are z, y and x, and where the others are held.

    Attributes
    ----------
    order
        Positions of z, y and x among the stored axes.
    held
        For each stored axis that is not in space: its position and the index it is held at.
    """

    order: tuple[int, int, int]
    held: tuple[tuple[int, int], ...] = ()

    def index(self, box: Sequence[slice]) -> tuple[slice | int, ...]:
        """Return the index into the stored array for a ``(z, y, x)`` box."""
        at = dict(zip(self.order, box, strict=True))
        held = dict(self.held)
        return tuple(at[i] if i in at else held[i] for i in range(len(self.order) + len(held)))

    def permutation(self) -> tuple[int, int, int]:
        """Return the axes to pass to ``transpose`` once the held ones are gone."""
        z, y, x = (sorted(self.order).index(i) for i in self.order)
        return z, y, x

    def zyx(self, stored: Sequence[T]) -> tuple[T, T, T]:
        """Pick what belongs to z, y and x from a sequence with one entry for each stored axis."""
        z, y, x = self.order
        return stored[z], stored[y], stored[x]


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
        For an image of two dimensions, several channels and none chosen, several time points, or an axis of
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
    spatial = [letter for letter in letters if letter in "zyx"]
    if len(set(spatial)) < 3:
        raise VolumeError(
            source,
            f"has {len(set(spatial))} axes in space ({_sizes(letters, shape)}); images of fewer than three "
            "dimensions are not supported yet",
            "give a stack, for example a folder that holds its slices as numbered files",
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
    z, y, x = (list(letters).index(letter) for letter in "zyx")
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
