from __future__ import annotations

import importlib.util
import json
from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from vemosaic.clustering import (
    CLUSTERERS,
    STREAMED,
    Clustering,
    Clusters,
    Consensus,
    HyperbolicClusters,
    Mixture,
    assign,
    check_clusterer,
    clustering_from_json,
)
from vemosaic.clustering.tree import Tree
from vemosaic.errors import SettingsError, VemosaicError
from vemosaic.settings import Settings

FAMILIES = [Clusters, Mixture, HyperbolicClusters, Consensus]
SHAPES = (st.sampled_from(FAMILIES), st.integers(1, 9), st.integers(1, 8), st.integers(0, 2**16))
INSTALLED = [name for name in CLUSTERERS if name != "pymc" or importlib.util.find_spec("pymc")]


def clustering_of(family: type[Clustering], k: int, channels: int, seed: int) -> Clustering:
    """Any clustering of a family, within the unit ball."""
    rng = np.random.default_rng(seed)
    centres = (rng.uniform(-1, 1, (k, channels)) / channels).astype(np.float32)
    if family is Consensus:
        fine = (rng.uniform(-1, 1, (3 * k, channels)) / channels).astype(np.float32)
        numbers = rng.permutation(np.arange(3 * k) % k + 1).astype(np.uint8)
        tree = Tree(rng.integers(0, 3 * k, (3 * k - 1, 2)), np.sort(rng.uniform(0, 1, 3 * k - 1)))
        return Consensus.of(fine, rng.uniform(1, 9, 3 * k), numbers, tree)
    if family is not Mixture:
        return family(centres)  # type: ignore[call-arg]
    whitening = np.triu(rng.normal(size=(k, channels, channels)), 1)
    whitening += rng.uniform(1, 9, (k, channels, 1)) * np.eye(channels)
    return Mixture(rng.dirichlet(np.ones(k)).astype(np.float32), centres, whitening.astype(np.float32))


def embedding_of(count: int, channels: int, seed: int) -> torch.Tensor:
    points = np.random.default_rng([seed, 1]).uniform(-1, 1, (count, channels)) / channels
    return torch.from_numpy(points.astype(np.float32))


def arrays_of(clustering: Clustering) -> dict[str, npt.NDArray[np.generic]]:
    """All that a clustering holds, its tree's, too."""
    held = dict(vars(clustering))
    tree = held.pop("tree", None)
    return held | (vars(tree) if tree else {})


@settings(max_examples=30, deadline=None)
@given(*SHAPES)
def test_json_brings_the_same_clustering_back(family: type[Clustering], k: int, channels: int, seed: int) -> None:
    clustering = clustering_of(family, k, channels, seed)
    again = clustering_from_json(json.loads(json.dumps(clustering.to_json(), allow_nan=False)))
    assert type(again) is family
    before, after = arrays_of(clustering), arrays_of(again)
    assert after.keys() == before.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)
        assert after[name].dtype == array.dtype


def test_centres_of_earlier_runs_are_those_of_k_means() -> None:
    found = clustering_from_json([[0.5, 1.0], [2.0, -3.0]])
    assert isinstance(found, Clusters)
    assert found.to_json() == [[0.5, 1.0], [2.0, -3.0]]


@settings(max_examples=30, deadline=None)
@given(*SHAPES)
def test_renumbering_changes_numbers_and_nothing_else(
    family: type[Clustering], k: int, channels: int, seed: int
) -> None:
    clustering, embedding = clustering_of(family, k, channels, seed), embedding_of(300, channels, seed)
    order = np.random.default_rng(seed).permutation(k)
    before = assign(embedding, [clustering])[0].numpy()
    after = assign(embedding, [clustering.renumbered(order)])[0].numpy()
    assert np.mean(order[after.astype(int) - 1] + 1 == before) > 0.99  # but for ties


@settings(max_examples=30, deadline=None)
@given(*SHAPES)
def test_numbers_go_from_dark_to_bright(family: type[Clustering], k: int, channels: int, seed: int) -> None:
    clustering, embedding = clustering_of(family, k, channels, seed), embedding_of(300, channels, seed)
    grey = np.random.default_rng(seed).uniform(0, 255, 300).astype(np.float32)
    ordered = clustering.ordered_by(embedding.numpy(), grey)
    labels = assign(embedding, [ordered])[0].numpy()
    means = [grey[labels == number].mean() for number in range(1, k + 1) if (labels == number).any()]
    assert means == sorted(means)
    assert sorted(map(tuple, ordered.centres.tolist())) == sorted(map(tuple, clustering.centres.tolist()))


