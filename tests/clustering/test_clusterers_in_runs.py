"""Whole runs with each clusterer: fitted, written, read back, mapped, scored, reported and resumed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import vemosaic
from small_runs import SETTINGS, Cell, Heard, draw_cell, labels, made_quick, record, results, run_cell
from vemosaic.blocks.lock import claim
from vemosaic.cli import app
from vemosaic.clustering import CLUSTERERS, Clusters, Consensus, HyperbolicClusters, Mixture, assign
from vemosaic.errors import SettingsError
from vemosaic.models.model import load_model
from vemosaic.pipeline import Run
from vemosaic.settings import Settings

FAMILIES = {
    "consensus": Consensus,
    "kmeans": Clusters,
    "mixture": Mixture,
    "pymc": Mixture,
    "hyperbolic": HyperbolicClusters,
}


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    with made_quick(full_report=True):
        yield draw_cell(tmp_path_factory.mktemp("cell"))


@pytest.fixture(scope="module")
def trained(cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by k-means, of voxels' own embeddings, which lie in the unit ball; and by that a model."""
    out = tmp_path_factory.mktemp("trained") / "run"
    run_cell(cell, out, with_clusterer("kmeans"))
    return out


def with_clusterer(name: str) -> Settings:
    return SETTINGS.model_copy(update={"clusterer": name, "words": 0})


def pymc_made_quick(patch: pytest.MonkeyPatch) -> contextlib.AbstractContextManager[object]:
    """Few small batches, and nothing compiled."""
    pytest.importorskip("pymc")
    patch.setattr("vemosaic.clustering.pymc_mixture.STEPS", 50)
    patch.setattr("vemosaic.clustering.pymc_mixture.BATCH", 192)
    return pytest.importorskip("pytensor").config.change_flags(mode="FAST_COMPILE")  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", list(CLUSTERERS))
def test_run_with_each_clusterer(
    name: str, cell: Cell, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def map_cell(heard: Heard) -> Run:
        settings, model = with_clusterer(name), trained / "model.safetensors"
        return run_cell(cell, tmp_path / "run", settings, model=model, reference=cell.reference, listen=heard)

    with pymc_made_quick(monkeypatch) if name == "pymc" else contextlib.nullcontext():
        done = map_cell(Heard())
    assert record(done.folder.path)["settings"]["clusterer"] == name
    assert done.folder.report.stat().st_size > 10_000
    found = done.clusterings()
    assert [(type(c), c.k) for c in found] == [(FAMILIES[name], 3), (FAMILIES[name], 4)]
    about = json.loads(done.folder.clusters.read_text())
    with np.load(done.folder.sample) as sample:
        again = assign(torch.from_numpy(sample["embedding"]), found)
        for clustering, part in zip(found, again, strict=True):
            k = clustering.k
            whole = labels(done.folder.path, k)
            np.testing.assert_array_equal(part.numpy(), sample[f"cluster_k{k}"])
            same = whole[tuple(sample["voxel"].T)] == sample[f"cluster_k{k}"]
            assert same.mean() > 0.999  # but for ties: sample and map are computed in boxes of other sizes
            assert set(np.unique(whole)) <= set(range(1, k + 1))
            assert about[str(k)]["sizes"] == np.bincount(whole.ravel(), minlength=k + 1)[1:].tolist()
            np.testing.assert_array_equal(np.float32(about[str(k)]["centres"]), clustering.centres)
            means = [sample["intensity"][part.numpy() == n].mean() for n in np.unique(part.numpy())]
            assert means == sorted(means) and len(means) > 1  # dark to bright
    before, heard = results(done.folder.path), Heard()
    map_cell(heard)
    assert not heard.worked
    assert results(done.folder.path) == before


def test_centres_of_k_means_are_written_as_ever(trained: Path) -> None:
    document = json.loads((trained / "centres.json").read_text())
    assert np.shape(document["clusters"]["3"]) == (3, 4)
    assert np.shape(document["clusters"]["4"]) == (4, 4)


def test_a_run_is_clustered_anew_by_another_clusterer(cell: Cell, tmp_path: Path) -> None:
    done = run_cell(cell, tmp_path / "run")
    before = results(done.folder.path)
    with pytest.raises(SettingsError, match="texture words"):
        Run.reopen(done.folder.path, clusterer="hyperbolic")
    refused = CliRunner().invoke(app, ["cluster", str(done.folder.path), "--clusterer", "mixtures"])
    assert isinstance(refused.exception, SettingsError)
    assert "--clusterer: 'mixtures' will not do; input should be 'consensus'," in str(refused.exception)
    assert results(done.folder.path) == before
    ended = CliRunner().invoke(app, ["cluster", str(done.folder.path), "--clusterer", "mixture", "--quiet"])
    assert ended.exit_code == 0, ended.exception
    assert record(done.folder.path)["settings"]["clusterer"] == "mixture"
    after = results(done.folder.path)
    assert after["model.safetensors"] == before["model.safetensors"]
    assert after["centres.json"] != before["centres.json"]
    with claim(done.folder.path):
        job = Run.reopen(done.folder.path, clusterer="consensus")
        job.fit()
        job.map()
    assert results(done.folder.path) == before


def test_what_a_clusterer_cannot_do_is_told_before_anything_is_made(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    words = ["run", str(cell.raw), "--voxel-size", "16", "--out", str(out), "--clusterer"]
    streamed = CliRunner().invoke(app, [*words, "pymc", "--fit", "stream"])
    assert isinstance(streamed.exception, SettingsError)
    assert str(streamed.exception).startswith("--clusterer pymc: cannot follow a stream; ")
    monkeypatch.setattr("vemosaic.clustering.pymc_mixture.find_spec", lambda _: None)
    missing = CliRunner().invoke(app, [*words, "pymc"])
    assert isinstance(missing.exception, SettingsError)
    assert str(missing.exception) == "--clusterer pymc: PyMC is not installed; pip install 'vemosaic[pymc]'"
    assert not out.exists()


def test_cluster_in_memory_is_that_of_the_run(cell: Cell, trained: Path, tmp_path: Path) -> None:
    model = trained / "model.safetensors"
    done = run_cell(cell, tmp_path / "run", with_clusterer("mixture"), model=model)
    map_ = vemosaic.cluster(
        cell.raw, load_model(model), 3, voxel_size=16, words=0, diffusion=2, clusterer="mixture", seed=1
    )
    alone = labels(done.folder.path, 3)
    assert np.mean(map_ == alone) > 0.999  # of 3 and 4 clusters at once in the run
