from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from vemosaic.clustering import Mixture, assign, fit_kmeans, fit_mixture, statistics_of, updated
from vemosaic.clustering import mixture as module


def gaussians(k: int, channels: int, count: int, seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Points of k stretched and turned Gaussians, and which each is of."""
    rng = np.random.default_rng(seed)
    which = rng.integers(0, k, count)
    means, shapes = 3 * rng.normal(size=(k, channels)), rng.normal(size=(k, channels, channels))
    noise = np.einsum("nc,ncd->nd", rng.normal(size=(count, channels)), shapes[which])
    return (means[which] + noise).astype(np.float32), which


def layers(seed: int = 0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Two thin layers, one above the other: k-means cuts across them."""
    which = np.repeat([0, 1], [600, 300])
    noise = np.random.default_rng(seed).normal(size=(900, 2)) * [4, 0.3]
    return (np.array([[0, 0], [0, 1.8]])[which] + noise).astype(np.float32), which


def labels_of(mixture: Mixture, points: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    return assign(torch.from_numpy(points), [mixture])[0].numpy()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**16), st.sampled_from([0.01, 1.0, 100.0]))
def test_assigns_as_scikit_learn_predicts(k: int, channels: int, seed: int, far: float) -> None:
    points, _ = gaussians(k, channels, 400, seed)
    model = GaussianMixture(k, max_iter=3, tol=10, random_state=0, reg_covar=1e-3).fit(points.astype(np.float64))
    mixture = Mixture(*(a.astype(np.float32) for a in (model.weights_, model.means_, model.precisions_cholesky_)))
    asked = (far * points).astype(np.float32)  # near the middle, among the points, and far outside
    posterior = model._estimate_weighted_log_prob(asked.astype(np.float64))
    best = np.sort(posterior, axis=1)
    clear = k == 1 or best[:, -1] - best[:, -2] > 1e-4 * (1 + np.abs(best[:, -1]))  # what float32 can tell
    same = labels_of(mixture, asked) == model.predict(asked.astype(np.float64)) + 1
    assert np.all(same | ~np.broadcast_to(clear, same.shape))
    assert same.mean() > 0.99


def test_fit_is_that_of_scikit_learn() -> None:
    points, _ = gaussians(4, 3, 3000, seed=1)
    found = fit_mixture(points, 4, seed=0)
    scaled = (points.astype(np.float64) - points.mean(0)) / points.std(0)
    model = GaussianMixture(4, random_state=0, n_init=5, tol=1e-6, max_iter=1000).fit(scaled)
    assert adjusted_rand_score(model.predict(scaled), labels_of(found, points)) > 0.98
    assert found.weights.sum() == pytest.approx(1, abs=1e-6)
    covariances = np.linalg.inv(found.whitening.astype(np.float64) @ found.whitening.transpose(0, 2, 1))
    nearest = ((found.centres[:, None] - (model.means_ * points.std(0) + points.mean(0))) ** 2).sum(-1).argmin(1)
    expected = model.covariances_ * np.outer(points.std(0), points.std(0))
    assert sorted(nearest) == [0, 1, 2, 3]
    np.testing.assert_allclose(covariances, expected[nearest], atol=0.1 * expected.max())


def test_sees_shapes_that_k_means_cannot() -> None:
    points, which = layers()
    assert adjusted_rand_score(which, labels_of(fit_mixture(points, 2), points)) > 0.97
    k_means = assign(torch.from_numpy(points), [fit_kmeans(points, 2)])[0].numpy()
    assert adjusted_rand_score(which, k_means) < 0.2


def test_same_seed_same_mixture() -> None:
    points, _ = gaussians(5, 4, 2000, seed=2)
    first, again = fit_mixture(points, 5, seed=3), fit_mixture(points, 5, seed=3)
    for name in ("weights", "centres", "whitening"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_scale_and_place_of_the_embedding_change_nothing(scale: float) -> None:
    points, which = layers()
    moved = np.float32(scale) * (points + np.float32(100))
    assert adjusted_rand_score(which, labels_of(fit_mixture(moved, 2), moved)) > 0.97


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 5), st.integers(0, 2**16), st.sampled_from(["constant", "twice", "few"]))
def test_singular_covariances_end_in_a_mixture(k: int, seed: int, case: str) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(200, 4)).astype(np.float32)
    if case == "constant":
        points[:, 2] = 7.3
    elif case == "twice":
        points[:, 2] = 3 * points[:, 0]
    else:
        points = np.repeat(points[:k], 30, axis=0)  # as many different voxels as clusters
    found = fit_mixture(points, k)
    for name in ("weights", "centres", "whitening"):
        assert np.isfinite(getattr(found, name)).all()
    labels = labels_of(found, points)
    assert labels.min() >= 1 and labels.max() <= k
    if case == "few":
        assert len(np.unique(labels)) == k


