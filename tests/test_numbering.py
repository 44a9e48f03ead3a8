from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from small_runs import SETTINGS, SHAPE, Cell, Heard, draw_cell, labels, made_quick, record, results, run_cell
from vemosaic.comparing import compare_runs
from vemosaic.errors import OutputError, SettingsError
from vemosaic.evaluation.matching import match_clusters
from vemosaic.pipeline import Run
from vemosaic.volumes.labels import open_labels

Bytes = npt.NDArray[np.uint8]
OTHER_SEED = SETTINGS.model_copy(update={"seed": 2})


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Cell:
    return draw_cell(tmp_path_factory.mktemp("cell"))


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with made_quick():
        yield


@pytest.fixture(scope="module")
def first(cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Map the same cell, but the image inverted: from dark to bright is another order there."""
    inverted = Cell(tmp_path_factory.mktemp("inverted"))
    tifffile.imwrite(inverted.raw, np.invert(tifffile.imread(cell.raw)))
    with made_quick():
        return run_cell(inverted, inverted.folder / "run").folder.path


@settings(deadline=None)
@given(
    st.integers(1, 4).flatmap(
        lambda k: st.tuples(st.just(k), *(arrays(np.uint8, 30, elements=st.integers(0, k)) for _ in range(2)))
    )
)
def test_no_other_matching_of_clusters_shares_more(drawn: tuple[int, Bytes, Bytes]) -> None:
    k, one, other = drawn
    both = (one > 0) & (other > 0)

    def dice(a: int, b: int) -> float:
        here, there = one[both] == a, other[both] == b
        return float(2 * (here & there).sum() / max(1, here.sum() + there.sum()))

    found = match_clusters(one, other, k)
    assert sorted(found.other) == list(range(1, k + 1))
    assert np.allclose(found.dice, [dice(a, int(b)) for a, b in enumerate(found.other, start=1)])
    best = max(sum(dice(a, b) for a, b in enumerate(order, start=1)) for order in permutations(range(1, k + 1)))
    assert np.isclose(found.dice.sum(), best)
    assert np.isclose(found.share.sum(), both.any())


def test_the_same_map_otherwise_numbered_is_found_to_be_the_same() -> None:
    one = np.random.default_rng(0).integers(0, 6, 500).astype(np.uint8)
    found = match_clusters(one, np.array([0, 3, 5, 1, 2, 4], np.uint8)[one], 5)
    assert found.other.tolist() == [3, 5, 1, 2, 4]
    assert found.dice.tolist() == [1] * 5
    assert found.agreement == pytest.approx(1)


def test_clusters_are_numbered_as_another_run_has_them_and_otherwise_stay(
    cell: Cell, first: Path, tmp_path: Path
) -> None:
    plain = run_cell(cell, tmp_path / "plain", OTHER_SEED).folder.path
    like = run_cell(cell, tmp_path / "like", OTHER_SEED, like=first).folder.path
    renumbered = 0
    for k in (3, 4):
        before, after = labels(plain, k), labels(like, k)
        pairs = {(int(a), int(b)) for a, b in zip(before.ravel(), after.ravel(), strict=True)}
        assert len(pairs) == k  # the same clusters, each with one number
        renumbered += any(a != b for a, b in pairs)
        sample = np.load(like / "sample.npz")
        there = labels(first, k)[tuple(sample["voxel"].T)]
        assert match_clusters(sample[f"cluster_k{k}"], there.astype(np.uint8), k).other.tolist() == list(
            range(1, k + 1)
        )
        assert (
            open_labels(like / "segmentation.ome.zarr", k).colours
            == open_labels(first / "segmentation.ome.zarr", k).colours
        )
    assert renumbered  # else the seeds say nothing
    assert record(like)["like"]["run"] == str(first)
    assert set(record(like)["like"]["matched"]) == {"3", "4"}
    assert all(row["cluster"] == row["other"] for each in compare_runs(like, first) for row in each["clusters"])
    heard = Heard()
    run_cell(cell, like, OTHER_SEED, like=first, listen=heard)
    assert heard.worked == set()
    run_cell(cell, like, OTHER_SEED)
    assert results(like) == results(plain)
    assert "like" not in record(like)


def test_a_streamed_run_and_one_that_is_clustered_anew_keep_the_numbers(
    cell: Cell, first: Path, tmp_path: Path
) -> None:
    streaming = OTHER_SEED.model_copy(update={"fit": "stream"})
    path = run_cell(cell, tmp_path / "run", streaming, like=first).folder.path
    again = Run.reopen(path, clusters=(2, 4), smoothing=1.0)
    again.fit()
    again.map()
    sample = np.load(path / "sample.npz")
    there = labels(first, 4)[tuple(sample["voxel"].T)].astype(np.uint8)
    assert match_clusters(sample["cluster_k4"], there, 4).other.tolist() == [1, 2, 3, 4]
    assert set(record(path)["like"]["matched"]) == {"4"}  # of 2 clusters there is no earlier map: from dark to bright
    means = [sample["intensity"][sample["cluster_k2"] == number].mean() for number in (1, 2)]
    assert means[0] < means[1]


def test_what_clusters_cannot_be_numbered_by_is_refused_before_anything_is_touched(
    cell: Cell, first: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(OutputError, match="holds no run"):
        run_cell(cell, out, like=tmp_path)
    before = record(first)
    with pytest.raises(SettingsError, match="is the run itself; name another run"):
        run_cell(cell, first, like=first)
    assert record(first) == before
    with pytest.raises(OutputError, match=r"holds no run .*; name the output folder"):
        compare_runs(first, cell.folder)
    with pytest.raises(
        SettingsError, match=r"its map has 20 x 36 x 40 voxels of 16 .* nm, this one 10 x 18 x 20 voxels"
    ):
        run_cell(cell, out, SETTINGS.model_copy(update={"working_voxel_size": 32.0}), like=first)
    with pytest.raises(SettingsError, match=r"has maps of 3, 4 clusters, not of 5; name a number of clusters"):
        run_cell(cell, out, SETTINGS.model_copy(update={"clusters": (5,)}), like=first)
    assert not out.exists()
    with pytest.raises(SettingsError, match="is the run itself"):
        Run.reopen(first, smoothing=1.0, like=first)
    assert record(first) == before


def test_an_earlier_map_that_has_changed_since_is_not_followed_unawares(
    cell: Cell, first: Path, tmp_path: Path
) -> None:
    earlier, out = tmp_path / "earlier", tmp_path / "run"
    shutil.copytree(first, earlier)
    run_cell(cell, out, OTHER_SEED, like=earlier)
    earlier = earlier.rename(tmp_path / "moved")
    with pytest.raises(OutputError, match="earlier: holds no run"):
        Run.reopen(out, smoothing=2.0).fit()
    Run.reopen(out, smoothing=2.0, like=earlier).fit()
    changed = Run.reopen(earlier, clusters=(3,), smoothing=1.0)
    changed.fit()
    changed.map()
    with pytest.raises(OutputError, match=r"has been mapped anew; give --like .* again"):
        Run.reopen(out, smoothing=1.0).fit()
    run_cell(cell, out, OTHER_SEED, like=earlier)
    assert set(record(out)["like"]["matched"]) == {"3"}


def test_runs_are_compared_and_a_number_of_clusters_that_one_lacks_is_told(
    cell: Cell, first: Path, tmp_path: Path
) -> None:
    assert [(each["k"], each["agreement"], each["mean_dice"]) for each in compare_runs(first, first)] == [
        (3, 1.0, 1.0),
        (4, 1.0, 1.0),
    ]
    other = run_cell(cell, tmp_path / "run", OTHER_SEED.model_copy(update={"clusters": (4, 5)})).folder.path
    (found,) = compare_runs(first, other)
    assert found["k"] == 4
    assert 0 < found["agreement"] < 1
    assert json.loads(json.dumps(found)) == found
    with pytest.raises(SettingsError, match=r"has maps of 4, 5 clusters, .* of 3, 4; name a number that both have"):
        compare_runs(first, other, 5)
    (other / "sample.npz").write_bytes((other / "sample.npz").read_bytes()[:-100])
    with pytest.raises(OutputError, match="cannot be read"):
        compare_runs(other, first)


def test_maps_of_other_voxels_have_nothing_to_be_compared(cell: Cell, tmp_path: Path) -> None:
    half = np.zeros(SHAPE, np.uint8)
    half[:10] = 1
    paths = []
    for number, mask in enumerate((half, 1 - half)):
        tifffile.imwrite(tmp_path / f"{number}.tif", mask)
        paths.append(run_cell(cell, tmp_path / f"run{number}", mask=str(tmp_path / f"{number}.tif")).folder.path)
    with pytest.raises(SettingsError, match="has mapped other voxels of the volume"):
        compare_runs(*paths)
