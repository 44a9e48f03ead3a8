from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

import vemosaic.training
from numeric_core import PLAIN, blobs, volume_of
from vemosaic.blocks.events import Event, Listener, StageEnded, StageStarted, UnitDone, ignore
from vemosaic.errors import SettingsError, VolumeError
from vemosaic.losses import kl_divergence, multi_similarity, reconstruction
from vemosaic.models.model import Model
from vemosaic.models.settings import Architecture, ModelSettings, Objective, Optimiser
from vemosaic.patches import PatchSampler, Sampling
from vemosaic.training import ANCHORS_ON_GPU, Losses, default_anchors, learning_rate, train
from vemosaic.volumes.intensity import Intensity
from vemosaic.volumes.volume import Volume

SETTINGS = ModelSettings(
    architecture=Architecture(channels=(4, 4, 6, 8), latent=8, semantic=4),
    sampling=Sampling(positives=2),
    optimiser=Optimiser(batch=8, warm_up=3),
)
STEPS = 8


@pytest.fixture(scope="module")
def volume() -> Volume:
    return volume_of(blobs((30, 40, 40)))


def run(
    volume: Volume,
    settings: ModelSettings = SETTINGS,
    *,
    steps: int = STEPS,
    seed: int = 1,
    intensity: Intensity = PLAIN,
    checkpoint: Path | None = None,
    listen: Listener = ignore,
) -> tuple[Model, list[Losses]]:
    anchors = steps * settings.optimiser.batch
    return train([volume], [intensity], settings, anchors=anchors, seed=seed, checkpoint=checkpoint, listen=listen)


def same_weights(one: Model, other: Model) -> bool:
    first, second = one.vae.state_dict(), other.vae.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


class Stopped(Exception):
    """The user pressed a key."""


def stop_after(steps: int) -> Listener:
    """A listener that raises after so many steps."""
    seen = 0

    def listen(event: Event) -> None:
        nonlocal seen
        seen += isinstance(event, UnitDone)
        if seen == steps and isinstance(event, UnitDone):
            raise Stopped

    return listen


def first_event(volume: Volume, **how: Any) -> StageStarted:
    events: list[Event] = []
    run(volume, listen=events.append, **how)
    assert isinstance(events[0], StageStarted)
    return events[0]


def test_loss_falls_on_a_volume_of_two_textures(volume: Volume) -> None:
    settings = SETTINGS.model_copy(update={"optimiser": Optimiser(batch=16, warm_up=5, learning_rate=3e-3)})
    _, losses = run(volume, settings, steps=60)
    for name in ("loss", "multi_similarity"):
        curve = [getattr(line, name) for line in losses]
        assert np.mean(curve[-10:]) < 0.9 * np.mean(curve[:5])


def test_without_metric_learning_it_learns_to_reconstruct(volume: Volume) -> None:
    settings = SETTINGS.model_copy(
        update={
            "architecture": Architecture(channels=(8, 8, 12, 16), latent=8, semantic=4),
            "sampling": Sampling(positives=1, contrast=0, brightness=1, noise=0),
            "objective": Objective(theta_ms=0),
            "optimiser": Optimiser(batch=16, warm_up=5, learning_rate=1e-2),
        }
    )
    _, losses = run(volume, settings, steps=100)
    curve = [line.reconstruction for line in losses]
    assert np.mean(curve[-10:]) < 0.8 * np.mean(curve[:10])


def test_losses_are_the_objective_of_the_first_batch(volume: Volume) -> None:
    untrained = ModelSettings(
        architecture=SETTINGS.architecture,
        sampling=SETTINGS.sampling,
        objective=Objective(theta_kl=0.5, theta_ms=3.0, alpha=2.0, beta=0.5, margin=0.7),
        optimiser=Optimiser(batch=8, learning_rate=1e-30),
    )
    model, losses = run(volume, untrained, steps=1)
    batch = PatchSampler([volume], [PLAIN], untrained.sampling, seed=1).batch(0, 8)
    with torch.inference_mode():
        latent = model.vae(batch.patches, torch.zeros(8, 3, 8))
    # What does not hang on the latent noise is known exactly.
    assert losses[0].anchors == 8
    assert losses[0].kl == pytest.approx(kl_divergence(latent.mean, latent.scale).item(), rel=1e-5)
    metric = multi_similarity(latent.mean[..., :4], 2.0, 0.5, 0.7).item()
    assert losses[0].multi_similarity == pytest.approx(metric, rel=1e-5)
    assert losses[0].reconstruction == pytest.approx(
        reconstruction(batch.patches, latent.reconstruction).item(), rel=0.1
    )
    total = losses[0].reconstruction + 0.5 * losses[0].kl + 3.0 * losses[0].multi_similarity
    assert losses[0].loss == pytest.approx(total, rel=1e-6)


