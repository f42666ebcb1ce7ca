import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from videopoet.checkpoint import split_weights, weight_files, why_invalid
from videopoet.errors import CheckpointError, ConfigError
from videopoet.generation import poet_folder
from videopoet.generation.pipeline import VideoPoet
from videopoet.models.super_resolution import Config, SuperResolution


@pytest.fixture(scope="module")
def saved(make_poet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("poets") / "poet"
    make_poet(height=16).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "poet")


def change_json(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def tensors(poet):
    parts = poet.parts
    modules = (parts.video_tokenizer, parts.audio_tokenizer, parts.language_model)
    return [(name, tensor) for module in modules for name, tensor in module.state_dict().items()]


def test_a_poet_saved_in_full_precision_comes_back_exactly(make_poet, tmp_path):
    poet = make_poet()
    poet.save_pretrained(tmp_path / "poet", dtype=torch.float32)
    again = VideoPoet.from_pretrained(tmp_path / "poet", device="cpu")
    assert again.parts.settings == poet.parts.settings
    assert again.parts.vocabulary == poet.parts.vocabulary
    for (name, tensor), (_, other) in zip(tensors(poet), tensors(again), strict=True):
        assert torch.equal(tensor, other), name
    first, second = (one.generate("text_to_video", prompt="a red ball", seed=1).media for one in (poet, again))
    assert torch.equal(first.frames, second.frames)
    assert torch.equal(first.audio.samples, second.audio.samples)


def test_weights_ship_in_half_the_size_and_codebooks_stay_whole(saved):
    assert why_invalid(saved) is None
    model = load_file(saved / "language_model" / "model.safetensors")
    assert {tensor.dtype for tensor in model.values()} == {torch.bfloat16}
    audio = load_file(saved / "audio_tokenizer" / "model.safetensors")
    assert audio["quantizer.codebooks"].dtype == torch.float32
    assert all(tensor.dtype == torch.bfloat16 for name, tensor in audio.items() if not name.startswith("quantizer."))


DIVIDED = {
    "video_tokenizer": 450_000,
    "audio_tokenizer": 30_000,
    "language_model": 40_000,
    "super_resolution": 30_000,
}
"""The most bytes that a file of each part has, above the largest tensor of it."""


@pytest.fixture(scope="module")
def divided(make_poet, tmp_path_factory):
    """The parts of a poet with super-resolution, and its folder, where each is in shards."""
    parts = make_poet(height=16).parts
    text_size = parts.text_encoder.size
    config = Config(width=32, head_width=16, hidden_width=48, num_blocks=1, num_bits=6, text_size=text_size)
    upscaler = SuperResolution(config)
    parts = replace(parts, super_resolution=upscaler.eval())
    folder = tmp_path_factory.mktemp("divided") / "poet"
    poet_folder.save(parts, folder, torch.float32, "450KB")
    for part, most in DIVIDED.items():
        split_weights(folder / part, most)
    return parts, folder


def test_a_poet_in_shards_comes_back_exactly(divided):
    parts, folder = divided
    again = poet_folder.load(folder, "cpu", torch.float32)
    for part in DIVIDED:
        assert len(weight_files(folder / part)) > 1, part
        expected, found = (getattr(one, part).state_dict() for one in (parts, again))
        assert expected.keys() == found.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items()), part


def test_plain_transformers_opens_a_language_model_in_shards(divided):
    from transformers import AutoModelForCausalLM

    parts, folder = divided
    model = AutoModelForCausalLM.from_pretrained(folder / "language_model", local_files_only=True, dtype=torch.float32)
    expected = parts.language_model.backbone.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("part", DIVIDED)
def test_a_poet_without_one_of_its_shards_is_refused(divided, part, tmp_path):
    folder = shutil.copytree(divided[1], tmp_path / "poet")
    lost = weight_files(folder / part)[-1]
    lost.unlink()
    with pytest.raises(CheckpointError, match=f"no {lost.name} in '.*{part}'.*; restore it or save the") as caught:
        VideoPoet.from_pretrained(folder, device="cpu")
    assert caught.value.code == "checkpoint_missing" and "\n" not in str(caught.value)


