"""Two maps of the same volume: which clusters are the same, and how far the maps agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vemosaic.evaluation.scores import confusion, dice_matrix, hungarian_matching


@dataclass(frozen=True)
class Matching:
    """Which cluster of another map each cluster is.

    Attributes
    ----------
    other
        For clusters 1 to k the number of the other map's cluster that each is matched with, one to one, ``(k,)``.
    dice
        Their Dice coefficients, ``(k,)``; 0 where two share nothing, and are matched since they are left over.
    share
        Which part of the voxels each cluster has, ``(k,)``.
    agreement
        Normalised mutual information of the two maps: 1 for the same map, however it is numbered, 0 for maps that have
        nothing to do with each other.
    """

    other: npt.NDArray[np.int64]
    dice: npt.NDArray[np.float64]
    share: npt.NDArray[np.float64]
    agreement: float

    def to_json(self) -> dict[str, Any]:
        """Return numbers to write down, rounded: ``k``, ``agreement``, ``mean_dice`` and ``clusters``."""
        rows = zip(self.other.tolist(), self.dice.tolist(), self.share.tolist(), strict=True)
        return {
            "k": len(self.other),
            "agreement": round(self.agreement, 3),
            "mean_dice": round(float(self.dice.mean()), 3),
            "clusters": [
                {"cluster": number, "other": other, "dice": round(dice, 3), "share": round(share, 4)}
                for number, (other, dice, share) in enumerate(rows, start=1)
            ],
        }


def match_clusters(labels: npt.NDArray[np.uint8], others: npt.NDArray[np.uint8], k: int) -> Matching:
    """Match the clusters of two maps one to one, so that the sum of their Dice coefficients is largest.

    Parameters
    ----------
    labels, others
        The clusters of the same voxels in both, ``(N,)``, 1 to k; voxels that are 0 in one of them are left out.
    k
        How many clusters both have.

    Raises
    ------
    ValueError
        If shapes differ, or a label is larger than k.
    """
    from sklearn.metrics import normalized_mutual_info_score

    both = (labels > 0) & (others > 0)
    table = confusion(labels[both], others[both], k, k + 1)[:, 1:]
    dice = dice_matrix(table)
    other = np.empty(k, np.int64)
    for row, column in hungarian_matching(dice):
        other[row] = column
    return Matching(
        other=other + 1,
        dice=dice[np.arange(k), other],
        share=table.sum(1) / max(1, table.sum()),
        agreement=float(normalized_mutual_info_score(labels[both], others[both], average_method="geometric")),
    )
