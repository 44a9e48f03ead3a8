"""What a person does with the page, in Debian's Chromium."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from page_server import Served
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader"
)
Voxel = tuple[int, int, int]
ROWS, COLUMNS = {"xy": 1, "xz": 0, "yz": 0}, {"xy": 2, "xz": 2, "yz": 1}


class Person:
    """Somebody before a page, in which a script may run first; `complaints` holds what the console complained of."""

    def __init__(self, browser: Browser, served: Served, script: str = "") -> None:
        self.served = served
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.context = browser.new_context(viewport={"width": 1366, "height": 768})
        self.context.add_init_script(script)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(served.link)
        self.settle()

    def _hear(self, message: ConsoleMessage) -> None:
        ours = "GL Driver Message" in message.text or "getImageData" in message.text  # we read pixels, pages do not
        if message.type in ("error", "warning") and not ours:
            self.complaints.append(message.text)

    def settle(self) -> None:
        """Wait until slices and dots are drawn and all is known of the voxel at the crosshair."""
        expect(self.page.locator("#here dt").first).to_be_visible()
        expect(self.page).to_have_url(re.compile("zoom"))
        self.page.wait_for_timeout(300)  # the address follows the view by a quarter of a second
        expect(self.page.locator("[aria-busy='true']")).to_have_count(0)
        self.page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")

    @property
    def address(self) -> dict[str, str]:
        """What the address says of the view."""
        _, _, hash_ = self.page.url.partition("#")
        return dict(part.split("=", 1) for part in hash_.split("&"))

    @property
    def place(self) -> Voxel:
        z, y, x = map(int, self.address["at"].split(","))
        return z, y, x

    def spot(self, plane: str, voxel: Voxel) -> tuple[float, float]:
        """Where a voxel of the plane lies on the page."""
        box = self.lines(plane).bounding_box()
        assert box is not None
        centre = [float(n) for n in self.address["centre"].split(",")]
        scale = float(self.address["zoom"]) * 16  # nm in a voxel
        row, column = ROWS[plane], COLUMNS[plane]
        return (
            box["x"] + box["width"] / 2 + (voxel[column] + 0.5 - centre[column]) * scale,
            box["y"] + box["height"] / 2 + (voxel[row] + 0.5 - centre[row]) * scale,
        )

    def lines(self, plane: str) -> Locator:
        return self.page.locator(f"#view-{plane} .lines")

    def click(self, plane: str, voxel: Voxel) -> None:
        self.page.mouse.click(*self.spot(plane, voxel))
        self.settle()

    def paint(self, plane: str, start: Voxel, end: Voxel) -> None:
        """Draw a stroke, and wait until it is saved."""
        before = self.served.state()["number"]
        self.page.mouse.move(*self.spot(plane, start))
        self.page.mouse.down()
        self.page.mouse.move(*self.spot(plane, end), steps=5)
        self.page.mouse.up()
        self.until_number(before + 1)
        self.settle()

    def until_number(self, number: int) -> None:
        """Wait until the page shows the state after so many acts."""
        expect(self.page.locator("#foot")).to_contain_text(f"All {number} acts saved")

    def lasso(self, left: float, top: float, right: float, bottom: float) -> None:
        """Draw round a part of the dots; the sides as fractions of the view."""
        box = self.page.locator("#dots .lines").bounding_box()
        assert box is not None
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
        self.page.keyboard.down("Shift")
        self.page.mouse.move(*points[0])
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*point, steps=3)
        self.page.mouse.up()
        self.page.keyboard.up("Shift")

    def colour(self, plane: str, voxel: Voxel) -> tuple[int, int, int]:
        """The colour that a voxel is shown in."""
        x, y = self.spot(plane, voxel)
        script = """(canvas, [x, y]) => {
            const box = canvas.getBoundingClientRect();
            return [...canvas.getContext("2d").getImageData(x - box.left, y - box.top, 1, 1).data];
        }"""
        red, green, blue, _ = self.page.locator(f"#view-{plane} .pixels").evaluate(script, [x, y])
        return red, green, blue

    def picture(self, plane: str) -> list[int]:
        """The pixels of a slice, thinned out."""
        script = """canvas => [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]
            .filter((_, i) => i % 997 === 0)"""
        return list(self.page.locator(f"#view-{plane} .pixels").evaluate(script))

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def row(self, class_id: int) -> Locator:
        return self.page.locator(f"tr[data-class='{class_id}']")

    def name(self, class_id: int) -> Locator:
        """Where a class's name is read and written."""
        return self.row(class_id).locator(".name")

    def check(self) -> None:
        """Nothing was complained of, and nothing was asked of anybody but the server."""
        assert self.complaints == [], self.complaints
        own = re.compile(rf"({re.escape(self.served.origin)}/|about:|data:|blob:)")
        assert [url for url in self.requests if not own.match(url)] == []


@contextmanager
def browsing() -> Iterator[Browser]:
    """A browser; skips where there is none."""
    if CHROMIUM is None:
        pytest.skip("no chromium was found")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()
