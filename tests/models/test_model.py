from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from numeric_core import realistic_model
from vemosaic.errors import VemosaicError
from vemosaic.models.model import Model, build, load_model, new_card
from vemosaic.models.settings import Architecture, ModelSettings

SMALL = Architecture(channels=(3, 4, 5, 6), latent=7, semantic=2)


@pytest.fixture
def model() -> Model:
    card = new_card(anchors=1280, seed=7, voxel_size_nm=[[15.0, 15.0, 15.0]], volumes=["cell.tif"])
    return dataclasses.replace(realistic_model(SMALL), card=card)


def about(path: Path) -> dict[str, object]:
    """What the header of a model file says."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    said: dict[str, object] = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["vemosaic"])
    return said


def test_round_trip_is_bitwise(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model.save(path)
    loaded = load_model(path)
    assert loaded.settings == model.settings
    assert loaded.card == model.card
    before, after = model.vae.state_dict(), loaded.vae.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not loaded.vae.training
    volume = torch.randn(1, 1, 12, 12, 12)
    with torch.inference_mode():
        assert torch.equal(loaded.encoder.dense(volume), model.encoder.dense(volume))
    again = tmp_path / "again.safetensors"
    loaded.save(again)
    assert again.read_bytes() == path.read_bytes()


def test_file_is_tensors_and_a_header_and_no_pickle(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model.save(path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    described = json.loads(content[8 : 8 + length])
    assert set(described.pop("__metadata__")) == {"vemosaic"}
    end = max(tensor["data_offsets"][1] for tensor in described.values())
    assert len(content) == 8 + length + end  # every byte is the header's or a tensor's
    assert {tensor["dtype"] for tensor in described.values()} == {"F32"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.md", "model.safetensors"]


def test_card_names_anchors_seed_and_voxel_size(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "model.safetensors")
    card = (tmp_path / "model.md").read_text()
    for fact in ("**Anchors**: 1280", "**Seed**: 7", "**Voxel size nm**: [[15.0, 15.0, 15.0]]", "cell.tif"):
        assert fact in card
    assert "2 semantic dimensions of 7" in card
    assert "9 voxels along each axis" in card
    assert f"{sum(p.numel() for p in model.vae.parameters()):,}" in card


def test_weights_follow_the_seed_and_leave_torch_s_own_alone() -> None:
    settings = ModelSettings(architecture=SMALL)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, same, other = build(settings, 1), build(settings, 1), build(settings, 2)
    assert torch.equal(torch.rand(1), expected)
    weights = [vae.encoder.branch.first.weight for vae in (first, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_files_that_are_no_model_get_one_line(model: Model, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    model.save(good)
    content, tensors, said = good.read_bytes(), load_file(good), about(good)
    fewer = dict(list(tensors.items())[1:])

    def cut() -> None:
        bad.write_bytes(content[: len(content) // 2])

    def save_model(tensors: dict[str, torch.Tensor], said: dict[str, object]) -> None:
        save_file(tensors, bad, {"vemosaic": json.dumps(said)})

    wrong = {
        "absent": lambda: None,
        "a folder": bad.mkdir,
        "empty": lambda: bad.write_bytes(b""),
        "text": lambda: bad.write_text("not a model, whatever its name says"),
        "truncated": cut,
        "foreign": lambda: save_file(tensors, bad),
        "with a header of its own": lambda: save_file(tensors, bad, {"vemosaic": "1.0"}),
        "without settings": lambda: save_model(tensors, {"format": 1, "card": {}}),
        "newer": lambda: save_model(tensors, said | {"settings": {"architecture": {"blocks": 9}}}),
        "a tensor short": lambda: save_model(fewer, said),
        "other sizes": lambda: save_model(tensors, said | {"settings": ModelSettings().model_dump(mode="json")}),
    }
    for kind, make in wrong.items():
        if bad.is_dir():
            bad.rmdir()
        bad.unlink(missing_ok=True)
        make()
        with pytest.raises(VemosaicError) as caught:
            load_model(bad)
        message = str(caught.value)
        assert message.startswith(f"{bad}: "), kind
        assert message.count(";") >= 1, kind
        assert "\n" not in message, kind
