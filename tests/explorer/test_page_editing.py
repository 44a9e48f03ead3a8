"""Somebody names, corrects and teaches in the browser."""

from __future__ import annotations

import json
import re
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_person import Person, browsing
from page_server import Served
from playwright.sync_api import Browser, expect

SCRIPT = "<img src=x onerror=alert(1)><script>alert(2)</script>"


@pytest.fixture(scope="module")
def served(described: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(Path(shutil.copytree(described, tmp_path_factory.mktemp("editing") / "run"))) as served:
        yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


@pytest.fixture
def person(browser: Browser, served: Served) -> Iterator[Person]:
    if served.state()["undo"]:
        served.act("choose_k", k=3)
    person = Person(browser, served)
    yield person
    person.context.close()
    person.check()


def test_rename_colour_hide_and_undo(person: Person, served: Served) -> None:
    page = person.page
    number = served.state()["number"]
    name = person.name(1)
    name.fill("mitochondria")
    name.press("Enter")
    person.until_number(number + 1)
    page.get_by_label("Colour of mitochondria").evaluate(
        "e => { e.value = '#ff0000'; e.dispatchEvent(new Event('change')); }"
    )
    person.until_number(number + 2)
    page.get_by_label("Hide mitochondria").click()
    person.until_number(number + 3)
    one = served.state()["classes"][0]
    assert (one["name"], one["colour"], one["hidden"]) == ("mitochondria", [255, 0, 0], True)
    page.reload()
    person.settle()
    expect(person.name(1)).to_have_value("mitochondria")
    for _ in range(3):
        number = served.state()["number"]
        page.locator("#view-xy .lines").focus()
        page.keyboard.press("Control+z")
        person.until_number(number + 1)
    expect(person.name(1)).to_have_value("cluster 1")
    person.button("Redo").click()
    person.until_number(number + 2)
    expect(person.name(1)).to_have_value("mitochondria")


def test_a_name_with_markup_stays_a_name(person: Person, served: Served) -> None:
    page = person.page
    number = served.state()["number"]
    page.get_by_label("Name of the new class").last.fill(SCRIPT)
    person.button("Add").click()
    person.until_number(number + 1)
    made = served.state()["classes"][-1]
    assert made["name"] == SCRIPT
    expect(person.name(made["id"])).to_have_value(SCRIPT)
    for tab in ("Pieces", "Scribbles"):
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("tabpanel", name=tab)).to_contain_text(SCRIPT)
    page.reload()
    person.settle()
    assert page.locator("img").count() == 0 and page.locator("body script").count() == 0


def test_merge_and_count(person: Person, served: Served) -> None:
    page = person.page
    number = served.state()["number"]
    page.get_by_label("Merge cluster 1").check()
    page.get_by_label("Merge cluster 3").check()
    page.get_by_label("Merge into").select_option("3")
    person.button("Merge").click()
    person.until_number(number + 1)
    expect(person.row(1)).to_have_count(0)
    assert served.state()["classes"][0]["merged_into"] == 3
    person.button("Count exactly").click()
    expect(page.get_by_text("Counted: 28,800 voxels.")).to_be_visible()
    expect(person.row(3).locator(".number").last).not_to_have_text("–")
    expect(page.get_by_text("Dice").first).to_be_visible()


def test_circled_dots_become_a_class(person: Person, served: Served) -> None:
    page = person.page
    before = person.picture("xy")
    number = served.state()["number"]
    person.lasso(0.05, 0.03, 0.95, 0.6)
    expect(page.locator(".circled b")).to_contain_text("dots")
    page.get_by_label("Name of the new class").first.fill("nucleus")
    person.button("Assign").click()
    person.until_number(number + 2)
    person.settle()
    assert person.picture("xy") != before
    assert served.state()["undo"].startswith("lasso of") and served.state()["undo"].endswith("nucleus")
    expect(page.locator(".circled")).to_be_hidden()
    person.button("Undo").click()
    person.until_number(number + 3)
    person.settle()
    assert person.picture("xy") == before


def test_a_piece_is_selected_and_reassigned(person: Person, served: Served) -> None:
    page = person.page
    page.keyboard.press("p")
    person.click("xy", (10, 18, 20))
    facts = page.locator("#pane-pieces .facts")
    expect(facts).to_contain_text("µm³")
    before = person.picture("xy")
    page.keyboard.press("Escape")
    person.settle()
    assert person.picture("xy") != before  # the piece was outlined
    expect(person.button("Reassign")).to_be_disabled()
    person.click("xy", (10, 18, 20))
    expect(facts).to_contain_text("µm³")
    old = page.locator("#here dd").first.inner_text()
    number = served.state()["number"]
    target = next(one for one in served.state()["classes"] if one["name"] != old)
    page.get_by_label("Class that the piece becomes").select_option(str(target["id"]))
    person.button("Reassign").click()
    person.until_number(number + 1)
    expect(page.locator("#here dd").first).to_have_text(target["name"])


