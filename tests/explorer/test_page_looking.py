"""Somebody looks at a run in the browser."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_person import Person, browsing
from page_server import Served
from PIL import Image
from playwright.sync_api import Browser, expect


@pytest.fixture(scope="module")
def served(described: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(Path(shutil.copytree(described, tmp_path_factory.mktemp("looking") / "run"))) as served:
        yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


@pytest.fixture
def person(browser: Browser, served: Served) -> Iterator[Person]:
    person = Person(browser, served)
    yield person
    person.context.close()
    person.check()


def test_wheel_keys_and_slider_go_through_slices(person: Person) -> None:
    page = person.page
    assert person.place == (10, 18, 20)
    first = person.picture("xy")
    page.mouse.move(*person.spot("xy", (10, 18, 20)))
    page.mouse.wheel(0, 100)
    page.mouse.wheel(0, 100)
    person.settle()
    assert person.place == (12, 18, 20)
    assert person.picture("xy") != first
    page.keyboard.press("PageUp")
    page.keyboard.press(",")
    person.settle()
    assert person.picture("xy") == first
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    person.settle()
    assert person.place == (10, 28, 21)
    page.get_by_label("Slice along x").fill("5")
    person.settle()
    assert person.place == (10, 28, 5)


def test_zoom_pan_and_fit(person: Person) -> None:
    page = person.page
    before = person.address
    x, y = person.spot("xy", (10, 9, 30))
    page.mouse.move(x, y)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -60)
    page.keyboard.up("Control")
    person.settle()
    assert float(person.address["zoom"]) > 1.2 * float(before["zoom"])
    assert person.spot("xy", (10, 9, 30)) == pytest.approx((x, y), abs=8)  # what was under the pointer stays there
    page.mouse.down()
    page.mouse.move(x + 60, y + 30, steps=3)
    page.mouse.up()
    person.settle()
    assert person.spot("xy", (10, 9, 30)) == pytest.approx((x + 60, y + 30), abs=10)
    assert person.place == (10, 18, 20)  # a drag is no click
    page.keyboard.press("f")
    person.settle()
    assert person.address["zoom"] == before["zoom"]


def test_a_click_in_a_slice_tells_of_the_voxel_and_its_dots(person: Person) -> None:
    dots = person.page.locator("#dots .lines")
    before = dots.evaluate("canvas => canvas.toDataURL()")
    person.click("xz", (4, 18, 9))
    assert person.place == (4, 18, 9)
    facts = person.page.locator("#here")
    expect(facts).to_contain_text("x 9 · y 18 · z 4")
    for what in ("class", "cluster", "confidence", "reference", "grey value"):
        expect(facts).to_contain_text(what)
    assert dots.evaluate("canvas => canvas.toDataURL()") != before  # other dots are ringed


def test_a_click_on_a_dot_goes_to_its_voxel(person: Person) -> None:
    page = person.page
    person.click("xy", (10, 3, 3))
    dots = page.locator("#dots .lines")
    box = dots.bounding_box()
    assert box is not None
    # the largest ring is round the nearest dot: another voxel of much the same texture, or this one
    ring = """canvas => {
        const {data, width} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        let [n, x, y] = [0, 0, 0];
        for (let i = 3; i < data.length; i += 4)
            if (data[i]) { n++; x += (i >> 2) % width; y += Math.floor((i >> 2) / width); }
        return [x / n, y / n];
    }"""
    x, y = dots.evaluate(ring)
    before = person.place
    for dx in range(0, 200, 4):
        page.mouse.click(box["x"] + x + dx, box["y"] + y)
        page.wait_for_timeout(300)
        if person.place != before:
            break
    person.settle()
    z, y, x = person.place
    assert person.place != before
    expect(page.locator("#here")).to_contain_text(f"x {x} · y {y} · z {z}")


def test_dots_are_drawn_without_webgl_too(browser: Browser, served: Served) -> None:
    none = """const get = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
            return kind.startsWith("webgl") ? null : get.call(this, kind, ...more);
        };"""
    person = Person(browser, served, none)
    colours = """canvas => new Set(new Uint32Array(canvas.getContext("2d")
        .getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size"""
    assert person.page.locator("#dots .pixels").evaluate(colours) == 1 + served.state()["k"]
    person.context.close()
    person.check()


def test_map_opacity_outlines_and_contrast_change_the_picture(person: Person) -> None:
    page = person.page
    pictures = [person.picture("xy")]
    page.get_by_label("Map over the image").select_option("none")
    person.settle()
    pictures.append(person.picture("xy"))
    assert all(r == g == b for r, g, b in [person.colour("xy", (10, 5, 5)), person.colour("xy", (10, 30, 30))])
    page.get_by_label("Contrast: grey shown white").fill("90")
    person.settle()
    pictures.append(person.picture("xy"))
    page.get_by_label("Map over the image").select_option("reference")
    page.get_by_label("Opacity of the map").fill("100")
    person.settle()
    pictures.append(person.picture("xy"))
    page.get_by_label("Map over the image").select_option("clusters")
    person.settle()
    pictures.append(person.picture("xy"))
    page.keyboard.press("Escape")
    page.locator("#view-xy .lines").focus()
    page.keyboard.press("o")
    person.settle()
    pictures.append(person.picture("xy"))
    assert all(a != b for i, a in enumerate(pictures) for b in pictures[:i])


def test_dots_are_coloured_as_chosen(person: Person) -> None:
    canvas = person.page.locator("#dots .pixels")
    seen = set()
    for by in ("class", "reference", "confidence"):
        person.page.get_by_label("Colour of the dots").select_option(by)
        person.page.wait_for_timeout(300)
        seen.add(canvas.evaluate("canvas => canvas.toDataURL()"))
    assert len(seen) == 3
    person.page.get_by_label("Colour of the dots").select_option("uncertainty")
    expect(person.page.locator("#dots .note")).to_contain_text("second class")  # nothing is painted: told, not hidden


def test_a_link_and_a_reload_open_the_same_view(person: Person, browser: Browser, served: Served) -> None:
    page = person.page
    person.click("yz", (6, 11, 20))
    page.get_by_label("Map over the image").select_option("clusters")
    page.get_by_label("Colour of the dots").select_option("confidence")
    page.get_by_role("tab", name="Pieces").click()
    person.settle()
    address, picture = person.address, person.picture("xy")
    page.get_by_label("Copy a link to this view").click()
    page.reload()
    person.settle()
    assert person.address == address and person.picture("xy") == picture
    expect(page.get_by_role("tab", name="Pieces")).to_have_attribute("aria-selected", "true")
    other = Person(browser, served)
    other.page.goto(page.url)
    other.settle()
    assert other.address == address
    other.page.goto(f"{served.origin}/#at=9999,x,-3&zoom=NaN&map=<b>&grey=9,3")  # nonsense leaves things as they are
    other.page.reload()
    other.settle()
    assert other.address["map"] == "labels" and other.address["grey"] == "0,255"
    other.context.close()
    other.check()


def test_help_theme_and_picture(person: Person) -> None:
    page = person.page
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Help")).to_contain_text("undo")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_label("Light or dark").click()
    dark = page.evaluate(ground)
    assert light != dark
    page.reload()
    person.settle()
    assert page.evaluate(ground) == dark
    page.emulate_media(color_scheme="dark")
    page.get_by_label("Light or dark").click()
    assert page.evaluate(ground) == light
    with page.expect_download() as download:
        page.get_by_label("Save a picture of this view").click()
    picture = Image.open(io.BytesIO(Path(download.value.path()).read_bytes()))
    assert picture.width > 1000 and len(picture.convert("RGB").getcolors(1 << 24) or []) > 500


def test_all_controls_have_names_and_fit_a_small_laptop(person: Person) -> None:
    nameless = """() => [...document.querySelectorAll("button, input, select, canvas[tabindex]")]
        .filter((e) => !e.labels?.length && !(e.ariaLabel || e.textContent.trim())).map((e) => e.outerHTML)"""
    assert person.page.evaluate(nameless) == []
    overflow = """() => [...document.querySelectorAll("#bar > *, #bar button, .view, #here, #dots, #panel, #foot")]
        .filter((e) => { const b = e.getBoundingClientRect();
                         return b.right > innerWidth || b.bottom > innerHeight; }).map((e) => e.id || e.className)"""
    assert person.page.evaluate(overflow) == []
    assert person.page.evaluate("document.documentElement.scrollHeight <= innerHeight")
