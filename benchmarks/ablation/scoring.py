"""Scores of a description against a reference: of its clusters, and of what a few labels teach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ablation.cells import Vectors
from vemosaic.evaluation.scores import confusion, dice_matrix, score
from vemosaic.explorer.classifier import NEAR, Classifier
from vemosaic.explorer.mixtures import ListMixture
from vemosaic.explorer.texture import DescribedList

GAP = 24
"""Shortest voxel edges between the halves of the linear probe: more than features and treatments reach."""

LABELLED = (50, 200, 1_000)
DRAWS = 5
FEWEST = 5
"""Labelled voxels of each class, at least."""

TESTED = 40_000
"""Voxels that learners are tested on, and that each half of the linear probe has, at most."""

Classes = npt.NDArray[np.uint8]
Folds = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]
"""Indices of voxels, in two parts."""

Learn = Callable[[Vectors, Classes, Vectors], Classes]
"""Vectors ``(N, C)``, their classes, and others ``(M, C)``, to the classes of these."""


@dataclass(frozen=True)
class Truth:
    """What descriptions are scored against.

    Attributes
    ----------
    classes
        Of the voxels drawn, ``(N,)``, indices into `names`.
    names
        Of the classes.
    scored
        Those that scores are the mean of.
    """

    classes: Classes
    names: tuple[str, ...]
    scored: tuple[str, ...]


def score_clusters(labels: Classes, k: int, truth: Truth) -> dict[str, Any]:
    """Score the clusters of the voxels drawn, 1 to k.

    Returns
    -------
    dict
        Means over the scored classes: ``best`` of the Dice of each class's best single cluster, ``union`` of its best
        union of clusters, ``hungarian`` with clusters and classes matched one to one; ``classes`` has each class's own.
    """
    scores = score(confusion(labels, truth.classes, k, len(truth.names)), truth.names, truth.scored)
    classes = {
        name: {"best": each["best_cluster_dice"], "union": each["best_union_dice"], "hungarian": each["dice"]}
        for name, each in scores["classes"].items()
    }
    means = {kind: float(np.mean([each[kind] for each in classes.values()])) for kind in ("best", "union", "hungarian")}
    return {**means, "classes": classes}


def score_teaching(vectors: Vectors, voxels: npt.NDArray[np.float64], truth: Truth) -> dict[str, Any]:
    """Score what can be learned from labels on top of a description.

    Parameters
    ----------
    vectors
        ``(N, C)``.
    voxels
        Places, ``(N, 3)``, in shortest voxel edges.
    truth
        Their classes.

    Returns
    -------
    dict
        Mean Dice of the scored classes: ``probe`` of logistic regression on one half, tested on the other, with halves
        of ``space`` and ``random`` ones (whose voxels have neighbours in the other: what a description holds at most);
        ``weak``, for each number of labelled voxels, of each of `LEARNERS`, one number a draw.
    """
    weak: dict[str, dict[str, list[float]]] = {}
    for count in LABELLED:
        draws = [draw(truth.classes, count, np.random.default_rng([number, count])) for number in range(DRAWS)]
        weak[str(count)] = {
            name: [_taught(learn, vectors, truth, *each) for each in draws] for name, learn in LEARNERS.items()
        }
    halves = {"space": halves_of_space(voxels), "random": random_halves(len(voxels))}
    probe = {name: linear_probe(vectors, truth, folds) for name, folds in halves.items()}
    return {"probe": probe, "weak": weak}


def halves_of_space(voxels: npt.NDArray[np.float64]) -> Folds:
    """Split voxels ``(N, 3)`` along the longest axis, the halves `GAP` apart."""
    axis = int(np.ptp(voxels, axis=0).argmax())
    place = voxels[:, axis] - (voxels[:, axis].min() + voxels[:, axis].max()) / 2
    return _thinned(np.flatnonzero(place < -GAP / 2)), _thinned(np.flatnonzero(place > GAP / 2))


def random_halves(count: int) -> Folds:
    """Split so many voxels at random."""
    first, second = np.array_split(np.random.default_rng(0).permutation(count), 2)
    return first[:TESTED], second[:TESTED]


def linear_probe(vectors: Vectors, truth: Truth, halves: Folds) -> float:
    """Teach a linear classifier one half and test it on the other, and in turn; mean Dice of the scored classes.

    Dice is that of all voxels tested: halves may hold very different shares of a class.
    """
    tested = np.concatenate(halves[::-1])
    predicted = [logistic(vectors[one], truth.classes[one], vectors[other]) for one, other in (halves, halves[::-1])]
    return mean_dice(np.concatenate(predicted), truth.classes[tested], truth.names, truth.scored)


def _thinned(indices: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return at most `TESTED` of them, drawn at random."""
    return np.random.default_rng(0).permutation(indices)[:TESTED]


def logistic(vectors: Vectors, classes: Classes, others: Vectors) -> Classes:
    """Learn by logistic regression, with the usual penalty on weights."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    learned = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(vectors, classes)
    return np.asarray(learned.predict(others), np.uint8)


def explorer(vectors: Vectors, classes: Classes, others: Vectors) -> Classes:
    """Learn as the explorer does from scribbles where there is no map to learn from, and no two are neighbours."""
    painted, asked = (DescribedList(v, ListMixture.alone(np.zeros(len(v), np.uint8))) for v in (vectors, others))
    places = np.arange(len(vectors))[:, None] * np.array([2 * int(NEAR), 0, 0])
    return Classifier.learn(painted, classes, places, asked, np.zeros((256, 1), np.float32)).predict(asked)


def trees(vectors: Vectors, classes: Classes, others: Vectors) -> Classes:
    """Learn by gradient-boosted trees, small ones: labels are few."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    learned = HistGradientBoostingClassifier(
        max_iter=100, max_leaf_nodes=8, min_samples_leaf=5, early_stopping=False, random_state=0
    ).fit(vectors, classes)
    return np.asarray(learned.predict(others), np.uint8)


LEARNERS: dict[str, Learn] = {"logistic": logistic, "explorer": explorer, "trees": trees}


def draw(classes: Classes, count: int, rng: np.random.Generator) -> Folds:
    """Draw voxels to label, uniformly but for `FEWEST` of each class, and others; the others are in random order."""
    order = rng.permutation(len(classes))
    first = [order[classes[order] == label][:FEWEST] for label in np.unique(classes)]
    sure = np.concatenate(first)
    others = order[~np.isin(order, sure)]
    rest = max(0, count - len(sure))
    return np.concatenate([sure, others[:rest]]), others[rest:]


def _taught(
    learn: Learn, vectors: Vectors, truth: Truth, learned: npt.NDArray[np.intp], tested: npt.NDArray[np.intp]
) -> float:
    """Learn from some voxels and test on `TESTED` of others: mean Dice of the scored classes that these hold."""
    tested = tested[:TESTED]
    predicted = learn(vectors[learned], truth.classes[learned], vectors[tested])
    return mean_dice(predicted, truth.classes[tested], truth.names, truth.scored)


def mean_dice(predicted: Classes, classes: Classes, names: Sequence[str], scored: Sequence[str]) -> float:
    """Mean Dice of those scored classes that occur, predicted against true."""
    dice = np.diagonal(dice_matrix(confusion(predicted + 1, classes, len(names), len(names))))
    return float(np.mean([dice[names.index(name)] for name in scored if (classes == names.index(name)).any()]))