def test_long_embeddings_are_assigned_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    points, _ = gaussians(4, 3, 1000, seed=1)
    found = [fit_mixture(points, k) for k in (2, 5)]
    whole = assign(torch.from_numpy(points), found)
    monkeypatch.setattr(module, "PRODUCTS", 500)
    for labels, parts in zip(whole, assign(torch.from_numpy(points), found), strict=True):
        assert torch.equal(labels, parts)


def test_ties_go_to_the_smaller_number_and_weight_zero_takes_nothing() -> None:
    centres = np.array([[-1], [1], [1], [0]], np.float32)
    mixture = Mixture(np.array([0.5, 0.25, 0.25, 0], np.float32), centres, np.ones((4, 1, 1), np.float32))
    labels = labels_of(mixture, np.linspace(-3, 3, 601, dtype=np.float32)[:, None])
    assert set(labels) == {1, 2}


def covariances_of(mixture: Mixture) -> npt.NDArray[np.float64]:
    whitening = mixture.whitening.astype(np.float64)
    found: npt.NDArray[np.float64] = np.linalg.inv(whitening @ whitening.transpose(0, 2, 1))
    return found


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**16))
def test_sums_are_weighted_by_responsibilities(k: int, channels: int, seed: int) -> None:
    points, _ = gaussians(k, channels, 500, seed)
    mixture = fit_mixture(points[:200], k)
    sums = statistics_of(torch.from_numpy(points), [mixture]).moments
    expected = np.zeros_like(sums)
    for point in points.astype(np.float64):  # by the density of each Gaussian
        apart = point - mixture.centres
        white = np.einsum("kc,kcd->kd", apart, mixture.whitening.astype(np.float64))
        scale = np.diagonal(mixture.whitening, axis1=1, axis2=2).astype(np.float64).prod(1)
        logarithm = np.log(mixture.weights * scale) - 0.5 * (white**2).sum(1)
        density = np.exp(logarithm - logarithm.max())
        beside = np.concatenate([white, np.ones((k, 1))], 1)
        expected += (density / density.sum())[:, None, None] * beside[:, :, None] * beside[:, None, :]
    np.testing.assert_allclose(sums, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_an_update_is_a_step_of_expectation_maximisation() -> None:
    points, _ = gaussians(5, 3, 6000, seed=3)
    starts = [fit_mixture(points[:400], k) for k in (2, 5)]
    for start, found in zip(starts, updated(starts, statistics_of(torch.from_numpy(points), starts)), strict=True):
        model = GaussianMixture(
            start.k,
            max_iter=1,
            reg_covar=0,
            weights_init=start.weights.astype(np.float64) / start.weights.sum(dtype=np.float64),
            means_init=start.centres.astype(np.float64),
            precisions_init=np.linalg.inv(covariances_of(start)),
        )
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            model.fit(points.astype(np.float64))
        np.testing.assert_allclose(found.weights, model.weights_, atol=1e-5)
        np.testing.assert_allclose(found.centres, model.means_, atol=1e-4)
        np.testing.assert_allclose(covariances_of(found), model.covariances_, rtol=1e-4, atol=1e-4)
        assert not np.tril(found.whitening, -1).any()
        assert (np.diagonal(found.whitening, axis1=1, axis2=2) > 0).all()
        assert np.abs(found.centres - start.centres).max() > 0.01  # the step is not a small one


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_an_update_keeps_thin_layers(scale: float) -> None:
    points, which = layers()
    moved = np.float32(scale) * (points + np.float32(100))
    start = fit_mixture(moved[::2], 2)
    (found,) = updated([start], statistics_of(torch.from_numpy(moved), [start]))
    assert adjusted_rand_score(which, labels_of(found, moved)) > 0.97


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 5), st.integers(0, 2**16), st.sampled_from(["constant", "twice", "one"]))
def test_an_update_where_nothing_varies_ends_in_a_mixture(k: int, seed: int, case: str) -> None:
    points = np.random.default_rng(seed).normal(size=(200, 4)).astype(np.float32)
    if case == "constant":
        points[:, 2] = 7.3
    elif case == "twice":
        points[:, 2] = 3 * points[:, 0]
    start = fit_mixture(points, k)
    seen = points[:1].repeat(50, 0) if case == "one" else points
    (found,) = updated([start], statistics_of(torch.from_numpy(seen), [start]))
    for name in ("weights", "centres", "whitening"):
        assert np.isfinite(getattr(found, name)).all()
    assert (np.diagonal(found.whitening, axis1=1, axis2=2) > 0).all()
    assert found.weights.sum() == pytest.approx(1, abs=1e-5)
    if case != "one":
        assert (labels_of(found, points) == labels_of(start, points)).mean() > 0.8
