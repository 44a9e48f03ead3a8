from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from report_fixture import NAMES, MadeRun

from vemosaic.errors import OutputError, VolumeError
from vemosaic.report import write_report
from vemosaic.report.content import read_run
from vemosaic.report.provenance import command
from vemosaic.report.words import (
    cubic_micrometres,
    duration,
    figures,
    length,
    lengths,
    listed,
    numbers,
    percent,
    round_bar,
)


class Page(HTMLParser):
    """The page's elements with their attributes, and its text without style and script."""

    VOID = frozenset({"meta", "input", "img", "br"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert self.open == [], "elements that are never closed"

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: Any) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data

    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _, attributes in self.elements if "id" in attributes]


@pytest.fixture(scope="module")
def page(shared_run: MadeRun) -> Page:
    return Page(shared_run.folder / "report.html")


def test_every_section_is_there_in_order(page: Page) -> None:
    sections = [i for tag, attributes in page.elements if tag == "section" and (i := attributes.get("id"))]
    assert sections == ["map", "clusters", "patches", "tsne", "scores", "losses", "record"]
    for words in (
        "Organelle map of cell.tif",
        "1.6 × 1.44 × 0.96 µm (x × y × z)",
        "4 min 10 s",
        "missed:",
        "falsely added:",
        "Mean grey value",
        "best union",
        "By rows",
        "By columns",
        "architecture · channels",
        "mitochondria=mito.tif",
        "Dmitrieva",
        "0123456789abcdef",
    ):
        assert words in page.text, words


def test_page_is_self_contained_and_small(page: Page) -> None:
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            link = attributes.get(name)
            if link is None:
                continue
            if tag == "img":
                assert link.startswith("data:image/png;base64,")
            else:
                assert not re.match(r"\w+:|//", link), f"{tag} points outside: {link}"
        assert tag not in ("iframe", "object", "embed", "link")
    assert "@import" not in page.source
    assert not re.search(r"url\((?!data:|#)", page.source)
    assert len(page.source) < 6e6


def test_ids_are_unique_and_pictures_described(page: Page) -> None:
    assert len(page.ids()) == len(set(page.ids()))
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert all(attributes.get("alt") for attributes in images)
    figures_ = [a for t, a in page.elements if t == "svg" or a.get("class", "").startswith("frame")]  # type: ignore[union-attr]
    assert all(attributes.get("aria-label") for attributes in figures_)


def test_files_of_the_run_are_linked(page: Page, shared_run: MadeRun) -> None:
    links = {a["href"] for t, a in page.elements if t == "a" and not str(a["href"]).startswith("#")}
    assert {"run.json", "segmentation.ome.zarr", "scores.json"} <= links
    assert all((shared_run.folder / str(link)).exists() for link in links)


def test_cluster_table_adds_up(page: Page, shared_run: MadeRun) -> None:
    sizes = read_run(shared_run.folder).clusterings[8].sizes
    assert cubic_micrometres(sizes[0] * 16**3) in page.text
    assert percent(sizes[0] / (60 * 90 * 100)) in page.text


def test_everything_from_outside_is_escaped(make_run: Callable[..., MadeRun]) -> None:
    evil = '<script>alert("x")</script>.tif'
    run = make_run(ks=(4,), source=evil)
    record = json.loads((run.folder / "run.json").read_text())
    record["settings"] = {"<b>bold</b>": {"x": "</style><script>"}, "list": ["<i>"]}
    record["preset"], record["reference"] = "<u>", ["a'\"<b>=m.tif"]
    record["timings"]["<s>"] = 1
    (run.folder / "run.json").write_text(json.dumps(record))
    scores = (run.folder / "scores.json").read_text().replace("mitochondria", "<img src=x onerror=alert(1)>")
    (run.folder / "scores.json").write_text(scores)
    reference = replace(run.reference, class_names=("unrecognised", "<img src=x onerror=alert(1)>", "nucleus"))
    page = Page(write_report(run.folder, volume=run.volume, reference=reference))
    assert evil in page.text
    assert "<img src=x onerror=alert(1)>" in page.text
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 1
    assert not {"b>bold<", "u", "s"} & set(tags)
    assert not any("onerror" in attributes for _, attributes in page.elements)


def test_without_scores_and_reference(make_run: Callable[..., MadeRun]) -> None:
    run = make_run(ks=(4,))
    (run.folder / "scores.json").unlink()
    page = Page(write_report(run.folder, volume=run.volume))
    assert "scores" not in page.ids()
    assert "map" in page.ids()
    assert "falsely added" not in page.text
    assert "Number of clusters" not in page.text


def test_how_far_the_map_agrees_with_other_vocabularies_is_told(make_run: Callable[..., MadeRun]) -> None:
    run = make_run()
    assert "several times" not in Page(write_report(run.folder)).text
    record = json.loads((run.folder / "run.json").read_text())
    k = read_run(run.folder).best_k
    (run.folder / "run.json").write_text(json.dumps(record | {"agreement": {str(k): 0.876, "99": 0.1}}))
    assert f"with k = {k} it agrees with the others by 0.88 (" in Page(write_report(run.folder)).text


