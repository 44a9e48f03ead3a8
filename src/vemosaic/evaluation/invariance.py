"""How little a voxel's representation changes when its patch is turned, scaled or shifted: Figure 3 of the paper.

The paper shows it with lines between dots; here are the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vemosaic.evaluation.class_sample import Classes, Voxels, draw_voxels
from vemosaic.evaluation.patch_transforms import KINDS, distances, means_at, reach, sampling_of, transformed_means
from vemosaic.models.model import Model
from vemosaic.volumes.volume import Volume

WHOLE = "whole volume"
CONFIDENCE = 0.95
FEWEST = 2  # patches of a class

Array = npt.NDArray[np.float64]


def subspaces(model: Model) -> dict[str, slice]:
    """Return the dimensions that are compared: the semantic ones, and as many next to them where there are so many."""
    semantic = model.encoder.semantic
    found = {"semantic": slice(0, semantic)}
    if model.encoder.latent >= 2 * semantic:
        found["other"] = slice(semantic, 2 * semantic)
    return found


def invariance(
    model: Model,
    volume: Volume,
    classes: Classes | None = None,
    *,
    mask: Volume | None = None,
    patches: int = 400,
    transforms: int = 4,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    r"""Measure how invariant a representation is, in the semantic subspace and in the next one of equal dimension.

    For a class c, a kind of transform t and a subspace, with z the latent means and i, l patches of single voxels:

    .. math:: \rho = \frac{\mathrm{mean}_{i \in c,\, j} \; d(z_i, z_{ij}^t)}{\mathrm{mean}_{i \neq l} \; d(z_i, z_l)}

    The numerator is the mean distance from a patch of the class to its transforms; the headline denominator
    (``"against": "volume"``) the mean distance of two different patches drawn uniformly from the whole volume. It is
    the same for all classes: 0 is perfect invariance, 1 means that a transform moves a patch as far as another patch
    lies. With ``"against": "class"`` both patches of the denominator are of class c: the stricter question of whether
    a patch can be told from others of its own class. d is the Euclidean distance in the subspace, for presets in the
    Poincaré ball the geodesic one.

    Kinds are ``"rotation"``, ``"scale"``, ``"shift"`` (`patch_transforms.offsets`: each alone, over the range of
    training) and ``"all"``, the three taken together in equal numbers.

    Parameters
    ----------
    model
        Trained.
    volume
        On the working lattice.
    classes
        A reference on the same lattice, or anything that reads like one; None for the whole volume alone.
    mask
        Non-zero where patches may lie.
    patches
        Patches of each class, and of the whole volume; fewer where there are fewer.
    transforms
        Of each patch and kind.
    resamples
        Bootstrap resamples: patches are drawn anew with all their transforms, for the numerator and the denominator.
    seed
        Of patches, transforms and resamples.

    Returns
    -------
    dict
        JSON-able. ``dimensions`` of each subspace, first and last, from 1; ``random_distance``, the denominators over
        the whole volume; ``half_size`` and ``radius`` of the transforms in voxels; and ``rows``, one for each class,
        kind and denominator: ``class`` (`WHOLE` for all classes in proportion), ``patches``, ``transform``,
        ``against``, then ``semantic``, ``other`` and their ``quotient``, each with its ``value`` and the bounds
        ``low`` and ``high`` of the 95 % percentile interval; None where a denominator is 0 or there is no such
        subspace. ``absent`` names classes with fewer than two voxels.

    Raises
    ------
    VemosaicError
        If the volume cannot be read, the mask leaves no voxel, or the model gives no finite numbers.

    References
    ----------
    Han et al., CVPR Workshops 2022, section 4.3.
    """
    drawn = draw_voxels(volume.shape, classes, count=patches, each=patches, mask=mask, margin=reach(model), seed=seed)
    names = [] if classes is None else list(classes.class_names)
    measure = _Measure(model, volume, transforms, resamples, seed)
    whole = measure(drawn.uniform, 0)
    rows = _rows(WHOLE, whole, whole, "volume")
    present = [index for index, voxels in drawn.by_class.items() if len(voxels) >= FEWEST]
    for index in present:
        found = measure(drawn.by_class[index], 1 + index)
        rows += _rows(names[index], found, whole, "volume") + _rows(names[index], found, found, "class")
    sampling = sampling_of(model)
    return {
        "dimensions": {name: [part.start + 1, part.stop] for name, part in subspaces(model).items()},
        "random_distance": {name: _interval(found.random, found.random_resampled) for name, found in whole.items()},
        "rows": rows,
        "absent": [name for index, name in enumerate(names) if index not in present],
        "transforms": transforms,
        "half_size": list(sampling.half_size),
        "radius": sampling.radius,
        "confidence": CONFIDENCE,
        "resamples": resamples,
        "seed": seed,
    }


@dataclass(frozen=True)
class _Distances:
    """Mean distances in one subspace, each beside its resamples ``(B,)``."""

    patches: int
    random: float
    random_resampled: Array
    transformed: dict[str, float]
    transformed_resampled: dict[str, Array]


@dataclass(frozen=True)
class _Measure:
    """Measures distances from patches to their transforms, and among them."""

    model: Model
    volume: Volume
    transforms: int
    resamples: int
    seed: int

    def __call__(self, voxels: Voxels, stream: int) -> dict[str, _Distances]:
        """Measure the patches of voxels ``(N, 3)``; `stream` tells the resamples of one group from another's."""
        intensity = self.model.measure(self.volume)
        means = means_at(self.model, self.volume, intensity, voxels)
        moved = transformed_means(self.model, self.volume, intensity, voxels, self.transforms, self.seed)
        n = len(voxels)
        draws = np.random.default_rng([self.seed, stream]).multinomial(n, np.full(n, 1 / n), self.resamples)
        weights = draws.astype(np.float64)  # (B, N): how often each patch is in a resample
        found = {}
        for name, part in subspaces(self.model).items():
            here = means[:, part]
            pairs = distances(self.model, here[:, None], here[None]).numpy()
            to_own = {
                kind: distances(self.model, here[:, None], there[..., part]).mean(1).numpy()
                for kind, there in moved.items()
            }
            to_own["all"] = np.mean([to_own[kind] for kind in KINDS], axis=0)
            found[name] = _Distances(
                n,
                float(pairs.sum()) / max(1, n * (n - 1)),
                _mean_of_pairs(weights, pairs),
                {kind: float(mean.mean()) for kind, mean in to_own.items()},
                {kind: weights @ mean / n for kind, mean in to_own.items()},
            )
        return found


