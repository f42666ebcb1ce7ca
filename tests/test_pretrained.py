import socket
import time

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from videopoet import pretrained
from videopoet.checkpoint import split_weights, weight_files
from videopoet.data.captioner import Captioner
from videopoet.errors import CheckpointError
from videopoet.media import signals
from videopoet.writers.chat_model import ChatModel


@pytest.fixture
def folder(tmp_path):
    network = GPT2LMHeadModel(GPT2Config(vocab_size=7, n_positions=8, n_embd=4, n_layer=1, n_head=1))
    pretrained.save_network(network, tmp_path)
    return tmp_path


def change(folder, edit):
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def load(folder, **how):
    return pretrained.load_network(AutoModelForCausalLM, folder, "the model", **how)


def test_what_is_saved_is_loaded_with_one_mode_for_every_file(folder):
    expected = load_file(folder / "model.safetensors")
    found = load(folder).state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert len({file.stat().st_mode for file in folder.iterdir()}) == 1


@pytest.mark.parametrize(
    "edit",
    [
        lambda tensors: tensors.pop("transformer.ln_f.weight"),
        lambda tensors: tensors.update({"transformer.ln_f.weight": torch.ones(5)}),
    ],
    ids=["missing", "of another shape"],
)
def test_weights_that_would_be_drawn_afresh_are_refused(folder, edit):
    change(folder, edit)
    with pytest.raises(CheckpointError, match=r"do not fit its config: .*ln_f\.weight.*; get others") as caught:
        load(folder, unfit="get others")
    assert caught.value.code == "checkpoint_mismatch"


def test_weights_that_nothing_takes_are_refused_where_all_must_fit(folder):
    change(folder, lambda tensors: tensors.update({"transformer.extra": torch.ones(1)}))
    load(folder)
    with pytest.raises(CheckpointError, match="extra"):
        load(folder, exactly=True)


def test_a_failure_without_words_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"the part in '.*' cannot be loaded \(KeyError\); mend it") as caught:
        with pretrained.loading("the part", tmp_path, "mend it"):
            raise KeyError
    assert caught.value.code == "checkpoint_corrupt"


def test_of_the_hub_come_weights_and_what_prepares_inputs_and_of_this_machine_a_folder_as_it_is(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(pretrained, "from_hub", lambda *what: asked.append(what) or folder / "fetched")
    assert pretrained.model_folder(str(folder)) == folder and not asked
    assert pretrained.model_folder("owner/name") == folder / "fetched"
    ((name, files, but),) = asked
    assert name == "owner/name" and {"*.json", "*.safetensors", "*.txt", "*.jinja"} <= {*files} and "onnx/*" in but


@pytest.mark.parametrize("load_model", [Captioner.load, signals._depth_model, ChatModel])
def test_without_a_network_a_hub_id_is_refused_at_once(load_model, monkeypatch):
    def refuse(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waits {seconds} s to try again"))
    with pytest.raises(CheckpointError, match=r"no folder 'owner/name', .*not known\); check the name") as caught:
        load_model("owner/name")
    assert caught.value.code == "checkpoint_missing"


def test_a_connection_that_breaks_off_is_one_sentence(monkeypatch):
    def break_off(*_, **__):
        raise RuntimeError("Server disconnected\nwithout sending a response")

    monkeypatch.setattr("huggingface_hub.snapshot_download", break_off)
    with pytest.raises(CheckpointError, match=r"hub \(Server disconnected\); check the name and the network"):
        pretrained.from_hub("owner/name")


def test_a_shard_that_is_missing_is_named(folder):
    split_weights(folder, 900)
    lost = weight_files(folder)[0]
    lost.unlink()
    with pytest.raises(CheckpointError, match=rf"no {lost.name} in .*; restore it or save the model again") as caught:
        load(folder)
    assert caught.value.code == "checkpoint_missing"
