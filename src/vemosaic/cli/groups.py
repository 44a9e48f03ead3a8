"""Options that several commands share, a parameter for each group of them: typer knows only single ones."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, get_type_hints

from vemosaic.cli.options import (
    Anchors,
    Channel,
    Device,
    Latent,
    Mask,
    Memory,
    MissingChunks,
    Precision,
    Scheduler,
    Seed,
    VoxelSize,
    Width,
    Workers,
    Working,
    chosen_settings,
    executing,
)

if TYPE_CHECKING:
    from vemosaic.blocks.executors import Executor
    from vemosaic.settings import Settings


@dataclass(frozen=True)
class Opening:
    """How a volume is opened."""

    voxel_size: VoxelSize = None
    channel: Channel = None
    missing_chunks: MissingChunks = "error"


@dataclass(frozen=True)
class Learning:
    """How a model is trained."""

    width: Width = None
    latent: Latent = None
    anchors: Anchors = None
    working_voxel_size: Working = "auto"
    mask: Mask = None
    precision: Precision = "auto"
    seed: Seed = 1

    def settings(self, preset: str, **more: Any) -> Settings:
        """Begin with a preset, and change what was chosen."""
        return chosen_settings(
            preset,
            self.working_voxel_size,
            width=self.width,
            latent=self.latent,
            anchors=self.anchors,
            precision=self.precision,
            seed=self.seed,
            **more,
        )


@dataclass(frozen=True)
class Carrying:
    """What carries the work out, and what it may use."""

    device: Device = "auto"
    workers: Workers = None
    scheduler: Scheduler = None
    memory: Memory = None

    def executing(self) -> AbstractContextManager[Executor]:
        """Choose who carries out what is done shard by shard."""
        return executing(self.workers, self.scheduler, self.device)

    def budget(self) -> int | None:
        """Most bytes that may be used; None for any."""
        from vemosaic.memory import parse_size

        return parse_size(self.memory) if self.memory else None


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Show typer each parameter that is a group as the options in it, and put them together when it is called."""
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {p.name: p.annotation for p in signature.parameters.values() if is_dataclass(p.annotation)}

    @wraps(command)
    def called(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        command(**given)

    def shown() -> Iterator[inspect.Parameter]:
        for parameter in signature.parameters.values():
            group = groups.get(parameter.name)
            if group is None:
                yield parameter.replace(kind=parameter.KEYWORD_ONLY)
                continue
            hints = get_type_hints(group, include_extras=True)
            for field in fields(group):
                yield inspect.Parameter(
                    field.name, parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
                )

    called.__signature__ = signature.replace(parameters=list(shown()))  # type: ignore[attr-defined]
    return called
