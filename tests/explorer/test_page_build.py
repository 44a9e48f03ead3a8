from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

import vemosaic.explorer

BUILT = Path(vemosaic.explorer.__file__).with_name("page")
SOURCES = Path(__file__).parents[2] / "page"


def test_the_built_page_belongs_to_its_sources() -> None:
    names = ["index.html", "package-lock.json", "style.css", *(f"src/{p.name}" for p in (SOURCES / "src").iterdir())]
    total = hashlib.sha256()
    for name in sorted(names):
        total.update(f"{name}\0".encode() + (SOURCES / name).read_bytes() + b"\0")
    built = (BUILT / "sources.sha256").read_text().strip()
    assert total.hexdigest() == built, "the page's sources were changed: run make page"


def test_the_page_is_whole_and_small() -> None:
    assert {path.name for path in BUILT.iterdir()} == {"index.html", "main.js", "style.css", "sources.sha256"}
    assert sum(path.stat().st_size for path in BUILT.iterdir()) < 200_000


@pytest.mark.parametrize("name", ["index.html", "main.js", "style.css"])
def test_nothing_is_fetched_from_elsewhere_and_nothing_is_made_of_strings(name: str) -> None:
    text = (BUILT / name).read_text()
    elsewhere = set(re.findall(r"https?://[^\"'`\s)]+", text))
    assert elsewhere <= {"http://www.w3.org/2000/svg"}  # a namespace
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert forbidden not in text
    assert not re.search(r"<script(?![^>]*\ssrc=)", text)
    assert not re.search(r"<[^>]+\s(on\w+|style)=", text) or name != "index.html"
