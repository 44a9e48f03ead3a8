from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

import vemosaic.report.paper_figures
from small_runs import MODEL, Cell, record, run_cell
from vemosaic import cli
from vemosaic.errors import OutputError, SettingsError, VemosaicError, VolumeError
from vemosaic.evaluation.invariance import invariance
from vemosaic.hyperbolic import poincare
from vemosaic.inputs import OpenedInput
from vemosaic.models.model import Model, build
from vemosaic.pipeline import Run
from vemosaic.presets import CIHS
from vemosaic.report import projection
from vemosaic.report.paper_figures import FIGURES, FigureWarning, invariance_figure, write_figures
from vemosaic.report.paper_figures.generation_figure import STEPS, decode, prior, tangent, traversal

PICTURES = {f"{name}.{ending}" for name in ("figure3", "figure4", "figure5", "generation") for ending in ("png", "pdf")}
NUMBERS = {"figure3.csv", "figure3.json", "figure4.json", "figure5.csv", "figure5.json", "generation.json"}


@pytest.fixture(autouse=True)
def few_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "MOST", 60)
    monkeypatch.setattr(invariance_figure, "invariance", partial(invariance, patches=12, transforms=2, resamples=20))


@pytest.fixture(scope="module")
def opened(finished: Path) -> OpenedInput:
    return Run.reopen(finished).first


