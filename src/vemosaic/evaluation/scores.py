"""Scores of a map against a reference segmentation, all from one confusion matrix of clusters and classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from vemosaic.errors import ReferenceMaskError
from vemosaic.evaluation.reference import Reference
from vemosaic.evaluation.scope import Scope
from vemosaic.volumes.volume import LazyArray

Confusion = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]


def confusion(labels: npt.NDArray[Any], reference: npt.NDArray[np.integer[Any]], k: int, n_classes: int) -> Confusion:
    """Count the voxels of each cluster that fall into each class.

    Parameters
    ----------
    labels : ndarray, (Z, Y, X)
        Cluster of each voxel, 1 to ``k``; 0 means not mapped and is left out.
    reference : ndarray, (Z, Y, X)
        Class of each voxel, 0 to ``n_classes - 1``.
    k, n_classes
        Numbers of clusters and of classes.

    Returns
    -------
    ndarray, (n_clusters, n_classes), int64
        Row ``i`` is cluster ``i + 1``. Tables of disjoint blocks add up to that of the whole.

    Raises
    ------
    ValueError
        If the shapes differ, or a label or class is out of range.
    """
    if labels.shape != reference.shape:
        raise ValueError(f"labels {labels.shape} and reference {reference.shape} differ in shape")
    if labels.size == 0:
        return np.zeros((k, n_classes), dtype=np.int64)
    if int(labels.min()) < 0 or int(labels.max()) > k:
        raise ValueError(f"labels lie in {int(labels.min())}..{int(labels.max())}, not in 0..{k}")
    if int(reference.min()) < 0 or int(reference.max()) >= n_classes:
        raise ValueError(f"classes lie in {int(reference.min())}..{int(reference.max())}, not in 0..{n_classes - 1}")
    pairs = labels.astype(np.int32).ravel() * n_classes + reference.ravel()
    counts = np.bincount(pairs, minlength=(k + 1) * n_classes)
    return counts.reshape(k + 1, n_classes)[1:].astype(np.int64)


def dice_matrix(table: Confusion) -> npt.NDArray[np.float64]:
    r"""Return the Dice coefficient of every cluster with every class.

    .. math:: D_{ij} = 2 C_{ij} / (\sum_k C_{ik} + \sum_l C_{lj})

    Parameters
    ----------
    table : ndarray, (n_clusters, n_classes)
        A confusion matrix.

    Returns
    -------
    ndarray, (n_clusters, n_classes), float64
        In [0, 1]; 0 for an empty cluster with an empty class.

    References
    ----------
    Han et al., CVPR Workshops 2022, section 4.4.
    """
    sizes = table.sum(axis=1, keepdims=True) + table.sum(axis=0, keepdims=True)
    return np.asarray(2.0 * table / np.maximum(sizes, 1))


def hungarian_matching(dice: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pair clusters with classes, one to one, so that the sum of their Dice coefficients is largest.

    Parameters
    ----------
    dice : ndarray, (n_clusters, n_classes)
        A Dice matrix.

    Returns
    -------
    list of (row, column)
        ``min(n_clusters, n_classes)`` pairs, in the order of the columns.
    """
    rows, columns = linear_sum_assignment(-dice)
    return sorted(((int(i), int(j)) for i, j in zip(rows, columns, strict=True)), key=lambda pair: pair[1])


def best_union_dice(table: Confusion, column: int) -> float:
    """Return the largest Dice coefficient that any union of clusters reaches with one class.

    Exact in ``O(k log k)``: if the best Dice is L, the best union maximises the sum over its clusters of
    ``2 TP_i - L n_i``, so it holds just the clusters of purity ``TP_i / n_i > L / 2`` (those at L / 2 change
    nothing): a prefix of the clusters in the order of falling purity.

    Parameters
    ----------
    table : ndarray, (n_clusters, n_classes)
        A confusion matrix.
    column
        The class.

    Returns
    -------
    float
        In [0, 1]; 0 if the class is empty.
    """
    sizes, hits = table.sum(axis=1), table[:, column]
    order = np.argsort(-hits / np.maximum(sizes, 1), kind="stable")
    denominators = np.cumsum(sizes[order]) + hits.sum()
    return float(np.max(2.0 * np.cumsum(hits[order]) / np.maximum(denominators, 1), initial=0.0))


