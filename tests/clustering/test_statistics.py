from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import reduce

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vemosaic.clustering import STREAMED, Clusters, Mixture, Statistics, Streamable, assign, statistics_of, updated
from vemosaic.clustering import statistics as module
from vemosaic.errors import VemosaicError


def points_of(count: int, channels: int = 3, seed: int = 0) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (2 * rng.integers(-1, 2, (count, channels)) + rng.normal(size=(count, channels))).astype(np.float32)


def clusterings_of(family: str, ks: tuple[int, ...] = (2, 5, 3), channels: int = 3, seed: int = 0) -> list[Streamable]:
    rng = np.random.default_rng(seed)
    found: list[Streamable] = []
    for k in ks:
        centres = 2 * rng.normal(size=(k, channels)).astype(np.float32)
        if family == "kmeans":
            found.append(Clusters(centres))
        else:
            whitening = np.triu(rng.normal(size=(k, channels, channels)), 1) + np.eye(channels)
            weights = rng.dirichlet(np.full(k, 5.0))
            found.append(Mixture(weights.astype(np.float32), centres, whitening.astype(np.float32)))
    return found


def same(first: Streamable, second: Streamable) -> bool:
    return type(first) is type(second) and first.to_json() == second.to_json()


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


FAMILIES = pytest.mark.parametrize("family", ["kmeans", "mixture"])


@FAMILIES
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 900), max_size=5), seed=st.integers(0, 2**16))
def test_merged_parts_are_the_whole(family: str, cuts: list[int], seed: int) -> None:
    clusterings, points = clusterings_of(family, seed=seed), torch.from_numpy(points_of(900, seed=seed))
    edges = [0, *sorted(cuts), 900]
    parts = [statistics_of(points[a:b], clusterings) for a, b in itertools.pairwise(edges)]
    whole, merged = statistics_of(points, clusterings), reduce(Statistics.merge, parts)
    np.testing.assert_allclose(merged.moments, whole.moments, rtol=1e-4, atol=1e-2)  # float32 within a part
    again = reduce(Statistics.merge, [Statistics.from_bytes(part.to_bytes()) for part in parts])
    np.testing.assert_array_equal(again.moments, merged.moments)
    middle = len(parts) // 2
    halves = [reduce(Statistics.merge, half) for half in (parts[:middle], parts[middle:]) if half]
    grouped = reduce(Statistics.merge, reversed(halves))
    scale = np.abs(np.stack([part.moments for part in parts])).sum(0).max()
    np.testing.assert_allclose(grouped.moments, merged.moments, rtol=1e-12, atol=1e-12 * scale)


@FAMILIES
def test_several_at_once_equal_one_by_one(family: str) -> None:
    clusterings, points = clusterings_of(family), torch.from_numpy(points_of(2000))
    together = updated(clusterings, statistics_of(points, clusterings))
    assert [clustering.k for clustering in together] == [2, 5, 3]
    for clustering, found in zip(clusterings, together, strict=True):
        (alone,) = updated([clustering], statistics_of(points, [clustering]))
        np.testing.assert_allclose(found.centres, alone.centres, atol=1e-5)


@FAMILIES
def test_any_number_of_threads_gives_the_same_bits(family: str, threads: None) -> None:
    clusterings = clusterings_of(family, tuple(range(4, 11)), 6)
    points = torch.from_numpy(points_of(20_000, 6))
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        found.append(statistics_of(points, clusterings).moments)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@FAMILIES
def test_any_shape_of_a_block_is_taken(family: str) -> None:
    clusterings, points = clusterings_of(family), torch.from_numpy(points_of(4 * 5 * 6))
    block = statistics_of(points.view(4, 5, 6, 3), clusterings)
    np.testing.assert_array_equal(block.moments, statistics_of(points, clusterings).moments)


