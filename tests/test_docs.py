"""What the pages print works: their Python runs, their commands parse, their options exist, their links lead on."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import tifffile
import typer

import vemosaic
from small_runs import MODEL, hold_a_small_vote
from vemosaic.cli import app, parse_clusters
from vemosaic.embedding_sample import CELL, CELLS, SAMPLE
from vemosaic.gaussian import TRUNCATE
from vemosaic.training import ANCHORS_ON_CPU, ANCHORS_ON_GPU

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def blocks(page: Path, *languages: str) -> list[str]:
    """The code blocks of a page in one of these languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), flags=re.M | re.S)
    return [code for language, code in found if language in languages]


def command_lines() -> Iterator[tuple[str, str]]:
    """Every line of a code block that calls vemosaic, with the page it stands on."""
    for page in PAGES:
        for block in blocks(page, "", "bash", "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith(("vemosaic ", ".venv/bin/vemosaic ")):
                    yield page.name, line


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages name; small models, trained in a second and clustered by few votes."""
    cell = vemosaic.phantom_cell((48, 48, 48), seed=1)
    tifffile.imwrite(tmp_path / "cell.tif", cell.raw)
    for name in ("nucleus", "mitochondria"):
        tifffile.imwrite(tmp_path / f"{name}.tif", cell.masks[name].astype(np.uint8))
        np.save(tmp_path / f"{name}.npy", cell.masks[name])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vemosaic.training.ANCHORS_ON_CPU", 128)
    monkeypatch.setattr("vemosaic.api.ModelSettings", lambda: MODEL)
    hold_a_small_vote(monkeypatch)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("vemosaic.embedding_sample.CELLS", 2)
    monkeypatch.setattr("vemosaic.pipeline.write_report", lambda folder, **_: (folder / "report.html").touch())
    monkeypatch.setitem(sys.modules, "napari", MagicMock())
    return tmp_path


@pytest.mark.parametrize("page", ["README.md", "docs/api.md"])
def test_python_of_the_page_runs(page: str, workplace: Path) -> None:
    names: dict[str, object] = {}
    code = blocks(ROOT / page, "python")
    assert code
    for number, block in enumerate(code, start=1):
        exec(compile(block, f"{page}, block {number}", "exec"), names)


def test_python_about_viewers_runs_and_keeps_the_voxel_size(workplace: Path) -> None:
    vemosaic.run("cell.tif", "cell.vemosaic", vemosaic.Settings(clusters=(8,), words=0, smoothing=0), voxel_size=16)
    for number, block in enumerate(blocks(ROOT / "docs/getting-started.md", "python"), start=1):
        exec(compile(block, f"getting-started.md, block {number}", "exec"), {})
    shown = sys.modules["napari"].Viewer.return_value.add_labels.call_args
    np.testing.assert_array_equal(shown.args[0], tifffile.imread("cell_k8.tif"))
    assert shown.kwargs["scale"] == (16, 16, 16)
    assert vemosaic.open_volume("cell_k8.tif").voxel_size == pytest.approx((16, 16, 16))
    assert vemosaic.open_volume("cell_map_v04.ome.zarr").voxel_size == (16, 16, 16)


@pytest.mark.parametrize(("page", "line"), list(command_lines()))
def test_command_is_one_that_the_command_line_takes(page: str, line: str) -> None:
    _, *words = shlex.split(line, comments=True)
    if words[0].startswith("-"):
        assert words[0] in ("--help", "--version")
        return
    if "--help" not in words:
        context = COMMANDS[words[0]].make_context(words[0], words[1:])
        if isinstance(context.params.get("clusters"), str):
            parse_clusters(context.params["clusters"])


def test_command_line_page_lists_every_command_and_option() -> None:
    page = (ROOT / "docs/command-line.md").read_text()
    listed = {section.split("\n", 1)[0]: section for section in re.split(r"^## ", page, flags=re.M)[1:]}
    assert set(listed) == set(COMMANDS)
    for name, command in COMMANDS.items():
        options = [p for p in command.params if p.param_type_name == "option"]
        expected = {opt for option in options for opt in option.opts if opt not in ("--help", "-h")}
        rows = [row.split("|")[1] for row in re.findall(r"^\| `-.*$", listed[name], flags=re.M)]
        assert {opt for row in rows for opt in re.findall(r"--?[a-z-]+", row)} == expected, name
        assert f"| [{name}](#{name}) |" in page


def test_command_line_page_states_the_defaults() -> None:
    page = (ROOT / "docs/command-line.md").read_text()
    for name, command in COMMANDS.items():
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for option in command.params:
            default = option.default
            if option.param_type_name == "option" and isinstance(default, str | int | float) and default is not False:
                (row,) = re.findall(rf"^\| `{option.opts[0]}`.*$", section, flags=re.M)
                stated = row.split("|")[2].strip().strip("`")
                assert stated == (f"{default:g}" if isinstance(default, float) else str(default)), (name, option.name)


def test_method_page_states_the_numbers_that_are_used() -> None:
    page = " ".join((ROOT / "docs/method.md").read_text().split())
    model, settings = vemosaic.ModelSettings(), vemosaic.Settings()
    sizes, sampling = model.architecture, model.sampling
    for stated in (
        f"{'-'.join(map(str, sizes.channels))} channels",
        f"first {sizes.semantic} of the {sizes.latent} dimensions",
        f"uniform in {sampling.half_size[0]:g} to {sampling.half_size[1]:g} voxels",
        f"within {sampling.radius:g} voxels of the anchor",
        f"contrast times 2^U(-{sampling.contrast:g}, {sampling.contrast:g})",
        f"plus U(-{sampling.brightness:g}, {sampling.brightness:g}), noise of standard deviation {sampling.noise:g}",
        f"a batch of {model.optimiser.batch} anchors",
        f"into {settings.words} words",
        f"(standard deviation {settings.smoothing:g} voxels, cut at {TRUNCATE * settings.smoothing:g})",
        f"its {settings.dimensions} largest principal components",
        f"{SAMPLE:,} voxels from up to {CELLS} cubes of {CELL} voxels",
        f"| {ANCHORS_ON_CPU:,} on a CPU, {ANCHORS_ON_GPU // 10**6} million a volume on a GPU",
    ):
        assert stated in page, stated
    assert f"{ANCHORS_ON_CPU:,} anchors on a CPU" in (ROOT / "README.md").read_text()
    assert f"{ANCHORS_ON_CPU:,} in all on a CPU" in (ROOT / "docs/command-line.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in {slug(title) for title in re.findall(r"^#+ (.*)$", file.read_text(), flags=re.M)}, target


def slug(title: str) -> str:
    """The anchor that a heading gets on the web."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    named = {name for page in PAGES for name in re.findall(r"`make ([a-z][a-z-]*)`", page.read_text())}
    named |= {
        name for page in PAGES for b in blocks(page, "") for name in re.findall(r"^make ([a-z][a-z-]*)$", b, flags=re.M)
    }
    assert named and named <= targets
