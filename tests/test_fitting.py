"""What is typical of several vocabularies is kept."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from math import log, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from numeric_core import PLAIN, blobs, realistic_model, volume_of
from small_runs import hold_a_small_vote
from vemosaic.blocks.events import Event, StageEnded, StageStarted, UnitDone
from vemosaic.clustering import Neighbours, Streamable, agreed, agreement, assign
from vemosaic.diffusion import CONTRAST, Diffusion
from vemosaic.embedding import Embedder
from vemosaic.embedding_sample import EmbeddingSample, describe_sample
from vemosaic.fitting import fit_clusters, fit_typical
from vemosaic.models.settings import Architecture
from vemosaic.settings import Settings
from vemosaic.volumes.intensity import measure_intensity
from vemosaic.volumes.volume import Volume

KS = (3, 5)


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        hold_a_small_vote(patch)
        yield


@pytest.fixture(scope="module")
def volume() -> Volume:
    return volume_of(blobs((20, 24, 28)))


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(realistic_model(Architecture(channels=(4, 4, 6, 8), latent=8, semantic=4)), PLAIN)


def settings(**more: Any) -> Settings:
    return Settings(clusters=KS, words=6, dimensions=3, smoothing=1.0, **more)


def shared(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    """Normalised mutual information, from the sums that define it."""
    together = Counter(zip(a.tolist(), b.tolist(), strict=True))
    first, second = Counter(a.tolist()), Counter(b.tolist())
    n = len(a)
    entropies = [-sum(c / n * log(c / n) for c in counts.values()) for counts in (first, second)]
    if len(first) == len(second) == 1:
        return 1.0
    mutual = sum(c / n * log(n * c / (first[i] * second[j])) for (i, j), c in together.items())
    return mutual / sqrt(entropies[0] * entropies[1]) if min(entropies) > 0 else 0.0


def tried(
    embedder: Embedder, volume: Volume, seed: int
) -> tuple[list[tuple[Embedder, EmbeddingSample]], npt.NDArray[np.float64]]:
    """Four vocabularies, one after the other, and how far the clusters of each agree with the others', ``(k, 4)``."""
    seeds = [seed, *np.random.default_rng([seed, 6]).integers(2**31, size=3).tolist()]
    diffusion = Diffusion(2, CONTRAST * measure_intensity(volume).spread, False)
    smooth = Embedder(embedder.model, PLAIN, smoothing=1.0, diffusion=diffusion)
    tries = list(describe_sample(smooth, volume, seeds, words=6, dimensions=3, detail=1.0))
    samples = [sample for _, sample in tries]
    alone = [fit_clusters(sample, KS, seed) for seed, sample in zip(seeds, samples, strict=True)]
    together = agreed(alone, [sample.embedding for sample in samples])  # type: ignore[arg-type]
    labels = [assign(torch.from_numpy(s.embedding), found) for s, found in zip(samples, together, strict=True)]
    alike = [agreement([found[i].numpy() for found in labels]) for i in range(len(KS))]
    return tries, np.array(alike)


class TestAgreement:
    """How far clusterings agree with each other."""

    @given(st.lists(st.lists(st.integers(1, 4), min_size=9, max_size=9), min_size=2, max_size=4))
    def test_is_the_mean_over_the_others(self, drawn: list[list[int]]) -> None:
        labels = [np.array(each, np.uint8) for each in drawn]
        expected = [np.mean([shared(a, b) for b in labels if b is not a]) for a in labels]
        np.testing.assert_allclose(agreement(labels), expected, atol=1e-9)

    def test_does_not_depend_on_numbers(self) -> None:
        labels = np.random.default_rng(0).integers(1, 5, 200).astype(np.uint8)
        np.testing.assert_allclose(agreement([labels, 5 - labels, labels]), 1)

    def test_of_more_voxels_some_are_looked_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("vemosaic.clustering.agreeing.COMPARED", 50)
        first, second = np.ones((2, 120), np.uint8)
        first[::3] = second[::3] = np.arange(40) % 4  # those that are looked at
        second[1::3] = 9
        np.testing.assert_allclose(agreement([first, second]), 1)


