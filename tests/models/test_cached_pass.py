import pytest
import torch

from videopoet.models import cached_pass as module
from videopoet.models.cached_pass import cached_pass

LENGTH, ROWS = 11, 3


def inputs(seed=0):
    torch.manual_seed(seed)
    embeddings, positions = torch.randn(ROWS, LENGTH, 32), torch.arange(LENGTH).expand(ROWS, -1)
    mask = torch.ones(ROWS, 1, LENGTH, LENGTH, dtype=torch.bool).tril()
    mask[:, :, :4, :4] = True  # a prefix that is read both ways
    return embeddings, mask, positions


STOCK = {
    "qwen3": {"head_dim": 16},
    "llama": {},
    "llama with biases": {"attention_bias": True, "mlp_bias": True},
    "llama of another rope": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 1000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        }
    },
    "qwen2": {},
    "mistral": {"sliding_window": None},
}
OTHERS = {
    "mistral": {"sliding_window": 4},
    "gpt_neox": {},
    "gemma2": {"head_dim": 16},
    "llama": {"hidden_act": "gelu"},
}


def is_stock(model):
    return type(cached_pass(model, 1, 4)) is module._Stock


@pytest.mark.parametrize("copied", [True, False])
@pytest.mark.parametrize(("name", "settings"), STOCK.items())
def test_stock_decoders_are_computed_as_transformers_computes_them(name, settings, copied, monkeypatch, make):
    model = make(name.split()[0], **settings)
    assert is_stock(model)
    monkeypatch.setattr(module, "MOST_COPIED", 2**30 if copied else 0)
    embeddings, mask, positions = inputs()
    expected = model(embeddings, mask, positions)
    whole = cached_pass(model, ROWS, LENGTH)(embeddings, mask, positions, slice(0, LENGTH))
    torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "settings"), [*STOCK.items(), *OTHERS.items()])
def test_passes_over_parts_add_up_to_one_over_all(name, settings, make):
    model = make(name.split()[0], **settings)
    embeddings, mask, positions = inputs()
    expected = model(embeddings, mask, positions)
    read, made = cached_pass(model, ROWS, LENGTH), []
    for start, stop in ((0, 4), (4, 5), (5, 9), (9, 11)):
        step = slice(start, stop)
        made.append(read(embeddings[:, step], mask[:, :, step, :stop], positions[:, step], step))
    torch.testing.assert_close(torch.cat(made, dim=1), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "settings"), [("qwen3", STOCK["qwen3"]), ("gpt_neox", {}), ("mistral", {"sliding_window": 4})]
)
def test_what_was_read_wrongly_can_be_read_again_at_places_that_differ_from_row_to_row(name, settings, make):
    model = make(name, **settings)
    embeddings, mask, positions = inputs()
    expected = model(embeddings, mask, positions)
    read = cached_pass(model, ROWS, LENGTH)
    wrong = embeddings.clone()
    wrong[:, 6:9] += 1.0
    read(wrong[:, :9], mask[:, :, :9, :9], positions[:, :9], slice(0, 9))
    places = torch.tensor([[6, 7, 8, 9, 10], [6, 7, 8, 9, 10], [5, 6, 7, 8, 9]])
    rows = torch.arange(ROWS)[:, None]
    again = read(embeddings[rows, places], mask[rows, 0, places][:, None], positions[rows, places], places)
    torch.testing.assert_close(again, expected[rows, places], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("family", "settings"), OTHERS.items())
def test_what_is_not_a_stock_decoder_is_left_to_transformers(family, settings, make):
    assert not is_stock(make(family, **settings))


def test_a_layer_with_something_put_into_it_is_left_to_transformers(make):
    model = make("llama")
    mlp = model.backbone.model.layers[0].mlp

    class Adapted(torch.nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs) + 1.0

    mlp.up_proj = Adapted(32, 48, bias=False)
    assert not is_stock(model)


def test_logits_are_those_of_the_language_model(make):
    model = make("qwen3", head_dim=16)
    hidden = inputs()[0]
    for start, stop in ((0, 60), (7, 31)):
        expected = model.logits(hidden, start, stop)
        torch.testing.assert_close(cached_pass(model, 1, 4).logits(hidden, start, stop), expected, rtol=1e-4, atol=1e-4)
