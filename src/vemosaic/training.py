"""The training loop: anchors and positives in, a model out; resumable to the bit on a CPU.

Everything random is a function of the seed and the step, so that a checkpoint needs no generator states: parameters,
the optimiser's moments and the step are all there is. Several processes train as one (`vemosaic.distributed`): each
draws the same batch and computes its part of it. A GPU is given its work ahead: the loop waits for it only where losses
are logged or saved.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vemosaic.blocks.events import Listener, StageEnded, StageStarted, UnitDone, ignore
from vemosaic.blocks.files import write_atomically
from vemosaic.blocks.records import fingerprint
from vemosaic.devices import Precision, arithmetic, computed_on, for_training, resident_bytes
from vemosaic.distributed import ALONE, Ranks
from vemosaic.errors import SettingsError
from vemosaic.held_signal import HeldSignal
from vemosaic.models.model import Model, build, new_card
from vemosaic.models.settings import ModelSettings, Optimiser
from vemosaic.models.vae import VAE
from vemosaic.objectives import Inputs, draw_inputs, loss_terms
from vemosaic.patches import PatchSampler
from vemosaic.repeated_step import RepeatedStep, Results, cuda_graph
from vemosaic.volumes.intensity import Intensity
from vemosaic.volumes.volume import Volume

ANCHORS_ON_CPU = 120_000  # in all: minutes on two cores
ANCHORS_ON_GPU = 2_000_000  # for each volume, as in the paper
CHECKPOINT_SECONDS = 30.0
LOGGED_STEPS = 1000  # at most, so that long trainings have no long log


class Losses(BaseModel):
    """One line of the loss curve, after `anchors` anchors."""

    anchors: int
    loss: float
    reconstruction: float
    kl: float
    multi_similarity: float | None = None
    triplet: float | None = None


def default_anchors(volumes: int, device: torch.device) -> int:
    """How many anchors are drawn where nobody says."""
    return ANCHORS_ON_CPU if device.type == "cpu" else ANCHORS_ON_GPU * volumes


def train(
    volumes: Sequence[Volume],
    intensities: Sequence[Intensity],
    settings: ModelSettings | None = None,
    *,
    anchors: int | None = None,
    seed: int = 1,
    device: torch.device | str = "cpu",
    precision: Precision = "auto",
    masks: Sequence[Volume | None] | None = None,
    checkpoint: Path | None = None,
    ranks: Ranks = ALONE,
    listen: Listener = ignore,
) -> tuple[Model, list[Losses]]:
    """Train a model on volumes at the working voxel size (Han et al. 2022, sections 3.1 and 4.2).

    Parameters
    ----------
    volumes, intensities
        What to learn from, and what normalises each.
    settings
        A preset, changed or not; the `default` preset where None.
    anchors
        Budget in anchors, over all volumes; rounded to whole batches.
    seed
        Of the weights, the patches and the latent noise.
    device
        Where to compute.
    precision
        Of the networks (`vemosaic.devices`); weights, moments and losses are float32.
    masks
        For each volume where anchors may lie, or None.
    checkpoint
        File from which an interrupted training goes on, and where it is kept meanwhile; to remove it at the end is left
        to the caller. One of other settings, volumes or seed is not used; one of another budget is where the learning
        rate is constant and that budget was smaller: training goes on from it to the same bits as from the beginning.
        SIGTERM, by which schedulers announce the end, takes effect when the running step is done and saved.
    ranks
        The processes that train together, each given the same of everything else. The first one writes the checkpoint;
        how many there are changes the result by no more than the order of sums.
    listen
        Hears of the stage ``"train"`` in anchors.

    Returns
    -------
    model : Model
    losses : list of Losses
        The loss curve, at most 1,001 lines.

    Raises
    ------
    SettingsError
        If the budget is less than one batch, the device has no such precision, there are more processes than anchors
        in a batch, or they do not see the same.
    VolumeError
        If a volume is too small, or its mask leaves no voxel.
    """
    settings = settings or ModelSettings()
    device = torch.device(device)
    budget = default_anchors(len(volumes), device) if anchors is None else anchors
    batch = settings.optimiser.batch
    check_budget(budget, batch)
    _check_count(ranks, batch)
    arithmetic(precision, device)
    precision = for_training(precision, device)
    steps = round(budget / batch)
    sampler = PatchSampler(
        volumes,
        intensities,
        settings.sampling,
        seed=seed,
        device=device,
        masks=masks,
        resident_bytes=resident_bytes(device),
    )
    vae = build(settings, seed).to(device).train()
    optimiser = _optimiser(vae, settings.optimiser, device)
    length = None if settings.optimiser.schedule == "constant" else steps  # a longer training passes through a shorter
    about = fingerprint(
        settings.model_dump(mode="json"), length, seed, computed_on(device, precision), [v.identity() for v in volumes],
        [asdict(i) for i in intensities], [m.identity() if m else None for m in sampler.masks],
    )  # fmt: skip
    first, losses = (0, list[Losses]()) if checkpoint is None else _resume(checkpoint, about, steps, vae, optimiser)
    ranks.check_same(about, first)

    def step_down(inputs: Inputs) -> Results:
        terms = loss_terms(vae, inputs, settings.objective, ranks, precision)
        optimiser.zero_grad(set_to_none=True)
        terms["loss"].backward()  # type: ignore[no-untyped-call]
        ranks.sum_gradients(vae.parameters())
        if settings.optimiser.clip:
            torch.nn.utils.clip_grad_norm_(vae.parameters(), settings.optimiser.clip)
        optimiser.step()
        return {name: term.detach() for name, term in terms.items()}

    carry_out = _repeated(step_down, optimiser, device, ranks)
    listen(StageStarted("train", steps * batch, first * batch, "anchor"))
    logged_every = math.ceil(steps / LOGGED_STEPS)
    saved = time.monotonic()
    with HeldSignal(signal.SIGTERM) as sigterm:
        for step in range(first, steps):
            _set_rate(optimiser, learning_rate(settings.optimiser, step, steps))
            generator = torch.Generator(device).manual_seed(_noise_seed(seed, step))
            terms = carry_out(draw_inputs(vae, sampler.batch(step, batch), settings.objective, generator))
            last = step == steps - 1
            if step % logged_every == 0 or last:
                values = ranks.totals(terms)
                _check_finite(values, step)
                losses.append(Losses(anchors=(step + 1) * batch, **values))
            listen(UnitDone("train", batch))
            stopping = ranks.any(sigterm.received)
            due = stopping or last or time.monotonic() - saved > CHECKPOINT_SECONDS
            if checkpoint and ranks.is_first and due:
                _save_checkpoint(checkpoint, about, step + 1, losses, vae, optimiser)
                saved = time.monotonic()
            if stopping:
                sigterm.deliver()
    listen(StageEnded("train"))
    card = new_card(
        anchors=steps * batch,
        seed=seed,
        voxel_size_nm=[list(v.known_voxel_size()) for v in volumes],
        volumes=[v.source for v in volumes],
        last_losses=losses[-1].model_dump(exclude_none=True),
    )
    return Model(vae.eval(), settings, card), losses


def check_budget(anchors: int, batch: int) -> None:
    """Refuse a budget too small to train with.

    Raises
    ------
    SettingsError
        If it is less than one batch.
    """
    if anchors < batch:
        raise SettingsError("--anchors", f"{anchors} are fewer than one batch of {batch}", f"give {batch} or more")


def _check_count(ranks: Ranks, batch: int) -> None:
    if ranks.count > batch:
        raise SettingsError(
            "--nproc-per-node",
            f"{ranks.count} processes are more than the {batch} anchors of a batch",
            f"start {batch} processes or fewer",
        )


def _optimiser(vae: VAE, settings: Optimiser, device: torch.device) -> torch.optim.Adam:
    """Adam with amsgrad; on a GPU in one kernel, its learning rate on the device, so that a CUDA graph can hold it."""
    if device.type != "cuda":
        return torch.optim.Adam(vae.parameters(), lr=settings.learning_rate, amsgrad=True)
    rate = torch.tensor(settings.learning_rate, device=device)
    return torch.optim.Adam(vae.parameters(), lr=rate, amsgrad=True, fused=True)


def _repeated(
    step: Callable[[Inputs], Results], optimiser: torch.optim.Adam, device: torch.device, ranks: Ranks
) -> Callable[[Inputs], Results]:
    """Have a GPU replay the step where no other process takes part in it."""
    if device.type != "cuda" or ranks.count > 1:
        return step
    record = cuda_graph(device)

    def capture(call: Callable[[], Results]) -> Callable[[], Results]:
        (group,) = optimiser.param_groups
        group["capturable"] = True  # else Adam refuses; all the time, it would complain of steps that are not recorded
        try:
            return record(call)
        finally:
            group["capturable"] = False

    return RepeatedStep(step, capture)


def _set_rate(optimiser: torch.optim.Adam, rate: float) -> None:
    """Set the learning rate; one that lies on the device stays where it is."""
    for group in optimiser.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def learning_rate(optimiser: Optimiser, step: int, steps: int) -> float:
    """Learning rate of a step: a linear warm-up times the schedule."""
    rate = optimiser.learning_rate * min(1.0, (step + 1) / max(1, optimiser.warm_up))
    if optimiser.schedule == "cosine":
        rate *= max(1e-3, 0.5 * (1 + math.cos(math.pi * step / steps)))
    return rate


def _noise_seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step, 2]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _check_finite(values: dict[str, float], step: int) -> None:
    if not all(map(math.isfinite, values.values())):
        raise SettingsError("training", f"the loss is no longer finite at step {step}", "lower the learning rate")


def _save_checkpoint(
    path: Path, about: str, step: int, losses: list[Losses], vae: VAE, optimiser: torch.optim.Adam
) -> None:
    """Write parameters, moments and step, whole or not at all."""
    tensors = {f"model.{name}": tensor for name, tensor in vae.state_dict().items()}
    for number, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": tensor for name, tensor in moments.items()}
    # Contiguity loses the channels-last layout, not a bit of the values; loading copies into the layout again.
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {
        "about": about,
        "step": str(step),
        "losses": json.dumps([line.model_dump(exclude_none=True) for line in losses]),
    }
    write_atomically(path, save(tensors, header))


def _resume(path: Path, about: str, steps: int, vae: VAE, optimiser: torch.optim.Adam) -> tuple[int, list[Losses]]:
    """Load a checkpoint of the same training, if there is one; return the next step and the losses so far.

    One that is beyond the last step is of a longer training, and of no use here.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            if header.get("about") != about or int(header["step"]) > steps:
                return 0, []
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return 0, []
    vae.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, number, moment = name.split(".")
            state.setdefault(int(number), {})[moment] = tensor
    for number, parameter in enumerate(vae.parameters()):
        for moment, tensor in state[number].items():
            if tensor.shape == parameter.shape:
                state[number][moment] = torch.empty_like(parameter.detach()).copy_(tensor)
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    return int(header["step"]), [Losses(**line) for line in json.loads(header["losses"])]
