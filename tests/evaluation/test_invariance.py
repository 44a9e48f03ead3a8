from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from vemosaic.errors import VemosaicError
from vemosaic.evaluation import class_sample
from vemosaic.evaluation import invariance as invariance_module
from vemosaic.evaluation.class_sample import draw_voxels
from vemosaic.evaluation.invariance import WHOLE, invariance
from vemosaic.evaluation.patch_transforms import (
    KINDS,
    distances,
    encode,
    means_at,
    offsets,
    patches_at,
    reach,
    transformed_means,
)
from vemosaic.hyperbolic import poincare
from vemosaic.models.model import Model, build
from vemosaic.models.patch_view import resample
from vemosaic.models.settings import Architecture, ModelSettings
from vemosaic.patches import standardised
from vemosaic.presets import CIHS, HAN2022
from vemosaic.volumes import at_voxel_size, open_volume
from vemosaic.volumes.volume import Volume

SMALL = ModelSettings(architecture=Architecture(channels=(4, 4, 6, 8), latent=8, semantic=4))


@dataclass(frozen=True)
class InMemory:
    classes: npt.NDArray[np.uint8]
    class_names: tuple[str, ...] = ("rest", "common", "rare", "missing")

    def read(self, origin: Any, shape: Any) -> npt.NDArray[np.uint8]:
        return self.classes[tuple(slice(o, o + n) for o, n in zip(origin, shape, strict=True))]


def model_of(settings: ModelSettings) -> Model:
    return Model(build(settings, seed=1).eval(), settings)


@pytest.fixture(scope="module")
def volume() -> Volume:
    return open_volume(np.random.default_rng(0).normal(100, 20, (40, 44, 48)).astype(np.float32), voxel_size=10.0)


@pytest.fixture(scope="module")
def reference(volume: Volume) -> InMemory:
    classes = np.zeros(volume.shape, np.uint8)
    classes[:, :22] = 1
    classes[20, 30, 20:29] = 2
    return InMemory(classes)


def test_sample_has_the_classes_in_proportion_and_as_many_of_each_as_there_are(reference: InMemory) -> None:
    drawn = draw_voxels(reference.classes.shape, reference, count=4000, each=50, margin=7)
    for voxels in (drawn.uniform, *drawn.by_class.values()):
        assert voxels.min() >= 7
        assert (voxels < np.array(reference.classes.shape) - 7).all()
        assert len(np.unique(voxels, axis=0)) == len(voxels)
    np.testing.assert_array_equal(reference.classes[tuple(drawn.uniform.T)], drawn.classes)
    assert np.mean(drawn.classes == 1) == pytest.approx(0.5, abs=0.03)
    assert {index: len(voxels) for index, voxels in drawn.by_class.items()} == {0: 50, 1: 50, 2: 9}
    for index, voxels in drawn.by_class.items():
        assert (reference.classes[tuple(voxels.T)] == index).all()


def test_sample_reads_on_until_it_has_the_rare_class(reference: InMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_sample, "CUBE", (8, 8, 8))
    monkeypatch.setattr(class_sample, "FEWEST_CUBES", 1)
    reads = []

    class Counted(InMemory):
        def read(self, origin: Any, shape: Any) -> npt.NDArray[np.uint8]:
            reads.append(origin)
            return super().read(origin, shape)

    common = Counted(np.minimum(reference.classes, 1), ("rest", "common"))
    draw_voxels(reference.classes.shape, common, count=20, each=20)
    until_common = len(reads)
    drawn = draw_voxels(
        reference.classes.shape, Counted(reference.classes, ("rest", "common", "rare")), count=20, each=9
    )
    assert len(drawn.by_class[2]) == 9
    assert until_common < 20 < len(reads) - until_common


def test_sample_stays_within_the_mask_and_refuses_an_empty_one(reference: InMemory) -> None:
    inside = np.zeros(reference.classes.shape, np.uint8)
    inside[10:20] = 1
    mask = open_volume(inside, labels=True)
    drawn = draw_voxels(inside.shape, reference, count=100, each=5, mask=mask)
    assert set(drawn.by_class) == {0, 1}
    assert inside[tuple(drawn.uniform.T)].all()
    with pytest.raises(VemosaicError, match="no voxel of it is mapped"):
        draw_voxels(inside.shape, None, count=5, each=5, mask=open_volume(0 * inside, labels=True))