def test_the_manifest_of_a_poet_in_shards_has_them_all(make_poet, tmp_path):
    make_poet(height=16).save_pretrained(tmp_path / "poet", max_shard_size="230KB")
    files = weight_files(tmp_path / "poet" / "video_tokenizer")
    assert len(files) > 1 and all(file.stat().st_size <= 230_000 for file in tmp_path.rglob("*.safetensors"))
    assert why_invalid(tmp_path / "poet") is None
    files[1].write_bytes(files[1].read_bytes()[:-1] + b"\x7f")
    assert str(why_invalid(tmp_path / "poet")).startswith(f"video_tokenizer/{files[1].name} has changed")


@pytest.mark.parametrize(("size", "said"), [("100KB", "a tensor is never cut; allow 1MB"), ("16", "is no size")])
def test_a_poet_that_cannot_be_divided_so_leaves_nothing(make_poet, tmp_path, size, said):
    with pytest.raises(ConfigError, match=said):
        make_poet(height=16).save_pretrained(tmp_path / "poet", max_shard_size=size)
    assert not list(tmp_path.iterdir())


def test_saving_changes_nothing_of_the_poet(make_poet, tmp_path):
    poet = make_poet()
    before = [tensor.clone() for _, tensor in tensors(poet)]
    poet.save_pretrained(tmp_path / "poet")
    for (name, tensor), old in zip(tensors(poet), before, strict=True):
        assert tensor.dtype == old.dtype and torch.equal(tensor, old), name


def test_plain_transformers_opens_the_language_model(saved):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(saved / "language_model", local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(saved / "language_model", local_files_only=True)
    ids = tokenizer("a red ball", return_tensors="pt")["input_ids"]
    assert model(ids).logits.shape == (1, 3, model.config.vocab_size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_poet_works_in_any_precision(saved, dtype):
    poet = VideoPoet.from_pretrained(saved, device="cpu", dtype=dtype)
    assert poet.describe()["dtype"] == str(dtype).removeprefix("torch.")
    assert poet.generate("text_to_video", prompt="a red ball", seed=1).media.num_frames == 17


def test_a_description_is_plain_values(poet):
    described = poet.describe()
    assert json.loads(json.dumps(described)) == described
    assert set(described["parameters"]) == {"magvit_v2", "soundstream", "qwen3"}
    assert described["sizes"] == ["16x16"]


def break_weights(name, tensor):
    def change(folder):
        path = folder / name
        found = load_file(path)
        key = next(key for key in found if found[key].ndim)
        save_file(found | {key: tensor} if tensor is not None else {k: v for k, v in found.items() if k != key}, path)

    return change


def truncate(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:100])


def remove(name):
    def change(folder):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def vocabulary_of(**sizes):
    def change(folder):
        vocabulary = json.loads((folder / "videopoet.json").read_text())["vocabulary"]
        change_json(folder / "videopoet.json", vocabulary=vocabulary | sizes)

    return change


def replace_by_pickle(folder):
    (folder / "language_model" / "model.safetensors").unlink()
    torch.save({}, folder / "language_model" / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (remove("videopoet.json"), "checkpoint_missing", ["videopoet.json"]),
        (remove("language_model"), "checkpoint_missing", ["config.json", "language_model"]),
        (remove("video_tokenizer"), "checkpoint_missing", ["config.json", "video_tokenizer"]),
        (remove("audio_tokenizer/model.safetensors"), "checkpoint_missing", ["model.safetensors"]),
        (remove("language_model/token_embedding"), "checkpoint_missing", ["token_embedding"]),
        (remove("language_model/tokenizer.json"), "checkpoint_corrupt", ["text tokenizer"]),
        (remove("language_model/model.safetensors"), "checkpoint_corrupt", ["language model"]),
        (replace_by_pickle, "checkpoint_corrupt", ["language model"]),
        (truncate("videopoet.json"), "checkpoint_corrupt", ["not readable JSON"]),
        (truncate("language_model/model.safetensors"), "checkpoint_corrupt", ["language model"]),
        (truncate("video_tokenizer/model.safetensors"), "checkpoint_corrupt", ["video_tokenizer"]),
        (break_weights("video_tokenizer/model.safetensors", None), "checkpoint_mismatch", ["absent"]),
        (break_weights("video_tokenizer/model.safetensors", torch.zeros(1)), "checkpoint_mismatch", ["(1,)"]),
        (break_weights("language_model/model.safetensors", None), "checkpoint_mismatch", ["do not fit"]),
        (break_weights("language_model/model.safetensors", torch.zeros(1)), "checkpoint_mismatch", ["do not fit"]),
        (lambda folder: change_json(folder / "videopoet.json", format=99), "checkpoint_mismatch", ["99", "up to 1"]),
        (lambda folder: change_json(folder / "videopoet.json", format="x"), "checkpoint_mismatch", ["no format"]),
        (lambda folder: (folder / "videopoet.json").write_text("[]"), "checkpoint_mismatch", ["no format"]),
        (lambda folder: change_json(folder / "videopoet.json", extra=1), "checkpoint_mismatch", ["'extra'"]),
        (
            lambda folder: change_json(folder / "videopoet.json", video_tokenizer="os"),
            "checkpoint_mismatch",
            ["'os'", "magvit_v2"],
        ),
        (vocabulary_of(visual_codes=128), "checkpoint_mismatch", ["64", "128", "video tokenizer"]),
        (vocabulary_of(audio_codebook_size=32), "checkpoint_mismatch", ["16", "32", "audio tokenizer"]),
        (vocabulary_of(audio_quantizers=3), "checkpoint_mismatch", ["2", "3", "levels"]),
        (vocabulary_of(text_size=8), "checkpoint_mismatch", ["9", "8", "text encoder"]),
        (vocabulary_of(text_size=10), "checkpoint_mismatch", ["145", "146", "language model"]),
        (vocabulary_of(num_special=41), "checkpoint_mismatch", ["145", "146", "language model"]),
        (
            lambda folder: change_json(folder / "language_model" / "config.json", auto_map={"AutoModel": "evil.Model"}),
            "checkpoint_mismatch",
            ["code of its own"],
        ),
    ],
)
def test_a_broken_folder_is_refused_in_one_sentence(folder, change, code, said):
    change(folder)
    with pytest.raises(CheckpointError) as caught:
        VideoPoet.from_pretrained(folder, device="cpu")
    message = str(caught.value)
    assert caught.value.code == code, message
    assert "\n" not in message
    for words in said:
        assert words in message


