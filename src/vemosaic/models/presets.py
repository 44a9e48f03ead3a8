"""Presets by name."""

from __future__ import annotations

from vemosaic.errors import SettingsError
from vemosaic.models.settings import ModelSettings

PRESETS = {"default": ModelSettings()}


def preset_settings(name: str) -> ModelSettings:
    """Return a preset.

    Raises
    ------
    SettingsError
        If there is none of that name.
    """
    if name not in PRESETS:
        raise SettingsError("--preset", f"there is no preset {name!r}", f"choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
