"""Where patches lie, and how they are deformed and recoloured: batched tensors, no loop over samples.

A patch is a grid of points (`grids`) laid into a volume and filled by trilinear interpolation. A way to draw patches
(`sampling`; `positives` is that of Han et al. 2022) lays the grids around anchors and recolours what fills them; the
anchors come from tiles of the volumes (`tiles`, `allowed`), of which a pool is in memory (`sampler`).
"""

from vemosaic.patches.contrast import FLOOR, centred, standardised
from vemosaic.patches.grids import Grids, axis_aligned, rotations
from vemosaic.patches.positives import Sampling, draw_grids, recolour
from vemosaic.patches.sampler import POOL_BYTES, Batch, PatchSampler
from vemosaic.patches.sampling import LEAST, AnySampling

__all__ = [
    "FLOOR",
    "LEAST",
    "POOL_BYTES",
    "AnySampling",
    "Batch",
    "Grids",
    "PatchSampler",
    "Sampling",
    "axis_aligned",
    "centred",
    "draw_grids",
    "recolour",
    "rotations",
    "standardised",
]
