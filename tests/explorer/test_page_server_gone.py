"""The server is killed while somebody works with the page, and comes back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from explorer_runs import SHARD
from page_person import Person, browsing
from page_server import Served
from playwright.sync_api import Browser, expect

from small_runs import made_quick
from vemosaic.explorer.headless import apply
from vemosaic.volumes import array_writing
from vemosaic.volumes.labels import open_labels


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


@pytest.fixture
def served(described: Path, tmp_path: Path) -> Iterator[Served]:
    with Served(Path(shutil.copytree(described, tmp_path / "run")), slow=0.25) as served:
        yield served


def test_killed_in_the_middle_of_a_job_nothing_is_lost(browser: Browser, served: Served) -> None:
    for index, label in ((7, 1), (8, 2)):
        runs = [[row, 3 * label, 6] for row in range(4 * label, 4 * label + 3)]
        served.act("scribble", axis=0, index=index, runs=runs, **{"class": label})
    person = Person(browser, served)
    page = person.page
    name = person.name(1)
    name.fill("mitochondria")
    name.press("Enter")
    person.until_number(3)
    page.get_by_role("tab", name="Scribbles").click()
    person.button("Apply to the volume").click()
    expect(page.locator(".job[data-kind=classify][data-state=running]")).to_be_visible()

    served.kill()
    expect(page.locator("#banner")).to_contain_text("Nothing is lost")
    name_now = page.locator("#bar h1").inner_text()
    page.keyboard.press("Control+z")  # an act that cannot be saved now is told and not shown as done
    served.start()
    expect(page.locator("#banner")).to_be_hidden()
    state = served.state()
    assert (state["number"], state["classes"][0]["name"]) == (4, "mitochondria")
    expect(page.get_by_text("All 4 acts saved")).to_be_visible(timeout=30_000)  # the job went on by itself
    person.settle()
    shown = person.picture("xy")
    page.reload()
    person.settle()
    assert person.picture("xy") == shown and page.locator("#bar h1").inner_text() == name_now
    page.get_by_role("tab", name="Classes").click()
    expect(person.name(1)).to_have_value("mitochondria")

    # the headless twin gives the very labels that the page shows
    mask = page.evaluate(
        """async () => [...new Uint8Array(await (await fetch("/api/slice/labels?axis=0&index=10")).arrayBuffer())]"""
    )
    person.context.close()
    served.kill()
    with made_quick() as patch:
        patch.setattr(array_writing, "SHARD", SHARD)
        store = apply(served.run, out=served.run.parent / "applied.ome.zarr")
    labels = np.asarray(open_labels(store).volume.array[10])
    assert labels.ravel().tolist() == mask


def test_a_job_is_cancelled_and_goes_on(browser: Browser, served: Served) -> None:
    person = Person(browser, served)
    page = person.page
    person.button("Export").click()
    page.get_by_role("button", name="Write the edited map").click()
    running = page.locator(".job[data-kind=apply]")
    expect(running).to_be_visible()
    running.get_by_role("button", name="Cancel").click()
    expect(page.locator(".job[data-kind=apply][data-state=cancelled]")).to_be_visible()
    running.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("The edited map is written")).to_be_visible(timeout=30_000)
    assert served.state()["applied"]["key"] == served.state()["key"]
    person.context.close()
    person.check()