def adjusted_rand_index(table: Confusion) -> float:
    """Return the adjusted Rand index of clusters and classes (1 for equal partitions, 0 expected by chance).

    Parameters
    ----------
    table : ndarray, (n_clusters, n_classes)
        A confusion matrix; pairs are counted in exact integers.

    Returns
    -------
    float
        At most 1; negative where the partitions agree less than by chance.

    References
    ----------
    Hubert and Arabie, Journal of Classification 2, 1985. doi:10.1007/BF01908075
    """

    def pairs(counts: npt.NDArray[np.int64]) -> int:
        return sum(n * (n - 1) // 2 for n in counts.ravel().tolist())

    together, in_clusters, in_classes = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    everything = pairs(table.sum(keepdims=True))
    # (together - expected) / (mean - expected), both times 2 * everything: exact until the last division
    numerator = 2 * (together * everything - in_clusters * in_classes)
    denominator = everything * (in_clusters + in_classes) - 2 * in_clusters * in_classes
    return 1.0 if denominator == 0 else numerator / denominator


def variation_of_information(table: Confusion) -> tuple[float, float]:
    """Return both parts of the variation of information, in bits; their sum is the metric.

    Parameters
    ----------
    table : ndarray, (n_clusters, n_classes)
        A confusion matrix.

    Returns
    -------
    split : float
        H(clusters | classes): what splitting classes among clusters adds.
    merge : float
        H(classes | clusters): what is lost where clusters merge classes.

    References
    ----------
    Meila, Journal of Multivariate Analysis 98, 2007. doi:10.1016/j.jmva.2006.11.013
    """

    def entropy(counts: npt.NDArray[np.int64]) -> float:
        p = counts[counts > 0] / max(1, int(counts.sum()))
        return float(-(p * np.log2(p)).sum())

    joint = entropy(table)
    split, merge = joint - entropy(table.sum(axis=0)), joint - entropy(table.sum(axis=1))
    return max(0.0, split), max(0.0, merge)  # rounding can leave -1e-16


def score(table: Confusion, class_names: Sequence[str], classes: Sequence[str] | None = None) -> dict[str, Any]:
    """Turn a confusion matrix into every score of the map, ready for JSON.

    Parameters
    ----------
    table : ndarray, (n_clusters, n_classes)
        A confusion matrix of voxel counts.
    class_names
        Name of each column.
    classes
        Those that are matched and averaged; all where None. The others take no part in ``classes``, ``matching``,
        ``absent`` and the mean.

    Returns
    -------
    dict
        ``k``; ``mean_dice`` (mean over the Hungarian matching, ``min(n_classes, k)`` pairs, as in section 4.4
        of the paper); ``ari``; ``voi`` (bits) and its parts ``voi_split`` and ``voi_merge``; ``classes``, for
        each class ``dice`` (with its matched cluster, 0 if none was left for it), ``best_cluster_dice`` and
        ``best_union_dice``; ``matching`` (class to cluster number, ``None`` if unmatched); ``confusion`` and
        ``dice_matrix`` with a row for each cluster and a column for each of ``class_names``. Classes without
        a voxel are listed in ``absent`` and take no part in ``classes``, ``matching`` and the mean.

    Raises
    ------
    ReferenceMaskError
        If the table counts no voxel, or none of the classes that are matched.
    """
    table = np.asarray(table, dtype=np.int64)
    if table.ndim != 2 or table.shape[1] != len(class_names):
        raise ValueError(f"a confusion matrix of shape {table.shape} does not fit {len(class_names)} class names")
    if table.sum() == 0:
        raise ReferenceMaskError(
            "reference",
            "not one mapped voxel lies inside it, so there is nothing to score",
            "check that the map holds labels 1 to k and that both show the same region",
        )
    wanted = [j for j, name in enumerate(class_names) if classes is None or name in classes]
    present = np.array([j for j in wanted if table[:, j].any()], dtype=np.intp)
    if present.size == 0:
        names = ", ".join(class_names[j] for j in wanted) or "the classes asked for"
        raise ReferenceMaskError(
            "reference",
            f"holds no voxel of {names} where it is scored",
            "check the masks of these classes",
        )
    dice = dice_matrix(table)
    pairs = hungarian_matching(dice[:, present])
    matched = {int(present[j]): i for i, j in pairs}
    split, merge = variation_of_information(table)
    return {
        "k": int(table.shape[0]),
        "mean_dice": float(np.mean([dice[i, present[j]] for i, j in pairs])),
        "ari": adjusted_rand_index(table),
        "voi": split + merge,
        "voi_split": split,
        "voi_merge": merge,
        "classes": {
            class_names[j]: {
                "dice": float(dice[matched[j], j]) if j in matched else 0.0,
                "best_cluster_dice": float(dice[:, j].max()),
                "best_union_dice": best_union_dice(table, j),
            }
            for j in present.tolist()
        },
        "matching": {class_names[j]: matched[j] + 1 if j in matched else None for j in present.tolist()},
        "absent": [class_names[j] for j in wanted if j not in present],
        "class_names": list(class_names),
        "confusion": table.tolist(),
        "dice_matrix": dice.tolist(),
    }


def evaluate(
    segmentation: LazyArray,
    reference: Reference,
    k: int,
    *,
    scope: Scope | None = None,
    block: int = 128,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score a map against a reference segmentation, block by block.

    Parameters
    ----------
    segmentation : LazyArray, (Z, Y, X)
        Clusters 1 to ``k`` on the lattice of ``reference``; voxels of label 0 were not mapped and are left
        out.
    reference
        Classes on the same lattice.
    k
        Number of clusters.
    scope
        Which voxels and classes are scored; all where None.
    block
        Edge of the cubes that are read at a time, in voxels.
    progress
        Called after each block with the blocks done and their number.

    Returns
    -------
    dict
        As of `score`.

    Raises
    ------
    ReferenceMaskError
        If the shapes differ or no mapped voxel can be scored.
    IndexError
        If the scope leaves the map.
    """
    if tuple(segmentation.shape) != reference.shape:
        raise ReferenceMaskError(
            "reference",
            f"it was opened for a map of shape {reference.shape} (z, y, x) and this one is {tuple(segmentation.shape)}",
            "open the reference for the map that is scored",
        )
    scope = scope or Scope()
    blocks = scope.blocks(reference.shape, block)
    table = np.zeros((k, len(reference.class_names)), dtype=np.int64)
    for done, part in enumerate(blocks, start=1):
        labels = part.of(segmentation[part.slices])
        if scope.inside is not None:
            labels = np.where(part.of(scope.inside.read(part.origin, part.shape)) == 0, labels.dtype.type(0), labels)
        classes = part.of(reference.read(part.origin, part.shape))
        table += confusion(labels, classes, k, len(reference.class_names))
        if progress is not None:
            progress(done, len(blocks))
    return score(table, reference.class_names, scope.classes)
