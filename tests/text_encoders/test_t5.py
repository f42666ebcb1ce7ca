"""Tiny random T5s: their features stand for prompts, in a row, in training, in a folder and in a run."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from videopoet import pretrained
from videopoet.errors import CheckpointError, TaskError
from videopoet.text_encoders.own_tokens import LONGEST_PROMPT, OwnTokens
from videopoet.text_encoders.t5 import FAMILIES, T5

OWN = ["a", "red", "ball"]


@pytest.fixture(scope="module", params=FAMILIES)
def encoder(request, tmp_path_factory, make_t5):
    folder = tmp_path_factory.mktemp(request.param)
    make_t5(folder, request.param)
    return T5.open(folder, OwnTokens.from_words(OWN))


@pytest.fixture
def folder(make_t5, tmp_path):
    make_t5(tmp_path / "t5")
    return tmp_path / "t5"


def features(encoder, *prompts, length=None):
    """Of prompts padded on the right, and which are visible."""
    ids = [torch.tensor(encoder.encode(prompt)) for prompt in prompts]
    length = length or max(map(len, ids))
    padded = torch.stack([torch.nn.functional.pad(each, (0, length - len(each))) for each in ids])
    visible = torch.arange(length) < torch.tensor([len(each) for each in ids])[:, None]
    return encoder.features(padded, visible), visible


def test_features_are_those_of_the_public_model_and_depend_on_the_text(encoder):
    made, _ = features(encoder, "a red ball", "a blue star")
    assert made.shape == (2, 4, 16) and encoder.num_features == 16
    ids = torch.tensor([encoder.encode("a red ball")])
    assert ids[0, -1] == encoder.tokenizer.eos_token_id
    torch.testing.assert_close(made[:1], encoder.network(input_ids=ids).last_hidden_state)
    assert (made[0, 0] - made[1, 0]).abs().max() > 1e-3, "the same word, read in another prompt"


def test_padding_changes_no_feature(encoder):
    alone, _ = features(encoder, "a ball")
    padded, visible = features(encoder, "a ball", "a red ball flies over the sea", length=20)
    torch.testing.assert_close(padded[0, visible[0]], alone[0], rtol=1e-5, atol=1e-5)


def test_surrounding_autocast_changes_no_feature(encoder):
    with torch.autocast("cpu", torch.bfloat16):
        rounded, _ = features(encoder, "a red ball")
    assert torch.equal(rounded, features(encoder, "a red ball")[0])


def test_nothing_of_it_is_trained(encoder):
    made, _ = features(encoder, "a red ball")
    assert not made.requires_grad and not encoder.network.training
    assert not any(parameter.requires_grad for parameter in encoder.network.parameters())


def test_what_is_written_is_in_the_own_words(encoder):
    ids = encoder.encode_answer("a red ball")
    assert max(ids) < encoder.answer_size == len(OWN) + 1 < encoder.size
    assert encoder.decode(ids) == "a red ball"


def test_an_encoder_saved_along_is_the_same(encoder, tmp_path):
    encoder.save(tmp_path)
    again = T5.load(tmp_path)
    assert torch.equal(features(again, "a red ball")[0], features(encoder, "a red ball")[0])
    assert again.decode(again.encode_answer("red ball")) == "red ball"
    assert not any("decoder" in name for name in load_file(tmp_path / "text_encoder" / "model.safetensors"))


def test_prompts_are_refused_as_everywhere(encoder):
    with pytest.raises(TaskError, match="empty"):
        encoder.encode("  ")
    with pytest.raises(TaskError, match="</s>"):
        encoder.encode("a ball </s>")
    assert len(encoder.encode("ball " * (LONGEST_PROMPT - 1))) == LONGEST_PROMPT
    with pytest.raises(TaskError, match=f"{LONGEST_PROMPT + 1} tokens") as caught:
        encoder.encode("ball " * LONGEST_PROMPT)
    assert caught.value.code == "prompt_too_long"
    assert len(encoder.encode_caption("ball " * 90)) == LONGEST_PROMPT
    assert encoder.unknown_words("a zebra and a red ball") == ["zebra", "and"]


@pytest.fixture
def hub(folder, monkeypatch):
    """A hub with one repository, in that folder."""

    def fetch(name):
        assert name == "owner/t5"
        return folder

    monkeypatch.setattr(pretrained, "from_hub", fetch)
    return folder


def test_an_encoder_of_the_hub_is_saved_by_name_and_hash(hub, tmp_path):
    encoder = T5.open("owner/t5", OwnTokens.from_words(OWN))
    encoder.save(tmp_path / "saved")
    assert not list((tmp_path / "saved").rglob("*.safetensors"))
    reference = json.loads((tmp_path / "saved" / "text_encoder" / "reference.json").read_text())
    assert reference["hub"] == "owner/t5" and set(reference["sha256"]) == {"model.safetensors", "tokenizer.json"}
    again = T5.load(tmp_path / "saved")
    assert torch.equal(features(again, "a red ball")[0], features(encoder, "a red ball")[0])
    again.save(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "text_encoder" / "reference.json").read_text()) == reference


def test_weights_that_have_changed_on_the_hub_are_refused(hub, tmp_path):
    T5.open("owner/t5", OwnTokens.from_words(OWN)).save(tmp_path / "saved")
    tensors = load_file(hub / "model.safetensors")
    tensors["shared.weight"] += 1
    save_file(tensors, hub / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"'model.safetensors' of 'owner/t5'.*hash has changed") as caught:
        T5.load(tmp_path / "saved")
    assert caught.value.code == "checkpoint_mismatch"


def test_half_precision_is_widened_since_its_values_would_not_fit(make_t5, tmp_path):
    make_t5(tmp_path, dtype=torch.float16)
    assert T5.open(tmp_path, OwnTokens.from_words(OWN)).network.dtype == torch.float32


def another_family(folder):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "bert"}))


def lose_a_tensor(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("encoder.final_layer_norm.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def add_words(folder):
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text())
    values["model"]["vocab"] |= {f"word{number}": 100 + number for number in range(100)}
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (shutil.rmtree, "no folder"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (another_family, "family 'bert', no T5"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "no safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no"), "cannot be loaded"),
        (lose_a_tensor, "do not fit"),
        (lambda folder: (folder / "tokenizer.json").unlink(), r"tokenizer of the T5.*tokenizer\.json"),
        (add_words, "do not belong together"),
    ],
)
def test_what_is_no_t5_is_refused_in_one_sentence(change, said, folder):
    change(folder)
    with pytest.raises(CheckpointError, match=said) as caught:
        T5.open(folder, OwnTokens.from_words(OWN))
    assert "\n" not in str(caught.value)


def test_a_folder_that_lost_its_encoder_is_refused(folder, tmp_path):
    T5.open(folder, OwnTokens.from_words(OWN)).save(tmp_path / "saved")
    shutil.rmtree(tmp_path / "saved" / "text_encoder")
    with pytest.raises(CheckpointError, match="no text_encoder"):
        T5.load(tmp_path / "saved")
