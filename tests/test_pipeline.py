"""The main job: what a run leaves, where the map lies, and what is done anew when something changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import tifffile
import torch
import zarr

from small_runs import (
    MODEL,
    SETTINGS,
    SHAPE,
    Cell,
    Heard,
    Killed,
    hashes,
    killed_at,
    labels,
    made_quick,
    record,
    results,
    run_cell,
)
from vemosaic import memory, segmentation
from vemosaic.blocks import executor
from vemosaic.blocks.executors import InProcess
from vemosaic.blocks.lock import claim
from vemosaic.clustering import assign, confidence
from vemosaic.embedding import Embedder
from vemosaic.errors import OutputError, ReferenceMaskError, SettingsError, VolumeError
from vemosaic.inputs import AnisotropyWarning, Input, ReferenceInput, open_input
from vemosaic.models.model import load_model
from vemosaic.pipeline import Run, run
from vemosaic.scoring import score_file
from vemosaic.settings import Settings
from vemosaic.volumes import open_volume
from vemosaic.volumes.embedding_store import EmbeddingStore

ALL = {"train", "sample", "fit", "map", "report"}
SCORE = {"k", "mean_dice", "ari", "voi", "classes", "confusion"}
CLASS = {"dice", "best_cluster_dice", "best_union_dice"}


def strictly(text: str) -> Any:
    """Parse JSON as other programs do: NaN and Infinity are none."""

    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def reopened(folder: Path, **changes: Any) -> Run:
    return Run.reopen(folder, **changes)


class TestFolder:
    """What a finished run leaves."""

    def test_every_file_is_there_and_nothing_half_written(self, finished: Path) -> None:
        assert {file.name for file in finished.iterdir()} == {
            ".progress", ".vemosaic.lock", "centres.json", "clusters.json", "losses.jsonl", "model.md",
            "model.safetensors", "report.html", "run.json", "sample.npz", "scores.json", "segmentation.ome.zarr",
            "segmentation.ome.zarr.manifest.json",
        }  # fmt: skip
        assert not [f for f in finished.rglob("*") if f.name.endswith((".partial", ".__lock", ".in-flight"))]

    def test_the_record_says_all_that_decided_the_result(self, finished: Path, cell: Cell) -> None:
        found = strictly((finished / "run.json").read_text())
        assert found["complete"] is True
        assert found["seed"] == 1
        assert found["reference"] == list(cell.reference.specs)
        assert set(found["timings"]) == {"train", "fit", "map", "evaluate", "report"}
        assert set(found["versions"]) >= {"torch", "numpy", "zarr"}
        assert Settings.model_validate(found["settings"]) == SETTINGS
        (given,) = found["inputs"]
        assert given["source"] == str(cell.raw)
        assert given["shape"] == given["working"]["shape"] == list(SHAPE)
        assert given["given"]["voxel_size"] == [16.0] * 3

    def test_the_model_has_its_card(self, finished: Path, cell: Cell) -> None:
        model = load_model(finished / "model.safetensors")
        assert model.settings == MODEL
        assert model.card["volumes"] == [str(cell.raw)]
        assert model.card["anchors"] == 32
        assert "# A vemosaic model" in (finished / "model.md").read_text()

    def test_losses_are_a_line_each(self, finished: Path) -> None:
        lines = [strictly(line) for line in (finished / "losses.jsonl").read_text().splitlines()]
        assert [line["anchors"] for line in lines] == [8, 16, 24, 32]
        assert set(lines[0]) == {"anchors", "loss", "reconstruction", "kl", "multi_similarity"}

    def test_clusters_count_every_voxel(self, finished: Path) -> None:
        clusters = strictly((finished / "clusters.json").read_text())
        assert list(clusters) == ["3", "4"]
        for k, about in clusters.items():
            assert about["sizes"] == np.bincount(labels(finished, int(k)).ravel(), minlength=int(k) + 1)[1:].tolist()
            assert sum(about["sizes"]) == np.prod(SHAPE)
            assert len(about["centres"]) == len(about["colours"]) == int(k)

    def test_the_sample_says_what_the_map_says(self, finished: Path) -> None:
        with np.load(finished / "sample.npz", allow_pickle=False) as sample:
            z, y, x = sample["voxel"].T
            assert len(sample["embedding"]) == len(sample["intensity"]) == len(z) > 1_000
            raw = open_volume(record(finished)["inputs"][0]["source"]).read((0, 0, 0), SHAPE)
            np.testing.assert_array_equal(raw[z, y, x], sample["intensity"])
            for k in (3, 4):  # cells and tiles are cut differently: a voxel on a border may fall to either side
                assert (labels(finished, k)[z, y, x] == sample[f"cluster_k{k}"]).mean() > 0.999

    def test_the_map_is_the_nearest_centre_of_what_describes_each_voxel(self, finished: Path) -> None:
        job = reopened(finished)
        box = job.describer().box(job.first.working, (0, 0, 0), SHAPE)
        for clusters, nearest in zip(job.clusterings(), assign(torch.from_numpy(box), job.clusterings()), strict=True):
            assert (nearest.numpy() == labels(finished, clusters.k)).mean() > 0.999

    def test_clusters_are_numbered_from_dark_to_bright(self, finished: Path) -> None:
        with np.load(finished / "sample.npz", allow_pickle=False) as sample:
            for k in (3, 4):
                means = [sample["intensity"][sample[f"cluster_k{k}"] == label].mean() for label in range(1, k + 1)]
                assert means == sorted(means)

    def test_scores_have_the_promised_keys(self, finished: Path) -> None:
        scores = strictly((finished / "scores.json").read_text())
        assert [score["k"] for score in scores] == [3, 4]
        for score in scores:
            assert set(score) >= SCORE
            assert set(score["classes"]) >= {"nucleus", "granules"}
            assert all(set(about) >= CLASS for about in score["classes"].values())
            assert np.sum(score["confusion"]) == np.prod(SHAPE)

    def test_scores_can_be_had_again_from_the_map(self, finished: Path, cell: Cell) -> None:
        again = score_file(finished / "segmentation.ome.zarr", cell.reference.specs)
        assert json.loads(json.dumps(again)) == json.loads((finished / "scores.json").read_text())

    def test_the_report_is_one_page_without_the_network(self, finished: Path) -> None:
        page = (finished / "report.html").read_text()
        assert "nucleus" in page
        assert "not complete" not in page
        assert 'src="http' not in page

    def test_no_file_needs_pickle(self, finished: Path) -> None:
        assert not [file for file in finished.rglob("*") if file.suffix in (".pkl", ".pt", ".pth", ".ckpt")]


def level(folder: Path, k: int = 3) -> tuple[list[float], list[float], tuple[int, ...]]:
    """Read scale, translation and shape of the finest level, as any reader of OME-Zarr would."""
    for path, first in ((f"labels/k{k}", "0"), ("", f"labels/k{k}/0")):
        ome: Any = zarr.open_group(folder / "segmentation.ome.zarr" / path, mode="r").attrs["ome"]
        (image,) = ome["multiscales"]
        assert [(axis["name"], axis["unit"]) for axis in image["axes"]] == [(a, "nanometer") for a in "zyx"]
        assert image["datasets"][0]["path"] == first
    scale, translation = (t[t["type"]] for t in image["datasets"][0]["coordinateTransformations"])
    array = zarr.open_array(folder / "segmentation.ome.zarr" / f"labels/k{k}/0", mode="r")
    return scale, translation, array.shape


FAST = SETTINGS.model_copy(update={"anchors": 8, "clusters": (3,)})


class TestPlace:
    """The map lies over its input."""

    def test_at_the_voxels_of_the_input(self, finished: Path) -> None:
        shown_first = json.loads((finished / "run.json").read_text())["suggested_k"]["k"]
        assert level(finished, shown_first) == ([16.0] * 3, [0.0] * 3, SHAPE)

    def test_resampled_voxels_cover_those_that_they_average(self, quick: object, cell: Cell, tmp_path: Path) -> None:
        fine = tmp_path / "fine.ome.tif"
        voxels = tifffile.imread(cell.raw).repeat(2, 0).repeat(2, 1)  # 40 x 72 x 40
        size = {f"PhysicalSize{a}": 0.005 for a in "XYZ"} | {f"PhysicalSize{a}Unit": "µm" for a in "XYZ"}
        tifffile.imwrite(fine, voxels, metadata={"axes": "ZYX", **size}, ome=True)
        run(str(fine), tmp_path / "run", FAST.model_copy(update={"working_voxel_size": 15.0}))
        assert level(tmp_path / "run") == ([15.0] * 3, [5.0] * 3, (13, 24, 13))
        # the outer corner of the first voxel is that of the input: 5 - 15/2 = 0 - 5/2

    def test_translation_and_anisotropy_of_the_input_are_kept(self, quick: object, cell: Cell, tmp_path: Path) -> None:
        store = tmp_path / "cell.ome.zarr"
        group = zarr.open_group(store, mode="w", zarr_format=2)
        group.create_array("0", data=tifffile.imread(cell.raw))
        transformations = [
            {"type": "scale", "scale": [0.03, 0.016, 0.016]},
            {"type": "translation", "translation": [1.0, -2.0, 0.5]},
        ]
        axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
        image = {
            "version": "0.4",
            "axes": axes,
            "datasets": [{"path": "0", "coordinateTransformations": transformations}],
        }
        group.attrs["multiscales"] = [image]
        with pytest.warns(AnisotropyWarning, match=r"30 x 16 x 16 nm \(z, y, x\) and not cubes"):
            run(str(store), tmp_path / "run", FAST)
        assert level(tmp_path / "run") == ([30.0, 16.0, 16.0], [1000.0, -2000.0, 500.0], SHAPE)


class TestMask:
    """A mask restricts where is learnt and mapped."""

    def test_only_the_mask_is_mapped(self, quick: object, cell: Cell, tmp_path: Path) -> None:
        inside = np.zeros(SHAPE, np.uint8)
        inside[4:20, 5:30, 7:40] = 3
        tifffile.imwrite(tmp_path / "mask.tif", inside)
        run_cell(cell, tmp_path / "run", FAST, mask=str(tmp_path / "mask.tif"))
        np.testing.assert_array_equal(labels(tmp_path / "run", 3) != 0, inside != 0)
        with np.load(tmp_path / "run/sample.npz") as sample:
            assert inside[tuple(sample["voxel"].T)].all()
        assert sum(json.loads((tmp_path / "run/clusters.json").read_text())["3"]["sizes"]) == (inside != 0).sum()


class TestAgain:
    """What a second call does."""

    def test_nothing_when_nothing_changed(self, quick: object, cell: Cell, finished: Path) -> None:
        before, heard = hashes(finished), Heard()
        run_cell(cell, finished, reference=cell.reference, listen=heard)
        assert heard.worked == set()
        assert hashes(finished) == before

    def test_two_runs_are_the_same(self, quick: object, cell: Cell, finished: Path, tmp_path: Path) -> None:
        run_cell(cell, tmp_path / "run", reference=cell.reference)
        assert results(tmp_path / "run") == results(finished)

    def test_a_run_of_a_version_without_diffusion_stays_without(self, quick: object, copied: Path) -> None:
        for file, part in (("run.json", "settings"), ("centres.json", None)):
            document = json.loads((copied / file).read_text())
            del (document[part] if part else document)["diffusion"]
            (copied / file).write_text(json.dumps(document))
        job = Run.reopen(copied, clusters=(5,))
        assert job.settings.diffusion_steps == 0
        assert job.describer().diffusion is None

    @pytest.mark.parametrize(
        ("change", "worked"),
        [
            ({"clusters": (5,)}, {"sample", "fit", "map", "report"}),
            ({"smoothing": 1.0}, {"sample", "fit", "map", "report"}),
            ({"diffusion": 0}, {"sample", "fit", "map", "report"}),
            ({"words": 0}, {"sample", "fit", "map", "report"}),
            ({"anchors": 16}, ALL),
            ({"seed": 2}, ALL),
        ],
        ids=["clusters", "smoothing", "diffusion", "words", "anchors", "seed"],
    )
    def test_only_what_a_setting_decides(
        self, quick: object, cell: Cell, copied: Path, change: dict[str, Any], worked: set[str]
    ) -> None:
        model, heard = (copied / "model.safetensors").read_bytes(), Heard()
        run_cell(cell, copied, SETTINGS.model_copy(update=change), reference=cell.reference, listen=heard)
        assert heard.worked == worked
        assert (model == (copied / "model.safetensors").read_bytes()) is ("train" not in worked)
        assert record(copied)["complete"] is True
        scores = json.loads((copied / "scores.json").read_text())
        assert [s["k"] for s in scores] == list(change.get("clusters", (3, 4)))

    def test_a_rerun_with_the_old_settings_ends_where_it_was(
        self, quick: object, cell: Cell, finished: Path, copied: Path
    ) -> None:
        run_cell(cell, copied, SETTINGS.model_copy(update={"clusters": (5,)}))
        assert results(copied) != results(finished)
        run_cell(cell, copied)
        assert results(copied) == results(finished)

    def test_the_reference_of_an_earlier_run_is_kept(self, quick: object, cell: Cell, copied: Path) -> None:
        run_cell(cell, copied, SETTINGS.model_copy(update={"clusters": (5,)}))
        (score,) = json.loads((copied / "scores.json").read_text())
        assert score["k"] == 5
        assert set(score["classes"]) >= {"nucleus", "granules"}

    def test_a_lost_reference_is_told_before_the_work(
        self, quick: object, cell: Cell, copied: Path, tmp_path: Path
    ) -> None:
        found = record(copied)
        found["reference"] = [f"nucleus={tmp_path / 'lost.tif'}"]
        (copied / "run.json").write_text(json.dumps(found))
        heard = Heard()
        with pytest.raises(VolumeError, match=r"lost\.tif: does not exist"):
            run_cell(cell, copied, SETTINGS.model_copy(update={"seed": 2}), listen=heard)
        assert heard.stages == []

    def test_a_corrected_reference_is_scored_anew(
        self, quick: object, cell: Cell, copied: Path, tmp_path: Path
    ) -> None:
        mask = tmp_path / "nucleus.tif"
        voxels = tifffile.imread(cell.folder / "nucleus.tif")
        reference = ReferenceInput((f"nucleus={mask}",))
        found = []
        for value in (1, 0):
            voxels[10, 10, 10] = value
            tifffile.imwrite(mask, voxels)
            heard = Heard()
            run_cell(cell, copied, reference=reference, listen=heard)
            assert heard.worked == {"report"}
            found.append(json.loads((copied / "scores.json").read_text()))
        assert found[0] != found[1]

    def test_another_input_is_refused_unless_it_may_replace(self, quick: object, copied: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.npy"
        np.save(other, np.random.default_rng(0).integers(0, 255, (20, 30, 30), np.uint8))
        before = hashes(copied)
        with pytest.raises(OutputError, match=r"holds a run of another input .*--overwrite"):
            run(str(other), copied, FAST, voxel_size=16.0)
        assert hashes(copied) == before
        run(str(other), copied, FAST, voxel_size=16.0, overwrite=True)
        assert labels(copied, 3).shape == (20, 30, 30)
        found = record(copied)
        assert found["complete"] is True
        assert "reference" not in found
        assert not (copied / "scores.json").exists()

    def test_what_is_wrong_with_the_call_leaves_a_finished_run_alone(
        self, quick: object, cell: Cell, copied: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "text").write_text("no model")
        np.save(tmp_path / "small.npy", np.zeros((3, 3, 3), np.uint8))
        before = hashes(copied)
        with pytest.raises(Exception, match="cannot be read as a model"):
            run_cell(cell, copied, model=tmp_path / "text")
        with pytest.raises(ReferenceMaskError, match="states no voxel size"):
            run_cell(cell, copied, reference=ReferenceInput((f"x={tmp_path / 'small.npy'}",)))
        with pytest.raises(SettingsError, match="--anchors: 5 are fewer than one batch"):
            run_cell(cell, copied, SETTINGS.model_copy(update={"anchors": 5}))
        with pytest.raises(SettingsError, match="--device: tpu is not there"):
            run_cell(cell, copied, device="tpu")
        assert hashes(copied) == before


class TestSteps:
    """Steps taken one by one."""

    def test_a_trained_model_maps_without_training(
        self, quick: object, cell: Cell, finished: Path, tmp_path: Path
    ) -> None:
        heard = Heard()
        for _ in range(2):
            run_cell(cell, tmp_path / "run", model=finished / "model.safetensors", listen=heard)
        assert heard.stages == ["sample", "fit", "map", "report"]
        np.testing.assert_array_equal(labels(tmp_path / "run", 4), labels(finished, 4))
        assert not (tmp_path / "run/losses.jsonl").exists()

    def test_the_embedding_of_every_voxel(self, quick: pytest.MonkeyPatch, copied: Path) -> None:
        quick.setitem(EmbeddingStore.create.__func__.__kwdefaults__, "shard", (16, 32, 32))  # type: ignore[attr-defined]
        heard = Heard()
        job = reopened(copied, listen=heard)
        job.embed()
        stored = EmbeddingStore.open(copied / "embedding.ome.zarr").read((0, 0, 0), SHAPE)
        expected = job.embedder().box(job.first.working, (0, 0, 0), SHAPE)
        np.testing.assert_array_equal(stored, np.moveaxis(expected, -1, 0).astype(np.float16))
        assert heard.stages == ["embed"]
        reopened(copied, listen=heard).embed()
        assert heard.stages == ["embed"]
        assert record(copied)["complete"] is True

    def test_streamed_clustering_sees_every_voxel(self, quick: object, cell: Cell, tmp_path: Path) -> None:
        heard = Heard()
        run_cell(cell, tmp_path / "run", FAST.model_copy(update={"fit": "stream"}), listen=heard)
        assert heard.stages == ["train", "sample", "fit", "stream", "map", "report"]
        assert set(np.unique(labels(tmp_path / "run", 3))) <= {1, 2, 3}

    def test_a_stream_that_began_with_other_clusters_begins_anew(
        self, quick: pytest.MonkeyPatch, cell: Cell, tmp_path: Path
    ) -> None:
        """As where a later version finds other clusters in the same sample."""
        streamed = FAST.model_copy(update={"fit": "stream"})
        quick.setattr("vemosaic.shard_stages.SHARD", (16, 32, 32))

        with quick.context() as before:
            before.setattr("vemosaic.clustering.merging.COARSE", (2, 9))
            with pytest.raises(Killed):
                run_cell(cell, tmp_path / "run", streamed, listen=killed_at(3, "stream"))
        assert list((tmp_path / "run").rglob("statistics/*.npz"))
        run_cell(cell, tmp_path / "run", streamed)
        run_cell(cell, tmp_path / "whole", streamed)
        np.testing.assert_array_equal(labels(tmp_path / "run", 3), labels(tmp_path / "whole", 3))

    def test_a_model_of_two_volumes(self, quick: object, cell: Cell, tmp_path: Path) -> None:
        inputs = [
            open_input(Input(str(cell.raw), (16.0,) * 3), 16.0),
            open_input(Input(str(cell.raw), (20.0,) * 3), 16.0),
        ]
        with claim(tmp_path / "run"):
            job = Run.start(tmp_path / "run", inputs, FAST)
            job.train()
        assert load_model(job.folder.model).card["voxel_size_nm"] == [[16.0] * 3, [20.0] * 3]
        assert record(tmp_path / "run")["complete"] is False

    def test_the_report_of_a_complete_run_leaves_it_complete(self, copied: Path) -> None:
        (copied / "report.html").unlink()
        with made_quick(full_report=True):
            reopened(copied).report()
        assert (copied / "report.html").exists()
        assert record(copied)["complete"] is True

    def test_the_report_of_an_unfinished_run_does_not_complete_it(
        self, quick: object, cell: Cell, copied: Path
    ) -> None:
        changed = SETTINGS.model_copy(update={"seed": 2})
        with pytest.raises(ZeroDivisionError):
            run_cell(cell, copied, changed, listen=lambda event: 1 // 0)
        for step in ("fit", "embed"):
            with pytest.raises(OutputError, match="'train' is not finished"):
                getattr(reopened(copied), step)()
        reopened(copied).report()  # the old map is still there, and whole
        assert record(copied)["complete"] is False
        run_cell(cell, copied, changed)
        assert record(copied)["complete"] is True

    def test_settings_that_changed_count_even_if_nothing_was_begun(
        self, quick: pytest.MonkeyPatch, cell: Cell, copied: Path
    ) -> None:
        quick.setattr(Run, "train", lambda *_, **__: 1 // 0)  # killed between the record and the first stage
        with pytest.raises(ZeroDivisionError):
            run_cell(cell, copied, SETTINGS.model_copy(update={"anchors": 16}))
        with pytest.raises(OutputError, match="'train' is not finished"):
            reopened(copied).fit()

    def test_a_run_whose_input_changed_is_not_taken_up(self, quick: object, cell: Cell, tmp_path: Path) -> None:
        source = tmp_path / "raw.npy"
        np.save(source, tifffile.imread(cell.raw))
        run(str(source), tmp_path / "run", FAST, voxel_size=16.0)
        np.save(source, 255 - tifffile.imread(cell.raw))
        with pytest.raises(
            VolumeError, match=r"raw\.npy: is not the volume that .*run was made from; put that one back"
        ):
            reopened(tmp_path / "run")
        source.unlink()
        with pytest.raises(VolumeError, match=r"raw\.npy: does not exist"):
            reopened(tmp_path / "run")

    @pytest.mark.parametrize(
        "damage", [{"settings": {"colour": 1}}, {"inputs": []}, {"inputs": None}, {"settings": None}]
    )
    def test_a_record_of_another_version_is_refused(self, copied: Path, damage: dict[str, Any]) -> None:
        found = record(copied) | damage
        (copied / "run.json").write_text(json.dumps(found))
        with pytest.raises(OutputError, match=r"run\.json: is not a record that vemosaic .* understands"):
            reopened(copied)


def test_threads_and_read_ahead_change_nothing(cell: Cell, finished: Path, tmp_path: Path) -> None:
    """Reading that is slow now and then, and no reading ahead: the same map to the last voxel."""
    rng, plain = np.random.default_rng(0), Embedder.read

    def slow(*arguments: Any) -> Any:
        torch.randn(int(rng.integers(1, 300_000))).sort()
        return plain(*arguments)

    with made_quick() as patch:
        patch.setattr(Embedder, "read", slow)
        patch.setattr(segmentation, "stream", lambda units, **more: executor.stream(units, **more, read_ahead=0))
        patch.setattr(memory, "AHEAD", (InProcess(0, 0),))
        run_cell(cell, tmp_path / "run", reference=cell.reference)
    assert results(tmp_path / "run") == results(finished)


class TestConfidence:
    """How sure the cluster of every voxel is."""

    def test_beside_the_map(self, quick: object, cell: Cell, copied: Path) -> None:
        before = results(copied)
        with claim(copied):
            job = reopened(copied)
            job.rate()
        after = results(copied)
        assert {name: digest for name, digest in after.items() if not name.startswith("confidence")} == before
        group = zarr.open_group(copied / "confidence.ome.zarr", mode="r")
        sure = np.asarray(group["0"][:])
        assert (sure.shape, sure.dtype) == ((2, *SHAPE), np.uint8)
        assert [c["label"] for c in group.attrs["ome"]["omero"]["channels"]] == ["k = 3", "k = 4"]
        embedding = torch.from_numpy(job.describer().box(job.first.working, (0, 0, 0), SHAPE))
        for found, expected in zip(sure, confidence(embedding, job.clusterings()), strict=True):
            assert np.mean(found == expected.numpy()) > 0.999
        assert record(copied)["complete"] is True

    def test_again_only_what_is_missing(self, quick: object, cell: Cell, copied: Path) -> None:
        run_cell(cell, copied, store_confidence=True)
        before, heard = results(copied), Heard()
        run_cell(cell, copied, store_confidence=True, listen=heard)
        assert heard.worked == set()
        shard = copied / "confidence.ome.zarr/0/c/0/0/0/0"
        shard.write_bytes(shard.read_bytes()[:-3])
        run_cell(cell, copied, store_confidence=True, listen=heard)
        assert heard.worked == {"confidence"}
        assert results(copied) == before

    def test_nothing_where_the_mask_is_zero(self, quick: object, cell: Cell, tmp_path: Path) -> None:
        mask = np.zeros(SHAPE, np.uint8)
        mask[4:16, 5:30, 6:33] = 1
        np.save(tmp_path / "mask.npy", mask)
        done = run_cell(cell, tmp_path / "run", mask=str(tmp_path / "mask.npy"), store_confidence=True)
        sure = np.asarray(zarr.open_group(done.folder.confidence, mode="r")["0"][:])
        assert not sure[:, mask == 0].any()
        assert sure[:, mask == 1].any()
