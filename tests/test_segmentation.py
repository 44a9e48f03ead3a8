"""From a trained encoder to a map: what is sampled, what is streamed, and that no choice of blocks changes a voxel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from numeric_core import PLAIN, blobs, realistic_model, volume_of
from vemosaic.blocks.events import Event, StageEnded, StageStarted, UnitDone
from vemosaic.blocks.executors import InProcess
from vemosaic.blocks.grid import Unit, units
from vemosaic.blocks.records import Ledger
from vemosaic.blocks.work import Work
from vemosaic.clustering import Clusters, Statistics, assign, statistics_of
from vemosaic.embedding import Embedder, tiles_of
from vemosaic.embedding_sample import CELLS, EmbeddingSample, _in_random_order, describe_sample
from vemosaic.errors import VolumeError
from vemosaic.fitting import begin_clusters, fit_clusters
from vemosaic.models.settings import Architecture
from vemosaic.segmentation import embedding_steps, follow_all, map_steps, unit_statistics
from vemosaic.volumes.embedding_store import EmbeddingStore
from vemosaic.volumes.labels import LabelStore
from vemosaic.volumes.volume import Shape, Volume

SHAPE = (21, 30, 40)
TILE = 8


@pytest.fixture(scope="module")
def volume() -> Volume:
    return volume_of(blobs(SHAPE))


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    model = realistic_model(Architecture(channels=(4, 4, 6, 8), latent=8, semantic=4))
    return Embedder(model, PLAIN, smoothing=1.0)


@pytest.fixture(scope="module")
def dense(embedder: Embedder, volume: Volume) -> npt.NDArray[np.float32]:
    """The embedding of every voxel."""
    return embedder.box(volume, (0, 0, 0), SHAPE)


def masked(*box: slice) -> Volume:
    mask = np.zeros(SHAPE, np.uint8)
    mask[box] = 7
    return volume_of(mask, "mask.tif")


def sample_embedding(
    embedder: Embedder, volume: Volume, *, seed: int = 0, **more: Any
) -> tuple[Embedder, EmbeddingSample]:
    """The sample described by one vocabulary."""
    ((found, sample),) = describe_sample(embedder, volume, [seed], **more)
    return found, sample


class TestSample:
    """Voxels drawn uniformly."""

    def test_every_voxel_of_a_small_volume(
        self, embedder: Embedder, volume: Volume, dense: npt.NDArray[np.float32]
    ) -> None:
        same, sample = sample_embedding(embedder, volume)
        assert same == embedder
        assert len({tuple(v) for v in sample.voxel}) == len(sample.voxel) == np.prod(SHAPE)
        z, y, x = sample.voxel.T
        np.testing.assert_allclose(sample.embedding, dense[z, y, x], atol=1e-4)
        np.testing.assert_array_equal(sample.intensity, np.asarray(volume.array)[z, y, x])

    def test_as_many_as_wanted_from_each_place_alike(self, embedder: Embedder, volume: Volume) -> None:
        _, sample = sample_embedding(embedder, volume, count=2_000)
        assert abs(len(sample.voxel) - 2_000) <= 2
        counts, _ = np.histogram(sample.voxel[:, 2], bins=4, range=(0, SHAPE[2]))
        assert counts.min() > 400  # 500 +- 5 standard deviations, were they drawn one by one
        assert counts.max() < 600

    def test_the_seed_decides(self, embedder: Embedder, volume: Volume) -> None:
        drawn = [sample_embedding(embedder, volume, count=500, seed=seed)[1] for seed in (1, 1, 2)]
        np.testing.assert_array_equal(drawn[0].voxel, drawn[1].voxel)
        np.testing.assert_array_equal(drawn[0].embedding, drawn[1].embedding)
        assert not np.array_equal(drawn[0].voxel, drawn[2].voxel)

    @pytest.mark.parametrize("words", [0, 5])
    def test_only_from_the_mask(self, embedder: Embedder, volume: Volume, words: int) -> None:
        box = (slice(3, 9), slice(10, 28), slice(33, 40))
        found, sample = sample_embedding(embedder, volume, mask=masked(*box), words=words)
        inside = {(z, y, x) for z in range(3, 9) for y in range(10, 28) for x in range(33, 40)}
        assert {tuple(v) for v in sample.voxel.tolist()} == inside
        assert (found.words is None) is (words == 0)

    def test_looking_for_a_mask_is_heard(self, embedder: Embedder, volume: Volume) -> None:
        events: list[Event] = []
        box = (slice(3, 9), slice(10, 28), slice(33, 40))
        sample_embedding(embedder, volume, mask=masked(*box), listen=events.append)
        heard = [e for e in events if e.stage == "mask"]
        # Of 2 x 2 x 3 cells two hold some of it.
        found = [UnitDone("mask", 1)] * 2
        assert heard == [StageStarted("mask", 12, unit_name="cell"), *found, UnitDone("mask", 10), StageEnded("mask")]
        assert events[: len(heard)] == heard

    def test_an_empty_mask_is_refused(self, embedder: Embedder, volume: Volume) -> None:
        with pytest.raises(VolumeError, match=r"mask\.tif: the mask holds no voxel; give a mask with non-zero voxels"):
            sample_embedding(embedder, volume, mask=masked(slice(0, 0)))

    def test_words_describe_the_sample_as_the_map(self, embedder: Embedder, volume: Volume) -> None:
        found, sample = sample_embedding(embedder, volume, words=6, dimensions=3)
        assert found.words is not None
        assert found.words.centres.shape == (6, 4)
        assert sample.embedding.shape[1] == found.channels == 3
        expected = found.box(volume, (0, 0, 0), SHAPE)[tuple(sample.voxel.T)]
        wrong = np.abs(sample.embedding - expected).max(1) > 1e-3  # where a voxel lies between two words
        assert wrong.mean() < 0.01

    def test_words_whiten_their_surroundings(self, embedder: Embedder, volume: Volume) -> None:
        _, sample = sample_embedding(embedder, volume, words=6, dimensions=3)
        np.testing.assert_allclose(sample.embedding.mean(0), 0, atol=1e-3)
        np.testing.assert_allclose(np.cov(sample.embedding.T), np.eye(3), atol=1e-2)

    def test_a_large_volume_is_not_read_whole(self, embedder: Embedder) -> None:
        class Ones:
            shape: Shape = (100_000, 100_000, 100_000)
            dtype = np.dtype(np.float32)
            read = 0

            def __getitem__(self, box: Any) -> npt.NDArray[np.float32]:
                asked = tuple(b.stop - b.start for b in box)
                self.read += int(np.prod(asked))
                return np.ones(asked, np.float32)

        array, events = Ones(), list[Event]()
        huge, cell = volume_of(array), 8
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("vemosaic.embedding_sample.CELL", cell)
            sample_embedding(embedder, huge, count=100, listen=events.append)
        assert array.read <= CELLS * (cell + 2 * (max(embedder.halo) + max(embedder.reach))) ** 3
        assert events[0] == StageStarted("sample", CELLS * cell**3)
        assert sum(e.amount for e in events if isinstance(e, UnitDone)) == CELLS * cell**3
        assert events[-1] == StageEnded("sample")


@pytest.mark.parametrize("count", [1, 30, 300])
def test_cells_are_tried_in_random_order_listed_or_not(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vemosaic.embedding_sample.LISTED", 100)
    orders = [list(_in_random_order(count, np.random.default_rng(seed))) for seed in (1, 1, 2)]
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == sorted(orders[2]) == list(range(count))
    assert count == 1 or orders[0] != orders[2]


def test_thinning_draws_without_repeating() -> None:
    rng = np.random.default_rng(0)
    sample = EmbeddingSample(
        np.arange(300).reshape(100, 3), rng.normal(size=(100, 2)).astype("f4"), np.arange(100, dtype="f4")
    )
    assert sample.thinned(100) is sample
    thin = sample.thinned(40, seed=1)
    assert len(set(thin.intensity.tolist())) == 40
    rows = thin.intensity.astype(int)
    np.testing.assert_array_equal(thin.voxel, sample.voxel[rows])
    np.testing.assert_array_equal(thin.embedding, sample.embedding[rows])
    np.testing.assert_array_equal(sample.thinned(40, seed=1).voxel, thin.voxel)
    assert not np.array_equal(sample.thinned(40, seed=2).voxel, thin.voxel)


class TestFit:
    """Clusters of a sample or of a stream."""

    @pytest.mark.parametrize("streamed", [False, True])
    def test_clusters_are_numbered_from_dark_to_bright(self, streamed: bool) -> None:
        rng = np.random.default_rng(0)
        intensity = rng.permutation(np.repeat([10.0, 20.0, 30.0], 500)).astype(np.float32)
        embedding = np.stack([np.cos(intensity), np.sin(intensity)], 1) + 0.01 * rng.normal(size=(1500, 2))
        sample = EmbeddingSample(np.zeros((1500, 3), np.int64), embedding.astype(np.float32), intensity)
        (found,) = begin_clusters(sample, [3]) if streamed else fit_clusters(sample, [3])
        expected = np.stack([np.cos([10, 20, 30]), np.sin([10, 20, 30])], 1)
        np.testing.assert_allclose(found.centres, expected, atol=0.02)

    def test_every_k(self, embedder: Embedder, volume: Volume) -> None:
        _, sample = sample_embedding(embedder, volume, count=2_000)
        assert [c.k for c in fit_clusters(sample, (2, 5, 3))] == [2, 5, 3]


class TestStream:
    """Sums over all voxels, unit by unit."""

    def test_each_voxel_once(self, embedder: Embedder, volume: Volume, dense: npt.NDArray[np.float32]) -> None:
        whole = statistics_of(torch.from_numpy(dense), CLUSTERS)
        found = [
            unit_statistics(embedder, unit, embedder.read(volume, unit), CLUSTERS)
            for unit in units(SHAPE, (TILE, 2 * TILE, 5 * TILE))
        ]
        merged = reduce(Statistics.merge, found)
        assert merged.moments[:2, 0].sum() == merged.moments[2:, 0].sum() == dense[..., 0].size
        np.testing.assert_allclose(merged.moments, whole.moments, rtol=1e-3)

    def test_only_the_mask(self, embedder: Embedder, volume: Volume) -> None:
        mask = masked(slice(0, 5), slice(0, 6), slice(0, 7))
        found = [
            unit_statistics(embedder, unit, embedder.read(volume, unit), CLUSTERS, mask)
            for unit in units(SHAPE, (TILE, TILE, TILE))
        ]
        assert reduce(Statistics.merge, found).moments[:2, 0].sum() == 5 * 6 * 7

    def test_a_unit_without_mask(self, embedder: Embedder, volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
        unit, mask = Unit((0, 0, 0), (0, 0, 0), (16, 16, 16)), masked(slice(16, 20), slice(0, 6), slice(0, 7))
        monkeypatch.setattr(Embedder, "tiles", None)  # nothing is embedded
        found = unit_statistics(embedder, unit, embedder.read(volume, unit), CLUSTERS, mask)
        whole = statistics_of(torch.ones(3, 4), CLUSTERS)
        np.testing.assert_array_equal(whole.merge(found).moments, whole.moments)

    def test_one_step_towards_all(self, embedder: Embedder, volume: Volume, dense: npt.NDArray[np.float32]) -> None:
        (found,) = follow_all(embedder, volume, CLUSTERS[:1])
        nearest = np.linalg.norm(dense[..., None, :] - CLUSTERS[0].centres, axis=-1).argmin(-1)
        for number, centre in enumerate(found.centres):
            np.testing.assert_allclose(centre, dense[nearest == number].mean(0), rtol=1e-3, atol=1e-4)


CLUSTERS = [Clusters(np.random.default_rng(k).normal(size=(k, 4)).astype(np.float32)) for k in (2, 5)]
Edge = st.integers(1, 6).map(lambda n: n * TILE)


class TestMap:
    """Every voxel gets its cluster."""

    @staticmethod
    def mapped(
        folder: Path, embedder: Embedder, volume: Volume, shard: Shape, mask: Volume | None = None
    ) -> list[npt.NDArray[np.uint8]]:
        store = LabelStore.create(
            folder / "map.ome.zarr", ks=[2, 5], shape=volume.shape, voxel_size=(16.0,) * 3, translation=(0.0,) * 3,
            shard=shard,
        )  # fmt: skip
        ledger = Ledger(
            folder / "records",
            "map",
            "mark",
            owns=lambda unit: [f for k in (2, 5) for f in store.files(k, 0, unit.origin, unit.shape)],
            root=folder,
        )
        steps = map_steps(embedder, volume, CLUSTERS, store, ledger, mask=mask)
        InProcess().carry_out(units(volume.shape, store.shard), Work(steps))
        return [store.read(k, 0, (0, 0, 0), volume.shape) for k in (2, 5)]

    def test_the_nearest_centre(
        self, embedder: Embedder, volume: Volume, dense: npt.NDArray[np.float32], tmp_path: Path
    ) -> None:
        distances = [np.linalg.norm(dense[..., None, :] - c.centres, axis=-1) for c in CLUSTERS]
        for found, distance in zip(self.mapped(tmp_path, embedder, volume, (16, 16, 16)), distances, strict=True):
            chosen = np.take_along_axis(distance, found[..., None] - 1, -1)[..., 0]
            np.testing.assert_allclose(chosen, distance.min(-1), atol=1e-3)

    @settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(shard=st.tuples(Edge, Edge, Edge))
    def test_shards_change_no_voxel(
        self, embedder: Embedder, volume: Volume, tmp_path_factory: pytest.TempPathFactory, shard: Shape
    ) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tiles_of, "__defaults__", (TILE,))
            whole = embedder.box(volume, (0, 0, 0), SHAPE)
            expected = assign_all(whole)
            found = self.mapped(tmp_path_factory.mktemp("shards"), embedder, volume, shard)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_zero_outside_the_mask(self, embedder: Embedder, volume: Volume, tmp_path: Path) -> None:
        mask = masked(slice(5, 20), slice(0, 30), slice(17, 40))
        everywhere = self.mapped(tmp_path / "a", embedder, volume, (16, 16, 16))
        inside = np.asarray(mask.array) != 0
        for found, whole in zip(
            self.mapped(tmp_path / "b", embedder, volume, (16, 16, 16), mask), everywhere, strict=True
        ):
            np.testing.assert_array_equal(found, np.where(inside, whole, 0))

    def test_what_holds_nothing_of_the_mask_takes_no_time(
        self, embedder: Embedder, volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        embedded, tiles = [], Embedder.tiles

        def heard(self: Embedder, box: Unit, voxels: npt.NDArray[np.float32]) -> Iterator[tuple[Unit, torch.Tensor]]:
            embedded.append(box.origin)
            return tiles(self, box, voxels)

        monkeypatch.setattr(Embedder, "tiles", heard)
        self.mapped(tmp_path, embedder, volume, (16, 16, 16), masked(slice(5, 9), slice(0, 9), slice(17, 40)))
        assert embedded == [(0, 0, 16), (0, 0, 32)]

    def test_nan_that_only_the_map_meets(self, embedder: Embedder, tmp_path: Path) -> None:
        image = blobs(SHAPE)
        image[20, 29, 39] = np.nan
        with pytest.raises(VolumeError, match="array: holds NaN or infinite voxels near"):
            self.mapped(tmp_path, embedder, volume_of(image), (16, 16, 16))
        assert not (tmp_path / "map.ome.zarr/zarr.json").exists()


def assign_all(embedding: npt.NDArray[np.float32]) -> list[npt.NDArray[np.uint8]]:
    return [labels.numpy() for labels in assign(torch.from_numpy(embedding), CLUSTERS)]


def test_the_stored_embedding_is_the_dense_one(
    embedder: Embedder, volume: Volume, dense: npt.NDArray[np.float32], tmp_path: Path
) -> None:
    plain = replace(embedder, smoothing=1.0)
    store = EmbeddingStore.create(tmp_path / "e.ome.zarr", channels=4, shape=SHAPE, shard=(16, 16, 32))
    ledger = Ledger(
        tmp_path / "records", "embed", "mark", owns=lambda unit: store.files(unit.origin, unit.shape), root=tmp_path
    )
    events: list[Event] = []
    for _ in range(2):
        steps = embedding_steps(plain, volume, store, ledger)
        InProcess().carry_out(units(volume.shape, store.shard), Work(steps), events.append)
    stored = store.read((0, 0, 0), SHAPE)
    np.testing.assert_allclose(stored, np.moveaxis(dense, -1, 0), rtol=2e-3, atol=1e-3)
    starts = [e.done for e in events if isinstance(e, StageStarted)]
    assert starts == [0, np.prod(SHAPE)]
