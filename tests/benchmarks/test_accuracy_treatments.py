from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ablation.cells import Cells, Image, grown, lay_out
from ablation.clusterers import CLUSTERERS, clusterer, contacts_of, labels
from ablation.treatments import Smooth, TextureWords, treatment
from vemosaic.blocks.grid import Unit
from vemosaic.clustering import Clusters, Neighbours, assign, find_words
from vemosaic.diffusion import CONTRAST, Diffusion
from vemosaic.errors import SettingsError
from vemosaic.volumes import open_volume
from vemosaic.volumes.intensity import measure_intensity

WORDS = TextureWords(count=5, sigma=1.0, dimensions=2)


def cells(halo=(4, 4, 4), seed=0):
    """Two halves of a volume that differ in how often each of five textures occurs."""
    volume = open_volume(np.zeros((34, 40, 66), np.uint8), voxel_size=10.0)
    layout = lay_out(volume, Unit((0, 0, 0), (0, 0, 0), (1, 5, 5)), count=2_000)
    rng = np.random.default_rng(seed)
    place = rng.normal(size=(5, 3)) * 5
    values = []
    for box in layout.grown(halo):
        x = np.arange(box.origin[2], box.origin[2] + box.shape[2])
        word = np.where(rng.random(box.shape) < 0.8, x > 33, rng.integers(0, 5, box.shape))
        values.append((place[word] + 0.1 * rng.normal(size=(*box.shape, 3))).astype(np.float32))
    return Cells(layout, halo, tuple(values))


def test_none_leaves_a_description_as_it_is():
    given = cells()
    assert treatment("none")(given, 0) is given
    assert treatment("none").halo((1.0, 1.0, 1.0)) == (0, 0, 0)


def test_treatments_follow_one_another():
    both = treatment("smooth2+smooth3")
    assert both.halo((1.0, 1.0, 1.0)) == (10, 10, 10)
    given = cells((10, 10, 10))
    last = Smooth(3.0)(Smooth(2.0)(given, 0), 0)
    done = both(given, 0)
    assert done.halo == (0, 0, 0)
    np.testing.assert_array_equal(done.sample(), last.sample())


def test_a_wider_halo_changes_nothing():
    wide = cells((6, 5, 4))
    narrow = Cells(wide.layout, (2, 2, 2), tuple(v[4:-4, 3:-3, 2:-2] for v in wide.values))
    for chosen in (Smooth(1.0), WORDS):
        one, other = chosen(wide, 0), chosen(narrow, 0)
        np.testing.assert_allclose(one.sample(), other.sample(), atol=1e-5)
        np.testing.assert_allclose(one.inner(-1), other.inner(-1), atol=1e-5)


