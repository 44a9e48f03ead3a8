"""Presets by name: for each the model, how it is trained, and how its embedding is clustered."""

from __future__ import annotations

from typing import Any

from vemosaic.errors import SettingsError
from vemosaic.hierarchy import HierarchicalSampling
from vemosaic.models.settings import (
    CihsArchitecture,
    Han2022Architecture,
    ModelSettings,
    Objective,
    Optimiser,
    TripletObjective,
)
from vemosaic.patches import Sampling
from vemosaic.settings import Settings

HAN2022 = Settings(
    model=ModelSettings(
        preset="han2022",
        architecture=Han2022Architecture(),
        sampling=Sampling(standardise=True),
        objective=Objective(),
        optimiser=Optimiser(learning_rate=1e-4, warm_up=0, schedule="constant"),
    ),
    words=0,
    smoothing=0.0,
    clusterer="kmeans",
)
"""Han et al. 2022, as published: sections 3 and 4.2, and what the text omits from their reference implementation."""

CIHS = Settings(
    model=ModelSettings(
        preset="cihs",
        architecture=CihsArchitecture(),
        sampling=HierarchicalSampling(),
        objective=TripletObjective(),
        optimiser=Optimiser(learning_rate=5e-7, clip=8.0, warm_up=0, schedule="constant"),
    ),
    words=0,
    smoothing=0.0,
    clusterer="hyperbolic",
)
"""Hsu et al. 2021, the baseline of Han et al. 2022; the learning rate is that of their hyperbolic model."""

PRESETS = {"default": Settings(), "han2022": HAN2022, "cihs": CIHS}


def preset(name: str, *, width: float | None = None, latent: int | None = None, **changes: Any) -> Settings:
    """Return the settings of a preset, some of them changed.

    Parameters
    ----------
    name
        ``"default"``, ``"han2022"`` or ``"cihs"``.
    width
        Factor on the channels of ``"han2022"``: 1, 0.5 or 0.25.
    latent
        Dimensions of the ball of ``"cihs"``.
    changes
        Fields of `vemosaic.settings.Settings`; those that are None stay as the preset has them.

    Raises
    ------
    SettingsError
        If there is no preset of that name, or it has no such setting.
    pydantic.ValidationError
        If a value will not do.
    """
    if name not in PRESETS:
        raise SettingsError("--preset", f"there is no preset {name!r}", f"choose one of {', '.join(PRESETS)}")
    settings = PRESETS[name]
    model = settings.model.model_dump()
    for option, value, kind in (("width", width, "han2022"), ("latent", latent, "cihs")):
        if value is not None:
            if model["architecture"]["kind"] != kind:
                raise SettingsError(f"--{option}", f"preset {name} has none", f"leave it out, or use --preset {kind}")
            model["architecture"][option] = value
    given = {field: value for field, value in changes.items() if value is not None}
    return Settings.model_validate(settings.model_dump() | {"model": model} | given)
