from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage
from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from vemosaic.datasets.betaseg import CATEGORIES, FOUR_CLASSES
from vemosaic.datasets.phantom import Phantom, phantom_cell
from vemosaic.errors import SettingsError
from vemosaic.evaluation.scores import confusion, score

LARGE = ("unrecognised", "nucleus", "granules", "mitochondria")


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return phantom_cell()


@pytest.fixture(scope="module")
def classes(phantom):
    """The four large classes, 0 to 3 in the order of LARGE."""
    names = ["unrecognised", *CATEGORIES]
    return np.array([LARGE.index(FOUR_CLASSES.get(name, name)) for name in names], np.uint8)[phantom.labels()]


def test_it_has_what_was_asked_for(phantom):
    assert phantom.raw.shape == (96, 160, 160)
    assert phantom.raw.dtype == np.uint8
    assert phantom.voxel_size == 16.0
    assert tuple(phantom.masks) == CATEGORIES
    for mask in (*phantom.masks.values(), phantom.cell):
        assert mask.shape == phantom.raw.shape
        assert mask.dtype == bool


@pytest.mark.parametrize("seed", range(3))
def test_organelles_take_realistic_shares_of_the_volume(phantom, seed):
    phantom = phantom_cell(seed=seed) if seed else phantom
    share = {name: mask.mean() for name, mask in phantom.masks.items()}
    assert 0.14 < share["nucleus"] < 0.21
    assert 0.06 < share["mitochondria"] < 0.11
    assert 0.09 < share["granules"] < 0.20
    assert 0.003 < share["golgi"] < 0.03
    assert share["centrioles"] > 0.0005
    assert share["microtubules"] > 0.001
    assert 0.7 < phantom.cell.mean() < 0.85


def test_masks_overlap_as_in_betaseg_and_the_surer_one_wins(phantom):
    masks = phantom.masks
    assert (masks["microtubules"] & masks["golgi"]).any()
    assert sum(mask.astype(int) for mask in masks.values()).max() > 1
    labels = phantom.labels()
    for i, name in enumerate(CATEGORIES, start=1):
        earlier = np.any([masks[other] for other in CATEGORIES[: i - 1]], axis=0)
        np.testing.assert_array_equal(labels == i, masks[name] & ~earlier)


def test_organelles_lie_inside_the_cell(phantom):
    for name in CATEGORIES:
        if name != "membrane":
            assert not (phantom.masks[name] & ~phantom.cell).any(), name


@pytest.mark.parametrize("pair", [("nucleus", "mitochondria"), ("nucleus", "granules"), ("granules", "mitochondria")])
def test_large_organelles_do_not_run_into_each_other(phantom, pair):
    one, other = (phantom.masks[name] for name in pair)
    assert (one & other).sum() < 0.01 * min(one.sum(), other.sum())


@pytest.mark.parametrize("shape", [(48, 48, 48), (48, 64, 150), (101, 53, 60)])
@pytest.mark.parametrize("seed", [0, 1])
def test_small_phantoms_have_the_large_classes(shape, seed):
    phantom = phantom_cell(shape, seed)
    assert phantom.raw.shape == shape
    for name in ("nucleus", "mitochondria", "granules"):
        assert phantom.masks[name].mean() > 0.005, name


def test_larger_phantoms_have_more_granules_of_the_same_size():
    def granules(shape):
        mask = phantom_cell(shape, seed=5).masks["granules"]
        return mask.sum(), ndimage.distance_transform_edt(mask).max()

    (few, radius), (many, same_radius) = granules((48, 80, 80)), granules((96, 80, 160))
    assert many > 2.5 * few
    assert 6 < radius < 12
    assert 6 < same_radius < 12


def test_the_seed_decides():
    shape = (48, 48, 50)
    one, same, other = (phantom_cell(shape, seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(one.raw, same.raw)
    np.testing.assert_array_equal(one.labels(), same.labels())
    assert (one.raw != other.raw).mean() > 0.5


@pytest.mark.parametrize("shape", [(47, 60, 60), (60, 60)])
def test_too_small_a_phantom_is_refused(shape):
    with pytest.raises(SettingsError, match="at least 48 voxels"):
        phantom_cell(shape)


def test_grey_values_use_the_range_without_clipping(phantom):
    assert 20 < phantom.raw.std() < 60
    assert ((phantom.raw == 0) | (phantom.raw == 255)).mean() < 1e-3


def test_noise_is_that_of_a_micrograph(phantom):
    """Noise from neighbouring voxels in the even cytoplasm: 4 to 20 grey levels."""
    outside = ndimage.binary_erosion(~phantom.cell, iterations=10)
    steps = np.diff(phantom.raw.astype(float), axis=0)[outside[1:] & outside[:-1]]
    assert 4 < steps.std() / np.sqrt(2) < 20


def test_mean_brightness_overlaps(phantom, classes):
    smooth = ndimage.gaussian_filter(phantom.raw.astype(np.float32), 2)
    means = [smooth[classes == c].mean() for c in range(4)]
    spreads = [smooth[classes == c].std() for c in range(4)]
    assert max(means) - min(means) < min(spreads)


@pytest.mark.parametrize("sigma", [1, 2])
def test_intensity_alone_fails(phantom, classes, sigma):
    smooth = ndimage.gaussian_filter(phantom.raw.astype(np.float32), sigma).reshape(-1, 1)
    clusters = MiniBatchKMeans(6, random_state=0, n_init=3, batch_size=4096).fit(smooth[::9]).predict(smooth)
    table = confusion((clusters + 1).reshape(classes.shape), classes, 6, 4)
    assert score(table, LARGE)["mean_dice"] < 0.5


def local_texture(raw):
    """Band energies, gradients and curvature within some 9 voxels, averaged by a Gaussian of 2: (voxels, features)."""
    image = raw.astype(np.float32)
    features = [ndimage.gaussian_filter(image, sigma) for sigma in (1, 2)]
    for sigma in (0.5, 1, 1.6):
        mean = ndimage.gaussian_filter(image, sigma)
        features += [
            ndimage.gaussian_gradient_magnitude(image, sigma),
            ndimage.gaussian_laplace(image, sigma),
            np.sqrt(np.maximum(ndimage.gaussian_filter(image**2, sigma) - mean**2, 0)),
        ]
    scales = [image, *(ndimage.gaussian_filter(image, sigma) for sigma in (0.6, 1.2, 2.4))]
    features += [(fine - coarse) ** 2 for fine, coarse in pairwise(scales)]
    return np.stack([ndimage.gaussian_filter(f, 2).ravel() for f in features], axis=1)


def test_local_texture_tells_the_classes_apart(phantom, classes):
    middle = slice(24, 72)
    features = StandardScaler().fit_transform(local_texture(phantom.raw[middle]))
    classes = classes[middle]
    left = (np.indices(classes.shape)[2] < 80).ravel()
    rng = np.random.default_rng(0)
    learn, hold = (rng.choice(np.flatnonzero(side), 20_000, replace=False) for side in (left, ~left))
    probe = LogisticRegression(max_iter=300).fit(features[learn], classes.ravel()[learn])
    found = probe.predict(features[hold])
    truth = classes.ravel()[hold]
    dice = [2 * ((found == c) & (truth == c)).sum() / ((found == c).sum() + (truth == c).sum()) for c in range(4)]
    assert np.mean(dice) > 0.8, dict(zip(LARGE, dice, strict=True))