def _mean_of_pairs(weights: Array, pairs: Array) -> Array:
    """Mean over the pairs of different patches of each resample, ``(B,)``; a patch drawn twice is no pair."""
    total = np.einsum("bi,bi->b", weights @ pairs, weights)
    count = weights.sum(1) ** 2 - (weights**2).sum(1)
    mean: Array = total / np.maximum(count, 1)
    return mean


def _rows(name: str, own: dict[str, _Distances], random: dict[str, _Distances], against: str) -> list[dict[str, Any]]:
    """Return a row for each kind of transform."""
    rows = []
    for kind in (*KINDS, "all"):
        values, resampled = {}, {}
        for subspace, found in own.items():
            values[subspace] = _divide(found.transformed[kind], random[subspace].random)
            resampled[subspace] = _divide(found.transformed_resampled[kind], random[subspace].random_resampled)
        intervals: dict[str, Any] = {s: _interval(values[s], resampled[s]) for s in own}
        intervals.setdefault("other", None)
        intervals["quotient"] = (
            _interval(_divide(values["semantic"], values["other"]), _divide(resampled["semantic"], resampled["other"]))
            if "other" in own
            else None
        )
        patches = own["semantic"].patches
        rows.append({"class": name, "patches": patches, "transform": kind, "against": against, **intervals})
    return rows


def _divide(a: Any, b: Any) -> Any:
    """Divide; NaN where the divisor is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient = np.divide(a, b)
    return np.where(np.isfinite(quotient), quotient, np.nan)


def _interval(value: Any, resampled: Array) -> dict[str, float] | None:
    """Return a value and its percentile interval; None where it is not defined."""
    known = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or not len(known):
        return None
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {"value": float(value), "low": float(low), "high": float(high)}
