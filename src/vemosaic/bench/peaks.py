"""What this machine can do at best, measured in the process that is to be judged by it."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import vemosaic
from vemosaic.blocks.files import disk_errors
from vemosaic.devices import Arithmetic, has_bfloat16

SECONDS = 0.5
"""Time that each resource is tried for; its best moment counts, as other programs can only slow it down."""

MATRIX, VECTOR = 2_048, 2**25
"""Edge of the matrices that are multiplied; float32 numbers of each array of the triad, far more than a cache holds."""

MATRIX_ON_GPU, VECTOR_ON_GPU = 8_192, 2**28

FILE = 2**27
"""Bytes of the file that is written and read."""


TERA = 10**12
DATASHEETS = {
    "H200": (989 * TERA, 4.8 * TERA),
    "H100 PCIe": (756 * TERA, 2.0 * TERA),
    "H100 80GB HBM3": (989 * TERA, 3.35 * TERA),
    "A100-SXM4-80GB": (312 * TERA, 2.039 * TERA),
    "A100-SXM4-40GB": (312 * TERA, 1.555 * TERA),
    "A100 80GB PCIe": (312 * TERA, 1.935 * TERA),
}
"""What NVIDIA's data sheets promise of a GPU, by a part of its name: operations a second in bfloat16 (tensor cores,
dense matrices), and bytes a second of its memory. Measured peaks are below them."""


@dataclass(frozen=True)
class Peaks:
    """What a machine can do at best, per second.

    Attributes
    ----------
    flops
        Additions and multiplications in float32; on a GPU by TF32 where its convolutions may, as PyTorch lets them.
    traffic
        Bytes read from and written to memory.
    read, written
        Bytes read from disk and written to it with fsync; None where the disk was not tried.
    float32_flops
        As `flops`, without TF32; None on a CPU.
    bfloat16_flops
        As `flops`, in bfloat16; None where the device does not compute in it.
    """

    flops: float
    traffic: float
    read: float | None = None
    written: float | None = None
    float32_flops: float | None = None
    bfloat16_flops: float | None = None

    def best(self, other: Peaks) -> Peaks:
        """Return the better of each of two measurements, before and after what is to be judged by them."""
        return Peaks(
            max(self.flops, other.flops),
            max(self.traffic, other.traffic),
            _better(self.read, other.read),
            _better(self.written, other.written),
            _better(self.float32_flops, other.float32_flops),
            _better(self.bfloat16_flops, other.bfloat16_flops),
        )

    def of(self, arithmetic: Arithmetic) -> Peaks:
        """Return them with what is computed in an arithmetic as `flops`."""
        return self if arithmetic == "float32" or not self.bfloat16_flops else replace(self, flops=self.bfloat16_flops)

    def to_json(self) -> dict[str, float]:
        """Return those that are known, with their units."""
        known = {
            "gflop_per_second": self.flops,
            "float32_gflop_per_second": self.float32_flops,
            "bfloat16_gflop_per_second": self.bfloat16_flops,
            "memory_gb_per_second": self.traffic,
            "disk_read_gb_per_second": self.read,
            "disk_write_gb_per_second": self.written,
        }
        return {name: value / 1e9 for name, value in known.items() if value is not None}


def _better(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else max(first, second)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "vemosaic": vemosaic.__version__,
    }


def measure_peaks(device: torch.device, folder: Path | None = None) -> Peaks:
    """Measure what a device, with all threads of this process, and the disk below a folder can do.

    Arithmetic is a product of large matrices, memory traffic the triad a = b + s c of McCalpin's STREAM, counted as it
    counts (two arrays read, one written), disk a file of random bytes that is written to the disk, dropped from the
    system's cache where the system lets us, and read.

    Parameters
    ----------
    device
        Where to compute.
    folder
        Where to try the disk; not at all where None.

    Raises
    ------
    OutputError
        If the folder cannot be written to, or its disk is full.
    """
    read, written = (None, None) if folder is None else _disk(folder)
    gpu = device.type == "cuda"
    return Peaks(
        flops=_arithmetic(device, torch.float32, tf32=torch.backends.cudnn.allow_tf32),
        traffic=_traffic(device),
        read=read,
        written=written,
        float32_flops=_arithmetic(device, torch.float32) if gpu else None,
        bfloat16_flops=_arithmetic(device, torch.bfloat16) if has_bfloat16(device) else None,
    )


def promised(device: torch.device) -> Peaks | None:
    """Return what the data sheet of a GPU promises, in bfloat16; None of one that is not listed, and of a CPU."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((Peaks(*rates) for part, rates in DATASHEETS.items() if part in name), None)


def synchronise(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def best_time(job: Callable[[], object], device: torch.device, seconds: float = SECONDS) -> float:
    """Return the shortest time that a job took in seconds, tried for a while and at least twice."""
    job()
    synchronise(device)
    times: list[float] = []
    while len(times) < 2 or sum(times) < seconds:
        start = time.perf_counter()
        job()
        synchronise(device)
        times.append(time.perf_counter() - start)
    return min(times)


def _arithmetic(device: torch.device, dtype: torch.dtype, *, tf32: bool = False) -> float:
    edge = MATRIX if device.type == "cpu" else MATRIX_ON_GPU
    a, b = (torch.rand(edge, edge, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(a)
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        return 2 * edge**3 / best_time(lambda: torch.mm(a, b, out=product), device)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed


def _traffic(device: torch.device) -> float:
    length = VECTOR if device.type == "cpu" else VECTOR_ON_GPU
    a, b, c = (torch.ones(length, device=device) for _ in range(3))
    return 3 * a.nbytes / best_time(lambda: torch.add(b, c, alpha=2.0, out=a), device)


def _disk(folder: Path) -> tuple[float, float]:
    """Bytes a second read and written."""
    content = os.urandom(FILE)
    reading, writing = [], []
    with disk_errors(folder), tempfile.NamedTemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(2):
            file.seek(0)
            start = time.perf_counter()
            _write_all(file.fileno(), content)
            os.fsync(file.fileno())
            writing.append(time.perf_counter() - start)
            drop_from_cache([Path(file.name)])
            file.seek(0)
            start = time.perf_counter()
            while file.read(2**22):
                pass
            reading.append(time.perf_counter() - start)
    return FILE / min(reading), FILE / min(writing)


def _write_all(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def drop_from_cache(files: Iterable[Path]) -> None:
    """Have the next reading of files come from the disk, where the system lets us (Linux does)."""
    if not hasattr(os, "posix_fadvise"):
        return
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