@pytest.mark.parametrize("family", FAMILIES)
def test_several_of_a_family_at_once_equal_one_by_one(family: type[Clustering]) -> None:
    found = [clustering_of(family, k, 5, k) for k in (4, 7, 2, 10)]
    embedding = embedding_of(6 * 7 * 8, 5, 0).view(6, 7, 8, 5)
    for labels, clustering in zip(assign(embedding, found), found, strict=True):
        assert labels.shape == (6, 7, 8)
        assert labels.dtype == torch.uint8
        assert 1 <= labels.min() <= labels.max() <= clustering.k
        assert torch.equal(labels, assign(embedding, [clustering])[0])


def test_families_may_be_mixed() -> None:
    found = [clustering_of(family, 4, 3, 1) for family in FAMILIES]
    embedding = embedding_of(400, 3, 0)
    together = assign(embedding, found)
    for labels, clustering in zip(together, found, strict=True):
        assert torch.equal(labels, assign(embedding, [clustering])[0])
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("name", INSTALLED)
def test_fewer_different_voxels_than_clusters_are_refused(name: str) -> None:
    sample = np.repeat(np.eye(3, dtype=np.float32) / 2, 50, axis=0)
    with pytest.raises(VemosaicError, match=r"--clusters: 4 were asked for, but only 3 .*; ask for fewer"):
        CLUSTERERS[name](sample, [4], 0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", INSTALLED)
def test_what_is_not_finite_is_refused(name: str, value: float) -> None:
    sample = embedding_of(100, 3, 0).numpy().copy()
    sample[7, 1] = value
    with pytest.raises(VemosaicError, match="not a finite number"):
        CLUSTERERS[name](sample, [2], 0)


def test_points_outside_the_ball_are_refused() -> None:
    sample = embedding_of(100, 3, 0).numpy().copy()
    sample[7] = (0.9, 0.9, 0)
    with pytest.raises(SettingsError, match=r"length 1\.27, outside the Poincaré ball; .*--preset cihs"):
        CLUSTERERS["hyperbolic"](sample, [2], 0)
    sample[7] = (0.6, -0.8, 0)  # on its boundary
    assert np.isfinite(CLUSTERERS["hyperbolic"](sample, [2], 0)[0].centres).all()


def test_hyperbolic_clusters_lie_where_the_poincare_distance_says() -> None:
    """Near the boundary the Euclidean distance says another thing."""
    clusters = HyperbolicClusters(np.array([[0, 0], [0.99, 0]], np.float32))
    points = torch.tensor([[0.6, 0.0], [0.98, 0.0], [0.9, 0.0]])
    assert assign(points, [clusters])[0].tolist() == [1, 2, 2]
    assert assign(points, [Clusters(clusters.centres)])[0].tolist() == [2, 2, 2]


def test_settings_name_the_clusterers_there_are() -> None:
    assert set(get_args(Settings.model_fields["clusterer"].annotation)) == set(CLUSTERERS)
    assert Settings().clusterer == "consensus"
    with pytest.raises(ValidationError, match="'consensus', 'kmeans', 'mixture', 'pymc' or 'hyperbolic'"):
        Settings(clusterer="dbscan")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["pymc", "hyperbolic"])
def test_not_all_follow_a_stream(name: str) -> None:
    with pytest.raises(SettingsError, match=f"--clusterer {name}: cannot follow a stream; use --fit sample"):
        Settings.model_validate({"clusterer": name, "fit": "stream", "words": 0})
    assert set(STREAMED) == set(CLUSTERERS) - {"pymc", "hyperbolic"}
    assert Settings(fit="stream").clusterer == "consensus"


def test_texture_words_are_refused_for_hyperbolic_clusters() -> None:
    with pytest.raises(SettingsError, match="texture words do not lie in the Poincaré ball; add --words 0"):
        Settings(clusterer="hyperbolic")
    assert Settings(clusterer="hyperbolic", words=0).words == 0


def test_a_missing_pymc_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vemosaic.clustering.pymc_mixture.find_spec", lambda _: None)
    message = r"--clusterer pymc: PyMC is not installed; pip install 'vemosaic\[pymc\]'"
    with pytest.raises(SettingsError, match=message):
        check_clusterer("pymc")
    with pytest.raises(SettingsError, match=message):
        CLUSTERERS["pymc"](embedding_of(100, 3, 0).numpy(), [2], 0)
    for name in ("kmeans", "mixture", "hyperbolic"):
        check_clusterer(name)
