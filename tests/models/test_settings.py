from __future__ import annotations

import pytest
from pydantic import ValidationError

from vemosaic.models.settings import Architecture, ModelSettings, Objective, Optimiser
from vemosaic.presets import preset


def test_default_preset_has_the_constants_of_the_paper() -> None:
    model = preset("default").model
    assert (model.architecture.latent, model.architecture.semantic) == (64, 8)
    assert model.objective.theta_ms == 1e3
    assert (model.objective.alpha, model.objective.beta, model.objective.margin) == (1, 1, 1)
    assert model.optimiser.batch == 128
    sampling = model.sampling
    assert (sampling.points, sampling.half_size, sampling.positives, sampling.radius) == (16, (2.0, 6.0), 4, 2.0)
    # The volume is normalised as a whole here, so contrast tells textures apart: it is changed less than in the paper.
    assert (sampling.deformation, sampling.contrast, sampling.brightness, sampling.noise) == (0.25, 0.5, 0.25, 0.1)


def test_settings_survive_json() -> None:
    changed = ModelSettings(
        architecture=Architecture(channels=(1, 2, 3, 4)), objective=Objective(margin=0.1), optimiser=Optimiser(batch=9)
    )
    assert ModelSettings.model_validate_json(changed.model_dump_json()) == changed


@pytest.mark.parametrize(
    "wrong",
    [
        {"architecture": {"latent": 4, "semantic": 8}},
        {"architecture": {"channels": (1, 2, 3)}},
        {"objective": {"alpha": 0}},
        {"optimiser": {"batch": 1}},
        {"optimiser": {"learning_rat": 1e-3}},
        {"sampling": {"positives": 0}},
        {"sampling": {"half_size": (6.0, 2.0)}},
        {"architecture": {"kind": "han2022", "width": 0.3}},
        {"architecture": {"kind": "resnet"}},
        {"architecture": {"kind": "cihs"}},
        {"objective": {"kind": "triplet"}},
        {"sampling": {"kind": "hierarchy"}, "objective": {"kind": "triplet"}},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ModelSettings.model_validate(wrong)


def test_models_from_before_there_were_kinds_are_read() -> None:
    old = {"preset": "default", "architecture": {"channels": (1, 2, 3, 4)}, "sampling": {}, "objective": {}}
    assert ModelSettings.model_validate(old).architecture == Architecture(channels=(1, 2, 3, 4))
