"""A step that is the same every time but for its numbers: on a GPU replayed as one CUDA graph.

Small networks keep a GPU busy for less time than Python needs to give it their hundreds of kernels one by one. A graph
records the kernels of one step, with the memory that they use, and starts them all at once.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Generic, TypeAlias, TypeVar

import torch
from torch import Tensor

WARM_UP = 3
"""Steps before the recorded one, in which libraries choose kernels and the optimiser makes its moments."""

Inputs = TypeVar("Inputs", bound=tuple[Tensor | None, ...])
Results: TypeAlias = Mapping[str, Tensor]
Capture: TypeAlias = Callable[[Callable[[], Results]], Callable[[], Results]]


class GraphWarning(UserWarning):
    """A step could not be recorded, and is carried out kernel by kernel."""


class RepeatedStep(Generic[Inputs]):
    """A step that is recorded after a few ordinary ones, and replayed from then on.

    The first steps count like all others: what they change (weights, moments) is what the recorded one goes on with.
    Where a step cannot be recorded, it is carried out as before, and a `GraphWarning` says so once.

    Parameters
    ----------
    step
        Takes a named tuple of tensors, and gives tensors by name, without their gradients. It must not depend on
        anything that changes from step to step but its inputs and tensors that stay where they are; must not wait for
        the device; must not draw random numbers.
    capture
        Records a call without carrying it out, and returns what replays it.
    """

    def __init__(self, step: Callable[[Inputs], Results], capture: Capture) -> None:
        self._step = step
        self._capture = capture
        self._ordinary: float = WARM_UP
        self._inputs: Inputs | None = None
        self._replay: Callable[[], Results] | None = None

    def __call__(self, inputs: Inputs) -> Results:
        """Carry out the step; what it gives holds until the next one.

        The tensors of `inputs` must have the same shapes every time.
        """
        if self._ordinary == 0 and self._replay is None:
            self._record(inputs)
        if self._replay is None or self._inputs is None:
            self._ordinary -= 1
            return self._step(inputs)
        for kept, given in zip(self._inputs, inputs, strict=True):
            if kept is not None and given is not None:
                kept.copy_(given)
        return self._replay()

    def _record(self, inputs: Inputs) -> None:
        copies = [None if tensor is None else tensor.clone() for tensor in inputs]
        kept = type(inputs)(*copies)  # type: ignore[arg-type]  # a named tuple, not a tuple
        try:
            self._replay = self._capture(lambda: self._step(kept))
            self._inputs = kept
        except RuntimeError as error:
            self._ordinary = math.inf
            reason = str(error).strip().split("\n", 1)[0]
            warnings.warn(
                f"training: the step could not be recorded as a CUDA graph ({reason}); it goes on without, slower",
                GraphWarning,
                stacklevel=3,
            )


def cuda_graph(device: torch.device) -> Capture:
    """Return what records a call as a CUDA graph of a device."""

    def capture(call: Callable[[], Results]) -> Callable[[], Results]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(device), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            results = call()

        def replay() -> Results:
            graph.replay()
            return results

        return replay

    return capture
