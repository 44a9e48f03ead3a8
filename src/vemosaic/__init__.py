"""vemosaic: organelle maps of volume electron microscopy, without annotations.

What stands here is imported when it is first used: ``import vemosaic`` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vemosaic.api import cluster, embed, evaluate, train
    from vemosaic.datasets.phantom import phantom_cell
    from vemosaic.errors import VemosaicError
    from vemosaic.evaluation import open_reference
    from vemosaic.inputs import ReferenceInput
    from vemosaic.models.model import Model, load_model
    from vemosaic.models.settings import ModelSettings
    from vemosaic.pipeline import run
    from vemosaic.settings import Settings
    from vemosaic.volumes import Volume, at_voxel_size, describe, open_volume
    from vemosaic.volumes.export import export_v04
    from vemosaic.volumes.labels import open_labels

__version__ = "0.1.0"

__all__ = [
    "Model",
    "ModelSettings",
    "ReferenceInput",
    "Settings",
    "VemosaicError",
    "Volume",
    "at_voxel_size",
    "cluster",
    "describe",
    "embed",
    "evaluate",
    "export_v04",
    "load_model",
    "open_labels",
    "open_reference",
    "open_volume",
    "phantom_cell",
    "run",
    "train",
]

_HOMES = {
    "vemosaic.api": ("cluster", "embed", "evaluate", "train"),
    "vemosaic.datasets.phantom": ("phantom_cell",),
    "vemosaic.errors": ("VemosaicError",),
    "vemosaic.evaluation": ("open_reference",),
    "vemosaic.models.model": ("Model", "load_model"),
    "vemosaic.models.settings": ("ModelSettings",),
    "vemosaic.inputs": ("ReferenceInput",),
    "vemosaic.pipeline": ("run",),
    "vemosaic.settings": ("Settings",),
    "vemosaic.volumes": ("Volume", "at_voxel_size", "describe", "open_volume"),
    "vemosaic.volumes.export": ("export_v04",),
    "vemosaic.volumes.labels": ("open_labels",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'vemosaic' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