@pytest.fixture(scope="module")
def drawn(finished: Path, opened: OpenedInput, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The figures of the finished run, all at once."""
    run = Path(shutil.copytree(finished, tmp_path_factory.mktemp("drawn") / "run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projection, "MOST", 60)
        patch.setattr(invariance_figure, "invariance", partial(invariance, patches=12, transforms=2, resamples=20))
        write_figures(run, opened.working, Stripes(), k=4)
    yield run / "figures"


@dataclass(frozen=True)
class Stripes:
    """A reference that has every class everywhere, even in a cell as small as this one."""

    class_names: tuple[str, ...] = ("unrecognised", "nucleus", "granules")

    def read(self, origin: Sequence[int], shape: Sequence[int]) -> npt.NDArray[np.uint8]:
        x = (np.arange(shape[2]) + origin[2]) // 2 % 3
        return np.broadcast_to(x, tuple(shape)).astype(np.uint8)


def numbers(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text())


def test_all_figures_are_there_and_whole(drawn: Path) -> None:
    assert {file.name for file in drawn.iterdir()} == PICTURES | NUMBERS
    for file in drawn.glob("*.png"):
        with Image.open(file) as image:
            assert 1900 < image.width < 2300  # 180 mm at 300 dpi, the margins cut
            grey = np.asarray(image.convert("L"))
            assert (grey < 128).mean() > 0.001
    for file in drawn.glob("*.pdf"):
        content = file.read_bytes()
        assert content.startswith(b"%PDF") and content.rstrip().endswith(b"%%EOF")


def test_confusion_is_that_of_the_scores(drawn: Path) -> None:
    found = numbers(drawn, "figure5")
    (score,) = (s for s in json.loads((drawn.parent / "scores.json").read_text()) if s["k"] == 4)
    assert found["voxels"] == score["confusion"]
    np.testing.assert_allclose(np.sum(found["within_rows"], axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.sum(found["within_columns"], axis=0), 1, atol=1e-5)
    rows = list(csv.DictReader((drawn / "figure5.csv").open()))
    assert [[int(row[name]) for name in score["class_names"]] for row in rows] == score["confusion"]


def test_errors_are_counted_over_the_whole_volume(drawn: Path) -> None:
    found = numbers(drawn, "figure4")
    table, names = np.array(numbers(drawn, "figure5")["voxels"]), numbers(drawn, "figure5")["class_names"]
    assert set(found["classes"]) == {"nucleus", "granules"}
    for name, about in found["classes"].items():
        row, column = about["cluster"] - 1, names.index(name)
        assert about["found_voxels"] == table[row, column]
        assert about["added_voxels"] == np.delete(table[row], column).sum()
        assert about["missed_voxels"] == np.delete(table[:, column], row).sum()
        dice = 2 * about["found_voxels"] / (2 * about["found_voxels"] + about["added_voxels"] + about["missed_voxels"])
        assert about["dice"] == pytest.approx(dice)


def test_figure_3_has_numbers_and_points_of_each_class(drawn: Path) -> None:
    found = numbers(drawn, "figure3")
    rows = list(csv.DictReader((drawn / "figure3.csv").open()))
    assert len(rows) == len(found["invariance"]["rows"]) == 4 + 3 * 8
    for line, row in zip(rows, found["invariance"]["rows"], strict=True):
        assert float(line["quotient_low"]) == row["quotient"]["low"]
    assert found["invariance"]["dimensions"] == {"semantic": [1, 4], "other": [5, 8]}
    assert {name: len(voxels) for name, voxels in found["tsne"]["linked_voxel"].items()} == {
        "unrecognised": 4, "nucleus": 4, "granules": 4
    }  # fmt: skip
    for places in found["tsne"]["places"].values():
        assert len(places) == len(found["tsne"]["voxel"]) == len(found["tsne"]["class"]) == 60
        assert np.min(places) == 0 and np.max(places) == 1


def test_same_run_gives_the_same_bytes(drawn: Path, opened: OpenedInput, tmp_path: Path) -> None:
    again = Path(shutil.copytree(drawn.parent, tmp_path / "again"))
    for figure in ("5", "generation"):
        for file in write_figures(again, opened.working, Stripes(), figure=figure, k=4):
            assert file.read_bytes() == (drawn / file.name).read_bytes(), file.name


def test_one_class_can_be_chosen(copied: Path, opened: OpenedInput, cell: Cell) -> None:
    reference = cell.reference.open(opened)
    written = write_figures(copied, opened.working, reference, figure="4", k=4, classes=["granules"])
    assert [file.name for file in written] == ["figure4.png", "figure4.pdf", "figure4.json"]
    assert list(numbers(copied / "figures", "figure4")["classes"]) == ["granules"]
    with pytest.raises(
        SettingsError, match=r"no cluster is matched with 'golgi'; with 4 clusters nucleus and granules"
    ):
        write_figures(copied, opened.working, reference, figure="4", k=4, classes=["golgi"])


def test_without_a_reference_clusters_take_the_place_of_classes(copied: Path, opened: OpenedInput) -> None:
    with pytest.warns(FigureWarning, match="was scored against no reference, which figures 4 and 5 need") as warned:
        write_figures(copied, opened.working, k=3)
    assert len(warned) == 1
    names = {file.name for file in (copied / "figures").iterdir()}
    assert names == {name for name in PICTURES | NUMBERS if "4" not in name and "5" not in name}
    assert set(numbers(copied / "figures", "figure3")["tsne"]["linked_voxel"]) == {f"cluster {i}" for i in (1, 2, 3)}
    for figure in ("4", "5"):
        with pytest.raises(SettingsError, match=r"no reference, which figures 4 and 5 need; map it again with"):
            write_figures(copied, opened.working, figure=figure)


def test_what_cannot_be_drawn_is_refused(copied: Path, opened: OpenedInput, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no figure '6'; choose one of 3, 4, 5, generation or all"):
        write_figures(copied, opened.working, figure="6")
    with pytest.raises(SettingsError, match="has no map of 9 clusters, it has 3 and 4"):
        write_figures(copied, opened.working, k=9)
    with pytest.raises(OutputError, match=r"no run\.json"):
        write_figures(tmp_path / "nothing", opened.working)
    other = vemosaic.open_volume(np.zeros((20, 20, 20), np.uint8), voxel_size=16)
    with pytest.raises(VolumeError, match=r"has \(20, 20, 20\) voxels"):
        write_figures(copied, other)
    (copied / "model.safetensors").write_bytes(b"no model")
    with pytest.raises(VemosaicError, match="cannot be read as a model"):
        write_figures(copied, opened.working)
    assert not (copied / "figures").exists()


def test_figure_that_fails_leaves_the_old_one(
    drawn: Path, opened: OpenedInput, cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(drawn.parent, tmp_path / "run"))
    before = {file.name: file.read_bytes() for file in (run / "figures").iterdir()}

    def fail(material: object) -> dict[str, bytes]:
        raise VolumeError("raw.tif", "cannot be read", "put it back")

    monkeypatch.setitem(FIGURES, "5", fail)
    with pytest.raises(VolumeError):
        write_figures(run, opened.working, cell.reference.open(opened), figure="5")
    assert {file.name: file.read_bytes() for file in (run / "figures").iterdir()} == before


def test_command_draws_and_names_the_files(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = record(copied)
    monkeypatch.setattr(sys, "argv", ["vemosaic", "figures", str(copied), "--figure", "5", "-k", "3"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert capsys.readouterr().out.splitlines() == [
        f"{kind}: {copied}/figures/figure5.{ending}"
        for kind, ending in (("figure", "png"), ("figure", "pdf"), ("numbers", "csv"), ("numbers", "json"))
    ]
    assert record(copied) == before
    assert numbers(copied / "figures", "figure5")["k"] == 3


@pytest.mark.parametrize("settings", [MODEL, CIHS.model], ids=lambda s: s.preset)
def test_traversals_pass_through_the_patch_and_samples_can_be_decoded(settings: Any) -> None:
    model = Model(build(settings, seed=0).eval(), settings)
    start = 0.3 * torch.ones(model.encoder.latent, dtype=torch.float64)
    walk = traversal(model, start, 1, 0.5)
    torch.testing.assert_close(walk[len(STEPS) // 2], start)
    moved = tangent(model, walk) - tangent(model, start)
    torch.testing.assert_close(moved[:, 1], 0.5 * torch.tensor(STEPS, dtype=torch.float64))
    assert moved[:, [i for i in range(len(start)) if i != 1]].abs().max() < 1e-9
    samples = prior(model, 4000, torch.Generator().manual_seed(0))
    if settings.preset == "cihs":
        assert (samples.norm(dim=1) < 1).all()
        radius = poincare.distance(samples, torch.zeros_like(samples))
        assert float(radius.square().mean()) == pytest.approx(model.encoder.latent, rel=0.1)
    else:
        assert float(samples.std()) == pytest.approx(1, rel=0.02)
    assert decode(model, samples[:5]).shape == (5, *(model.encoder.points,) * 3)


def test_figures_of_the_baseline(cell: Cell, tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    """Its latent space is a ball, all its dimensions are semantic, and its patches are of another size."""
    model = tmp_path / "model.safetensors"
    Model(build(CIHS.model, seed=0), CIHS.model, {"voxel_size_nm": [[16.0] * 3]}).save(model)
    settings = CIHS.model_copy(update={"clusters": (3,), "stride": 4})
    done = run_cell(cell, tmp_path / "run", settings, model=model)
    with pytest.warns(FigureWarning):
        write_figures(done.folder.path, done.first.working)
    found = numbers(tmp_path / "run/figures", "figure3")
    assert list(found["tsne"]["places"]) == ["semantic"]
    assert all(row["other"] is None for row in found["invariance"]["rows"])
    assert set(numbers(tmp_path / "run/figures", "generation")["traversal"]["standard_deviation"]) == {"1", "2"}


def test_further_points_are_placed_among_their_likes_and_change_nothing() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1], 40)
    embedding = rng.normal(size=(80, 8)) + 12 * groups[:, None]
    laid_out = projection.tsne_with(embedding, embedding[[3, 50]] + 0.01)
    assert laid_out is not None
    places, further = laid_out
    np.testing.assert_allclose(places, projection.tsne(embedding.astype(np.float64)), atol=1e-9)
    for place, group in zip(further, (0, 1), strict=True):
        nearest = np.linalg.norm(places - place, axis=1).argsort()[:10]
        assert (groups[nearest] == group).all()
