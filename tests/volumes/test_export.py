import numpy as np
import pytest
import yaozarrs
import zarr
from label_run import KS, LabelRun, truth
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

from vemosaic.errors import OutputError, VolumeError
from vemosaic.volumes.export import export_v04
from vemosaic.volumes.pyramid import mode_downsample


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    run = LabelRun(tmp_path_factory.mktemp("run"))
    run.map_and_pyramid()
    with pytest.raises(VolumeError, match="is not a finished"):
        export_v04(run.store.path, run.folder / "v04.zarr")
    assert not (run.folder / "v04.zarr").exists()
    run.finish()
    export_v04(run.store.path, run.folder / "v04.zarr")
    return run.folder / "v04.zarr"


def test_copy_is_valid_ome_zarr_04(exported):
    yaozarrs.validate_zarr_store(str(exported))
    assert not list(exported.rglob("zarr.json"))
    (root, *_) = list(Reader(parse_url(exported))())
    np.testing.assert_array_equal(root.data[0].compute(), truth(8))
    assert root.metadata["coordinateTransformations"][1][1]["translation"] == [16, 8, 3.5]


def test_copy_has_every_level_unsharded(exported):
    for k in KS:
        array = zarr.open_array(exported / "labels" / f"k{k}" / "0", mode="r")
        assert (array.metadata.zarr_format, array.chunks, array.dtype) == (2, (64, 64, 64), np.uint8)
        np.testing.assert_array_equal(array[:], truth(k))
        coarse = zarr.open_array(exported / "labels" / f"k{k}" / "1", mode="r")
        np.testing.assert_array_equal(coarse[:], mode_downsample(truth(k), (2, 2, 2)))


def test_labels_keep_their_colours(exported):
    attributes = zarr.open_group(exported / "labels" / "k3", mode="r").attrs.asdict()
    assert attributes["image-label"]["version"] == "0.4"
    assert attributes["image-label"]["colors"][1] == {"label-value": 1, "rgba": [10, 254, 1, 255]}
    assert attributes["multiscales"][0]["version"] == "0.4"


def test_nothing_is_overwritten(exported):
    with pytest.raises(OutputError, match="is there already"):
        export_v04(exported.parent / "segmentation.ome.zarr", exported)
