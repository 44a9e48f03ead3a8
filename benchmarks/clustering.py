"""How fast k-means follows a stream of embeddings, and how well, beside scikit-learn's MiniBatchKMeans.

    OMP_NUM_THREADS=1 python benchmarks/clustering.py --run RUN

Ours: Lloyd's algorithm on 200,000 of the embeddings, then one pass over all for every k. Theirs: one pass of
``MiniBatchKMeans.partial_fit`` for each k, in batches of 1,024 (its default) and 8,192; and with ``--fit K`` its
``fit`` to all of them for one k, which takes scikit-learn 1.9 minutes: every step goes through all weights to draw a
batch. Two sets of embeddings: a mixture of 12 Gaussians in 6 dimensions, and those of a run, drawn with noise. The
inertia is that of the final centres over all embeddings. Results go to benchmarks/results/clustering.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.cluster import MiniBatchKMeans

from vemosaic import __version__
from vemosaic.clustering import Clusters, Statistics, fit_lloyd, inertia, statistics_of, updated

RESULTS = Path(__file__).parent / "results"
SAMPLE = 200_000
UNIT = 2**18
KS = tuple(range(4, 11))
NOISE = 0.05


def gaussians(count: int, channels: int = 6, components: int = 12) -> np.ndarray:
    """Draw from a mixture of stretched and turned Gaussians, in random order."""
    rng = np.random.default_rng(0)
    means = 3 * rng.normal(size=(components, channels)).astype(np.float32)
    shapes = 0.7 * rng.normal(size=(components, channels, channels)).astype(np.float32)
    points = rng.standard_normal((count, channels), dtype=np.float32)
    which = rng.integers(0, components, count)
    for component in range(components):
        chosen = which == component
        points[chosen] = points[chosen] @ shapes[component] + means[component]
    return points


def resampled(run: Path, count: int) -> np.ndarray:
    """Draw from the sample of a run, with noise of `NOISE` standard deviations."""
    with np.load(run / "sample.npz") as file:
        sample = file["embedding"]
    rng = np.random.default_rng(0)
    points = rng.standard_normal((count, sample.shape[1]), dtype=np.float32)
    points *= np.float32(NOISE) * sample.std(0)
    points += sample[rng.integers(0, len(sample), count)]
    return points


def units(points: np.ndarray) -> list[torch.Tensor]:
    """Divide embeddings as the blocks of a volume do."""
    return list(torch.split(torch.from_numpy(points), UNIT))


def follow(points: np.ndarray) -> tuple[list[Clusters], dict[str, float]]:
    """Fit to the sample, and take one step on all."""
    start = time.perf_counter()
    found = fit_lloyd(points[:SAMPLE], KS)
    fitted = time.perf_counter()
    found = updated(found, reduce(Statistics.merge, (statistics_of(unit, found) for unit in units(points))))
    end = time.perf_counter()
    return found, {"sample_seconds": fitted - start, "pass_seconds": end - fitted, "seconds": end - start}


def partial_fit(points: np.ndarray, batch: int, k: int) -> MiniBatchKMeans:
    """Follow the stream once, for one k."""
    model = MiniBatchKMeans(k, random_state=0, batch_size=batch)
    for first in range(0, len(points), batch):
        model.partial_fit(points[first : first + batch])
    return model


def timed(fit: Callable[[int], MiniBatchKMeans], ks: tuple[int, ...]) -> tuple[list[Clusters], float]:
    """Fit one model after another."""
    start = time.perf_counter()
    models = [fit(k) for k in ks]
    return [Clusters(model.cluster_centers_.astype(np.float32)) for model in models], time.perf_counter() - start


def spread(points: np.ndarray, found: list[Clusters]) -> np.ndarray:
    """Return the inertia of each clustering."""
    return inertia(found, reduce(Statistics.merge, (statistics_of(unit, found) for unit in units(points))))


def compare(points: np.ndarray, fit_k: int) -> dict[str, Any]:
    """Measure ours and theirs on the same embeddings."""
    found, ours = follow(points)
    least = spread(points, found)
    result: dict[str, Any] = {"ours": {name: round(seconds, 2) for name, seconds in ours.items()}}

    def beside(name: str, fit: Callable[[int], MiniBatchKMeans], ks: tuple[int, ...], mine: float) -> None:
        theirs, seconds = timed(fit, ks)
        ratios = least[[KS.index(k) for k in ks]] / spread(points, theirs)
        result[name] = {
            "seconds": round(seconds, 2),
            "times_as_fast": round(seconds / mine, 1),
            "inertia_ratio": {str(k): round(float(ratio), 4) for k, ratio in zip(ks, ratios, strict=True)},
        }
        print(name, result[name], flush=True)

    for batch in (8_192, 1_024):
        beside(f"partial_fit, batches of {batch}", lambda k, b=batch: partial_fit(points, b, k), KS, ours["seconds"])
    if fit_k:
        start = time.perf_counter()
        (alone,) = fit_lloyd(points[:SAMPLE], [fit_k])
        updated([alone], reduce(Statistics.merge, (statistics_of(unit, [alone]) for unit in units(points))))
        result["ours"]["seconds_for_one_k"] = round(time.perf_counter() - start, 2)
        model = MiniBatchKMeans(random_state=0)
        beside("fit", lambda k: model.set_params(n_clusters=k).fit(points), (fit_k,), time.perf_counter() - start)
    return result


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="run folder whose sample is drawn from")
    parser.add_argument("--count", type=int, default=10_000_000, help="embeddings")
    parser.add_argument("--fit", type=int, default=0, choices=KS, help="a k for which scikit-learn's fit is timed, too")
    chosen = parser.parse_args()
    document: dict[str, Any] = {"benchmark": "clustering", "embeddings": chosen.count, "clusters": list(KS)}
    for name, points in (("gaussians", gaussians(chosen.count)), ("run", resampled(chosen.run, chosen.count))):
        document[name] = compare(points, chosen.fit)
    document["machine"] = {
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
        "load": round(os.getloadavg()[0], 1),  # of the whole machine, this process among it
        "python": platform.python_version(),
        "torch": torch.__version__,
        "scikit-learn": sklearn.__version__,
        "vemosaic": __version__,
    }
    text = json.dumps(document, indent=1)
    (RESULTS / "clustering.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
