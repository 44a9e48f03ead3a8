from __future__ import annotations

import numpy as np
import pytest
import tifffile

from vemosaic.datasets.betaseg import (
    CATEGORIES,
    CELL_SUFFIX,
    FOUR_CLASSES,
    SUFFIXES,
    betaseg_cell,
    cell_file,
    check_cell,
    crop_cell,
    write_cell,
)
from vemosaic.datasets.phantom import phantom_cell, write_betaseg
from vemosaic.errors import OutputError, ReferenceMaskError, SettingsError, VolumeError
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


def write_overlapping(folder, cell="high_c3", shape=(9, 10, 11)):
    """Masks that overlap everywhere: the 7 categories at random."""
    rng = np.random.default_rng(5)
    masks = {name: rng.random(shape) < 0.3 for name in CATEGORIES}
    files = [(SUFFIXES[name], mask.astype(np.uint8) * np.uint8(255)) for name, mask in masks.items()]
    source = rng.integers(0, 255, shape, np.uint8)
    write_cell(folder, cell, [("source", source), *files, (CELL_SUFFIX, np.ones(shape, np.uint8))])
    return source, masks


def settled(masks):
    """The slow way: look at each voxel, and take the first mask of the list that holds it."""
    names = list(masks)
    result = np.zeros(next(iter(masks.values())).shape, np.uint8)
    for voxel in np.ndindex(result.shape):
        holders = [i for i, name in enumerate(names, start=1) if masks[name][voxel]]
        result[voxel] = holders[0] if holders else 0
    return result


def test_overlaps_go_to_the_surest_category_and_make_8_classes(tmp_path):
    _, masks = write_overlapping(tmp_path)
    source, paths = betaseg_cell(tmp_path, "high_c3")
    volume = open_volume(source)
    reference = open_reference([f"{name}={path}" for name, path in paths.items()], volume)
    assert len(reference.class_names) == 8
    found = reference.read((0, 0, 0), volume.shape)
    np.testing.assert_array_equal(found, settled(masks))
    assert set(np.unique(found)) == set(range(8))
    # the small ones are counted as unrecognised where they won, and leave nothing to the granules below them
    merged = reference.merge(FOUR_CLASSES)
    large = np.array([0, 0, 1, 0, 0, 0, 2, 3])  # unrecognised, then the categories in their order
    np.testing.assert_array_equal(merged.read((0, 0, 0), volume.shape), large[found])


def test_any_other_order_of_confidence_is_taken(tmp_path):
    _, masks = write_overlapping(tmp_path)
    source, paths = betaseg_cell(tmp_path, "high_c3")
    order = ["mitochondria", "centrioles", "granules"]
    reference = open_reference([f"{name}={paths[name]}" for name in order], open_volume(source))
    expected = settled({name: masks[name] for name in order})
    np.testing.assert_array_equal(reference.read((0, 0, 0), expected.shape), expected)


def test_a_crop_is_the_central_box_of_image_and_masks(tmp_path):
    image, masks = write_overlapping(tmp_path)
    crop_cell(tmp_path, "high_c3", tmp_path / "crops", (4, 10, 6))
    source, paths = betaseg_cell(tmp_path / "crops", "high_c3")
    box = (slice(2, 6), slice(0, 10), slice(2, 8))
    everything = (slice(0, 4), slice(0, 10), slice(0, 6))
    cropped = open_volume(source)
    assert cropped.voxel_size == pytest.approx((16.0,) * 3, rel=1e-6)
    np.testing.assert_array_equal(cropped.array[everything], image[box])
    for name, path in paths.items():
        np.testing.assert_array_equal(open_volume(path, labels=True).array[everything] > 0, masks[name][box])
    assert check_cell(tmp_path / "crops", "high_c3", whole=True) == (4, 10, 6)
    with pytest.raises(SettingsError, match=r"high_c3_source\.tif: has 9 x 10 x 11 voxels .* --crop 4 x 11 x 6"):
        crop_cell(tmp_path, "high_c3", tmp_path / "more", (4, 11, 6))


def test_a_cell_is_checked_before_it_is_used(tmp_path):
    write_overlapping(tmp_path)
    assert check_cell(tmp_path, "high_c3", whole=True) == (9, 10, 11)
    outline = cell_file(tmp_path, "high_c3", CELL_SUFFIX)
    tifffile.imwrite(outline, np.zeros((9, 10, 11), np.uint8), photometric="minisblack")
    check_cell(tmp_path, "high_c3")  # the cell mask is not asked for
    with pytest.raises(ReferenceMaskError, match=r"membrane_full_mask\.tif: is empty.*; put the right mask there"):
        check_cell(tmp_path, "high_c3", whole=True)
    outline.unlink()
    with pytest.raises(ReferenceMaskError, match=r"membrane_full_mask\.tif: no such file; put the mask"):
        check_cell(tmp_path, "high_c3", whole=True)
    golgi = cell_file(tmp_path, "high_c3", "golgi_corrected")
    tifffile.imwrite(golgi, np.ones((9, 10, 12), np.uint8), photometric="minisblack")
    with pytest.raises(
        ReferenceMaskError,
        match=r"golgi_corrected\.tif: has 9 x 10 x 12 voxels but high_c3_source\.tif has 9 x 10 x 11",
    ):
        check_cell(tmp_path, "high_c3")


def test_voxels_that_imagej_does_not_know_are_cropped_too(tmp_path):
    write_overlapping(tmp_path)
    signed = np.arange(990, dtype=np.int16).reshape(9, 10, 11) - 500
    tifffile.imwrite(cell_file(tmp_path, "high_c3", "source"), signed, photometric="minisblack")
    crop_cell(tmp_path, "high_c3", tmp_path / "crops", (3, 4, 5))
    cropped = tifffile.imread(cell_file(tmp_path / "crops", "high_c3", "source"))
    np.testing.assert_array_equal(cropped, signed[3:6, 3:7, 3:8])