def test_same_seed_same_bits_other_seed_other_bits(volume: Volume) -> None:
    model, losses = run(volume)
    again, losses_again = run(volume)
    other, losses_other = run(volume, seed=2)
    assert same_weights(model, again)
    assert losses == losses_again
    assert not same_weights(model, other)
    assert losses != losses_other


@pytest.mark.parametrize("stops", [(1,), (5,), (3, 2, 2), (STEPS,)])
def test_stopped_and_resumed_it_ends_bitwise_as_if_undisturbed(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops: tuple[int, ...]
) -> None:
    undisturbed, losses = run(volume)
    monkeypatch.setattr(vemosaic.training, "CHECKPOINT_SECONDS", -1.0)  # after every step
    checkpoint = tmp_path / "checkpoint.safetensors"
    for stop in stops:
        with pytest.raises(Stopped):
            run(volume, checkpoint=checkpoint, listen=stop_after(stop))
    # The step in which it was stopped had not been saved yet.
    start = sum(stops) - len(stops)
    events: list[Event] = []
    resumed, losses_resumed = run(volume, checkpoint=checkpoint, listen=events.append)
    assert events[0] == StageStarted("train", 8 * STEPS, 8 * start, "anchor")
    assert events[-1] == StageEnded("train")
    assert sum(event.amount for event in events if isinstance(event, UnitDone)) == 8 * (STEPS - start)
    assert same_weights(resumed, undisturbed)
    assert losses_resumed == losses
    assert resumed.card == undisturbed.card
    # Now that it is finished, nothing is left to do.
    assert first_event(volume, checkpoint=checkpoint).done == 8 * STEPS


def test_checkpoints_are_kept_from_time_to_time(volume: Volume, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Stopped):
        run(volume, checkpoint=checkpoint, listen=stop_after(4))
    assert not checkpoint.exists()  # half a minute has not passed
    run(volume, checkpoint=checkpoint)
    with safe_open(str(checkpoint), framework="pt") as file:
        assert file.metadata()["step"] == str(STEPS)
        assert len(json.loads(file.metadata()["losses"])) == STEPS


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 2},
        {"steps": STEPS + 1},
        {"settings": SETTINGS.model_copy(update={"objective": Objective(margin=0.5)})},
        {"volume": volume_of(blobs((30, 40, 40), seed=9))},
        {"intensity": Intensity(0.0, 2.0)},
    ],
    ids=["seed", "budget", "settings", "volume", "intensity"],
)
def test_a_checkpoint_of_another_training_is_not_used(volume: Volume, tmp_path: Path, changed: dict[str, Any]) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    run(volume, checkpoint=checkpoint)
    assert first_event(volume, checkpoint=checkpoint).done == 8 * STEPS
    assert first_event(**({"volume": volume} | changed), checkpoint=checkpoint).done == 0


@pytest.mark.parametrize("keep", [0, 5, 300, -1])
def test_a_torn_checkpoint_is_not_used(volume: Volume, tmp_path: Path, keep: int) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    run(volume, checkpoint=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:keep])
    assert first_event(volume, checkpoint=checkpoint).done == 0