@pytest.mark.parametrize("settings", [SMALL, HAN2022.model, CIHS.model], ids=lambda s: s.preset)
def test_untransformed_patches_are_those_that_the_encoder_sees(settings: ModelSettings, volume: Volume) -> None:
    if settings.preset == "han2022":
        settings = settings.model_copy(
            update={"architecture": settings.architecture.model_copy(update={"width": 0.25})}
        )
    model = model_of(settings)
    intensity = model.measure(volume)
    voxels = np.array([[12, 15, 20], [0, 43, 24]])  # one at the border: mirrored
    windows = np.stack([volume.read((voxel - 8).tolist(), (17, 17, 17)) for voxel in voxels])
    expected = resample(torch.from_numpy(intensity.normalise(windows)), model.encoder.points, model.encoder.half_size)
    if settings.preset == "han2022":
        expected = standardised(expected)
    torch.testing.assert_close(patches_at(model, volume, intensity, voxels), expected, rtol=1e-4, atol=1e-4)


def test_transforms_are_what_they_are_called() -> None:
    model = model_of(SMALL)
    generator = torch.Generator().manual_seed(0)
    made = {kind: offsets(kind, model, 50, 3, generator) for kind in KINDS}
    half = model.encoder.half_size
    corner = {kind: grid[:, :, 0, 0, 0] for kind, grid in made.items()}
    far = {kind: grid[:, :, -1, -1, -1] for kind, grid in made.items()}
    torch.testing.assert_close(corner["rotation"].norm(dim=-1), torch.full((50, 3), half * 3**0.5))
    torch.testing.assert_close(corner["rotation"], -far["rotation"], atol=1e-5, rtol=0)
    sizes = far["scale"]
    assert (sizes == sizes[..., :1]).all()
    assert 2 <= sizes.min() < 2.3 and 5.7 < sizes.max() <= 6
    shift = (corner["shift"] + far["shift"]) / 2
    torch.testing.assert_close(shift, shift.round(), atol=1e-5, rtol=0)
    assert shift.abs().max() == 2
    assert shift.norm(dim=-1).max() <= 2 + 3**0.5 / 2  # rounding takes none further out than that
    torch.testing.assert_close(far["shift"] - corner["shift"], torch.full((50, 3, 3), 2 * half))
    assert max(float(grid.abs().max()) for grid in made.values()) <= reach(model)


def test_ratios_are_those_of_slow_loops(volume: Volume, reference: InMemory) -> None:
    model = model_of(SMALL)
    found = invariance(model, volume, reference, patches=20, transforms=3, resamples=50, seed=4)
    drawn = draw_voxels(volume.shape, reference, count=20, each=20, margin=reach(model), seed=4)
    intensity = model.measure(volume)
    own = means_at(model, volume, intensity, drawn.by_class[0]).numpy()
    whole = means_at(model, volume, intensity, drawn.uniform).numpy()
    moved = transformed_means(model, volume, intensity, drawn.by_class[0], 3, seed=4)
    for part, name in ((slice(0, 4), "semantic"), (slice(4, 8), "other")):
        pairs = [np.linalg.norm(a[part] - b[part]) for a, b in itertools.permutations(whole, 2)]
        within = [np.linalg.norm(a[part] - b[part]) for a, b in itertools.permutations(own, 2)]
        by_kind = {
            kind: [np.linalg.norm(z[part] - m[part]) for z, ms in zip(own, there.numpy(), strict=True) for m in ms]
            for kind, there in moved.items()
        }
        by_kind["all"] = [d for kind in KINDS for d in by_kind[kind]]
        for kind, lengths in by_kind.items():
            for against, random in (("volume", pairs), ("class", within)):
                (row,) = [
                    r for r in found["rows"] if (r["class"], r["transform"], r["against"]) == ("rest", kind, against)
                ]
                assert row[name]["value"] == pytest.approx(np.mean(lengths) / np.mean(random), rel=1e-9)
                assert row[name]["low"] < row[name]["value"] < row[name]["high"]
                assert row["quotient"]["value"] == pytest.approx(row["semantic"]["value"] / row["other"]["value"])


def test_result_is_plain_and_the_same_for_the_same_seed(volume: Volume, reference: InMemory) -> None:
    model = model_of(SMALL)
    first = invariance(model, volume, reference, patches=12, transforms=2, resamples=20)
    assert first == json.loads(json.dumps(first, allow_nan=False))
    assert first == invariance(model, volume, reference, patches=12, transforms=2, resamples=20)
    assert first != invariance(model, volume, reference, patches=12, transforms=2, resamples=20, seed=1)
    assert first["dimensions"] == {"semantic": [1, 4], "other": [5, 8]}
    assert first["absent"] == ["missing"]
    assert {(row["class"], row["patches"]) for row in first["rows"]} == {
        (WHOLE, 12), ("rest", 12), ("common", 12), ("rare", 9)
    }  # fmt: skip
    alone = invariance(model, volume, patches=12, transforms=2, resamples=20)
    assert [row["transform"] for row in alone["rows"]] == [*KINDS, "all"]