def test_without_sample_and_losses(make_run: Callable[..., MadeRun]) -> None:
    run = make_run(ks=(4,))
    (run.folder / "sample.npz").unlink()
    (run.folder / "losses.jsonl").unlink()
    page = Page(write_report(run.folder, volume=run.volume))
    assert page.text.count("The run kept no sample of voxels") == 2
    assert "The run kept no losses" in page.text


def test_when_the_source_is_gone_the_page_says_so(make_run: Callable[..., MadeRun], tmp_path: Path) -> None:
    run = make_run(ks=(4,), source=str(tmp_path / "gone.tif"))
    page = Page(write_report(run.folder))
    assert "The raw images are not shown" in page.text
    assert "gone.tif" in page.text
    assert "background-image" not in page.source
    assert any("coloured by 4 clusters" in str(a.get("alt")) for t, a in page.elements if t == "img")


def test_source_and_reference_are_opened_again(make_run: Callable[..., MadeRun], tmp_path: Path) -> None:
    run = make_run(ks=(4,), source=str(tmp_path / "cell.tif"))
    record = json.loads((run.folder / "run.json").read_text())
    tifffile.imwrite(tmp_path / "cell.tif", np.asarray(run.volume.array))
    for i, name in enumerate(NAMES[1:], start=1):
        tifffile.imwrite(tmp_path / f"{name}.tif", (run.reference.classes == i).astype(np.uint8))
    record["reference"] = [f"{name}={tmp_path / name}.tif" for name in NAMES[1:]]
    (run.folder / "run.json").write_text(json.dumps(record))
    again = write_report(run.folder).read_text()
    given = write_report(run.folder, volume=run.volume, reference=run.reference).read_text()
    assert again == given
    assert "falsely added" in again

    (tmp_path / "nucleus.tif").unlink()
    page = Page(write_report(run.folder))
    assert "Errors are not mapped" in page.text
    assert "raw-xy" in page.source


def test_a_source_that_became_another_volume_is_not_shown(make_run: Callable[..., MadeRun], tmp_path: Path) -> None:
    run = make_run(ks=(4,), source=str(tmp_path / "cell.tif"))
    tifffile.imwrite(tmp_path / "cell.tif", np.zeros((30, 40, 50), np.uint8))
    assert "what was mapped had (60, 90, 100)" in Page(write_report(run.folder)).text


def test_incomplete_run_and_missing_map(make_run: Callable[..., MadeRun]) -> None:
    run = make_run(ks=(4,))
    record = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps(record | {"stages": {"train": {}}}))
    (run.folder / "segmentation.ome.zarr" / "zarr.json").unlink()
    page = Page(write_report(run.folder, volume=run.volume))
    assert "This run is not complete" in page.text
    assert "The map with 4 clusters is not in the run folder" in page.text


def test_wrong_volume_and_no_run(make_run: Callable[..., MadeRun], tmp_path: Path) -> None:
    run = make_run(ks=(4,))
    other = replace(run.volume, array=np.zeros((3, 4, 5), np.uint8))  # type: ignore[arg-type]
    with pytest.raises(VolumeError, match=r"\(3, 4, 5\)"):
        write_report(run.folder, volume=other)
    with pytest.raises(OutputError, match=r"no run\.json"):
        write_report(tmp_path / "nowhere")
    assert not (run.folder / "report.html").exists()


def test_many_clusters_stay_small(make_run: Callable[..., MadeRun]) -> None:
    run = make_run(ks=(4, 5, 6, 7, 8, 9, 10, 60))
    path = write_report(run.folder, volume=run.volume, reference=run.reference)
    assert path.stat().st_size < 6e6


def test_command_makes_the_run_again(make_run: Callable[..., MadeRun]) -> None:
    run = make_run(ks=(4, 8), source="my cell.tif")
    words = shlex.split(command(read_run(run.folder)))
    assert words[:3] == ["vemosaic", "run", "my cell.tif"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options["--clusters"] == "4,8"
    assert options["--working-voxel-size"] == "16"
    assert options["--seed"] == "1"
    content = read_run(run.folder)
    content.record["command"] = ["vemosaic", "run", "a b", "--x"]
    assert command(content) == "vemosaic run 'a b' --x"


def test_words() -> None:
    assert [length(nm) for nm in (16, 4.6, 999, 1440, 12_345)] == ["16 nm", "4.6 nm", "999 nm", "1.44 µm", "12.3 µm"]
    assert lengths((50, 4.6, 4.6)) == "50 × 4.6 × 4.6 nm"
    assert lengths((960, 1440)) == "0.96 × 1.44 µm"
    assert cubic_micrometres(1e9) == "1.00 µm³"
    assert [figures(v) for v in (0, 0.00123, 1234.5, 2.5e-9)] == ["0", "0.00123", "1,230", "2.5e-09"]
    assert [duration(s) for s in (0.8, 42, 425, 12_000)] == ["0.8 s", "42 s", "7 min 5 s", "3 h 20 min"]
    assert [percent(s) for s in (0, 0.0004, 0.034, 0.5)] == ["0 %", "< 0.1 %", "3.4 %", "50 %"]
    assert [round_bar(nm) for nm in (1600, 700, 100_000)] == [200, 200, 20_000]
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert numbers([4, 5, 6]) == "4 to 6"
    assert numbers([4, 8]) == "4 and 8"
