"""Table 1 of Han et al. 2022 (CVPR Workshops), typed in: what the table of a reproduction is put beside."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One column of the paper's table: mean Dice of four classes on BetaSeg.

    Attributes
    ----------
    label
        The paper's own heading.
    folds
        For each k, mean and standard deviation over three folds.
    test
        For each k, on cell 4.
    """

    label: str
    folds: dict[int, tuple[float, float]]
    test: dict[int, float]


SOURCE = "Han, Dmitrieva, Sauer, Tam and Rittscher, CVPR Workshops 2022, Table 1"

KS = (4, 5, 6, 7, 8, 9, 10)

CIHS = Published(
    "CIHS (10M/stack)",
    dict(zip(KS, (
        (0.363, 0.021), (0.336, 0.060), (0.317, 0.018), (0.324, 0.065), (0.334, 0.019), (0.318, 0.035), (0.305, 0.037),
    ), strict=True)),
    dict(zip(KS, (0.308, 0.243, 0.291, 0.432, 0.291, 0.342, 0.337), strict=True)),
)  # fmt: skip
OURS_2M = Published(
    "Ours (2M/stack)",
    dict(zip(KS, (
        (0.475, 0.016), (0.590, 0.067), (0.579, 0.080), (0.606, 0.054), (0.556, 0.066), (0.564, 0.028), (0.525, 0.030),
    ), strict=True)),
    dict(zip(KS, (0.625, 0.659, 0.647, 0.643, 0.560, 0.578, 0.567), strict=True)),
)  # fmt: skip
OURS_3M = Published(
    "Ours (3M/stack)",
    dict(zip(KS, (
        (0.471, 0.022), (0.593, 0.040), (0.673, 0.003), (0.579, 0.049), (0.534, 0.072), (0.593, 0.017), (0.612, 0.019),
    ), strict=True)),
    dict(zip(KS, (0.664, 0.623, 0.658, 0.648, 0.632, 0.574, 0.542), strict=True)),
)  # fmt: skip

TABLE_1 = (CIHS, OURS_2M, OURS_3M)
"""The columns as printed, from left to right."""