def test_no_code_in_a_folder_is_run(folder, tmp_path):
    canary = tmp_path / "canary"
    (folder / "language_model" / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Model: pass\n")
    change_json(folder / "language_model" / "config.json", auto_map={"AutoConfig": "evil.Model"}, model_type="evil")
    change_json(
        folder / "language_model" / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Model", "evil.Model"]}
    )
    with pytest.raises(CheckpointError):
        VideoPoet.from_pretrained(folder, device="cpu")
    assert not canary.exists()


@pytest.mark.parametrize("path", ["no/such/folder", "no-such-folder", "../nothing", "/", ""])
def test_what_is_no_poet_is_refused(path, monkeypatch):
    with pytest.raises(CheckpointError) as caught:
        VideoPoet.from_pretrained(path)
    assert caught.value.code == "checkpoint_missing"
    assert "videopoet.json" in str(caught.value)


def test_a_hub_name_that_cannot_be_had_is_refused():
    with pytest.raises(CheckpointError, match="hub") as caught:
        VideoPoet.from_pretrained("nobody/nothing")
    assert caught.value.code == "checkpoint_missing"


def test_without_a_bundled_model_its_absence_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(poet_folder, "BUNDLED", tmp_path / "bundled")
    with pytest.raises(CheckpointError, match="no model ships") as caught:
        VideoPoet.from_pretrained()
    assert caught.value.code == "checkpoint_missing"


@pytest.mark.parametrize("device", ["tpu9", "cuda:99", ""])
def test_a_device_that_is_not_here_is_refused(saved, device):
    with pytest.raises(ConfigError) as caught:
        VideoPoet.from_pretrained(saved, device=device)
    assert caught.value.code == "device_invalid"


def test_the_folder_of_a_run_stands_for_its_poet(poet, tmp_path):
    poet.save_pretrained(tmp_path / "run" / "poet")
    assert poet_folder.find(tmp_path / "run") == tmp_path / "run" / "poet"
    assert poet_folder.find(tmp_path / "run" / "poet") == tmp_path / "run" / "poet"
    assert poet_folder.find(tmp_path) == tmp_path


def test_a_run_that_is_not_finished_is_told_from_a_wrong_path(tmp_path):
    (tmp_path / "run" / "language_model").mkdir(parents=True)
    (tmp_path / "run" / "language_model" / "journal.jsonl").touch()
    for path in (tmp_path / "run", tmp_path / "run" / "poet"):
        with pytest.raises(CheckpointError, match="run' is a run that has made no model yet; .* --resume"):
            poet_folder.find(path)