@FAMILIES
def test_no_voxels_change_nothing(family: str) -> None:
    """A block may lie wholly outside the mask."""
    clusterings, points = clusterings_of(family), torch.from_numpy(points_of(300))
    none, some = (statistics_of(part, clusterings) for part in (points[:0], points))
    np.testing.assert_array_equal(none.merge(some).moments, some.moments)
    for before, after in zip(clusterings, updated(clusterings, none), strict=True):
        assert same(before, after)


@FAMILIES
def test_clusters_without_voxels_stay_where_they_are(family: str) -> None:
    points = points_of(300)
    (clustering,) = clusterings_of(family, (4,))
    clustering.centres[2] = 1e4
    (found,) = updated([clustering], statistics_of(torch.from_numpy(points), [clustering]))
    np.testing.assert_array_equal(found.centres[2], clustering.centres[2])
    assert 3 not in assign(torch.from_numpy(points), [found])[0]
    if isinstance(found, Mixture) and isinstance(clustering, Mixture):
        assert found.weights[2] == 0
        np.testing.assert_array_equal(found.whitening[2], clustering.whitening[2])


@FAMILIES
def test_long_embeddings_are_summed_in_parts(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clusterings, points = clusterings_of(family), torch.from_numpy(points_of(1000))
    whole = statistics_of(points, clusterings)
    monkeypatch.setattr(module, "CACHED", 600)
    np.testing.assert_allclose(statistics_of(points, clusterings).moments, whole.moments, rtol=1e-4, atol=1e-2)


def test_statistics_about_others_are_refused() -> None:
    first, second = clusterings_of("kmeans", seed=0), clusterings_of("kmeans", seed=1)
    points = torch.from_numpy(points_of(50))
    with pytest.raises(ValueError, match="different clusterings"):
        statistics_of(points, first).merge(statistics_of(points, second))
    with pytest.raises(ValueError, match="other clusterings"):
        updated(first, statistics_of(points, second))


def test_statistics_are_read_only() -> None:
    sums = statistics_of(torch.from_numpy(points_of(50)), clusterings_of("kmeans"))
    with pytest.raises(ValueError, match="read-only"):
        sums.moments[0] = 0


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "something else", "another npz"])
def test_damaged_bytes_are_refused(damage: str) -> None:
    whole = statistics_of(torch.from_numpy(points_of(50)), clusterings_of("kmeans")).to_bytes()
    place = len(whole) // 2
    data = {
        "cut": whole[:place],
        "flipped": whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :],
        "empty": b"",
        "something else": b"\x93NUMPY no array",
        "another npz": Statistics("", np.zeros(3)).to_bytes().replace(b"moments", b"momenta"),
    }[damage]
    with pytest.raises(ValueError, match=r"damaged|no statistics"):
        Statistics.from_bytes(data)


@FAMILIES
def test_an_embedding_that_is_not_finite_is_refused(family: str) -> None:
    clusterings, points = clusterings_of(family), points_of(300)
    points[7, 1] = np.nan
    with pytest.raises(VemosaicError, match="not a finite number"):
        updated(clusterings, statistics_of(torch.from_numpy(points), clusterings))


@pytest.mark.parametrize("clusterer", STREAMED)
def test_a_stream_begins_at_a_sample(clusterer: str) -> None:
    found = STREAMED[clusterer](points_of(2000), [3, 5], 0)
    assert [clustering.k for clustering in found] == [3, 5]
    again = STREAMED[clusterer](points_of(2000), [3, 5], 0)
    assert all(same(first, second) for first, second in zip(found, again, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@FAMILIES
def test_a_gpu_gives_the_same_sums(family: str) -> None:
    clusterings = clusterings_of(family, (4, 9), 6)
    points = torch.from_numpy(points_of(300_000, 6))
    near, far = (statistics_of(p, clusterings).moments for p in (points, points.cuda()))
    np.testing.assert_allclose(far, near, rtol=1e-4, atol=1e-5 * np.abs(near).max())
