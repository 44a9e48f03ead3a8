"""Several processes that train as one: each computes its part of every batch, and what they find is summed.

``torchrun`` starts the processes and says in the environment (``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR`` ...) which is
which. Each draws the same whole batch, runs the networks on its own samples, and steps with the gradient of all. Losses
are written as shares: what a process computes, summed over the processes, is the value on the whole batch, and so for
the gradient. `torch.nn.parallel` averages the gradients of losses that do not know of each other; the
multi-similarity loss compares every sample with every other one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vemosaic.errors import SettingsError, VemosaicError


@dataclass(frozen=True)
class Ranks:
    """The processes that train together, and which of them this one is; by default one process alone.

    Alone, every method gives back what it is given and nothing is communicated. Otherwise all processes must call the
    same methods in the same order. As a context it is what they do together: at its end they part, and where one of
    them is lost meanwhile the others say so in one line.

    Attributes
    ----------
    rank
        Which process this is, from 0.
    count
        How many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def own(self, length: int) -> slice:
        """Which samples of a batch of so many are this process's: as even as can be, in order."""
        return slice(length * self.rank // self.count, length * (self.rank + 1) // self.count)

    def gather(self, part: Tensor, length: int) -> Tensor:
        """Put the samples of all processes together, differentiably.

        Parameters
        ----------
        part
            This process's samples, ``(own, ...)``, as `own` cuts them.
        length
            Samples of the whole batch, B.

        Returns
        -------
        Tensor, (B, ...)
            The same on all processes. Its gradient is summed over them: each may compute something else with it.
        """
        if self.count == 1:
            return part
        whole: Tensor = _Gather.apply(part, self.own(length), length)  # type: ignore[no-untyped-call]
        return whole

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over the processes, the same bits on each."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        totals = torch.split(flat, [g.numel() for g in gradients])
        for gradient, total in zip(gradients, totals, strict=True):
            gradient.copy_(total.view(gradient.shape))

    def totals(self, shares: Mapping[str, Tensor]) -> dict[str, float]:
        """Sum scalars over the processes, by name."""
        values = torch.stack([share.detach() for share in shares.values()]).cpu().double()  # one wait for a GPU
        if self.count > 1:
            dist.all_reduce(values)
        return dict(zip(shares, values.tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Tell whether a process says yes. To ask the first one alone, the others say no."""
        if self.count == 1:
            return flag
        raised = torch.tensor(int(flag))
        dist.all_reduce(raised, dist.ReduceOp.MAX)
        return bool(raised)

    def check_same(self, *facts: object) -> None:
        """Make sure that all processes are about to do the same.

        Raises
        ------
        SettingsError
            On all of them, if their facts differ.
        """
        if self.count == 1:
            return
        number = int.from_bytes(hashlib.sha256(repr(facts).encode()).digest()[:7])
        largest = torch.tensor([number, -number])
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        if largest[0] != -largest[1]:
            raise SettingsError(
                f"process {self.rank} of {self.count}",
                "not all processes see the same volumes, settings and checkpoint",
                "start them with the same command, and keep volumes and run on a file system that all share",
            )

    def __enter__(self) -> Self:
        """Begin to work together."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Part; after an error the process is about to end, which parts it from the others soonest."""
        if self.count == 1:
            return
        if error is None:
            dist.destroy_process_group()
        elif isinstance(error, dist.DistError) or (kind is RuntimeError and "gloo" in str(error).lower()):
            raise VemosaicError(
                f"process {self.rank} of {self.count}",
                "has lost the others",
                "see what the one that ended first has to say, and run the same command again to go on",
            ) from error


ALONE = Ranks()
"""One process, as nearly always."""


def join(device: str = "auto") -> Ranks:
    """Meet the processes that were started together with this one; alone where the environment names no others.

    Collectives run over NCCL between GPUs and over gloo between CPUs. Each process takes the GPU of its number on its
    machine, which ``"cuda"`` means from then on.

    Parameters
    ----------
    device
        ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises
    ------
    SettingsError
        If the environment is only half set, or there are more processes than GPUs on this machine.
    """
    count = os.environ.get("WORLD_SIZE", "1")
    if count == "1":
        return ALONE
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise SettingsError(
            "WORLD_SIZE", f"is {count}, but {missing[0]} is not set", "start with torchrun, or unset WORLD_SIZE"
        )
    backend = "gloo"
    if device != "cpu" and torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        local, present = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= present:
            raise SettingsError(
                "--nproc-per-node",
                f"process {local + 1} on this machine finds {present} GPU(s)",
                f"start {present} on each machine, or add --device cpu",
            )
        torch.cuda.set_device(local)
    dist.init_process_group(backend)
    return Ranks(dist.get_rank(), dist.get_world_size())


class _Gather(torch.autograd.Function):
    """Samples of all processes in one tensor: each fills its own rows, and the sum with the others' zeros is exact."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, own: slice, length: int) -> Tensor:
        whole = part.new_zeros((length, *part.shape[1:]))
        whole[own] = part
        dist.all_reduce(whole)
        ctx.own = own
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[ctx.own], None, None
