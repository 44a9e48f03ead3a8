"""What somebody who explores a run has to wait for, measured at the server: real requests over the loopback.

    python benchmarks/explorer.py RUN --times 5

RUN is a finished run with a reference (benchmarks/main_job.py epfl --keep FOLDER makes one). From it a run of 125 times
its voxels is made, repeated in mirror images, as nothing larger lies at hand; a command of its own serves it. The Dice
coefficient of scribbles is measured on RUN itself. Results go to benchmarks/results/explorer.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import numpy.typing as npt
import zarr

from ablation.scoring import LABELLED
from few_labels import opened, taught_dice
from vemosaic.blocks.files import stamp
from vemosaic.blocks.grid import Unit, units
from vemosaic.colours import palette
from vemosaic.explorer import acts
from vemosaic.explorer.edited import Derived, EditedMap
from vemosaic.explorer.headless import apply
from vemosaic.explorer.layers import Layer
from vemosaic.explorer.opened import OpenedRun
from vemosaic.explorer.session import Session
from vemosaic.volumes.labels import LabelStore
from vemosaic.volumes.points import box_of
from vemosaic.volumes.pyramid import build_pyramid, levels
from vemosaic.volumes.volume import mirrored

ROOT = Path(__file__).resolve().parents[1]
VEMOSAIC = Path(sys.executable).with_name("vemosaic")
VIEW = 512
"""Pixels of an edge of the window that is looked at."""

Voxels = npt.NDArray[Any]


def enlarge(path: Path, out: Path, times: int) -> None:
    """Make a run of `times` cubed the voxels of another: raw volume, map of one k, words and prototypes mirrored."""
    run = OpenedRun(path)
    Derived(run).texture.write()
    shape = tuple(n * times for n in run.shape)
    places = [mirrored(np.arange(n), m) for n, m in zip(shape, run.shape, strict=True)]

    def larger(whole: Voxels) -> Callable[[Unit], Voxels]:
        return lambda unit: whole[np.ix_(*(p[s] for p, s in zip(places, unit.slices, strict=True)))]

    whole = box_of((0, 0, 0), run.shape)
    out.mkdir()
    for name in ("model.safetensors", "centres.json", "clusters.json", "sample.npz"):
        shutil.copy(path / name, out / name)
    assert run.raw is not None
    raw = zarr.create_array(
        out / "raw.zarr", shape=shape, chunks=(64, 64, 64), dtype="u1", fill_value=0, dimension_names=["z", "y", "x"]
    )
    grey = larger(run.raw.read((0, 0, 0), run.shape).round().astype(np.uint8))
    for unit in units(shape, (64, 640, 1024)):
        raw[unit.slices] = grey(unit)
    _write_record(path, out, run, shape)
    _write_map(
        out / "segmentation.ome.zarr", run, shape, larger(np.asarray(run.map(run.default_k).volume.array[whole]))
    )
    big = OpenedRun(out)
    for name, small in (("words", Derived(run).texture.words), ("prototypes", Derived(run).texture.prototypes)):
        layer = Layer(big.derived / f"{name}.ome.zarr", levels(shape, run.voxel_size, run.translation))
        layer.fill(read=larger(small.read(0, whole)), compute=lambda unit, voxels: voxels)
    for name in ("prototypes.npy", "dot-vectors.npy"):
        shutil.copy(run.derived / name, big.derived / name)


def _write_record(path: Path, out: Path, run: OpenedRun, shape: tuple[int, ...]) -> None:
    record = json.loads((path / "run.json").read_text())
    about = record["inputs"][0]
    about["source"] = str(out / "raw.zarr")
    about["given"] |= {"voxel_size": list(run.voxel_size), "channel": None, "mask": None}
    about["shape"] = about["working"]["shape"] = list(shape)
    record["reference"] = None
    (out / "run.json").write_text(json.dumps(record))


def _write_map(place: Path, run: OpenedRun, shape: tuple[int, ...], read: Callable[[Unit], Voxels]) -> None:
    k = run.default_k
    store = LabelStore.create(place, ks=[k], shape=shape, voxel_size=run.voxel_size, translation=run.translation)
    recorded = {}
    for unit in units(shape, store.shard):
        recorded |= {file: stamp(file) for file in store.write(k, 0, unit.origin, read(unit).astype(np.uint8))}
    recorded |= build_pyramid(store, records=place.parent / ".progress", fingerprint="benchmark")
    store.finish(recorded, default_k=k, colours={k: palette(k)})


class Server:
    """`vemosaic explore` in a process of its own, and a client of it."""

    def __init__(self, run: Path) -> None:
        begun = time.monotonic()
        self.process = subprocess.Popen(
            [str(VEMOSAIC), "explore", str(run), "--no-browser", "--port", "0"], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        link = re.match(r"Open (\S+)/\?token=(\S+)", self.process.stdout.readline())
        assert link is not None
        self.client = httpx.Client(base_url=link[1], headers={"Authorization": f"token {link[2]}"}, timeout=600)
        for path in ("/api/state", "/api/dots/layout", "/api/dots/voxels", "/api/dots/class"):
            self.get(path)
        for axis in range(3):
            for what in ("raw", "labels"):
                self.get(f"/api/slice/{what}", axis=axis, index=10, level=1)
        self.usable = time.monotonic() - begun

    def get(self, path: str, **query: Any) -> httpx.Response:
        """Ask, and complain unless answered."""
        return self.client.get(path, params=query).raise_for_status()

    def act(self, **act: Any) -> dict[str, Any]:
        """Do an act."""
        done: dict[str, Any] = self.client.post("/api/acts", json=act).raise_for_status().json()
        return done

    def wait(self, *kinds: str) -> None:
        """Wait until no job of these kinds is going on."""
        while any(
            job["kind"] in kinds and job["state"] in ("waiting", "running") for job in self.get("/api/jobs").json()
        ):
            time.sleep(0.1)

    def memory(self) -> int:
        """Return the largest resident memory of the server so far, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]

    def end(self) -> None:
        """End the server."""
        self.process.terminate()
        self.process.wait()


