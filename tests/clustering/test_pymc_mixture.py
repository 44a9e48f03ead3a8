from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from vemosaic.clustering import Clustering, assign, fit_kmeans, fit_mixture, fit_pymc_mixture

pytestmark = pytest.mark.skipif(find_spec("pymc") is None, reason="needs pymc")


@pytest.fixture
def made_quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Few small batches, and nothing compiled, which takes a minute on a machine that never did it before.

    What is imported is imported here: processes that collect tests side by side would do it at the same time, and one
    of them fails when ArviZ writes down that it has warned today.
    """
    import pytensor

    monkeypatch.setattr("vemosaic.clustering.pymc_mixture.STEPS", 300)
    monkeypatch.setattr("vemosaic.clustering.pymc_mixture.BATCH", 192)
    with pytensor.config.change_flags(mode="FAST_COMPILE"):
        yield


def wide_and_narrow() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """A wide group beside a narrow one, and a dimension that never varies: k-means cuts off a part of the wide one."""
    which = np.repeat([0, 1], [800, 400])
    noise = np.random.default_rng(0).normal(size=(1200, 3)) * np.array([[2, 2, 0], [0.3, 0.3, 0]])[which]
    return (np.array([[0, 0, 5], [3, 0, 5]])[which] + noise).astype(np.float32), which


def agreement(found: Clustering, points: npt.NDArray[np.float32], which: npt.NDArray[np.int64]) -> float:
    return float(adjusted_rand_score(which, assign(torch.from_numpy(points), [found])[0].numpy()))


def test_tells_a_narrow_group_from_a_wide_one(made_quick: None, caplog: pytest.LogCaptureFixture) -> None:
    points, which = wide_and_narrow()
    with caplog.at_level(logging.INFO):
        found = fit_pymc_mixture(points, 2)
    assert agreement(fit_kmeans(points, 2), points, which) < 0.7
    assert agreement(found, points, which) > agreement(fit_mixture(points, 2), points, which) - 0.02 > 0.85
    narrow = found.centres[:, 0].argmax()
    np.testing.assert_allclose(found.weights[narrow], 1 / 3, atol=0.05)
    np.testing.assert_allclose(1 / np.diagonal(found.whitening[narrow])[:2], 0.3, atol=0.1)  # standard deviations
    np.testing.assert_allclose(1 / np.diagonal(found.whitening[1 - narrow])[:2], 2, atol=0.3)
    assert not [record for record in caplog.records if record.name == "pymc"]


def test_padding_keeps_a_cluster_of_its_own(made_quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Voxels of padding all have one embedding: a component without any spread. And the same seed ends the same."""
    monkeypatch.setattr("vemosaic.clustering.pymc_mixture.STEPS", 50)
    points, _ = wide_and_narrow()
    points = np.concatenate([points, np.full((300, 3), -20, np.float32)])
    found, again = fit_pymc_mixture(points, 2, seed=3), fit_pymc_mixture(points, 2, seed=3)
    for name in ("weights", "centres", "whitening"):
        np.testing.assert_array_equal(getattr(found, name), getattr(again, name))
        assert np.isfinite(getattr(found, name)).all()
    labels = assign(torch.from_numpy(points), [found])[0].numpy()
    assert len(set(labels[1200:])) == 1
    assert not set(labels[1200:]) & set(labels[:1200])