def stand_in(monkeypatch: pytest.MonkeyPatch, offset: float) -> None:
    """Means that no transform changes in the semantic dimensions, and that it moves by `offset` in the others."""

    def means(model: Model, volume: Volume, intensity: object, voxels: npt.NDArray[np.int64]) -> torch.Tensor:
        rng = np.random.default_rng(int(voxels.sum()))
        return torch.from_numpy(rng.normal(size=(len(voxels), 8)))

    def moved(model: Model, volume: Volume, intensity: object, voxels: Any, each: int, seed: int) -> Any:
        z = means(model, volume, intensity, voxels)[:, None].repeat(1, each, 1)
        z[..., 4] += offset
        return dict.fromkeys(KINDS, z)

    monkeypatch.setattr(invariance_module, "means_at", means)
    monkeypatch.setattr(invariance_module, "transformed_means", moved)


def test_perfect_invariance_is_0_and_intervals_cover_the_truth(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, offset=1.4)
    model = model_of(SMALL)
    truth = 1.4 / 2.6587  # random pairs of a 4-d standard normal: 2 Gamma(5/2) / Gamma(2)
    widths = []
    for patches in (40, 640):
        covered = 0
        for seed in range(20):
            row = invariance(model, volume, patches=patches, transforms=1, resamples=200, seed=seed)["rows"][-1]
            assert row["semantic"] == {"value": 0, "low": 0, "high": 0}
            covered += row["other"]["low"] <= truth <= row["other"]["high"]
        assert covered >= 16  # of 20 intervals of 95 %
        widths.append(row["other"]["high"] - row["other"]["low"])
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.5)


def test_no_ratio_where_all_patches_are_alike(monkeypatch: pytest.MonkeyPatch, volume: Volume) -> None:
    zeros = lambda *_: torch.zeros(6, 8, dtype=torch.float64)  # noqa: E731
    monkeypatch.setattr(invariance_module, "means_at", zeros)
    monkeypatch.setattr(
        invariance_module, "transformed_means", lambda *_: dict.fromkeys(KINDS, torch.zeros(6, 2, 8).double())
    )
    found = invariance(model_of(SMALL), volume, patches=6, transforms=2, resamples=10)
    assert all(row["semantic"] is row["other"] is row["quotient"] is None for row in found["rows"])


def test_in_the_ball_distances_are_geodesic_and_all_dimensions_are_semantic(volume: Volume) -> None:
    model = model_of(CIHS.model)
    a, b = torch.tensor([[0.1, 0.2]]), torch.tensor([[0.5, -0.7]])
    torch.testing.assert_close(distances(model, a, b), poincare.distance(a, b))
    found = invariance(model, volume, patches=8, transforms=2, resamples=10)
    assert list(found["dimensions"]) == ["semantic"]
    assert found["half_size"] == [2.0, 6.0]
    for row in found["rows"]:
        assert row["other"] is row["quotient"] is None
        assert row["semantic"]["value"] > 0


def test_model_that_gives_no_finite_numbers_is_refused(volume: Volume) -> None:
    model = model_of(SMALL)
    with torch.no_grad():
        model.vae.encoder.branch.mean.bias.fill_(torch.nan)
    with pytest.raises(VemosaicError, match="not a finite number"):
        encode(model, torch.zeros(2, 16, 16, 16), volume)


@pytest.mark.real_data
def test_classes_of_a_real_volume(data_dir: Path) -> None:
    """Mitochondria of EPFL at 15 nm, 3 % of the voxels, get as many patches as the rest."""
    from vemosaic.evaluation import open_reference

    source = open_volume(str(data_dir / "epfl_ca1/raw_5nm_crop.ome.tif"))
    working = at_voxel_size(source, 15.0)
    mask = f"mitochondria={data_dir / 'epfl_ca1/mitochondria_5nm_crop.ome.tif'}"
    reference = open_reference([mask], working, source=source)
    found = invariance(model_of(ModelSettings()), working, reference, patches=30, transforms=2, resamples=100)
    assert {row["class"]: row["patches"] for row in found["rows"]} == {
        WHOLE: 30, "unrecognised": 30, "mitochondria": 30
    }  # fmt: skip
    for row in found["rows"]:
        assert 0 < row["semantic"]["low"] < row["semantic"]["value"] < row["semantic"]["high"] < 2
