from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from vemosaic.errors import ReferenceMaskError, VolumeError
from vemosaic.evaluation.reference import open_reference, reference_from_arrays, split_spec
from vemosaic.evaluation.scores import evaluate
from vemosaic.volumes import at_voxel_size, open_volume
from vemosaic.volumes.volume import Volume


def lattice(shape, size=(16.0, 16.0, 16.0), translation=(0.0, 0.0, 0.0)):
    return Volume(np.zeros(shape, np.uint8), size, translation, "map.ome.zarr", "test")


def whole(reference):
    return reference.read((0, 0, 0), reference.shape)


def write_tiff(path, mask, size=None):
    """An ImageJ TIFF with its voxel size in nm (z, y, x), or a plain one."""
    image = np.asarray(mask).astype(np.uint8)
    if size is None:
        tifffile.imwrite(path, image, photometric="minisblack")
    else:
        tifffile.imwrite(
            path,
            image,
            imagej=True,
            resolution=(1 / size[2], 1 / size[1]),
            metadata={"axes": "ZYX", "spacing": size[0], "unit": "nm"},
        )
    return str(path)


def write_labels(path, labels, properties=None, scale=(16.0, 16.0, 16.0), translation=None):
    """A label image as OME-Zarr 0.4, written by hand."""
    group = zarr.open_group(path, mode="w", zarr_format=2)
    array = group.create_array("0", shape=labels.shape, dtype=labels.dtype, chunks=(8, 8, 8))
    array[:] = labels
    place = [{"type": "scale", "scale": list(scale)}]
    if translation is not None:
        place.append({"type": "translation", "translation": list(translation)})
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": [{"name": a, "type": "space", "unit": "nanometer"} for a in "zyx"],
            "datasets": [{"path": "0", "coordinateTransformations": place}],
        }
    ]
    if properties is not None:
        group.attrs["image-label"] = {"version": "0.4", "properties": properties}
    return str(path)


@pytest.fixture
def labels():
    rng = np.random.default_rng(0)
    return rng.integers(0, 4, (10, 12, 14), dtype=np.uint8)


def test_earlier_masks_win_where_they_overlap(tmp_path):
    first, second = np.zeros((4, 5, 6), bool), np.zeros((4, 5, 6), bool)
    first[:, :3], second[:, 2:] = True, True
    specs = [
        f"granules={write_tiff(tmp_path / 'g.tif', first)}",
        f"golgi={write_tiff(tmp_path / 'o.tif', second)}",
    ]
    reference = open_reference(specs, lattice((4, 5, 6)))
    assert reference.class_names == ("unrecognised", "granules", "golgi")
    np.testing.assert_array_equal(whole(reference)[0, :, 0], [1, 1, 1, 2, 2])
    np.testing.assert_array_equal(whole(open_reference(specs[::-1], lattice((4, 5, 6))))[0, :, 0], [2, 2, 1, 1, 1])


def test_masks_of_one_name_make_one_class(tmp_path):
    one, other = np.zeros((4, 5, 6), bool), np.zeros((4, 5, 6), bool)
    one[0], other[1] = True, True
    specs = [f"er={write_tiff(tmp_path / f'{i}.tif', m)}" for i, m in enumerate((one, other))]
    reference = open_reference(specs, lattice((4, 5, 6)))
    assert reference.class_names == ("unrecognised", "er")
    np.testing.assert_array_equal(whole(reference), one | other)


def test_all_but_0_lies_inside_a_mask(tmp_path):
    instances = np.arange(120).reshape(4, 5, 6) % 7
    path = write_tiff(tmp_path / "instances.tif", instances)
    np.testing.assert_array_equal(whole(open_reference([f"a={path}"], lattice((4, 5, 6)))), instances > 0)


def test_bool_masks_are_welcome(tmp_path):
    mask = np.random.default_rng(0).random((4, 5, 6)) < 0.5
    np.save(tmp_path / "mask.npy", mask)
    reference = open_reference([f"a={tmp_path / 'mask.npy'}"], lattice((4, 5, 6)))
    np.testing.assert_array_equal(whole(reference), mask)


