"""The precision of a run: what it is set to, what it changes, where it is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from numeric_core import PLAIN, blobs, volume_of
from vemosaic.blocks.events import Event, StageStarted
from vemosaic.devices import has_bfloat16
from vemosaic.errors import SettingsError
from vemosaic.models.settings import Architecture, ModelSettings, Optimiser
from vemosaic.patches import Sampling
from vemosaic.pipeline import run
from vemosaic.presets import preset
from vemosaic.run_state import RunState
from vemosaic.settings import Settings
from vemosaic.training import train

SMALL = ModelSettings(
    architecture=Architecture(channels=(4, 4, 6, 8), latent=8, semantic=4),
    sampling=Sampling(positives=2),
    optimiser=Optimiser(batch=8, warm_up=3),
)
CPU = torch.device("cpu")
native = pytest.mark.skipif(not has_bfloat16(CPU), reason="this processor only imitates bfloat16")


def test_a_preset_takes_a_precision_and_only_one_that_there_is() -> None:
    assert Settings().precision == "auto"
    assert preset("han2022", precision="bfloat16").precision == "bfloat16"
    with pytest.raises(ValidationError, match="precision"):
        preset("default", precision="half")


def test_what_a_processor_only_imitates_is_refused_before_a_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    np.save(tmp_path / "cell.npy", np.zeros((30, 30, 30), np.uint8))
    settings = Settings(model=SMALL, precision="bfloat16")
    with pytest.raises(SettingsError, match="this processor does not compute in bfloat16; use float32"):
        run(str(tmp_path / "cell.npy"), tmp_path / "run", settings, voxel_size=16.0, device="cpu")
    assert not (tmp_path / "run").exists()


@native
def test_embeddings_of_another_precision_are_others() -> None:
    record = {"inputs": [{"identity": 1, "mask_identity": 2, "working": 3}]}

    def about(precision: Any) -> list[object]:
        state: Any = SimpleNamespace(
            folder=SimpleNamespace(record=record), device=CPU, settings=Settings(precision=precision)
        )
        return RunState._about_embedding(state)

    assert about("auto") == about("float32") == [1, 2, 3, "cpu", 1]
    assert about("bfloat16") == [1, 2, 3, "cpu bfloat16", 1]


@native
def test_training_on_a_cpu_is_in_float32_whatever_is_mapped_in(tmp_path: Path) -> None:
    volume, checkpoint = volume_of(blobs((30, 40, 40))), tmp_path / "checkpoint.safetensors"
    begun: list[int] = []

    def listen(event: Event) -> None:
        if isinstance(event, StageStarted):
            begun.append(event.done)

    def training(precision: Any) -> list[float]:
        how: dict[str, Any] = {"precision": precision, "checkpoint": checkpoint, "listen": listen}
        _, losses = train([volume], [PLAIN], SMALL, anchors=10 * 8, **how)
        return [line.loss for line in losses]

    assert training("float32") == training("bfloat16")
    assert begun == [0, 80]
