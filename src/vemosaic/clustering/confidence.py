"""How sure the cluster of each voxel is: how much nearer it lies than the next one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vemosaic.clustering.clusters import Clustering, assign
from vemosaic.clustering.kmeans import Clusters
from vemosaic.clustering.merging import Consensus
from vemosaic.clustering.statistics import rows_at_once

MOST = 255


def confidence(embedding: Tensor, clusterings: Sequence[Clustering]) -> list[Tensor]:
    r"""Say how sure the cluster of each vector is, for several clusterings.

    With the distance :math:`a` to the nearest centre of its own cluster and :math:`b` to the nearest one of any other,

    .. math:: 255 \, \max(0, 1 - a / b),

    the silhouette (Rousseeuw 1987) of a vector that has centres for neighbours. The centres of a consensus are those of
    its fine clusters; mixtures and hyperbolic clusters are judged by Euclidean distances, too.

    Parameters
    ----------
    embedding
        ``(..., C)``, float32, on any device.
    clusterings
        Each with its own k.

    Returns
    -------
    list of Tensor, (...), uint8
        From 0, on the border of another cluster, to 255, on a centre.

    References
    ----------
    P. J. Rousseeuw. Silhouettes: a graphical aid to the interpretation and validation of cluster analysis. Journal of
    Computational and Applied Mathematics 20, 1987. https://doi.org/10.1016/0377-0427(87)90125-7
    """
    flat = embedding.flatten(0, -2)
    sure = [torch.empty(len(flat), dtype=torch.uint8, device=flat.device) for _ in clusterings]
    for members in _sharing(clusterings):
        for whole, part in zip(members, _margins(flat, [clusterings[i] for i in members]), strict=True):
            sure[whole] = part
    return [whole.view(embedding.shape[:-1]) for whole in sure]


def _sharing(clusterings: Sequence[Clustering]) -> list[list[int]]:
    """Put together the places of those that have their centres in common."""
    together: dict[bytes, list[int]] = {}
    for place, clusters in enumerate(clusterings):
        together.setdefault(_centres(clusters)[0].tobytes(), []).append(place)
    return list(together.values())


def _centres(clusters: Clustering) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Centres ``(F, C)`` to measure distances to, and which cluster, from 0, each belongs to."""
    if isinstance(clusters, Consensus):
        return clusters.fine, clusters.numbers.astype(np.int64) - 1
    return clusters.centres, np.arange(clusters.k)


def _margins(flat: Tensor, clusterings: Sequence[Clustering]) -> list[Tensor]:
    """Do what `confidence` does for clusterings that have their centres in common.

    Centres that no clustering tells apart are put side by side, and what is nearest among them is found once for all.
    """
    centres = _centres(clusterings[0])[0]
    kinds, kind = np.unique(np.stack([_centres(c)[1] for c in clusterings]), axis=1, return_inverse=True)  # (S, G)
    ordered = torch.from_numpy(centres[np.argsort(kind, kind="stable")]).to(flat.device)
    ends = np.concatenate(([0], np.cumsum(np.bincount(kind)))).tolist()
    groups_of = [
        [torch.from_numpy(np.flatnonzero(of == number)).to(flat.device) for number in range(clusters.k)]
        for clusters, of in zip(clusterings, kinds, strict=True)
    ]
    sure = [torch.empty(len(flat), dtype=torch.uint8, device=flat.device) for _ in clusterings]
    rows = rows_at_once(flat, len(centres))
    for start in range(0, len(flat), rows):
        x = flat[start : start + rows]
        distances = torch.cdist(ordered, x)  # (F, rows)
        nearest = torch.stack([distances[first:last].amin(0) for first, last in pairwise(ends)])  # (G, rows)
        for whole, clusters, of in zip(sure, clusterings, groups_of, strict=True):
            each = torch.stack([nearest[groups].amin(0) for groups in of])  # (k, rows)
            a, own = each.min(0)
            if not isinstance(clusters, Clusters | Consensus):  # they need not be where the nearest centre is
                own = assign(x, [clusters])[0].long() - 1
                a = each.gather(0, own[None])[0]
            b = each.scatter(0, own[None], torch.inf).amin(0)
            margin = (1 - a / b).nan_to_num_(0).clamp_(0, 1)
            whole[start : start + rows] = (margin * MOST).round_()
    return sure
