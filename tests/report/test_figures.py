from __future__ import annotations

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from vemosaic.report.figures import error_labels, grey_png, indexed_png, loss_svg, scatter_svg
from vemosaic.report.projection import MOST, chosen_points, tsne


def decoded(uri: str) -> Image.Image:
    assert uri.startswith("data:image/png;base64,")
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def test_grey_png_is_lossless() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (17, 23)).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(decoded(grey_png(grey))), grey)


def test_indexed_png_has_the_colours_and_nothing_where_nothing_was_mapped() -> None:
    labels = np.array([[0, 1, 2], [2, 2, 0]], np.uint8)
    rgba = np.asarray(decoded(indexed_png(labels, [(10, 20, 30), (200, 100, 50)])).convert("RGBA"))
    assert rgba[0, 1].tolist() == [10, 20, 30, 255]
    assert rgba[1, 0].tolist() == [200, 100, 50, 255]
    assert rgba[..., 3].tolist() == [[0, 255, 255], [255, 255, 0]]
    faint = np.asarray(decoded(indexed_png(labels, [(10, 20, 30), (200, 100, 50)], [99, 255])).convert("RGBA"))
    assert faint[0, 1, 3] == 99


def test_indexed_png_takes_255_labels() -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    colours = [(i, 255 - i, 7) for i in range(1, 256)]
    rgb = np.asarray(decoded(indexed_png(labels, colours)).convert("RGB")).reshape(256, 3)
    assert rgb[1:].tolist() == [list(colour) for colour in colours]


def test_error_labels() -> None:
    labels = np.array([[3, 3, 1, 0]], np.uint8)
    reference = np.array([[1, 0, 1, 2]], np.uint8)
    assert error_labels(labels, reference, cluster=3, class_index=1).tolist() == [[1, 3, 2, 0]]


def test_scatter_has_a_dot_for_each_point_and_escapes_names() -> None:
    places = np.array([[0.0, 0.0], [0.5, 0.25], [1.0, 1.0]])
    groups = np.array([1, 2, 1], np.uint8)
    svg = scatter_svg(places, groups, {1: (1, 2, 3), 2: (4, 5, 6)}, {1: "a <b>", 2: "c"}, 'say "hi"')
    root = ElementTree.fromstring(svg)
    paths = root.findall("path")
    assert [path.get("stroke") for path in paths] == ["#010203", "#040506"]
    assert [path.get("d", "").count("M") for path in paths] == [2, 1]
    assert paths[0].findtext("title") == "a <b>"


def test_loss_svg_is_inline_and_takes_the_page_colours() -> None:
    losses = [{"anchors": 128.0 * i, "loss": 1 / i, "kl": float("nan") if i == 3 else 2.0} for i in range(1, 50)]
    svg = loss_svg(losses)
    assert svg is not None
    assert svg.startswith("<svg")
    assert "total" in svg
    assert "KL divergence" in svg
    assert "multi-similarity" not in svg
    assert "currentColor" in svg
    assert "var(--accent)" in svg
    assert "#01020" not in svg
    assert not re.search(r'(?:href|src)="(?!#)', svg)
    assert svg == loss_svg(losses)
    assert loss_svg(losses[:1]) is None


def test_tsne_keeps_groups_together_and_repeats() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1], 40)
    embedding = (rng.normal(size=(80, 8)) + 12 * groups[:, None]).astype(np.float32)
    places = tsne(embedding)
    assert places is not None
    assert places.min() == 0
    assert places.max() == 1
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (groups[distances.argmin(axis=1)] == groups).all()
    np.testing.assert_array_equal(places, tsne(embedding))


def test_tsne_of_nothing_to_lay_out() -> None:
    assert tsne(np.zeros((50, 8), np.float32)) is None
    assert tsne(np.random.default_rng(0).normal(size=(9, 8)).astype(np.float32)) is None


def test_chosen_points() -> None:
    assert chosen_points(7).tolist() == list(range(7))
    points = chosen_points(50_000)
    assert len(set(points.tolist())) == MOST
    np.testing.assert_array_equal(points, chosen_points(50_000))
