"""Bounds: which resource limits a piece of work, given what it costs and what the machine can do (the roofline model).

Resources are used at the same time, so that the slowest decides (Williams, Waterman and Patterson 2009,
https://doi.org/10.1145/1498765.1498785).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from vemosaic.bench.peaks import Peaks, promised
from vemosaic.devices import Arithmetic


@dataclass(frozen=True)
class Cost:
    """What a piece of work takes of each resource.

    Attributes
    ----------
    flops
        Additions and multiplications.
    traffic
        Bytes read from and written to memory where the input and the result of every layer go through it once.
    read, written
        Bytes read from disk and written to it.
    """

    flops: float = 0.0
    traffic: float = 0.0
    read: float = 0.0
    written: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.flops + other.flops,
            self.traffic + other.traffic,
            self.read + other.read,
            self.written + other.written,
        )

    def per(self, items: float) -> Cost:
        """Return the cost of one item where this is that of so many."""
        return Cost(self.flops / items, self.traffic / items, self.read / items, self.written / items)

    def narrowed(self, arithmetic: Arithmetic) -> Cost:
        """Return the cost of the same convolutions and products, counted in float32, in an arithmetic."""
        return replace(self, traffic=self.traffic / 2) if arithmetic == "bfloat16" else self

    def seconds(self, peaks: Peaks) -> dict[str, float]:
        """Return the least time that each resource needs; the disk only where it was tried."""
        least = {"arithmetic": self.flops / peaks.flops, "memory traffic": self.traffic / peaks.traffic}
        if peaks.read is not None and peaks.written is not None:
            least["disk"] = self.read / peaks.read + self.written / peaks.written
        return least


def beside_promised(rate: float, cost: Cost, device: torch.device, items: str = "voxels") -> dict[str, Any]:
    """Hold a measured rate against what the data sheet of a GPU allows, as `bounded` does; nothing without one."""
    peaks = promised(device)
    if peaks is None:
        return {}
    facts = bounded(rate, cost, peaks, items)
    told = ("bound", f"bound_{items}_per_second", "share_of_bound")
    return {"data_sheet": {**{name: facts[name] for name in told}, **peaks.to_json()}}


def bounded(rate: float, cost: Cost, peaks: Peaks, items: str = "voxels") -> dict[str, Any]:
    """Hold a measured rate against its bound.

    Parameters
    ----------
    rate
        Items a second.
    cost
        Of one item.
    peaks
        Of the machine that the rate was measured on.
    items
        What they are.

    Returns
    -------
    dict
        The rate, what an item costs, the ``bound`` by name, the rate that it allows, and which share of that was
        reached.
    """
    least = cost.seconds(peaks)
    slowest = max(least, key=least.__getitem__)
    item = items.removesuffix("s")
    costs = {"flops": cost.flops, "bytes": cost.traffic, "bytes_read": cost.read, "bytes_written": cost.written}
    return {
        f"{items}_per_second": rate,
        **{f"{name}_per_{item}": value for name, value in costs.items() if value},
        "bound": slowest,
        f"bound_{items}_per_second": 1 / least[slowest],
        "share_of_bound": rate * least[slowest],
    }
