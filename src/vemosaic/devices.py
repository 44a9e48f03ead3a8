"""How exactly a device computes, and how arrays reach it and come back without either side waiting for the other.

Settings say a `Precision`. ``"float32"`` is what it says, but for the convolutions of a GPU, for which PyTorch lets it
round products to TF32. ``"bfloat16"`` is mixed precision (Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740):
convolutions and matrix products take and give bfloat16, and add up in float32; weights, gradients, losses, what
describes voxels and everything after it stay float32. As bfloat16 has the range of float32, no loss is scaled.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vemosaic.errors import SettingsError

Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]
"""What convolutions compute in; ``"auto"``: bfloat16 on a GPU that has it, else float32."""

Arithmetic: TypeAlias = Literal["float32", "bfloat16"]

BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""What PyTorch calls the arithmetic of processors that multiply in bfloat16, x86 and ARM. Others convert every number:
measured with torch 2.13, that takes 2.5 times as long as float32 with AVX-512 alone, and far longer with AVX2."""

Item = TypeVar("Item")
Sent = TypeVar("Sent")
Received = TypeVar("Received")
Key = TypeVar("Key")


def arithmetic(precision: Precision, device: torch.device) -> Arithmetic:
    """Settle what a precision amounts to on a device.

    Raises
    ------
    SettingsError
        If bfloat16 is asked for where the device would only imitate it, much slower than float32.
    """
    if precision == "auto":
        return "bfloat16" if device.type == "cuda" and has_bfloat16(device) else "float32"
    if precision == "bfloat16" and not has_bfloat16(device):
        name = "this processor" if device.type == "cpu" else f"this {device.type} device"
        raise SettingsError("--precision", f"{name} does not compute in bfloat16", "use float32, or auto")
    return precision


def for_training(precision: Precision, device: torch.device) -> Precision:
    """Return the precision to train in: on a CPU float32, whatever the networks map in afterwards.

    PyTorch's bfloat16 gradients on a CPU are infinite now and then (2.13, `han2022`: in some runs of one test with the
    same numbers, not in others), and a single one ruins a training.
    """
    return precision if device.type == "cuda" else "float32"


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether a device multiplies in bfloat16 by itself."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # an old PyTorch cannot tell
        return any(known.get(name) for name in BFLOAT16_INSTRUCTIONS)
    return False


def computed_on(device: torch.device, precision: Precision) -> str:
    """Say what a result owes its bits to: the kind of device, and what it computes in where that is not float32.

    Raises
    ------
    SettingsError
        If the device does not compute in that precision.
    """
    chosen = arithmetic(precision, device)
    return device.type if chosen == "float32" else f"{device.type} {chosen}"


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Return the context in which networks compute in a precision on a device; what they give may be bfloat16.

    Raises
    ------
    SettingsError
        As `arithmetic`.
    """
    mixed = arithmetic(precision, device) == "bfloat16"
    # Every weight is used once in a pass: there is nothing to cache, and a CUDA graph must not find a cache.
    return torch.autocast(device.type, torch.bfloat16, enabled=mixed, cache_enabled=False)


def resident_bytes(device: torch.device) -> int:
    """Return how much of a device's own memory may hold volumes: a quarter of a GPU's, whatever else is in it now.

    It is the same on all GPUs of a kind, as what is drawn from a volume depends on whether it is held whole.
    """
    return int(torch.cuda.get_device_properties(device).total_memory) // 4 if device.type == "cuda" else 0


def staged(arrays: Iterable[npt.NDArray[np.float32]], device: torch.device) -> Iterator[Tensor]:
    """Bring arrays to a device, each while the one before is computed with.

    To a GPU they go through pinned memory, on a stream of their own. A thread takes them from `arrays`: what makes them
    (cutting, normalising) overlaps with the computing, too. On a CPU nothing is copied or made ahead.

    Parameters
    ----------
    arrays
        Any shapes; one of them waits on the device while another is used.
    device
        Where to compute.

    Yields
    ------
    Tensor
        The next array, which the current stream may use at once.
    """
    if device.type != "cuda":
        yield from (torch.from_numpy(array).to(device) for array in arrays)
        return
    copying, computing = torch.cuda.Stream(device), torch.cuda.current_stream(device)  # type: ignore[no-untyped-call]

    def send(array: npt.NDArray[np.float32]) -> tuple[Tensor, torch.cuda.Event]:
        with torch.cuda.stream(copying):
            # The allocator of pinned memory keeps it until the copy is done.
            tensor = torch.from_numpy(array).pin_memory().to(device, non_blocking=True)
            return tensor, copying.record_event()

    def receive(sent: tuple[Tensor, torch.cuda.Event]) -> Tensor:
        tensor, copied = sent
        computing.wait_event(copied)
        tensor.record_stream(computing)  # it was allocated for the other stream
        return tensor

    yield from map(receive, made_ahead(map(send, arrays)))


def fetched(
    results: Iterable[tuple[Key, Sequence[Tensor]]], device: torch.device
) -> Iterator[tuple[Key, list[npt.NDArray[np.generic]]]]:
    """Bring results back from a device, each while the next is computed there.

    Parameters
    ----------
    results
        Tensors that belong together, with what tells the caller which they are. Making them only gives a GPU its work:
        the next ones are asked for before the host waits for these.
    device
        Where they lie. From a CPU nothing is copied.

    Yields
    ------
    key
        As it was given.
    arrays : list of ndarray
        The tensors, in order.
    """
    if device.type != "cuda":
        yield from ((key, [tensor.numpy() for tensor in tensors]) for key, tensors in results)
        return
    computing = torch.cuda.current_stream(device)

    def send(result: tuple[Key, Sequence[Tensor]]) -> tuple[Key, list[Tensor], torch.cuda.Event]:
        key, tensors = result
        copies = [tensor.to("cpu", non_blocking=True) for tensor in tensors]  # into pinned memory
        return key, copies, computing.record_event()

    def receive(sent: tuple[Key, list[Tensor], torch.cuda.Event]) -> tuple[Key, list[npt.NDArray[np.generic]]]:
        key, copies, copied = sent
        copied.synchronize()
        return key, [copy.numpy() for copy in copies]

    yield from one_ahead(results, send, receive)


def made_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Have a thread make each item while the one before is used, and yield them in order."""
    with ThreadPoolExecutor(1, "vemosaic staging") as maker:
        items = iter(items)
        ahead = maker.submit(lambda: list(itertools.islice(items, 1)))
        while made := ahead.result():
            ahead = maker.submit(lambda: list(itertools.islice(items, 1)))
            yield from made


def one_ahead(
    items: Iterable[Item], send: Callable[[Item], Sent], receive: Callable[[Sent], Received]
) -> Iterator[Received]:
    """Send each item on its way before the one ahead of it is received, and yield what is received, in order."""
    ahead: list[Sent] = []
    for item in items:
        ahead.append(send(item))
        if len(ahead) == 2:
            yield receive(ahead.pop(0))
    for sent in ahead:
        yield receive(sent)