def spread(seconds: list[float]) -> dict[str, float]:
    """Sum up times, in milliseconds."""
    return {
        "median_ms": round(float(np.median(seconds)) * 1000, 1),
        "p95_ms": round(float(np.percentile(seconds, 95)) * 1000, 1),
        "n": len(seconds),
    }


def timed(call: Callable[[], object]) -> float:
    """Return how many seconds a call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def measure(run: Path) -> dict[str, Any]:
    """Measure what a user waits for, on a large run."""
    server = Server(run)
    try:
        figures: dict[str, Any] = {"page_usable_s": round(server.usable, 2)}
        rng = np.random.default_rng(0)
        state = server.get("/api/state").json()
        shape = state["run"]["shape"]
        figures["voxels"] = int(np.prod(shape))
        figures["slice_while_copying"] = spread(slices(server, shape, rng, 10))
        server.wait("grey")
        figures["slice"] = spread(slices(server, shape, rng, 60))
        voxels = np.frombuffer(server.get("/api/dots/voxels").content, "<u4").reshape(-1, 3)
        figures["dots"] = len(voxels)
        figures["dot_to_voxel"] = spread([timed(lambda v=v: planes(server, shape, v)) for v in voxels[:40].tolist()])
        places = [[int(rng.integers(n)) for n in shape] for _ in range(40)]
        figures["voxel_to_dot"] = spread(
            [timed(lambda p=p: server.get("/api/voxel", **dict(zip("zyx", p, strict=True)))) for p in places]
        )
        figures["lasso_to_slice"] = spread([lasso(server, shape, rng) for _ in range(8)])
        figures["first_scribble_to_preview_in_3_planes"] = spread([scribble(server, shape, rng, n) for n in range(6)])
        middle = [n // 2 for n in shape]
        figures["scribble_to_preview_in_3_planes"] = spread(
            [scribble(server, shape, rng, n, middle) for n in range(12)][1:]
        )
        figures["piece"] = piece(server, shape)
        figures["server_memory_bytes"] = server.memory()
        return figures
    finally:
        server.end()


def window(shape: list[int], voxel: list[int], axis: int) -> dict[str, Any]:
    """Return the query of a window round a voxel."""
    rows, columns = (a for a in range(3) if a != axis)
    start = [max(0, min(v - VIEW // 2, n - VIEW)) for v, n in zip(voxel, shape, strict=True)]
    return {
        "axis": axis,
        "index": voxel[axis],
        "rows": f"{start[rows]}:{start[rows] + VIEW}",
        "columns": f"{start[columns]}:{start[columns] + VIEW}",
    }


def planes(server: Server, shape: list[int], voxel: list[int], *what: str) -> None:
    """Ask for three planes through a voxel, six pictures at a time as browsers do."""
    kinds = what or ("raw", "labels")
    wanted = [(f"/api/slice/{kind}", window(shape, voxel, axis)) for axis in range(3) for kind in kinds]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda asked: server.get(asked[0], **asked[1]), wanted))


def slices(server: Server, shape: list[int], rng: np.random.Generator, count: int) -> list[float]:
    """Ask for one slice after another, raw and map, at any place and in all planes."""
    found = []
    for number in range(count):
        voxel = [int(rng.integers(n)) for n in shape]
        query = window(shape, voxel, number % 3)
        found.append(timed(lambda q=query: [server.get(f"/api/slice/{what}", **q) for what in ("raw", "labels")]))
    return found


def lasso(server: Server, shape: list[int], rng: np.random.Generator) -> float:
    """Give a class to the dots in a circle, and look at the slice; then undo."""
    places = np.frombuffer(server.get("/api/dots/layout").content, "<f4").reshape(-1, 2)
    centre = places[rng.integers(len(places))]
    dots = np.flatnonzero(np.linalg.norm(places - centre, axis=1) < 0.2).tolist()
    query = window(shape, [n // 2 for n in shape], 0)

    def act() -> None:
        server.act(act="lasso", dots=dots, **{"class": 1})
        server.get("/api/slice/labels", **query)

    seconds = timed(act)
    server.act(act="undo")
    return seconds


def scribble(
    server: Server, shape: list[int], rng: np.random.Generator, number: int, voxel: list[int] | None = None
) -> float:
    """Paint a stroke, and preview three planes through it: new ones, unless a voxel is given."""
    voxel = voxel or [int(rng.integers(40, n - 40)) for n in shape]
    runs = [[voxel[1] + row + number, voxel[2] - 10, 20] for row in range(3)]

    def act() -> None:
        server.act(act="scribble", axis=0, index=voxel[0], runs=runs, **{"class": 1 + number % 2})
        planes(server, shape, voxel, "preview")

    if number == 0:
        server.act(act="scribble", axis=0, index=0, runs=[[1, 1, 9]], **{"class": 2})
    return timed(act)


def piece(server: Server, shape: list[int]) -> dict[str, Any]:
    """Select the piece nearest to 5 million voxels among some tries."""
    rng = np.random.default_rng(1)
    tried = []
    for _ in range(40):
        voxel = dict(zip("zyx", (int(rng.integers(n)) for n in shape), strict=True))
        begun = time.perf_counter()
        answer = server.get("/api/piece", **voxel).json()
        tried.append((answer["voxels"], time.perf_counter() - begun))
    voxels, seconds = min(tried, key=lambda t: abs(np.log(t[0] / 5e6)))
    return {"voxels": voxels, "seconds": round(seconds, 3), "all": [[n, round(s, 3)] for n, s in sorted(tried)]}


STROKES = (10, 27, 44)
"""Slices that are scribbled on, along z."""


def painted_strokes(reference: Voxels, seed: int) -> list[tuple[int, acts.Scribble]]:
    """Draw a scripted user's strokes: on three slices 60 voxels inside mitochondria, 140 elsewhere, 8 at a time."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    strokes = []
    for number, z in enumerate(STROKES):
        for inside, wanted in ((1, 20), (0, 140 // 3 + (number < 140 % 3))):
            here = (reference[z] > 0) == bool(inside)
            rows, columns = np.nonzero(ndimage.binary_erosion(here))
            left = wanted
            while left:
                at = rng.integers(len(rows))
                row, column = int(rows[at]), int(columns[at])
                run = here[row, column : column + min(8, left)]
                length = int(len(run) if run.all() else run.argmin())
                stroke = acts.Scribble(axis=0, index=z, runs=((row, column, length),), **{"class": 1})
                strokes.append((inside, stroke))
                left -= length
    return strokes


def scribbled_dice(path: Path, seed: int) -> dict[str, Any]:
    """Scribble on three slices of a run, classify, and score the voxels that were not painted; replay bitwise."""
    copy = Path(tempfile.mkdtemp()) / "run"
    shutil.copytree(path, copy, ignore=shutil.ignore_patterns("journal.jsonl", "edited*"))
    session = Session(copy)
    session.derived.texture.write()
    assert session.run.reference is not None
    reference = session.run.reference.read((0, 0, 0), session.run.shape)
    classes = []
    for name in ("other", "mitochondria"):
        session.do(acts.AddClass(name=name))
        classes.append(max(session.state.classes))
    painted = np.zeros(session.run.shape, bool)
    for inside, stroke in painted_strokes(reference, seed):
        session.do(stroke.model_copy(update={"class_": classes[inside]}))
        row, column, length = stroke.runs[0]
        painted[stroke.index, row, column : column + length] = True
    begun = time.perf_counter()
    session.derived.classifier(session.state.scribbles_key, session.state.scribbles, session.state.roots)
    learnt = time.perf_counter() - begun
    session.do(acts.Classify())
    edited = EditedMap.of(session.derived, session.state)
    edited.complete()
    found = edited.read(0, box_of((0, 0, 0), session.run.shape)) == classes[1]
    replayed = OpenedRun(copy)
    store = apply(replayed.path)
    from vemosaic.volumes.labels import open_labels

    labels = open_labels(store).volume.array[box_of((0, 0, 0), session.run.shape)]
    truth = (reference > 0) & ~painted
    found &= ~painted
    return {
        "seed": seed,
        "voxels_painted": int(painted.sum()),
        "dice": round(float(2 * (found & truth).sum() / (found.sum() + truth.sum())), 4),
        "learning_s": round(learnt, 3),
        "replay_is_bitwise_equal": bool(((np.asarray(labels) == classes[1]) & ~painted == found).all()),
    }


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--times", type=int, default=5, help="how many times longer each edge of the large run is")
    parser.add_argument("--keep", type=Path, help="folder where the large run stays, and is taken from")
    chosen = parser.parse_args()
    dice = [scribbled_dice(chosen.run, seed) for seed in range(8)]
    print(json.dumps(dice), flush=True)
    texture, truth = opened(chosen.run)
    drawn = {str(count): taught_dice(texture, truth, count) for count in LABELLED}
    print(json.dumps(drawn), flush=True)
    large = chosen.keep or Path(tempfile.mkdtemp()) / "large"
    if not large.exists():
        enlarge(chosen.run, large, chosen.times)
    (large / "journal.jsonl").unlink(missing_ok=True)
    for copied in OpenedRun(large).derived.glob("grey*"):
        shutil.rmtree(copied) if copied.is_dir() else copied.unlink()
    figures = measure(large)
    print(json.dumps(figures), flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    machine = {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}
    results = {
        "benchmark": "explorer",
        "commit": commit.strip(),
        "machine": machine,
        "dice": dice,
        "drawn_dice": drawn,
    } | figures
    (ROOT / "benchmarks" / "results" / "explorer.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