def test_label_images_are_named_by_their_properties(tmp_path, labels):
    properties = [{"label-value": 1, "name": "nucleus"}, {"label-value": 3, "class": "golgi"}]
    path = write_labels(tmp_path / "labels.ome.zarr", labels, properties)
    reference = open_reference([path], lattice(labels.shape))
    assert reference.class_names == ("unrecognised", "nucleus", "label 2", "golgi")
    np.testing.assert_array_equal(whole(reference), labels)


def test_labels_need_not_be_consecutive(tmp_path, labels):
    path = tmp_path / "labels.npy"
    np.save(path, np.array([0, 7, 300, 70000], np.uint32)[labels])
    reference = open_reference([str(path)], lattice(labels.shape))
    assert reference.class_names == ("unrecognised", "label 7", "label 300", "label 70000")
    np.testing.assert_array_equal(whole(reference), labels)


def test_the_label_image_inside_an_image_is_found(tmp_path, labels):
    image = write_labels(tmp_path / "cell.ome.zarr", labels * 50)
    write_labels(tmp_path / "cell.ome.zarr" / "labels" / "organelles", labels, [{"label-value": 2, "name": "er"}])
    zarr.open_group(tmp_path / "cell.ome.zarr" / "labels", mode="a", zarr_format=2).attrs["labels"] = ["organelles"]
    reference = open_reference([image], lattice(labels.shape))
    assert reference.class_names == ("unrecognised", "label 1", "er", "label 3")
    np.testing.assert_array_equal(whole(reference), labels)


def test_several_label_images_inside_are_asked_about(tmp_path, labels):
    image = write_labels(tmp_path / "cell.ome.zarr", labels)
    group = zarr.open_group(tmp_path / "cell.ome.zarr" / "labels", mode="a", zarr_format=2)
    group.attrs["labels"] = ["cells", "organelles"]
    with pytest.raises(ReferenceMaskError, match=r"cells, organelles; name one, as in .*/labels/cells"):
        open_reference([image], lattice(labels.shape))


