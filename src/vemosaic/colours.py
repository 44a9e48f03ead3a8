"""The colours of clusters and classes: told apart by colour-blind readers, and never lost on grey EM."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Colour = tuple[int, int, int]
MOST = 255

# Okabe and Ito's set without its black, the most different ones first.
_OKABE_ITO: tuple[Colour, ...] = (
    (0, 114, 178),  # blue
    (230, 159, 0),  # orange
    (0, 158, 115),  # bluish green
    (204, 121, 167),  # reddish purple
    (86, 180, 233),  # sky blue
    (213, 94, 0),  # vermilion
    (240, 228, 66),  # yellow
)

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB: protanopia, deuteranopia.
_DEFICIENCIES = np.array(
    [
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ]
)


def palette(k: int) -> list[Colour]:
    """Return k different colours.

    The first seven are Okabe and Ito's; each further one lies as far as can be from all before it, in OKLab, to
    the normal eye and to the two common kinds of red-green blindness, whichever sees the least difference. All
    are saturated and neither near black nor near white, so that they stand out on a grey image and on a page
    of either scheme. ``palette(k)`` begins as ``palette(k - 1)``.

    Parameters
    ----------
    k
        How many, 1 to 255.

    Returns
    -------
    list of (red, green, blue), each 0 to 255

    Raises
    ------
    ValueError
        If k is out of range.

    References
    ----------
    Okabe and Ito, "Color Universal Design", 2008. Machado et al., IEEE TVCG 15, 2009.
    doi:10.1109/TVCG.2009.113
    """
    if not 1 <= k <= MOST:
        raise ValueError(f"there are 1 to {MOST} colours, not {k}")
    return list(_all_colours()[:k])


@lru_cache(maxsize=1)
def _all_colours() -> tuple[Colour, ...]:
    """Return all colours, chosen one after the other by the farthest-point rule."""
    steps = np.arange(0, 256, 15)
    candidates = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _oklab(_linear(candidates))
    usable = (np.hypot(lab[:, 1], lab[:, 2]) > 0.09) & (lab[:, 0] > 0.45) & (lab[:, 0] < 0.9)
    candidates = candidates[usable]

    points = _as_seen(candidates)
    chosen = list(_OKABE_ITO)
    nearest = np.min([_difference(points, _as_seen(np.array([c]))) for c in chosen], axis=0)
    while len(chosen) < MOST:
        best = int(nearest.argmax())
        red, green, blue = candidates[best].tolist()
        chosen.append((red, green, blue))
        nearest = np.minimum(nearest, _difference(points, points[:, best : best + 1]))
    return tuple(chosen)


def _linear(rgb: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Turn sRGB bytes (N, 3) into linear light."""
    v = rgb / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def _as_seen(rgb: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Return the OKLab places (3, N, 3) of colours (N, 3) to a normal, a protanopic and a deuteranopic eye."""
    light = _linear(rgb)
    eyes = [light] + [np.clip(light @ matrix.T, 0, 1) for matrix in _DEFICIENCIES]
    return np.stack([_oklab(eye) for eye in eyes])


def _difference(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the difference (N,) of colours as the eye that tells least sees it; a: (3, N, 3), b: (3, 1, 3).

    Most readers see normally, so the normal eye is asked for twice the difference.
    """
    distances = np.linalg.norm(a - b, axis=-1)
    distances[0] *= 0.5
    nearest: npt.NDArray[np.float64] = distances.min(axis=0)
    return nearest


def _oklab(light: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Turn linear RGB (N, 3) into OKLab (Ottosson 2020)."""
    to_cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    lab: npt.NDArray[np.float64] = np.cbrt(light @ to_cones.T) @ to_lab.T
    return lab