def test_words_describe_by_whitened_components_of_the_histograms_around():
    given = cells()
    found = WORDS(given, 3)
    assert found.halo == (2, 2, 2)
    sample = found.sample().astype(np.float64)
    np.testing.assert_allclose(sample.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(np.cov(sample.T), np.eye(2), atol=1e-3)

    centres = Clusters(find_words(given.sample(), 5, 3))
    taps = np.exp(-0.5 * np.arange(-2, 3) ** 2.0)
    weights = np.einsum("i,j,k->ijk", taps, taps, taps) / taps.sum() ** 3
    word = assign(torch.from_numpy(given.values[0]), [centres])[0].numpy() - 1
    rng = np.random.default_rng(0)
    histograms, descriptions = [], []
    for z, y, x in rng.integers(0, given.layout.boxes[0].shape, (200, 3)):
        around = word[z + 2 : z + 7, y + 2 : y + 7, x + 2 : x + 7]
        histograms.append(np.bincount(around.ravel(), weights.ravel(), minlength=5))
        descriptions.append(found.inner(0)[z, y, x])
    linear = np.linalg.lstsq(np.array(histograms), np.array(descriptions), rcond=None)[0]
    np.testing.assert_allclose(np.array(histograms) @ linear, descriptions, atol=1e-3)


def test_a_voxel_s_own_texture_comes_before_its_surroundings():
    given = cells()
    around, both = WORDS(given, 3), replace(WORDS, detail=2.0)(given, 3)
    np.testing.assert_array_equal(both.sample()[:, 3:], around.sample())
    own = both.sample()[:, :3].astype(np.float64)  # as many as the embedding has
    np.testing.assert_allclose(own[:, 0].std(), 2.0, rtol=1e-2)
    centres = find_words(given.sample(), 5, 3)
    places = centres[assign(torch.from_numpy(given.sample()), [Clusters(centres)])[0].numpy() - 1]
    taps = np.array([np.exp(-4.5), 1, np.exp(-4.5)])
    assert (taps / taps.sum())[1] ** 3 > 0.9  # a Gaussian of a third of a voxel: hardly more than its own word
    for column in own.T[: np.linalg.matrix_rank(centres - centres.mean(0))]:
        design = np.c_[places, np.ones(len(places))]
        fitted = design @ np.linalg.lstsq(design, column, rcond=None)[0]
        assert np.corrcoef(fitted, column)[0, 1] > 0.95


@pytest.mark.parametrize("voxel_size", [(10.0, 10.0, 10.0), (20.0, 10.0, 10.0)], ids=["cubes", "slices"])
def test_diffusion_is_that_of_a_run(voxel_size):
    flat = voxel_size[0] > 10
    raw = np.random.default_rng(0).integers(0, 255, (34, 40, 66)).astype(np.uint8)
    volume = open_volume(raw, voxel_size=voxel_size)
    layout = lay_out(volume, Unit((0, 0, 0), (0, 0, 0), (1, 5, 5)), count=2_000)
    chosen = treatment("diffuse")
    halo = tuple(n + 1 for n in chosen.halo(layout.scale))
    assert halo == ((1 if flat else 7), 7, 7)
    values = [np.random.default_rng(1).normal(size=(*box.shape, 2)).astype(np.float32) for box in layout.grown(halo)]
    found = chosen(Cells(layout, halo, tuple(values), Image.of(volume, layout, halo)), 0)
    assert found.halo == (1, 1, 1)
    diffusion = Diffusion(6, CONTRAST * measure_intensity(volume).spread, flat)
    for number, box in enumerate(layout.boxes):
        seen = grown(box, tuple(n + 1 for n in diffusion.sight))
        expected = diffusion(values[number].copy(), volume.read(seen.origin, seen.shape))
        np.testing.assert_allclose(found.values[number], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["blur", "words+", "none+words"])
def test_refuses_treatments_that_there_are_not(name):
    with pytest.raises(SettingsError, match=r"--treatments.*choose from"):
        treatment(name)


@pytest.mark.parametrize("name", ["kmeans", "mixture"])
def test_clusterers_find_the_halves(name):
    treated = WORDS(cells(), 0)
    clusterings = clusterer(name)(treated, (2, 3), 1)
    assert [found.k for found in clusterings] == [2, 3]
    two, three = labels(treated.sample(), clusterings)
    assert set(three) == {1, 2, 3}
    x = treated.layout.voxels()[:, 2]
    clear = abs(x - 33) > 3
    assert max(np.mean((two == 1)[clear] == half[clear]) for half in (x > 33, x < 33)) > 0.97


def test_hyperbolic_clusters_lie_in_the_ball():
    given = cells()
    longest = max(np.linalg.norm(values, axis=-1).max() for values in given.values)
    inside = given.changed(lambda values: values / (longest * 1.1))
    (found,) = CLUSTERERS["hyperbolic"](inside, (2,), 1)
    assert (np.linalg.norm(found.centres, axis=1) < 1).all()


def test_refuses_clusterers_that_there_are_not():
    with pytest.raises(SettingsError, match=r"--clusterers.*choose from"):
        clusterer("wards")


@pytest.mark.parametrize("voxel_size", [(10.0, 10.0, 10.0), (20.0, 10.0, 10.0)], ids=["cubes", "slices"])
def test_contacts_are_those_of_a_run(voxel_size):
    raw = np.random.default_rng(0).integers(0, 255, (34, 40, 66)).astype(np.uint8)
    volume = open_volume(raw, voxel_size=voxel_size)
    layout = lay_out(volume, Unit((0, 0, 0), (0, 0, 0), (1, 5, 5)), count=2_000)
    halo = (2, 3, 4)
    values = [np.random.default_rng(1).normal(size=(*box.shape, 2)).astype(np.float32) for box in layout.grown(halo)]
    given = Cells(layout, halo, tuple(values), Image.of(volume, layout, halo))
    found = contacts_of(given)
    boxes = layout.boxes[:-1]  # the picture's is not drawn from
    assert len(found.embedding) == sum(box.voxels for box in boxes)
    np.testing.assert_array_equal(found.embedding[: boxes[0].voxels], given.inner(0).reshape(-1, 2))
    diffusion = Diffusion(6, CONTRAST * measure_intensity(volume).spread, voxel_size[0] > 10)
    seen = [grown(box, tuple(s - r for s, r in zip(diffusion.sight, diffusion.reach, strict=True))) for box in boxes]
    expected = Neighbours.joined(
        [Neighbours.of(volume.read(box.origin, box.shape), diffusion) for box in seen], [box.voxels for box in boxes]
    )
    np.testing.assert_array_equal(found.neighbours.pairs, expected.pairs)
    np.testing.assert_array_equal(found.neighbours.conductances, expected.conductances)
