from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from explorer_runs import SHARD

from vemosaic.blocks.events import Event, UnitDone
from vemosaic.embedding import gaussian_taps
from vemosaic.explorer import texture as texture_module
from vemosaic.explorer.opened import box_of
from vemosaic.explorer.session import Session
from vemosaic.explorer.texture import NotYet, Texture, _gaussian
from vemosaic.pipeline import Run
from vemosaic.volumes import array_writing
from vemosaic.volumes.volume import mirrored


@pytest.mark.parametrize("width", [1.5, 2.0, 3.0, 6.0])
def test_gaussians_are_those_of_the_map(width: float) -> None:
    assert np.allclose(_gaussian(width), gaussian_taps(width), atol=1e-7)


def test_vectors_are_what_the_map_was_made_from(session: Session) -> None:
    job = Run.reopen(session.run.path)
    inner = box_of((7, 8, 9), (5, 16, 18))  # nearer to the border, surroundings are mirrored differently
    expected = job.describer().box(job.first.working, (7, 8, 9), (5, 16, 18))
    found = session.derived.texture.vectors(inner)
    half = found.shape[-1] // 2
    assert np.allclose(found[..., :half], expected, atol=1e-4)
    assert not np.allclose(found[..., half:], expected, atol=1e-2)


def slow_vectors(texture: Texture, voxel: tuple[int, int, int]) -> np.ndarray:
    """Weight the codes around a voxel one by one."""
    words = texture.words.read(0, box_of((0, 0, 0), texture.run.shape))
    codes = texture._vocabulary[1]
    reach = texture.reach
    places = [mirrored(np.arange(v - reach, v + reach + 1), n) for v, n in zip(voxel, words.shape, strict=True)]
    around = codes[words[np.ix_(*places)]]
    return np.concatenate([np.einsum("zyxc,z,y,x->c", around, *[kernel] * 3) for kernel in texture._kernels])


@pytest.mark.parametrize("voxel", [(0, 0, 0), (19, 35, 39), (10, 20, 3)])
def test_vectors_at_the_border_are_of_mirrored_surroundings(session: Session, voxel: tuple[int, int, int]) -> None:
    texture = session.derived.texture
    assert np.allclose(texture.vectors(box_of(voxel, (1, 1, 1)))[0, 0, 0], slow_vectors(texture, voxel), atol=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_plane_has_the_vectors_of_the_box_that_holds_it(session: Session, axis: int) -> None:
    texture = session.derived.texture
    box = list(box_of((4, 6, 8), (12, 14, 16)))
    whole = texture.vectors((box[0], box[1], box[2]))
    box[axis] = slice(box[axis].start + 3, box[axis].start + 4)
    plane = texture.vectors((box[0], box[1], box[2]))
    assert np.allclose(plane, whole.take([3], axis), atol=1e-4)


def test_single_voxels_have_the_vectors_of_their_boxes(session: Session) -> None:
    texture = session.derived.texture
    voxels = np.array([[1, 2, 3], [19, 35, 39], [1, 2, 4], [10, 33, 1]])
    whole = texture.vectors(box_of((0, 0, 0), session.run.shape))
    assert np.allclose(texture.at(voxels), whole[tuple(voxels.T)], atol=1e-4)
    assert texture.at(np.empty((0, 3), np.int64)).shape == (0, whole.shape[-1])


def test_prototypes_are_the_nearest_centres_and_a_lasso_takes_those_it_has_most_dots_of(session: Session) -> None:
    texture = session.derived.texture
    place = (9, 20, 20)
    vector = texture.vectors(box_of(place, (1, 1, 1)))[0, 0, 0]
    half = len(vector) // 2
    nearest = int(((texture.prototype_centres - vector[:half]) ** 2).sum(1).argmin()) + 1
    assert texture.prototypes.read(0, box_of(place, (1, 1, 1)))[0, 0, 0] == nearest
    dots = np.flatnonzero(texture.dot_prototypes == nearest)
    few = dots[: len(dots) // 2]
    assert texture.lassoed(dots)[nearest]
    assert texture.lassoed(dots).sum() == 1
    assert not texture.lassoed(few).any() if len(few) else True


def test_texture_is_asked_for_before_it_is_there(copied: Path, quick: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotYet, match="the texture of the volume: is still being computed; wait"):
        Session(copied).derived.texture.check()


def test_an_interrupted_reading_goes_on_and_ends_the_same(
    copied: Path, described: Path, quick: pytest.MonkeyPatch
) -> None:
    quick.setattr(array_writing, "SHARD", SHARD)

    class Killed(BaseException):
        pass

    done = 0

    def listen(event: Event) -> None:
        nonlocal done
        done += isinstance(event, UnitDone) and event.stage == "words"
        if done == 3:
            raise Killed

    texture = Session(copied).derived.texture
    with pytest.raises(Killed):
        texture.write(listen)
    assert not texture.finished
    again = Session(copied).derived.texture
    again.write()
    whole = box_of((0, 0, 0), again.run.shape)
    expected = Session(described).derived.texture
    assert np.array_equal(again.words.read(0, whole), expected.words.read(0, whole))
    assert np.array_equal(again.prototypes.read(0, whole), expected.prototypes.read(0, whole))


def test_a_run_without_words_gets_some(explored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = json.loads((explored / "centres.json").read_text())
    (explored / "centres.json").write_text(json.dumps(document | {"words": None}))
    monkeypatch.setattr(texture_module, "WORDS", 5)
    texture = Session(explored).derived.texture
    centres, codes = texture._vocabulary
    assert len(centres) == 5
    assert centres is codes
