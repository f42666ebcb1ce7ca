import subprocess
import sys

import pytest
import torch

from videopoet.checkpoint import read_json, write_json
from videopoet.errors import CheckpointError
from videopoet.models import stock
from videopoet.models.cached_pass import cached_pass
from videopoet.models.language_model import LanguageModel

LENGTH, ROWS = 11, 3
STOCK = {
    "qwen3": {"head_dim": 16},
    "llama": {"head_dim": 8},
    "llama with biases": {"head_dim": 8, "attention_bias": True, "mlp_bias": True},
    "qwen2": {"head_dim": 8},
    "mistral": {"head_dim": 8, "sliding_window": None},
}
UNUSUAL = {
    "mistral": {"head_dim": 8, "sliding_window": 4},
    "gpt_neox": {},
    "gemma2": {"head_dim": 16},
    "llama": {"head_dim": 8, "hidden_act": "gelu"},
    "llama of another rope": {
        "head_dim": 8,
        "rope_parameters": {"rope_type": "linear", "rope_theta": 1000.0, "factor": 2.0},
    },
}


@pytest.fixture
def saved(make):
    """Makes a model and saves it."""

    def into(folder, name, **settings):
        model = make(name.split()[0], **settings)
        model.save(folder)
        return model

    return into


def inputs():
    torch.manual_seed(0)
    mask = torch.ones(ROWS, 1, LENGTH, LENGTH, dtype=torch.bool).tril()
    return torch.randn(ROWS, LENGTH, 32), mask, torch.arange(LENGTH).expand(ROWS, -1)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("name", "settings"), STOCK.items())
def test_a_stock_decoder_is_read_as_transformers_would_read_it(name, settings, tied, tmp_path, saved):
    expected = saved(tmp_path, name, tie_word_embeddings=tied, **settings)
    model = LanguageModel.load(tmp_path).requires_grad_(False)
    assert isinstance(model.weights, stock.StockDecoder)
    embeddings, mask, positions = inputs()
    passes = (cached_pass(one, ROWS, LENGTH) for one in (expected, model))
    hidden, found = (one(embeddings, mask, positions, slice(0, LENGTH)) for one in passes)
    assert torch.equal(found, hidden)
    assert torch.equal(model.logits(hidden, 0, 60), expected.logits(hidden, 0, 60))
    assert (model.num_layers, model.longest, model.head_shape) == (2, 64, expected.head_shape)
    assert isinstance(model.weights, stock.StockDecoder)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("name", "settings"), STOCK.items())
def test_the_model_of_transformers_takes_over_the_very_weights(name, settings, tied, tmp_path, saved):
    expected = saved(tmp_path, name, tie_word_embeddings=tied, **settings)
    model = LanguageModel.load(tmp_path).requires_grad_(False)
    before, random = dict(model.named_parameters()), torch.random.get_rng_state()
    backbone = model.backbone
    assert torch.equal(torch.random.get_rng_state(), random)
    assert type(backbone) is type(expected.backbone)
    assert model.backbone is backbone
    assert backbone is model.weights
    assert not backbone.training
    after = dict(model.named_parameters())
    assert before.keys() == after.keys() == dict(expected.named_parameters()).keys()
    assert all(after[name] is weight and not weight.requires_grad for name, weight in before.items())
    assert (backbone.get_input_embeddings().weight is backbone.get_output_embeddings().weight) == tied
    assert torch.equal(model(*inputs()), expected(*inputs()))


def test_a_folder_that_is_read_and_saved_is_the_same(tmp_path, saved):
    saved(tmp_path / "first", "qwen3", head_dim=16)
    write_json(tmp_path / "first" / "generation_config.json", {"top_k": 7, "do_sample": True})
    model = LanguageModel.load(tmp_path / "first")
    model.causal_prefix = True
    model.save(tmp_path / "second")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second")]
    assert weights[0] == weights[1]
    first, second = (read_json(tmp_path / name / "config.json") for name in ("first", "second"))
    assert second == first | {"causal_prefix": True}
    assert read_json(tmp_path / "second" / "generation_config.json")["top_k"] == 7
    again = LanguageModel.load(tmp_path / "second")
    assert again.causal_prefix
    assert isinstance(again.weights, stock.StockDecoder)


@pytest.mark.parametrize(("name", "settings"), UNUSUAL.items())
def test_what_is_unusual_is_left_to_transformers(name, settings, tmp_path, saved):
    saved(tmp_path, name, **settings)
    assert stock.read(tmp_path, torch.float32) is None
    assert not isinstance(LanguageModel.load(tmp_path).weights, stock.StockDecoder)


def test_large_models_are_left_to_transformers(tmp_path, monkeypatch, saved):
    saved(tmp_path, "llama")
    monkeypatch.setattr(stock, "MOST_BYTES", 100)
    assert stock.read(tmp_path, torch.float32) is None


def test_weights_that_do_not_fit_are_refused_as_for_any_model(tmp_path, saved):
    saved(tmp_path, "llama")
    config = read_json(tmp_path / "config.json")
    write_json(tmp_path / "config.json", config | {"intermediate_size": 40})
    with pytest.raises(CheckpointError, match="do not fit its config"):
        LanguageModel.load(tmp_path)


def test_the_bundled_model_makes_a_clip_without_transformers():
    code = (
        "import sys; from videopoet import VideoPoet; VideoPoet.from_pretrained().generate('text_to_video', "
        "prompt='a red ball', num_frames=5); print(*(name for name in sys.modules if name.startswith('transformers')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
