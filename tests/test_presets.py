from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from small_runs import Cell, run_cell
from vemosaic.diffusion import STEPS
from vemosaic.errors import SettingsError
from vemosaic.hierarchy import HierarchicalSampling
from vemosaic.models.model import load_model
from vemosaic.models.settings import (
    CihsArchitecture,
    Han2022Architecture,
    ModelSettings,
    Objective,
    Optimiser,
    TripletObjective,
)
from vemosaic.patches import Sampling
from vemosaic.presets import PRESETS, preset
from vemosaic.settings import Settings
from vemosaic.volumes.labels import open_labels


def test_han2022_has_the_numbers_of_the_paper_and_its_code() -> None:
    settings = preset("han2022")
    model, sampling = settings.model, settings.model.sampling
    assert model.architecture == Han2022Architecture(width=1.0, latent=64, semantic=8)
    assert isinstance(sampling, Sampling)
    assert (sampling.points, sampling.half_size, sampling.positives, sampling.radius) == (16, (2.0, 6.0), 4, 2.0)
    assert (sampling.deformation, sampling.contrast, sampling.brightness) == (0.25, 1.0, 0.25)
    assert sampling.noise**2 == pytest.approx(0.01)
    assert sampling.standardise
    assert sampling.margin == (11, 11, 11)  # ceil(6 sqrt 3)
    assert model.objective == Objective(theta_kl=1e-3, theta_ms=1e3, alpha=1, beta=1, margin=1)
    assert model.optimiser == Optimiser(learning_rate=1e-4, warm_up=0, schedule="constant", batch=128)
    assert (settings.words, settings.smoothing, settings.clusterer) == (0, 0.0, "kmeans")
    assert settings.clusters == tuple(range(4, 11))


def test_cihs_has_the_numbers_of_its_paper() -> None:
    settings = preset("cihs")
    model = settings.model
    assert model.architecture == CihsArchitecture(latent=2)
    assert model.sampling == HierarchicalSampling(points=10, parent=(2.5, 17.5), child=(1.5, 7.5))
    assert model.objective == TripletObjective(theta_triplet=1e3, margin=0.2)
    optimiser = model.optimiser
    assert (optimiser.learning_rate, optimiser.clip) == (5e-7, 8)
    assert (optimiser.batch, optimiser.schedule) == (128, "constant")
    assert (settings.words, settings.smoothing, settings.clusterer) == (0, 0.0, "hyperbolic")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json_and_carry_their_name(name: str) -> None:
    settings = preset(name)
    assert settings.model.preset == name
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


def test_what_is_given_changes_a_preset_and_what_is_none_does_not() -> None:
    changed = preset("han2022", width=0.25, stride=3, smoothing=None, clusters=(5,), anchors=None)
    assert changed.model.architecture == Han2022Architecture(width=0.25)
    assert (changed.stride, changed.smoothing, changed.clusters) == (3, 0.0, (5,))
    assert preset("cihs", latent=8).model.architecture == CihsArchitecture(latent=8)


def test_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(SettingsError, match=r"no preset 'large'; choose one of default, han2022, cihs"):
        preset("large")


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("default", {"width": 0.5}, "--width: preset default has none"),
        ("cihs", {"width": 0.5}, "--width: preset cihs has none"),
        ("han2022", {"latent": 8}, "--latent: preset han2022 has none"),
        ("default", {"stride": 2}, "--stride: preset default embeds every voxel exactly; leave it out"),
    ],
)
def test_an_option_of_another_preset_is_refused(name: str, option: dict[str, float], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        preset(name, **option)


@pytest.mark.parametrize("width", [0.3, 2, -1])
def test_widths_are_those_of_the_issue(width: float) -> None:
    with pytest.raises(ValidationError, match=r"1, 0\.5 or 0\.25"):
        preset("han2022", width=width)


def small(name: str) -> Settings:
    """A preset made affordable: few anchors, few positives, the smallest patches of a hierarchy."""
    options = {"han2022": {"width": 0.25}, "cihs": {"latent": 8}}[name]
    settings = preset(name, **options, anchors=16, clusters=(3, 4), stride=4)
    sampling = {
        "han2022": Sampling(standardise=True, positives=1),
        "cihs": HierarchicalSampling(parent=(4.0, 6.0), child=(2.0, 3.0)),
    }[name]
    model = ModelSettings.model_validate(
        settings.model.model_dump()
        | {"sampling": sampling, "optimiser": settings.model.optimiser.model_copy(update={"batch": 8})}
    )
    return settings.model_copy(update={"model": model})


@pytest.mark.parametrize("name", ["han2022", "cihs"])
@pytest.mark.usefixtures("quick")
def test_presets_go_through_the_same_pipeline(name: str, cell: Cell, tmp_path: Path) -> None:
    done = run_cell(cell, tmp_path / "run", small(name), reference=cell.reference)
    labels = open_labels(done.folder.segmentation, 4).volume
    whole = np.asarray(labels.array[tuple(slice(0, n) for n in labels.shape)])
    assert set(np.unique(whole)) <= {1, 2, 3, 4}
    assert len(np.unique(whole)) > 1
    z, y, x = (slice(0, n // 4 * 4) for n in whole.shape)
    blocks = whole[z, y, x].reshape(whole.shape[0] // 4, 4, whole.shape[1] // 4, 4, -1, 4)
    assert (blocks == blocks[:, :1, :, :1, :, :1]).all()  # one voxel speaks for its block
    assert load_model(done.folder.model).settings == small(name).model
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*.*z*") if p.is_file()}
    assert written
    run_cell(cell, tmp_path / "run", small(name))
    assert {p for p, time in written.items() if p.stat().st_mtime_ns != time} == set()  # run again: nothing to do


@pytest.mark.usefixtures("quick")
def test_a_model_given_decides_what_the_record_says(cell: Cell, tmp_path: Path) -> None:
    first = run_cell(cell, tmp_path / "first", small("han2022"))
    asked = small("cihs").model_copy(update={"clusterer": "kmeans"})
    other = run_cell(cell, tmp_path / "other", asked, model=first.folder.model)
    assert other.settings.model == small("han2022").model
    assert other.folder.record["preset"] == "han2022"


def test_descriptions_are_diffused_where_words_describe_unless_told() -> None:
    assert Settings().diffusion_steps == STEPS
    assert Settings(words=0).diffusion_steps == 0
    assert Settings(words=0, diffusion=3).diffusion_steps == 3
    assert Settings(diffusion=0).diffusion_steps == 0
    assert [PRESETS[name].diffusion_steps for name in ("han2022", "cihs")] == [0, 0]
