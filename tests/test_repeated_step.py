"""A step that is recorded and replayed does what the step does; on a CPU a stand-in replays it."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import vemosaic.training
from numeric_core import PLAIN, blobs, volume_of
from vemosaic.blocks.events import UnitDone
from vemosaic.distributed import Ranks
from vemosaic.models.model import Model
from vemosaic.models.settings import Architecture, ModelSettings, Optimiser
from vemosaic.models.vae import VAE
from vemosaic.patches import Sampling
from vemosaic.repeated_step import WARM_UP, Capture, GraphWarning, RepeatedStep, Results, cuda_graph
from vemosaic.training import Losses, train

SETTINGS = ModelSettings(
    architecture=Architecture(channels=(4, 4, 6, 8), latent=8, semantic=4),
    sampling=Sampling(positives=2),
    optimiser=Optimiser(batch=8, warm_up=3, clip=1.0),
)
STEPS = WARM_UP + 4
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Numbers(NamedTuple):
    first: Tensor
    second: Tensor | None = None


class Recorder:
    """Records as a GPU does: the call is made again for every replay, and its results go to the same tensors."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, call: Callable[[], Results]) -> Callable[[], Results]:
        self.recorded += 1
        kept: dict[str, Tensor] = {}

        def replay() -> Results:
            self.replayed += 1
            for name, tensor in call().items():
                kept.setdefault(name, torch.empty_like(tensor)).copy_(tensor)
            return kept

        return replay


def refuse(call: Callable[[], Results]) -> Callable[[], Results]:
    raise RuntimeError("operation not permitted\nwhen stream is capturing")


def numbers(count: int) -> list[Numbers]:
    return [Numbers(torch.full((3,), float(n)), torch.arange(3.0)) for n in range(count)]


def test_recorded_or_not_every_step_is_carried_out_once_on_its_own_inputs() -> None:
    total, recorder = torch.zeros(3), Recorder()

    def add(inputs: Numbers) -> Results:
        assert inputs.second is not None
        return {"total": total.add_(inputs.first * inputs.second)}

    step = RepeatedStep(add, recorder)
    for number, inputs in enumerate(numbers(WARM_UP + 3)):
        expected = total + number * torch.arange(3.0)
        assert torch.equal(step(inputs)["total"], expected)
    assert (recorder.recorded, recorder.replayed) == (1, 3)


def test_inputs_that_are_not_there_stay_so() -> None:
    step = RepeatedStep(lambda inputs: {"same": inputs.first + 1} if inputs.second is None else {}, Recorder())
    for number in range(WARM_UP + 2):
        assert step(Numbers(torch.tensor(number)))["same"] == number + 1


def test_a_step_that_cannot_be_recorded_goes_on_and_says_so_once() -> None:
    done: list[float] = []

    def step(inputs: Numbers) -> Results:
        done.append(inputs.first[0].item())
        return {}

    repeated = RepeatedStep(step, refuse)
    with pytest.warns(GraphWarning) as told:
        for inputs in numbers(WARM_UP + 3):
            repeated(inputs)
    assert done == list(range(WARM_UP + 3))
    assert [str(warning.message) for warning in told] == [
        "training: the step could not be recorded as a CUDA graph (operation not permitted); it goes on without, slower"
    ]


