"""Where masks allow anchors in the tiles of a pool: one byte a voxel, from which any of them is picked at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class AllowedVoxels:
    """The allowed voxels of each tile in a pool, by rank in C order.

    A rank is looked up in the counts of all rows along x, added up, and then in its row: a list of places would take
    eight times the memory.

    Parameters
    ----------
    slots
        Tiles in the pool.
    shape
        Voxels of the largest tile along z, y, x.
    device
        Where they lie.
    """

    def __init__(self, slots: int, shape: Sequence[int], device: torch.device) -> None:
        self._inside = torch.zeros((slots, *shape), dtype=torch.bool, device=device)
        self._in_row = torch.zeros((slots, *shape[:2]), dtype=torch.int64, device=device)
        self._up_to_row = self._in_row.flatten()

    def put(self, slot: int, inside: npt.NDArray[np.bool_] | None) -> None:
        """Hold the allowed voxels of a tile ``(Z, Y, X)``, none where it has no mask; then `count` them all."""
        self._inside[slot] = False
        if inside is not None:
            z, y, x = inside.shape
            self._inside[slot, :z, :y, :x] = torch.from_numpy(inside)
        self._in_row[slot] = self._inside[slot].sum(-1)

    def count(self) -> None:
        """Add up the rows of all tiles."""
        self._up_to_row = self._in_row.flatten().cumsum(0)

    def pick(self, slot: Tensor, share: Tensor) -> Tensor:
        """Return the allowed voxels at given shares of the way through those of their tiles.

        Parameters
        ----------
        slot
            Of each tile, ``(B,)``; one without allowed voxels gives any place.
        share
            From 0 to 1, ``(B,)``: uniform shares give each voxel the same chance.

        Returns
        -------
        Tensor, (B, 3), int64
            z, y, x in the tile.
        """
        _, depth, height, width = self._inside.shape
        held = self._in_row.flatten(1).sum(1)[slot]
        before = self._up_to_row[slot * (depth * height) + depth * height - 1] - held
        rank = before + (share.double() * held).long().minimum(held - 1)  # through the whole pool
        row = torch.searchsorted(self._up_to_row, rank, right=True)
        rank_in_row = rank - self._up_to_row[row] + self._in_row.flatten()[row]
        x = (self._inside.view(-1, width)[row].cumsum(1) <= rank_in_row[:, None]).sum(1)
        return torch.stack((row // height % depth, row % height, x), -1)