def test_learning_rate_rises_and_falls() -> None:
    optimiser = Optimiser(learning_rate=1e-2, warm_up=4)
    rates = [learning_rate(optimiser, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(1e-2 / 4)
    assert rates[1] == pytest.approx(1e-2 * 2 / 4 * 0.5 * (1 + math.cos(math.pi / 100)))
    assert rates[50] == pytest.approx(5e-3)
    assert rates[75] == pytest.approx(1e-2 * 0.5 * (1 - math.sqrt(0.5)))
    assert max(rates) == rates[3]
    assert all(a > b for a, b in itertools.pairwise(rates[3:-1]))
    assert rates[-1] == 1e-2 * 1e-3  # the floor
    constant = Optimiser(learning_rate=1e-2, warm_up=0, schedule="constant")
    assert {learning_rate(constant, step, 100) for step in range(100)} == {1e-2}


def test_optimiser_is_adam_with_amsgrad_at_the_scheduled_rate(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[torch.optim.Adam] = []
    rates: list[float] = []

    class Spy(torch.optim.Adam):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

        def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
            rates.append(self.param_groups[0]["lr"])
            super().step(closure)

    monkeypatch.setattr(torch.optim, "Adam", Spy)
    run(volume)
    assert made[0].defaults["amsgrad"]
    assert rates == [learning_rate(SETTINGS.optimiser, step, STEPS) for step in range(STEPS)]


def test_long_trainings_log_now_and_then_and_at_the_end(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SETTINGS.model_copy(
        update={
            "architecture": Architecture(channels=(1, 1, 1, 1), latent=1, semantic=1),
            "sampling": Sampling(positives=1),
            "optimiser": Optimiser(batch=2),
        }
    )
    monkeypatch.setattr(vemosaic.training, "LOGGED_STEPS", 5)
    _, losses = run(volume, settings, steps=17)
    assert [line.anchors for line in losses] == [2 * (step + 1) for step in (0, 4, 8, 12, 16)]
    _, losses = run(volume, settings, steps=18)
    assert [line.anchors for line in losses] == [2 * (step + 1) for step in (0, 4, 8, 12, 16, 17)]


def test_card_says_where_the_model_comes_from(volume: Volume) -> None:
    model, losses = run(volume)
    assert model.card["anchors"] == 8 * STEPS
    assert model.card["seed"] == 1
    assert model.card["voxel_size_nm"] == [[16.0, 16.0, 16.0]]
    assert model.card["volumes"] == ["array"]
    assert model.card["last_losses"] == losses[-1].model_dump(exclude_none=True)
    assert not model.vae.training


def test_budget_is_in_whole_batches(volume: Volume) -> None:
    model, _ = train([volume], [PLAIN], SETTINGS, anchors=21)
    assert model.card["anchors"] == 24
    with pytest.raises(SettingsError, match="--anchors: 7 are fewer than one batch of 8; give 8 or more"):
        train([volume], [PLAIN], SETTINGS, anchors=7)


def test_default_budget_on_a_gpu_is_the_paper_s_for_each_volume() -> None:
    assert default_anchors(3, torch.device("cuda")) == 3 * 2_000_000 == 3 * ANCHORS_ON_GPU
    assert default_anchors(3, torch.device("cpu")) == default_anchors(1, torch.device("cpu"))


def test_anchors_keep_to_the_mask(monkeypatch: pytest.MonkeyPatch, volume: Volume) -> None:
    mask = np.zeros(volume.shape, np.uint8)
    mask[15, 20:22, 20:22] = 1
    drawn = []
    batch = PatchSampler.batch

    def spy(self: PatchSampler, step: int, anchors: int) -> Any:
        drawn.append(batch(self, step, anchors))
        return drawn[-1]

    monkeypatch.setattr(PatchSampler, "batch", spy)
    train([volume], [PLAIN], SETTINGS, anchors=16, masks=[volume_of(mask)])
    assert all(mask[tuple(b.centres[:, 0].T.numpy())].all() for b in drawn)
    with pytest.raises(VolumeError, match="leaves no voxel for an anchor"):
        train([volume], [PLAIN], SETTINGS, anchors=16, masks=[volume_of(0 * mask)])


def test_a_loss_that_is_not_finite_ends_the_training(volume: Volume) -> None:
    diverging = SETTINGS.model_copy(update={"optimiser": Optimiser(batch=8, learning_rate=1e30, warm_up=0)})
    with pytest.raises(SettingsError, match=r"no longer finite at step .*; lower the learning rate"):
        run(volume, diverging, steps=20)


def test_training_leaves_torch_s_own_random_state_alone(volume: Volume) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    run(volume, steps=1)
    assert torch.equal(torch.rand(1), expected)


def test_a_longer_training_goes_on_where_a_shorter_one_ended(volume: Volume, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(
        update={"optimiser": SETTINGS.optimiser.model_copy(update={"schedule": "constant", "warm_up": 0})}
    )
    checkpoint = tmp_path / "checkpoint.safetensors"
    run(volume, settings, steps=3, checkpoint=checkpoint)
    events: list[Event] = []
    longer, _ = run(volume, settings, steps=5, checkpoint=checkpoint, listen=events.append)
    assert isinstance(events[0], StageStarted)
    assert events[0].done == 3 * 8
    assert same_weights(longer, run(volume, settings, steps=5)[0])
    shorter, _ = run(volume, settings, steps=2, checkpoint=checkpoint)  # its own beginning is past: done anew
    assert same_weights(shorter, run(volume, settings, steps=2)[0])


def test_a_schedule_that_knows_its_end_begins_anew(volume: Volume, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    run(volume, steps=3, checkpoint=checkpoint)
    longer, _ = run(volume, steps=5, checkpoint=checkpoint)
    assert same_weights(longer, run(volume, steps=5)[0])