@needs_gpu
def test_a_cuda_graph_replays_the_step() -> None:
    device = torch.device("cuda")
    total = torch.zeros(3, device=device)
    step = RepeatedStep(lambda inputs: {"total": total.add_(inputs.first)}, cuda_graph(device))
    with warnings.catch_warnings(action="error"):
        sums = [step(Numbers(n.first.to(device)))["total"].tolist() for n in numbers(WARM_UP + 3)]
    assert sums == [[float(n)] * 3 for n in itertools.accumulate(range(WARM_UP + 3))]


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Train on the CPU with the optimiser and the replayed steps that a GPU gets."""
    recorder = Recorder()

    def optimiser(vae: VAE, settings: Optimiser, device: torch.device) -> torch.optim.Adam:
        rate = torch.tensor(settings.learning_rate)
        return torch.optim.Adam(vae.parameters(), lr=rate, amsgrad=True, fused=True)

    monkeypatch.setattr(vemosaic.training, "_optimiser", optimiser)
    choose = vemosaic.training._repeated
    gpu = torch.device("cuda")
    monkeypatch.setattr(vemosaic.training, "cuda_graph", lambda device: recorder)
    monkeypatch.setattr(vemosaic.training, "_repeated", lambda step, adam, _, ranks: choose(step, adam, gpu, ranks))
    return recorder


def training(device: str = "cpu", **how: Any) -> tuple[Model, list[Losses]]:
    volume = volume_of(blobs((30, 40, 40)))
    return train([volume], [PLAIN], SETTINGS, anchors=STEPS * 8, device=device, **how)


def curve(losses: list[Losses]) -> list[float]:
    return [line.loss for line in losses]


def test_training_as_on_a_gpu_has_the_curve_of_the_plain_loop(request: pytest.FixtureRequest) -> None:
    _, plain = training()
    recorder: Recorder = request.getfixturevalue("as_on_a_gpu")
    _, losses = training()
    assert (recorder.recorded, recorder.replayed) == (1, STEPS - WARM_UP)
    assert curve(losses) == pytest.approx(curve(plain), rel=1e-4)


@pytest.mark.parametrize("stop", [2, WARM_UP + 2])
def test_stopped_and_resumed_as_on_a_gpu_it_ends_the_same(
    as_on_a_gpu: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    undisturbed, losses = training()
    monkeypatch.setattr(vemosaic.training, "CHECKPOINT_SECONDS", -1.0)  # after every step
    done = itertools.count(1)

    def listen(event: object) -> None:
        if isinstance(event, UnitDone) and next(done) == stop:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        training(checkpoint=checkpoint, listen=listen)
    resumed, losses_resumed = training(checkpoint=checkpoint)
    assert losses_resumed == losses
    weights = undisturbed.vae.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in resumed.vae.state_dict().items())


def test_only_a_gpu_that_trains_alone_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(inputs: Any) -> Results:
        return {}

    adam = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    choose = vemosaic.training._repeated
    assert choose(step, adam, torch.device("cpu"), Ranks()) is step
    assert choose(step, adam, torch.device("cuda"), Ranks(1, 2)) is step
    assert isinstance(choose(step, adam, torch.device("cuda"), Ranks()), RepeatedStep)


@pytest.mark.parametrize("record", [Recorder(), refuse])
def test_adam_is_told_that_it_is_recorded_and_only_then(monkeypatch: pytest.MonkeyPatch, record: Capture) -> None:
    adam = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    seen: list[bool] = []

    def recorded(call: Callable[[], Results]) -> Callable[[], Results]:
        seen.append(adam.param_groups[0]["capturable"])
        return record(call)

    monkeypatch.setattr(vemosaic.training, "cuda_graph", lambda device: recorded)
    step = vemosaic.training._repeated(lambda inputs: {}, adam, torch.device("cuda"), Ranks())
    with warnings.catch_warnings(action="ignore", category=GraphWarning):
        for inputs in numbers(WARM_UP + 2):
            step(inputs)  # type: ignore[arg-type]
    assert seen == [True]
    assert not adam.param_groups[0]["capturable"]


@needs_gpu
@pytest.mark.parametrize(("precision", "within"), [("float32", 2e-2), ("bfloat16", 5e-2)])
def test_training_on_a_gpu_is_recorded_and_learns(precision: Any, within: float) -> None:
    with warnings.catch_warnings(action="error", category=GraphWarning):
        _, first = training("cuda", precision=precision)
        _, again = training("cuda", precision=precision)
    assert curve(again) == pytest.approx(curve(first), rel=within)
    assert curve(first)[-1] < curve(first)[0]


@needs_gpu
def test_stopped_and_resumed_on_a_gpu_it_goes_on(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    _, losses = training("cuda", checkpoint=checkpoint)
    _, resumed = training("cuda", checkpoint=checkpoint)
    assert resumed == losses
