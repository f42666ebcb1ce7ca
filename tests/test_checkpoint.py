import errno
import json
import resource

import pytest
import torch
from torch import nn

from videopoet import checkpoint
from videopoet.errors import CheckpointError, ConfigError


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


def test_a_disk_that_refuses_tensors_is_an_error_of_the_machine(tmp_path):
    path = tmp_path / "model.safetensors"
    checkpoint.save_tensors(path, {"a": torch.zeros(4)})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"too large for a file of 4 MB: '.*model\.safetensors'") as caught:
            checkpoint.save_tensors(path, {"a": torch.ones(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(path)
    assert checkpoint.load_tensors(path)["a"].tolist() == [0, 0, 0, 0]
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_names_the_file_that_was_to_be(tmp_path):
    def fail(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        checkpoint.write_atomically(tmp_path / "a.json", fail)
    assert caught.value.filename == str(tmp_path / "a.json")


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


@pytest.fixture
def component(tmp_path):
    """A folder of weights, twelve tensors of 100 to 1,200 values, and these."""
    tensors = {f"layer.{number}.weight": torch.randn(100 * number) for number in range(1, 13)}
    checkpoint.save_tensors(tmp_path / "part" / "model.safetensors", tensors)
    return tmp_path / "part", tensors


@pytest.mark.parametrize("most", [5400, 8000, 16_000, 30_000])
def test_weights_are_divided_into_files_of_at_most_a_size_and_read_as_one(component, most):
    folder, tensors = component
    checkpoint.split_weights(folder.parent, most)
    files = checkpoint.weight_files(folder)
    assert [file.name for file in files] == [
        f"model-{n + 1:05d}-of-{len(files):05d}.safetensors" for n in range(len(files))
    ]
    assert {file.name for file in folder.iterdir()} == {"model.safetensors.index.json", *(file.name for file in files)}
    assert all(file.stat().st_size <= most for file in files)
    index = checkpoint.read_json(folder / "model.safetensors.index.json")
    assert index["metadata"] == {"total_size": 4 * 7800} and index["weight_map"].keys() == tensors.keys()
    found = checkpoint.read_weights(folder)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    checkpoint.split_weights(folder, 5400)  # once more, smaller
    again = checkpoint.read_weights(folder)
    assert all(file.stat().st_size <= 5400 for file in folder.glob("*.safetensors"))
    assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())


def test_weights_that_are_small_enough_stay_one_file(component):
    folder, _ = component
    checkpoint.split_weights(folder, 40_000)
    assert [file.name for file in folder.iterdir()] == ["model.safetensors"]


def test_a_tensor_is_never_cut(component):
    folder, _ = component
    with pytest.raises(ConfigError, match=r"'layer\.12\.weight' takes 0\.\d+ MB, .* 0\.004 MB; .* allow 1MB"):
        checkpoint.split_weights(folder, 4000)
    assert [file.name for file in folder.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("size", "expected"),
    [(123, 123), ("16MB", 16_000_000), ("16 MiB", 16 * 2**20), ("1.5kb", 1500), ("2GB", 2 * 10**9)],
)
def test_a_size_is_a_number_of_bytes_or_has_a_unit(size, expected):
    assert checkpoint.num_bytes(size) == expected


@pytest.mark.parametrize("size", ["", "16", "MB", "-1MB", "16 megabytes", "16TB"])
def test_what_is_no_size_is_refused(size):
    with pytest.raises(ConfigError, match="is no size; one such as 16MB"):
        checkpoint.num_bytes(size)


def test_a_shard_that_is_missing_is_named(component):
    folder, _ = component
    checkpoint.split_weights(folder, 8000)
    second = checkpoint.weight_files(folder)[1]
    num_files = int(second.stem.removeprefix("model-00002-of-"))
    second.unlink()
    said = rf"no {second.name} in .* {num_files - 1} of the {num_files} files"
    with pytest.raises(CheckpointError, match=said) as error:
        checkpoint.read_weights(folder)
    assert error.value.code == "checkpoint_missing"


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": 1}', '{"weight_map": {"a": 1}}', "{"])
def test_an_index_that_is_broken_is_a_clear_error(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointError, match="the file is broken; restore it") as error:
        checkpoint.read_weights(tmp_path)
    assert error.value.code == "checkpoint_corrupt"
