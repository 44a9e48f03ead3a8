"""End to end and scaling: what they map is what `run` maps, and their figures belong together."""

from __future__ import annotations

import pickle
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from bench_presets import SMALL

import vemosaic.bench.end_to_end
import vemosaic.bench.scaling
import vemosaic.embedding_sample
from numeric_core import realistic_model, volume_of
from vemosaic.bench import Teams, measure
from vemosaic.bench.mirrored import write_mirrored
from vemosaic.bench.scaling import growth
from vemosaic.blocks.executors import InProcess
from vemosaic.errors import OutputError, SettingsError
from vemosaic.pipeline import run
from vemosaic.settings import Settings
from vemosaic.volumes.ome_writing import group_attributes

VOXELS = 32**3
TEAMS: Teams = {
    "in process": partial(nullcontext, InProcess()),
    "hasty": partial(nullcontext, InProcess(read_ahead=3, write_behind=3)),
}


@pytest.fixture
def source(image: np.ndarray, tmp_path: Path) -> str:
    np.save(tmp_path / "image.npy", image)
    return str(tmp_path / "image.npy")


@pytest.fixture(autouse=True)
def brief(quick: pytest.MonkeyPatch, modest: pytest.MonkeyPatch) -> None:
    """Cluster a small sample for two k only."""
    modest.setattr(vemosaic.embedding_sample, "CELLS", 1)
    modest.setattr(vemosaic.embedding_sample, "CELL", 16)
    few = Settings(clusters=(3, 4), words=8)
    for module in (vemosaic.bench.end_to_end, vemosaic.bench.conditions):
        modest.setattr(module, "Settings", lambda **more: few.model_copy(update=more))
    # another process would know of none of this, but what it is given must be fit for it
    modest.setattr(vemosaic.bench.scaling, "apart", lambda call, *given: call(*pickle.loads(pickle.dumps(given))))


def test_end_to_end_maps_as_run_does(source: str, image: np.ndarray, tmp_path: Path) -> None:
    model = realistic_model(SMALL.architecture)
    model.save(tmp_path / "model.safetensors")
    facts = measure(
        "end-to-end", source, (16.0,), None, 0.0, folder=tmp_path / "out", voxels=(VOXELS,), teams=TEAMS,
        trained=tmp_path / "model.safetensors",
    )  # fmt: skip
    assert list((tmp_path / "out").iterdir()) == []
    write_mirrored(volume_of(image), (32, 32, 32), tmp_path / "raw.ome.zarr")
    settings = Settings(clusters=(3, 4), words=8, working_voxel_size=None)
    job = run(str(tmp_path / "raw.ome.zarr"), tmp_path / "run", settings, model=tmp_path / "model.safetensors")
    manifest = group_attributes(job.folder.segmentation)["vemosaic"]["manifest_sha256"]
    assert facts["labels_sha256"] == manifest
    assert facts["executor"] == "hasty"
    assert set(facts["seconds"]) == {"train", "fit", "map", "report", "whole"}
    assert facts["voxels_per_second"] == pytest.approx(VOXELS / (facts["seconds"]["fit"] + facts["seconds"]["map"]))
    assert facts["share_of_embedding"] == pytest.approx(
        facts["voxels_per_second"] / facts["embedding_voxels_per_second"]
    )
    assert facts["projected_memory_gb"] > 0.5
    before, after = facts["embedding_before_and_after"]
    assert min(before, after) <= facts["embedding_voxels_per_second"] <= max(before, after)
    assert facts["bound"] in ("arithmetic", "memory traffic", "disk")
    root = job.folder.segmentation
    stored = sum(f.stat().st_size for f in root.rglob("*") if f.is_file() and f != root / "zarr.json")
    assert facts["bytes_written"] == stored


def test_scaling_compares_sizes_and_executors(source: str, tmp_path: Path) -> None:
    facts = measure(
        "scaling", source, (16.0,), None, 0.0, SMALL, folder=tmp_path / "out", voxels=(40**3, VOXELS), teams=TEAMS
    )
    assert [(r["executor"], r["voxels"]) for r in facts["runs"]] == [
        ("in process", VOXELS), ("hasty", VOXELS), ("in process", 40**3), ("hasty", 40**3),
    ]  # fmt: skip
    assert [(e["executor"], e["voxels"], e["same_labels"]) for e in facts["efficiency"]] == [
        ("hasty", VOXELS, True), ("hasty", 40**3, True),
    ]  # fmt: skip
    alone, hasty = facts["runs"][:2]
    assert facts["efficiency"][0]["efficiency"] == hasty["voxels_per_second"] / alone["voxels_per_second"]
    assert [(g["executor"], g["stages"]) for g in facts["growth"]] == [
        (name, stages) for name in TEAMS for stages in ("fit + map", "map")
    ]
    assert all(r["bound"] in ("arithmetic", "memory traffic", "disk") for r in facts["runs"])
    assert list((tmp_path / "out").iterdir()) == []


def test_growth_finds_the_line_and_what_departs_from_it() -> None:
    def runs(*seconds: float) -> list[dict[str, object]]:
        return [
            {"voxels": n * 10**6, "seconds": {"fit": 2.0, "map": s - 2.0}, "peak_memory_gb": {"fit": 1.0, "map": n}}
            for n, s in zip((10, 20, 40), seconds, strict=True)
        ]

    straight = growth(runs(15.0, 25.0, 45.0), ["fit", "map"])
    assert straight["constant_seconds"] == pytest.approx(5.0)
    assert straight["seconds_per_gigavoxel"] == pytest.approx(1000.0)
    assert straight["largest_residual"] < 1e-9
    assert straight["deviation_from_linear"] == pytest.approx((45 / 40) / (15 / 10) - 1)
    assert straight["peak_memory_ratio"] == 4.0
    bent = growth(runs(10.0, 20.0, 80.0), ["fit", "map"])
    assert bent["deviation_from_linear"] == pytest.approx(1.0)
    assert bent["largest_residual"] > 0.1
    assert growth(runs(10.0, 20.0, 80.0), ["map"])["deviation_from_linear"] == pytest.approx((78 / 40) / (8 / 10) - 1)


def test_end_to_end_is_of_one_size_and_team(source: str) -> None:
    with pytest.raises(SettingsError, match="takes one size and one number of workers; use bench scaling"):
        measure("end-to-end", source, (16.0,), None, 0.0, SMALL, voxels=(VOXELS, 2 * VOXELS))


def test_a_memory_budget_is_kept_or_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--memory: 1 MB are too little"):
        measure("end-to-end", source, (16.0,), None, 0.0, SMALL, folder=tmp_path / "o", voxels=(VOXELS,), memory=10**6)
    assert list((tmp_path / "o").iterdir()) == []


def test_a_disk_too_small_is_told_before_any_work(source: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"GB free where up to \S+ GB are needed"):
        measure("scaling", source, (16.0,), None, 0.0, SMALL, folder=tmp_path / "out", voxels=(VOXELS, 10**18))