@settings(max_examples=40)
@given(st.data())
def test_a_voxel_is_the_same_in_whatever_box_it_is_asked_for(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    mask = rng.integers(0, 2, (25, 26, 27)).astype(bool)
    own = open_volume(mask, labels=True, voxel_size=data.draw(st.sampled_from([5.0, 7.0, 10.0, 16.0, 24.0])))
    size = np.array(own.voxel_size) * mask.shape
    target = lattice(tuple(int(s // 16) for s in size), translation=(16 - own.voxel_size[0],) * 3)
    reference = reference_from_arrays({"a": mask}, target, source=own)
    origin = [data.draw(st.integers(0, n - 1)) for n in reference.shape]
    shape = [data.draw(st.integers(1, n - o)) for n, o in zip(reference.shape, origin, strict=True)]
    z, y, x = (slice(o, o + n) for o, n in zip(origin, shape, strict=True))
    np.testing.assert_array_equal(reference.read(origin, shape), whole(reference)[z, y, x])


def test_thin_slabs_change_nothing(monkeypatch):
    mask = np.random.default_rng(0).random((24, 24, 24)) < 0.5
    source = open_volume(mask, labels=True, voxel_size=5)
    target = at_voxel_size(source, 15)
    expected = whole(reference_from_arrays({"a": mask}, target, source=source))
    monkeypatch.setattr("vemosaic.evaluation.reference._READ_AT_MOST", 1)
    np.testing.assert_array_equal(whole(reference_from_arrays({"a": mask}, target, source=source)), expected)


def test_finer_masks_need_half_of_a_voxel():
    mask = np.zeros((6, 6, 6), bool)
    mask[:2, :3, :3] = True  # 18 of 27
    mask[3:4, 3:, 3:] = True  # 9 of 27
    source = open_volume(mask, labels=True, voxel_size=5)
    found = whole(reference_from_arrays({"a": mask}, at_voxel_size(source, 15), source=source))
    assert found.tolist() == [[[1, 0], [0, 0]], [[0, 0], [0, 0]]]


def test_a_coarser_label_image_lies_where_its_translation_says(tmp_path):
    coarse = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    path = write_labels(tmp_path / "l.ome.zarr", coarse, scale=(32.0,) * 3, translation=(108.0,) * 3)
    found = whole(open_reference([path], lattice((4, 4, 4), translation=(100.0,) * 3)))
    np.testing.assert_array_equal(found, coarse.repeat(2, 0).repeat(2, 1).repeat(2, 2))


def test_masks_on_different_lattices_settle_their_overlap_on_the_map(tmp_path):
    fine, coarse = np.zeros((8, 8, 8), bool), np.zeros((2, 2, 2), bool)
    fine[:4], coarse[:, 0] = True, True
    specs = [
        f"a={write_tiff(tmp_path / 'a.tif', fine, (8.0, 8.0, 8.0))}",
        f"b={write_tiff(tmp_path / 'b.tif', coarse, (32.0, 32.0, 32.0))}",
    ]
    found = whole(open_reference(specs, lattice((4, 4, 4))))
    assert found[:, :, 0].tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [2, 2, 0, 0], [2, 2, 0, 0]]


def test_without_a_voxel_size_a_mask_takes_the_place_of_the_source(tmp_path):
    mask = np.random.default_rng(0).random((8, 8, 8)) < 0.5
    path = write_tiff(tmp_path / "m.tif", mask)
    source = lattice((8, 8, 8), (8.0,) * 3, (500.0,) * 3)
    target = lattice((4, 4, 4), translation=(504.0,) * 3)
    found = whole(open_reference([f"a={path}"], target, source=source))
    blocks = mask.reshape(4, 2, 4, 2, 4, 2).mean((1, 3, 5))
    np.testing.assert_array_equal(found, blocks >= 0.5)


def test_an_anisotropic_reference_is_matched_axis_by_axis(tmp_path):
    mask = np.zeros((4, 16, 16), bool)
    mask[1, :8] = True
    path = write_tiff(tmp_path / "m.tif", mask, (50.0, 4.0, 4.0))
    target = Volume(np.zeros((4, 4, 4), np.uint8), (50.0, 16.0, 16.0), (0.0, 6.0, 6.0), "map", "test")
    found = whole(open_reference([f"a={path}"], target))
    assert found[:, :, 0].tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("shape", "size", "said"),
    [
        (
            (4, 5, 7),
            None,
            r"states no voxel size, and its shape 4 x 5 x 7 is not the 4 x 5 x 6 of map\.ome\.zarr",
        ),
        (
            (4, 5, 8),
            (16.0,) * 3,
            r"covers 4 x 5 x 8 voxels of 16 x 16 x 16 nm but map\.ome\.zarr covers 4 x 5 x 6",
        ),
        ((4, 5, 6), (8.0,) * 3, "covers 4 x 5 x 6 voxels of 8 x 8 x 8 nm"),
    ],
)
def test_another_extent_is_refused_with_both_shapes(tmp_path, shape, size, said):
    path = write_tiff(tmp_path / "m.tif", np.ones(shape), size)
    with pytest.raises(ReferenceMaskError, match=said):
        open_reference([f"a={path}"], lattice((4, 5, 6)))


def test_another_place_is_refused(tmp_path, labels):
    path = write_labels(tmp_path / "l.ome.zarr", labels, translation=(0.0, 0.0, 40.0))
    with pytest.raises(ReferenceMaskError, match=r"from \(0, 0, 40\) nm but"):
        open_reference([path], lattice(labels.shape))


def test_a_voxel_more_at_the_border_is_forgiven(tmp_path, labels):
    path = write_labels(tmp_path / "l.ome.zarr", labels)
    target = lattice(tuple(n - 1 for n in labels.shape))
    np.testing.assert_array_equal(whole(open_reference([path], target)), labels[:-1, :-1, :-1])


def test_merging_makes_the_four_large_classes():
    rng = np.random.default_rng(0)
    masks = {name: rng.random((6, 6, 6)) < 0.3 for name in ("golgi", "granules", "mitochondria")}
    reference = reference_from_arrays(masks, lattice((6, 6, 6)))
    merged = reference.merge({"golgi": "unrecognised", "centrioles": "unrecognised"})
    assert merged.class_names == ("unrecognised", "granules", "mitochondria")
    np.testing.assert_array_equal(whole(merged), np.array([0, 0, 1, 2])[whole(reference)])
    again = merged.merge({"granules": "organelle", "mitochondria": "organelle"})
    assert again.class_names == ("unrecognised", "organelle")
    np.testing.assert_array_equal(whole(again), whole(merged) > 0)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("mitochondria=a.tif", ("mitochondria", "a.tif")),
        ("er=data/run=3/er.tif", ("er", "data/run=3/er.tif")),
        ("data/run=3/labels.ome.zarr", (None, "data/run=3/labels.ome.zarr")),
        ("https://host/l.zarr?key=1", (None, "https://host/l.zarr?key=1")),
        ("labels.ome.zarr", (None, "labels.ome.zarr")),
    ],
)
def test_specs_are_split_at_the_first_equals_sign(spec, expected):
    assert split_spec(spec) == expected


