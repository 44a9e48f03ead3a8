from __future__ import annotations

import numpy as np
import pytest

from vemosaic.datasets.betaseg import CATEGORIES, CELL_SUFFIX, FOUR_CLASSES, betaseg_cell, cell_file
from vemosaic.datasets.phantom import phantom_cell, write_betaseg
from vemosaic.errors import OutputError, ReferenceMaskError, VolumeError
from vemosaic.evaluation import evaluate, open_reference
from vemosaic.volumes import open_volume

SHAPE = (48, 50, 56)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("betaseg")
    write_betaseg(folder, "high_c2", SHAPE, seed=3)
    return folder


def test_the_files_bear_their_published_names(folder):
    assert sorted(path.name for path in (folder / "high_c2").iterdir()) == sorted(
        f"high_c2_{suffix}.tif"
        for suffix in (
            "source",
            "centrioles",
            "nucleus_mask",
            "membrane_mask",
            "microtubules",
            "golgi_corrected",
            "granules",
            "mitochondria_mask",
            "membrane_full_mask",
        )
    )


def test_categories_are_in_the_order_of_confidence():
    assert CATEGORIES == (
        "centrioles",
        "nucleus",
        "membrane",
        "microtubules",
        "golgi",
        "granules",
        "mitochondria",
    )


def test_a_cell_is_found_with_its_voxel_size(folder):
    source, masks = betaseg_cell(folder, "high_c2")
    volume = open_volume(source)
    assert volume.shape == SHAPE
    assert volume.voxel_size == pytest.approx((16.0, 16.0, 16.0), rel=1e-6)
    assert list(masks) == list(CATEGORIES)
    assert all(path.is_file() for path in masks.values())


def test_the_files_hold_the_phantom(folder):
    phantom = phantom_cell(SHAPE, seed=3)
    source, masks = betaseg_cell(folder, "high_c2")
    everything = (slice(0, SHAPE[0]), slice(0, SHAPE[1]), slice(0, SHAPE[2]))
    np.testing.assert_array_equal(open_volume(source).array[everything], phantom.raw)
    cell = open_volume(cell_file(folder, "high_c2", CELL_SUFFIX), labels=True)
    np.testing.assert_array_equal(cell.array[everything], phantom.cell * np.uint8(255))
    volume = open_volume(source)
    reference = open_reference([f"{name}={path}" for name, path in masks.items()], volume)
    assert reference.class_names == ("unrecognised", *CATEGORIES)
    np.testing.assert_array_equal(reference.read((0, 0, 0), SHAPE), phantom.labels())


def test_the_four_large_classes_can_be_scored(folder):
    source, masks = betaseg_cell(folder, "high_c2")
    volume = open_volume(source)
    reference = open_reference([f"{name}={path}" for name, path in masks.items()], volume).merge(FOUR_CLASSES)
    assert reference.class_names == ("unrecognised", "nucleus", "granules", "mitochondria")
    perfect = reference.read((0, 0, 0), SHAPE) + np.uint8(1)
    assert evaluate(perfect, reference, 4)["mean_dice"] == 1.0


def test_missing_masks_are_all_named(folder, tmp_path):
    write_betaseg(tmp_path, "high_c1", (48, 48, 48))
    for suffix in ("golgi_corrected", "granules"):
        cell_file(tmp_path, "high_c1", suffix).unlink()
    with pytest.raises(ReferenceMaskError, match=r"lacks 2 of the 7 .*golgi_corrected\.tif, high_c1_granules\.tif"):
        betaseg_cell(tmp_path, "high_c1")


def test_a_missing_cell_is_said(folder):
    with pytest.raises(VolumeError, match=r"give the folder that holds high_c9/high_c9_source\.tif"):
        betaseg_cell(folder, "high_c9")


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(OutputError, match="cannot be written"):
        write_betaseg(tmp_path / "taken", shape=(48, 48, 48))
