"""Benchmarks that any user can run: how fast this machine embeds, trains, clusters, reads, writes and maps.

Each names the resource that bounds it (arithmetic, memory traffic, disk), and how far from that bound it ran.
"""

from vemosaic.bench.conditions import Conditions, Teams
from vemosaic.bench.measuring import BENCHMARKS, measure
from vemosaic.bench.peaks import Peaks, machine, measure_peaks
from vemosaic.bench.views import view_difference

__all__ = [
    "BENCHMARKS",
    "Conditions",
    "Peaks",
    "Teams",
    "machine",
    "measure",
    "measure_peaks",
    "view_difference",
]
