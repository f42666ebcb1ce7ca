import json

import pytest
import torch
from torch import nn

from videopoet import checkpoint
from videopoet.errors import CheckpointError


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "file.json"
    checkpoint.write_json(target, {"a": 1})

    def fail(path):
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        checkpoint.write_atomically(target, fail)
    assert checkpoint.read_json(target) == {"a": 1}
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_whole_or_absent(tmp_path):
    with pytest.raises(RuntimeError), checkpoint.atomic_folder(tmp_path / "made") as folder:
        (folder / "part").write_text("x")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    for text in ("first", "second"):
        with checkpoint.atomic_folder(tmp_path / "made") as folder:
            (folder / "part").write_text(text)
    assert (tmp_path / "made" / "part").read_text() == "second"
    assert checkpoint.why_invalid(tmp_path / "made") is None
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "no_manifest", "empty_manifest"])
def test_damage_to_a_folder_is_seen(tmp_path, damage):
    with checkpoint.atomic_folder(tmp_path / "made") as folder:
        (folder / "part").write_bytes(bytes(100))
    part, manifest = tmp_path / "made" / "part", tmp_path / "made" / checkpoint.MANIFEST
    if damage == "truncate":
        part.write_bytes(bytes(99))
    elif damage == "flip":
        part.write_bytes(bytes(99) + b"\1")
    elif damage == "remove":
        part.unlink()
    elif damage == "no_manifest":
        manifest.unlink()
    else:
        manifest.write_text("")
    assert checkpoint.why_invalid(tmp_path / "made")


def test_tied_tensors_are_written_once_each(tmp_path):
    weight = torch.randn(3, 3)
    checkpoint.save_tensors(tmp_path / "t.safetensors", {"one": weight, "other": weight})
    loaded = checkpoint.load_tensors(tmp_path / "t.safetensors")
    assert torch.equal(loaded["one"], weight) and torch.equal(loaded["other"], weight)


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x80\x04K\x01.", json.dumps({"a": 1}).encode()])
def test_what_is_not_safetensors_is_a_clear_error(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not readable safetensors") as error:
        checkpoint.load_tensors(path)
    assert "\n" not in str(error.value)


def test_weights_must_fit_exactly(tmp_path):
    module = nn.Linear(2, 3)
    with pytest.raises(CheckpointError, match="'bias' is absent"):
        checkpoint.load_weights(module, {"weight": torch.zeros(3, 2)}, tmp_path)
    with pytest.raises(CheckpointError, match="'extra'"):
        checkpoint.load_weights(module, {**module.state_dict(), "extra": torch.zeros(1)}, tmp_path)
    with pytest.raises(CheckpointError, match=r"\(2, 2\)"):
        checkpoint.load_weights(module, {"weight": torch.zeros(2, 2), "bias": torch.zeros(3)}, tmp_path)
