from __future__ import annotations

from collections.abc import Iterator

import pytest
from report_browser import CHROMIUM, Browser
from report_fixture import MadeRun

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium installed")

SHOWN = """
(selector) => [...document.querySelectorAll(selector)]
  .filter((element) => element.getClientRects().length > 0).map((element) => element.getAttribute('class'))
"""


@pytest.fixture(scope="module")
def browser(shared_run: MadeRun) -> Iterator[Browser]:
    with Browser() as browser:
        browser.open(shared_run.folder / "report.html")
        yield browser


def shown(browser: Browser, selector: str) -> set[str]:
    return {name for classes in browser.evaluate(f"({SHOWN})('{selector}')") for name in classes.split()}


def test_page_loads_every_picture_without_errors_or_requests(browser: Browser) -> None:
    assert browser.evaluate("[...document.images].filter((i) => i.complete && i.naturalWidth === 0).length") == 0
    assert browser.evaluate("document.images.length") > 50
    assert browser.errors == []
    assert [url[:5] for url in browser.requests if not url.startswith(("file:", "data:"))] == []
    assert sum(url.startswith("file:") for url in browser.requests) == 1


def test_switching_k_shows_the_other_maps_clusters_and_scores(browser: Browser) -> None:
    for chosen, other in (("k4", "k8"), ("k8", "k4")):
        browser.evaluate(f"document.querySelector('label[for={chosen}]').click()")
        for section in ("map", "clusters", "patches", "tsne", "scores"):
            classes = shown(browser, f"#{section} .by-k")
            assert chosen in classes, section
            assert other not in classes, section


def test_switching_the_class_shows_its_errors(browser: Browser) -> None:
    browser.evaluate("document.querySelector('label[for=c1]').click()")
    assert {"c1"} == shown(browser, ".error img") & {"c0", "c1"}
    browser.evaluate("document.querySelector('label[for=c0]').click()")
    assert {"c0"} == shown(browser, ".error img") & {"c0", "c1"}


def test_slider_changes_the_strength_of_the_map(browser: Browser) -> None:
    browser.evaluate("slider.value = 20; slider.dispatchEvent(new Event('input'))")
    assert browser.evaluate("getComputedStyle(document.querySelector('.map img')).opacity") == "0.2"


def test_click_enlarges_a_picture(browser: Browser) -> None:
    width = "document.querySelector('.map .frame').getBoundingClientRect().width"
    before = browser.evaluate(width)
    browser.evaluate("document.querySelector('.map .frame').click()")
    assert browser.evaluate(width) > 1.5 * before


@pytest.mark.parametrize("width", [1280, 800, 390])
def test_page_never_scrolls_sideways(browser: Browser, width: int) -> None:
    browser.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


def test_scale_bar_has_its_length(browser: Browser, shared_run: MadeRun) -> None:
    # 100 voxels of 16 nm across: a bar of 200 nm takes an eighth
    bar = browser.evaluate(
        "(() => { const s = document.querySelector('.raw .scale'), f = s.parentElement;"
        " return [s.textContent, s.getBoundingClientRect().width / f.getBoundingClientRect().width] })()"
    )
    assert bar[0] == "200 nm"
    assert bar[1] == pytest.approx(200 / (100 * 16), rel=0.02)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_contrasts_with_the_page_in_both_schemes(browser: Browser, scheme: str) -> None:
    browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page, ink, soft = browser.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,"
        " getComputedStyle(document.querySelector('figcaption')).color]"
    )
    assert (luminance(page) < 0.2) == (scheme == "dark")
    for colour in (ink, soft):
        light, dark = sorted((luminance(page), luminance(colour)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 4.5  # WCAG 2.2, level AA


def luminance(css: str) -> float:
    channels = [int(c) / 255 for c in css[4:-1].split(",")]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
