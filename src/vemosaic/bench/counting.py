"""What the stages of a run cost: operations and bytes, counted from the layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from vemosaic.bench.bounds import Cost
from vemosaic.devices import arithmetic
from vemosaic.diffusion import Diffusion
from vemosaic.embedding import Embedder
from vemosaic.gaussian import Taps
from vemosaic.models.default import Encoder
from vemosaic.volumes.volume import Shape

NUMBER = 4
"""Bytes of a float32."""


@dataclass(frozen=True)
class Layer:
    """A convolution of the dense view.

    Attributes
    ----------
    name
        As in the encoder.
    weight
        Shape of its weights: channels out, channels in, kernel z, y, x.
    inputs, outputs
        Voxels that it reads and gives along z, y, x.
    """

    name: str
    weight: tuple[int, int, int, int, int]
    inputs: Shape
    outputs: Shape

    @property
    def cost(self) -> Cost:
        """Of the whole box: every product and its addition; input, weights, bias and result once through memory."""
        out, into, *kernel = self.weight
        voxels = math.prod(self.outputs)
        numbers = into * math.prod(self.inputs) + math.prod(self.weight) + out + out * voxels
        return Cost(2.0 * out * into * math.prod(kernel) * voxels, float(NUMBER * numbers))


def dense_layers(encoder: Encoder, shape: Sequence[int]) -> list[Layer]:
    """List the convolutions that embed a box of ``(Z, Y, X)`` voxels, the halo around it included."""
    branch = encoder.branch
    deep = 1 if branch.slices else 3
    made = (
        ("first", branch.first, (branch.slices or 3, 3, 3)),  # folded with the interpolation before it
        ("second", branch.second, (deep, 3, 3)),
        ("third", branch.third, (deep, 3, 3)),
        ("fourth", branch.fourth, (deep, 3, 3)),
        ("mean", branch.mean, (1, 1, 1)),
    )
    z, y, x = (n + 2 * h for n, h in zip(shape, encoder.halo, strict=True))
    layers = []
    for name, module, kernel in made:
        inputs = (z, y, x)
        z, y, x = (n - k + 1 for n, k in zip(inputs, kernel, strict=True))
        layers.append(Layer(name, (module.out_channels, module.in_channels, *kernel), inputs, (z, y, x)))
    return layers


def embedding_cost(embedder: Embedder, shape: Shape) -> Cost:
    """Return what it costs to embed a box at once, with words, smoothing and diffusion where the embedder has them."""
    encoder = embedder.model.encoder
    assert isinstance(encoder, Encoder)
    parts = embedder.encoded_parts(shape)
    convolutions = sum((layer.cost for part in parts for layer in dense_layers(encoder, part.shape)), Cost())
    return convolutions.narrowed(arithmetic(embedder.precision, embedder.device)) + describing_cost(embedder, shape)


def describing_cost(embedder: Embedder, shape: Sequence[int]) -> Cost:
    """Return what words, smoothing and diffusion of a box cost.

    Words are found by a product with their centres, of which only the best one's number leaves the cache; smoothing
    takes a product for each tap, axis by axis; each step of diffusion one for each neighbour and the voxel itself.
    """
    total, smoothed = Cost(), list(shape)
    if embedder.diffusion is not None:
        smoothed = [n + 2 * r for n, r in zip(shape, embedder.diffusion.reach, strict=True)]
        total += _diffusion_cost(embedder.channels, shape, embedder.diffusion)
    if embedder.words is None:
        return total + _smoothing_cost(embedder.channels, smoothed, embedder.taps)
    voxels = math.prod(n + 2 * r for n, r in zip(shape, embedder.reach, strict=True))
    count, channels = embedder.words.centres.shape
    total += Cost(2.0 * channels * count * voxels, NUMBER * (channels + embedder.channels) * voxels)
    for table, taps in ((embedder.words.details, embedder.detail_taps), (embedder.words.codes, embedder.taps)):
        total += _smoothing_cost(table.shape[1], smoothed, taps)
    return total


def _diffusion_cost(channels: int, shape: Sequence[int], diffusion: Diffusion) -> Cost:
    """Return what it costs to diffuse a box of so many channels: each step reads and writes what the next one takes."""
    neighbours = 2 * sum(r > 0 for r in diffusion.reach)
    total = Cost()
    for left in range(diffusion.steps, 0, -1):
        before, after = (
            math.prod(n + 2 * more * (r > 0) for n, r in zip(shape, diffusion.reach, strict=True))
            for more in (left, left - 1)
        )
        total += Cost((2.0 * neighbours + 1) * channels * after, NUMBER * (channels * (before + after) + 3 * after))
    return total


def _smoothing_cost(channels: int, shape: Sequence[int], taps: Taps) -> Cost:
    """Return what it costs to smooth a box of so many channels, along one axis after the other."""
    total = Cost()
    box = [n + len(t) - 1 for n, t in zip(shape, taps, strict=True)]
    for axis in (2, 1, 0):
        if len(taps[axis]) > 1:
            before = channels * math.prod(box)
            box[axis] = shape[axis]
            after = channels * math.prod(box)
            total += Cost(2.0 * len(taps[axis]) * after, NUMBER * (before + after))
    return total


def assigning_cost(channels: int, ks: Sequence[int]) -> Cost:
    """Return what it costs to find the nearest centre of several clusterings for one vector of so many channels."""
    return Cost(2.0 * channels * sum(ks), NUMBER * channels + len(ks))


def statistics_cost(channels: int, ks: Sequence[int]) -> Cost:
    """Return what one vector costs in k-means: its distances to all centres, and the sums for the nearest ones."""
    return Cost(2.0 * channels * sum(ks) + 2.0 * (channels + 2) * len(ks), NUMBER * channels)


def counted(job: Callable[[], object]) -> Cost:
    """Run a job, and count what its convolutions and matrix products cost, those of the gradients included."""
    with _Traffic() as traffic, FlopCounterMode(display=False) as flops:
        job()
    return Cost(float(flops.get_total_flops()), float(traffic.bytes))


class _Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the tensors that convolutions and products take and give, in bytes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry out an operation, and add what it takes and gives."""
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            given = result if isinstance(result, tuple) else (result,)
            self.bytes += sum(part.nbytes for part in (*args, *given) if isinstance(part, Tensor))
        return result
