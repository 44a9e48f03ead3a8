from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bench_presets import SMALL

import vemosaic.bench.embedding
from vemosaic.bench import BENCHMARKS, measure
from vemosaic.bench.measuring import public_name
from vemosaic.errors import SettingsError
from vemosaic.models.han2022 import Encoder as PaperEncoder
from vemosaic.presets import preset


@pytest.fixture
def source(image: np.ndarray, tmp_path: Path) -> str:
    np.save(tmp_path / "image.npy", image)
    return str(tmp_path / "image.npy")


def check_bound(facts: dict[str, Any], item: str = "voxel", disk: bool = False) -> None:
    """A bound is named, and the share is that of the rate that it allows."""
    assert facts["bound"] in ("arithmetic", "memory traffic", *(["disk"] if disk else []))
    rate, allowed = facts[f"{item}s_per_second"], facts[f"bound_{item}s_per_second"]
    assert facts["share_of_bound"] == pytest.approx(rate / allowed)
    assert rate > 0
    assert allowed > 0


def test_embed(source: str, modest: pytest.MonkeyPatch) -> None:
    modest.setattr(vemosaic.bench.embedding.han2022, "Encoder", functools.partial(PaperEncoder, width=1 / 32))
    facts = measure("embed", source, (16.0,), None, 0.01, SMALL)
    assert facts["shape"] == [12, 20, 30]
    assert facts["ratio"] == pytest.approx(facts["voxels_per_second"] / facts["paper_voxels_per_second"])
    check_bound(facts)
    check_bound(facts["described"])
    assert facts["described"]["flops_per_voxel"] > facts["flops_per_voxel"]
    layers = facts["layers"]
    assert [layer["layer"] for layer in layers] == ["first", "second", "third", "fourth", "mean"]
    assert sum(layer["flops_per_voxel"] for layer in layers) == pytest.approx(facts["flops_per_voxel"])
    peaks = facts["peaks"]
    for layer in layers:
        roof = min(peaks["gflop_per_second"], layer["flops_per_byte"] * peaks["memory_gb_per_second"])
        assert layer["bound_gflop_per_second"] == pytest.approx(roof)
        assert layer["share_of_bound"] == pytest.approx(layer["gflop_per_second"] / roof)


def test_train(source: str, modest: pytest.MonkeyPatch) -> None:
    facts = measure("train", source, (16.0,), None, 0.01, SMALL)
    check_bound(facts, "anchor")
    assert facts["batch"] == 2


def test_cluster(source: str, modest: pytest.MonkeyPatch) -> None:
    facts = measure("cluster", source, (16.0,), None, 0.01, SMALL)
    assert facts["clusters"] == [4, 5, 6, 7, 8, 9, 10]
    check_bound(facts)
    check_bound(facts["statistics"])


def test_io(source: str, modest: pytest.MonkeyPatch, tmp_path: Path) -> None:
    facts = measure("io", source, (16.0,), None, 0.01, SMALL, folder=tmp_path / "out", voxels=(40**3,))
    assert facts["voxels"] == 40**3
    for part in ("read", "write"):
        check_bound(facts[part], disk=True)
    assert 0 < facts["read"]["bytes_read_per_voxel"] < 1.1  # uint8, compressed
    assert 0 < facts["write"]["bytes_written_per_voxel"] < 7  # seven maps, compressed
    assert facts["read"]["decoded_gb_per_second"] == pytest.approx(facts["read"]["voxels_per_second"] / 1e9)  # one unit
    assert list((tmp_path / "out").iterdir()) == []


def test_views_at_the_working_voxel_size(source: str) -> None:
    views = measure("views", source, (8.0,), 16.0, 0.0)
    assert views["volume"] == Path(source).name
    assert views["shape"] == [6, 10, 15]
    assert views["voxels"] == 2000
    assert views["largest_difference"] < 1e-5
    assert views["machine"]["torch"] == torch.__version__


def test_presets_that_work_patch_by_patch(image: np.ndarray, source: str, modest: pytest.MonkeyPatch) -> None:
    np.save(source, image[:2, :8, :8])
    narrow = preset("han2022", width=0.25).model
    facts = measure("patches", source, (16.0,), None, 0.01, narrow)
    check_bound(facts)
    # the paper's encoder at a quarter of its width: 3 convolutions, 2 linear layers and 2 heads, by hand
    convolutions = 16**3 * 32 + 8**3 * 32 * 64 + 4**3 * 64 * 128
    assert facts["flops_per_voxel"] >= 2 * 27 * convolutions
    assert (facts["preset"], facts["device"]) == ("han2022", "cpu")
    with pytest.raises(SettingsError, match="preset default has a dense view; use bench embed"):
        measure("patches", source, (16.0,), None, 0.01)


@pytest.mark.parametrize("what", ["embed", "cluster", "io"])
def test_dense_benchmarks_refuse_such_presets(what: str, source: str, modest: pytest.MonkeyPatch) -> None:
    narrow = preset("han2022", width=0.25).model
    with pytest.raises(SettingsError, match="preset han2022 works patch by patch; use bench patches"):
        measure(what, source, (16.0,), None, 0.01, narrow, voxels=(40**3,))


def test_unknown_benchmark_names_those_there_are() -> None:
    with pytest.raises(SettingsError, match=f"no benchmark 'sleep'; choose one of {', '.join(BENCHMARKS)}"):
        measure("sleep")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/home/somebody/data/cell.ome.zarr/", "cell.ome.zarr"),
        ("cell.tif", "cell.tif"),
        ("../data/cell.h5:/volumes/raw", "cell.h5:/volumes/raw"),
        ("file:///data/cell.n5", "cell.n5"),
        ("s3://bucket/cell.zarr/em", "s3://bucket/cell.zarr/em"),
        ("https://host/cell.zarr", "https://host/cell.zarr"),
    ],
)
def test_results_name_a_volume_and_not_where_it_lies(source: str, name: str) -> None:
    assert public_name(source) == name
