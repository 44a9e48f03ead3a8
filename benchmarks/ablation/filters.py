"""Hand-made features: what the learned embedding must beat."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ablation.cells import Vectors, grown, reach, scale_of, smoothed
from vemosaic.blocks.grid import Unit
from vemosaic.volumes.anisotropy import CUBIC
from vemosaic.volumes.intensity import measure_intensity
from vemosaic.volumes.volume import Triple, Volume, mirrored

INTEGRATION = 2.0
"""Scale at which the structure tensor is smoothed, over the scale of its derivatives."""

Field = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Intensity:
    """Raw intensity, smoothed by a Gaussian; one channel.

    Attributes
    ----------
    sigma
        Of the Gaussian, in shortest edges of a voxel.
    """

    sigma: float = 2.0
    seeded = False
    standardise = False

    def about(self) -> dict[str, Any]:
        """What decides the result, ready for JSON."""
        return {"kind": "intensity", "sigma": self.sigma}

    def describe(self, volume: Volume, boxes: Sequence[Unit], seed: int) -> Iterator[Vectors]:
        """Yield ``(Z, Y, X, 1)`` for each box."""
        scale, intensity = scale_of(volume), measure_intensity(volume)
        for box in boxes:
            wider = grown(box, reach(self.sigma, scale))
            voxels = intensity.normalise(volume.read(wider.origin, wider.shape))
            yield smoothed(voxels[..., None], self.sigma, scale)


@dataclass(frozen=True)
class Patches:
    """Principal components of raw patches, not whitened.

    Attributes
    ----------
    edge
        Of a patch along the axes of the shortest voxel edge, in voxels; along others the same length in nm.
    components
        Channels.
    """

    edge: int = 9
    components: int = 8
    seeded = False
    standardise = False

    def about(self) -> dict[str, Any]:
        """What decides the result, ready for JSON."""
        return {"kind": "patches", "edge": self.edge, "components": self.components}

    def describe(self, volume: Volume, boxes: Sequence[Unit], seed: int) -> Iterator[Vectors]:
        """Yield ``(Z, Y, X, C)`` for each box."""
        import torch
        from torch.nn import functional as F

        z, y, x = (round(self.edge // 2 * s) for s in scale_of(volume))
        kernels = torch.from_numpy(self._components(volume, (2 * z + 1, 2 * y + 1, 2 * x + 1)))[:, None]
        intensity = measure_intensity(volume)
        for box in boxes:
            wider = grown(box, (z, y, x))
            voxels = torch.from_numpy(intensity.normalise(volume.read(wider.origin, wider.shape)))
            yield F.conv3d(voxels[None, None], kernels)[0].permute(1, 2, 3, 0).contiguous().numpy()

    def _components(self, volume: Volume, shape: tuple[int, int, int], count: int = 20_000) -> Field:
        """Return the principal components of `count` random patches, ``(C, Z, Y, X)``."""
        from sklearn.decomposition import PCA

        rng = np.random.default_rng(0)
        voxels = measure_intensity(volume).normalise(volume.read((0, 0, 0), volume.shape))
        patches = np.lib.stride_tricks.sliding_window_view(voxels, shape)
        places = tuple(rng.integers(0, n, count) for n in patches.shape[:3])
        pca = PCA(self.components, svd_solver="covariance_eigh").fit(patches[places].reshape(count, -1))
        return np.asarray(pca.components_.reshape(-1, *shape), np.float32)


@dataclass(frozen=True)
class FilterBank:
    """The filters that pixel classifiers such as ilastik offer, at several scales; channels have unit variance.

    At each scale: Gaussian, Laplacian, gradient magnitude, eigenvalues of the Hessian and of the structure tensor.
    Derivatives are differences of what the Gaussian smoothed. The tensor's products of derivatives are smoothed at
    twice the scale: at half of it this baseline was the weaker one on EPFL, with words by 0.1 and more. Where voxels
    are not cubes, filters lie in the plane of the shortest edges.

    Attributes
    ----------
    scales
        Standard deviations of the Gaussians, in shortest edges of a voxel; ilastik's but the least and the largest.

    References
    ----------
    Berg et al., Nature Methods 16, 2019. doi:10.1038/s41592-019-0582-9
    """

    scales: tuple[float, ...] = (0.7, 1.0, 1.6, 3.5, 5.0)
    seeded = False
    standardise = True

    def about(self) -> dict[str, Any]:
        """What decides the result, ready for JSON."""
        return {"kind": "filterbank", "scales": list(self.scales), "integration": INTEGRATION}

    def describe(self, volume: Volume, boxes: Sequence[Unit], seed: int) -> Iterator[Vectors]:
        """Yield ``(Z, Y, X, C)`` for each box; filters run once over the whole volume, one scale at a time."""
        voxels = measure_intensity(volume).normalise(volume.read((0, 0, 0), volume.shape))
        axes = plane_of(scale_of(volume))
        each = 3 + 2 * len(axes)
        results = [np.empty((*box.shape, each * len(self.scales)), np.float32) for box in boxes]
        for number, sigma in enumerate(self.scales):
            cuts = [[_cut(field, box) for box in boxes] for field in _derivatives(voxels, sigma, axes)]
            for result, derivatives in zip(results, zip(*cuts, strict=True), strict=True):
                for place, channel in enumerate(_channels(derivatives, len(axes)), start=each * number):
                    result[..., place] = channel
        yield from results


def plane_of(scale: Triple) -> list[int]:
    """Axes along which voxels are about as short as along the shortest."""
    return [axis for axis, factor in enumerate(scale) if factor * CUBIC >= 1]


def eigenvalues(entries: Sequence[Field]) -> list[Field]:
    """Eigenvalues of symmetric matrices, the largest first, in closed form.

    Parameters
    ----------
    entries
        Those on and above the diagonal, row by row: three of a 2 x 2 matrix, six of a 3 x 3 one; any shape.

    References
    ----------
    Smith, Communications of the ACM 4(4), 1961. doi:10.1145/355578.366316
    """
    if len(entries) == 3:
        a, b, d = entries
        middle, half = (a + d) / 2, np.hypot((a - d) / 2, b)
        return [middle + half, middle - half]
    a, b, c, d, e, f = entries  # [[a, b, c], [b, d, e], [c, e, f]]
    mean = (a + d + f) / 3
    a, d, f = a - mean, d - mean, f - mean
    p = np.sqrt((a * a + d * d + f * f + 2 * (b * b + c * c + e * e)) / 6)
    determinant = a * (d * f - e * e) - b * (b * f - c * e) + c * (b * e - c * d)
    safe = np.where(p > 0, p, 1)
    angle = np.arccos(np.clip(determinant / (2 * safe * safe * safe), -1, 1)) / 3
    largest, least = 2 * p * np.cos(angle), 2 * p * np.cos(angle + 2 * math.pi / 3)
    return [mean + largest, mean - largest - least, mean + least]


def _channels(derivatives: Sequence[Field], dimensions: int) -> list[Field]:
    """Turn what `_derivatives` gave for one box into the channels of one scale."""
    smooth, first, others = derivatives[0], derivatives[1 : 1 + dimensions], derivatives[1 + dimensions :]
    hessian = eigenvalues(others[: len(others) // 2])
    tensor = eigenvalues(others[len(others) // 2 :])
    laplacian = np.sum(hessian, axis=0)
    steepness = np.sqrt(np.sum(np.square(first), axis=0))
    return [smooth, laplacian, steepness, *hessian, *tensor]


def _derivatives(voxels: Field, sigma: float, axes: Sequence[int]) -> Iterator[Field]:
    """Yield the smoothed volume, its gradient, and above the diagonals its Hessian and its structure tensor."""
    blurred = partial(ndimage.gaussian_filter, axes=tuple(axes), mode="mirror", truncate=3.0)
    differences = partial(ndimage.correlate1d, mode="mirror")
    smooth = blurred(voxels, sigma)
    yield smooth
    gradient = {axis: differences(smooth, [-0.5, 0, 0.5], axis) for axis in axes}
    yield from gradient.values()
    pairs = list(combinations_with_replacement(axes, 2))
    for i, j in pairs:
        yield differences(smooth, [1, -2, 1], i) if i == j else differences(gradient[i], [-0.5, 0, 0.5], j)
    for i, j in pairs:
        yield blurred(gradient[i] * gradient[j], INTEGRATION * sigma)


def _cut(field: Field, box: Unit) -> Field:
    """Cut a box, mirrored where it reaches outside."""
    index = [mirrored(np.arange(o, o + n), m) for o, n, m in zip(box.origin, box.shape, field.shape, strict=True)]
    return field[np.ix_(*index)]