@pytest.mark.parametrize("spec", ["=a.tif", "a=", "unrecognised=a.tif"])
def test_malformed_specs_are_refused(spec):
    with pytest.raises(ReferenceMaskError, match=r"write it as|choose another"):
        open_reference([spec], lattice((4, 4, 4)))


def test_no_spec_is_refused():
    with pytest.raises(ReferenceMaskError, match="nothing is given"):
        open_reference([], lattice((4, 4, 4)))
    with pytest.raises(ReferenceMaskError, match="there are none"):
        reference_from_arrays({}, lattice((4, 4, 4)))


def test_a_missing_file_is_named():
    with pytest.raises(VolumeError, match=r"nowhere\.tif"):
        open_reference(["a=nowhere.tif"], lattice((4, 4, 4)))


def test_instance_labels_are_not_taken_for_classes(tmp_path):
    np.save(tmp_path / "instances.npy", np.arange(512, dtype=np.uint16).reshape(8, 8, 8))
    with pytest.raises(ReferenceMaskError, match=r"more than 254 labels.*NAME=mask\.tif"):
        open_reference([str(tmp_path / "instances.npy")], lattice((8, 8, 8)))


def test_254_classes_are_still_classes(tmp_path):
    every = (np.arange(512) % 255).astype(np.uint8).reshape(8, 8, 8)
    np.save(tmp_path / "labels.npy", every)
    reference = open_reference([str(tmp_path / "labels.npy")], lattice((8, 8, 8)))
    assert len(reference.class_names) == 255
    np.testing.assert_array_equal(whole(reference), every)


def test_negative_labels_are_refused(tmp_path):
    np.save(tmp_path / "labels.npy", np.full((4, 4, 4), -1, np.int16))
    with pytest.raises(ReferenceMaskError, match="holds the label -1"):
        open_reference([str(tmp_path / "labels.npy")], lattice((4, 4, 4)))


def test_a_box_outside_the_map_is_no_box():
    reference = reference_from_arrays({"a": np.ones((4, 4, 4), bool)}, lattice((4, 4, 4)))
    with pytest.raises(IndexError, match="leaves the map"):
        reference.read((0, 0, 1), (4, 4, 4))


@pytest.mark.real_data
def test_the_epfl_mitochondria_lie_on_the_working_lattice(data_dir):
    folder = data_dir / "epfl_ca1"
    source = open_volume(str(folder / "raw_5nm_crop.ome.tif"))
    target = at_voxel_size(source, 15)
    path = folder / "mitochondria_5nm_crop.ome.tif"
    reference = open_reference([f"mitochondria={path}"], target, source=source)
    found = reference.read((10, 20, 30), (20, 60, 80))
    mask = tifffile.imread(path) > 0
    blocks = mask[30:90, 60:240, 90:330].reshape(20, 3, 60, 3, 80, 3).mean((1, 3, 5))
    np.testing.assert_array_equal(found, blocks >= 0.5)
    assert found.mean() > 0.01
    table = evaluate(found + np.uint8(1), reference_from_arrays({"mitochondria": found}, lattice(found.shape)), 2)
    assert json.dumps(table)
    assert table["mean_dice"] == 1.0