def test_many_pieces_are_reassigned_by_a_job(person: Person, served: Served) -> None:
    page = person.page
    page.get_by_role("tab", name="Pieces").click()
    number = served.state()["number"]
    before = person.picture("xy")
    page.get_by_label("Pieces of this class").select_option("2")
    page.get_by_label("Class that the pieces become").select_option("1")
    page.get_by_role("radio", name="touch the border of the volume").check()
    person.button("Reassign all").click()
    person.until_number(number + 1)
    expect(page.get_by_text("Done: finding the pieces")).to_be_visible()
    person.settle()
    assert person.picture("xy") != before and not served.state()["incomplete"]


def test_scribbles_are_previewed_erased_and_applied(person: Person, served: Served) -> None:
    page = person.page
    page.keyboard.press("b")
    expect(page.get_by_text("paint some voxels of it in any slice")).to_be_visible()
    expect(person.button("Apply to the volume")).to_be_disabled()
    page.keyboard.press("1")
    person.paint("xy", (10, 8, 6), (10, 12, 9))
    expect(page.get_by_text("Now paint some voxels of a second class.")).to_be_visible()
    page.locator(".chips [data-class='2']").click()
    person.paint("xz", (8, 18, 20), (12, 18, 24))
    assert set(served.state()["scribbles"]["voxels"]) == {"1", "2"}
    assert {tuple(p) for p in served.state()["scribbles"]["planes"]} == {(0, 10), (1, 18)}
    expect(page.get_by_label("Map over the image")).to_have_value("preview")
    with_preview = person.picture("yz")
    page.keyboard.press("u")
    person.settle()
    assert person.picture("yz") != with_preview
    page.keyboard.press("u")
    person.button("Where should I paint next?").click()
    expect(page.get_by_text("Place 1 of")).to_be_visible()
    page.keyboard.press("e")
    before = served.state()["scribbles"]["voxels"]
    page.get_by_label("Slice along z").fill("10")
    person.settle()
    person.paint("xy", (10, 8, 6), (10, 8, 7))
    after = served.state()["scribbles"]["voxels"]
    assert after["1"] < before["1"] and after["2"] == before["2"]
    number = served.state()["number"]
    person.button("Apply to the volume").click()
    person.until_number(number + 1)
    expect(page.get_by_label("Map over the image")).to_have_value("labels")
    person.settle()
    assert served.state()["undo"].startswith("class") and not served.state()["incomplete"]


def test_two_pages_see_each_other(person: Person, browser: Browser, served: Served) -> None:
    other = Person(browser, served)
    number = served.state()["number"]
    name = person.name(2)
    name.fill("membrane")
    name.press("Enter")
    expect(other.name(2)).to_have_value("membrane")
    other.button("Undo").click()
    expect(name).to_have_value("cluster 2")
    person.until_number(number + 2)
    # what is being typed is not overwritten by what the other does
    name.fill("half a na")
    other.page.get_by_label("Hide cluster 3").click()
    expect(person.page.get_by_label("Show cluster 3")).to_be_visible()
    expect(name).to_have_value("half a na")
    name.press("Escape")
    other.context.close()
    other.check()


def test_export_shows_its_command_and_gives_the_file(person: Person) -> None:
    page = person.page
    person.button("Export").click()
    sheet = page.get_by_role("dialog", name="Export")
    sheet.get_by_text("Mesh (STL)").click()
    sheet.get_by_label("Class of the mesh").select_option("2")
    expect(sheet.locator("code").first).to_contain_text("--to stl --class 2")
    sheet.get_by_text("Table of pieces (CSV)").click()
    expect(sheet.locator("code").first).to_contain_text("--to csv")
    expect(sheet.get_by_label("Class of the mesh")).to_be_hidden()
    sheet.get_by_role("button", name="Export", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert "voxels" in Path(download.value.path()).read_text().splitlines()[0]
    person.button("Export").click()
    sheet = page.get_by_role("dialog", name="Export")
    expect(sheet.get_by_role("link")).to_have_count(1)
    sheet.get_by_role("button", name="Make a link").click()
    link = sheet.get_by_role("link", name="Open in neuroglancer")
    expect(link).to_have_attribute("href", re.compile(r"^https://neuroglancer-demo\.appspot\.com/#!"))
    expect(link).to_have_attribute("rel", re.compile("noopener"))


def test_begin_from_other_clusters_is_asked_first(person: Person, served: Served) -> None:
    page = person.page
    k = served.state()["k"]
    choice = page.get_by_label("Number of clusters that the map begins from")
    choice.select_option("4")
    page.get_by_role("button", name="Keep what I have").click()
    assert served.state()["k"] == k == 3
    choice.select_option("4")
    page.get_by_role("button", name="Begin anew").click()
    expect(person.row(4)).to_be_visible()
    person.button("Undo").click()
    expect(person.row(4)).to_have_count(0)


def test_the_page_itself_needs_the_token_and_has_a_strict_policy(person: Person, served: Served) -> None:
    answer = person.page.request.get(served.origin)
    assert "'unsafe-eval'" not in answer.headers["content-security-policy"]
    assert person.page.evaluate("document.cookie") == ""  # scripts can't read it
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(served.origin)
    assert json.loads(person.page.request.get(f"{served.origin}/api/commands").text())["apply"]