class TestTypical:
    """The vocabulary whose clusters agree best with the others'."""

    def test_is_the_one_that_agrees_best(self, embedder: Embedder, volume: Volume) -> None:
        for seed in range(1, 20):
            tries, alike = tried(embedder, volume, seed)
            best = int(alike.mean(0).argmax())
            if best > 0:  # or the test would show nothing
                break
        found, sample = tries[best]
        chosen = fit_typical(embedder, volume, settings(vocabularies=4, seed=seed, detail=1.0, diffusion=2))
        assert best > 0
        assert found.words is not None
        assert chosen.embedder.words is not None
        np.testing.assert_array_equal(chosen.embedder.words.centres, found.words.centres)
        np.testing.assert_array_equal(chosen.sample.embedding, sample.embedding)
        expected = assign(torch.from_numpy(sample.embedding), chosen.clusterings)
        assert [int(labels.max()) for labels in expected] == list(KS)
        assert list(chosen.agreement) == list(KS)
        np.testing.assert_allclose(list(chosen.agreement.values()), alike[:, best])

    def test_all_describe_the_same_voxels_and_the_first_is_that_of_one_alone(
        self, embedder: Embedder, volume: Volume
    ) -> None:
        (alone, sample), *_ = describe_sample(embedder, volume, [2], words=6, dimensions=3, count=500)
        (first, one), (second, other) = describe_sample(embedder, volume, [2, 9], words=6, dimensions=3, count=500)
        assert alone.words
        assert first.words
        assert second.words
        np.testing.assert_array_equal(first.words.codes, alone.words.codes)
        np.testing.assert_array_equal(one.embedding, sample.embedding)
        np.testing.assert_array_equal(one.voxel, other.voxel)
        assert not np.array_equal(first.words.centres, second.words.centres)

    @pytest.mark.parametrize(("words", "vocabularies", "trials"), [(6, 3, 3), (6, 1, 1), (0, 5, 1)])
    def test_trials_are_told_and_without_words_there_is_one(
        self, embedder: Embedder, volume: Volume, words: int, vocabularies: int, trials: int
    ) -> None:
        chosen, heard = settings(vocabularies=vocabularies).model_copy(update={"words": words}), list[Event]()
        found = fit_typical(embedder, volume, chosen, listen=heard.append)
        told = [e for e in heard if e.stage == "fit"]
        assert told == [
            StageStarted("fit", trials, unit_name="trial"),
            *[UnitDone("fit", 1)] * trials,
            StageEnded("fit"),
        ]
        assert set(found.agreement) == (set(KS) if trials > 1 else set())
        assert all(index <= 1 for index in found.agreement.values())

    def test_of_a_stream_the_clusters_can_follow(self, embedder: Embedder, volume: Volume) -> None:
        found = fit_typical(embedder, volume, settings(vocabularies=3, fit="stream"))
        assert all(isinstance(clusters, Streamable) for clusters in found.clusterings)


class TestContacts:
    """Neighbours in the cells of the sample, by which the tree of clusters knows edges."""

    @pytest.mark.parametrize("words", [0, 6])
    def test_are_the_voxels_of_the_cells_as_the_map_describes_them(self, embedder: Embedder, words: int) -> None:
        volume = volume_of(blobs((12, 14, 15)))  # one cell
        diffusion = Diffusion(2, CONTRAST * measure_intensity(volume).spread, False)
        given = replace(embedder, smoothing=1.0, diffusion=diffusion)
        ((found, sample),) = describe_sample(given, volume, [1], words=words, dimensions=3, count=500)
        assert sample.contacts is not None
        whole = found.box(volume, (0, 0, 0), volume.shape)
        np.testing.assert_allclose(sample.contacts.embedding, whole.reshape(-1, whole.shape[-1]), atol=1e-5)
        expected = Neighbours.of(volume.read((-1, -1, -1), (14, 16, 17)), diffusion)
        np.testing.assert_array_equal(sample.contacts.neighbours.pairs, expected.pairs)
        np.testing.assert_array_equal(sample.contacts.neighbours.conductances, expected.conductances)

    def test_lie_in_the_mask(self, embedder: Embedder) -> None:
        shape = (40, 24, 28)
        volume = volume_of(blobs(shape))
        inside = np.random.default_rng(0).random(shape) < 0.5
        mask = volume_of(inside.astype(np.uint8))
        given = replace(embedder, smoothing=1.0, diffusion=Diffusion(2, 10.0, False))
        ((_, sample),) = describe_sample(given, volume, [1], words=6, dimensions=3, mask=mask)
        assert sample.contacts is not None
        assert len(sample.contacts.embedding) == math.prod(shape)
        # All of the mask is drawn, cell by cell, and so tells which of the contacts' voxels lie where.
        assert len(sample.voxel) == inside.sum()
        edges = [[range(start, min(start + 16, n)) for start in range(0, n, 16)] for n in shape]
        boxes = [[edges[a][i] for a, i in enumerate(cell)] for cell in dict.fromkeys(map(tuple, sample.voxel // 16))]
        places = np.array([place for box in boxes for place in itertools.product(*box)])
        found = {tuple(map(tuple, pair)) for pair in places[sample.contacts.neighbours.pairs].tolist()}
        expected = set()
        for here in np.argwhere(inside).tolist():
            for axis in range(3):
                there = [h + (a == axis) for a, h in enumerate(here)]
                if there[axis] < shape[axis] and inside[tuple(there)] and there[axis] % 16:
                    expected.add((tuple(here), tuple(there)))
        assert found == expected

    def test_are_left_out_where_clusters_do_not_look_at_them(self, embedder: Embedder, volume: Volume) -> None:
        given = replace(embedder, smoothing=1.0, diffusion=Diffusion(2, 10.0, False))
        ((_, sample),) = describe_sample(given, volume, [1], words=6, dimensions=3, contacts=False)
        assert sample.contacts is None

    def test_where_edges_do_not_count_there_are_none(self, embedder: Embedder, volume: Volume) -> None:
        ((_, sample),) = describe_sample(replace(embedder, smoothing=1.0), volume, [1], words=6, dimensions=3)
        assert sample.contacts is None

    def test_tell_which_clusters_belong_together(
        self, embedder: Embedder, volume: Volume, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with_edges = fit_typical(embedder, volume, settings(vocabularies=1, diffusion=2))
        assert with_edges.sample.contacts is None  # they are large, and have told what they can
        monkeypatch.setattr("vemosaic.clustering.tree.EDGES", 0.0)
        without = fit_typical(embedder, volume, settings(vocabularies=1, diffusion=2))
        np.testing.assert_array_equal(with_edges.clusterings[0].fine, without.clusterings[0].fine)
        assert not np.array_equal(with_edges.clusterings[0].levels, without.clusterings[0].levels)
