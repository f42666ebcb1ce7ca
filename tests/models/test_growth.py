import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from videopoet.models import token_embedding
from videopoet.models.growth import HEAD_SPREAD, grow, insert_words, translate_codes, widen_codes
from videopoet.models.token_embedding import TokenEmbedding
from videopoet.runtime import generator


def grown(tied: bool, family: str = "llama"):
    """A model of 300 rows, of which text has trained 200, before and after it has grown to 4,300."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        family, vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=16, tie_word_embeddings=tied,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for table in {model.get_input_embeddings().weight, model.get_output_embeddings().weight}:
            table[:200] = torch.randn(200, 16) @ torch.randn(16, 16) + 3 * torch.randn(16)
            table[200:] = 1e6
    old = [module.weight.detach().clone() for module in (model.get_input_embeddings(), model.get_output_embeddings())]
    grow(model, 4300, 200, generator("grow"))
    return old, [model.get_input_embeddings().weight.detach(), model.get_output_embeddings().weight.detach()]


@pytest.mark.parametrize("tied", [True, False])
def test_old_rows_stay_to_the_bit_and_new_ones_differ(tied):
    for old, new in zip(*grown(tied), strict=True):
        assert len(new) == 4300
        assert torch.equal(new[:300], old)
        assert len(new[300:].unique(dim=0)) == 4000


@pytest.mark.parametrize(("tied", "spreads"), [(True, (HEAD_SPREAD, HEAD_SPREAD)), (False, (1.0, HEAD_SPREAD))])
def test_new_rows_have_the_mean_and_covariance_of_those_that_text_has_trained(tied, spreads):
    for old, new, spread in zip(*grown(tied), spreads, strict=True):
        known, drawn = old[:200], new[300:]
        expected = torch.cov(known.T, correction=0) * spread**2
        torch.testing.assert_close(drawn.mean(dim=0), known.mean(dim=0), atol=0.2, rtol=0)
        assert (torch.cov(drawn.T) - expected).norm() < 0.1 * expected.norm()


def test_growing_leaves_the_random_state_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    config = AutoConfig.for_model("llama", vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    model = AutoModelForCausalLM.from_config(config)
    torch.manual_seed(7)
    grow(model, 40, 20, generator("grow"))
    assert torch.equal(torch.rand(3), expected)


def test_a_heads_bias_grows_by_its_mean():
    config = AutoConfig.for_model("phi", vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    model = AutoModelForCausalLM.from_config(config)
    bias = torch.arange(20.0)
    model.get_output_embeddings().bias.data.copy_(bias)
    grow(model, 30, 10, generator("grow"))
    assert torch.equal(model.get_output_embeddings().bias.detach(), torch.cat([bias, torch.full((10,), 4.5)]))


@pytest.mark.parametrize(("family", "tied"), [("llama", True), ("llama", False), ("phi", False)])
def test_codes_of_more_bits_begin_as_those_of_their_lower_bits(family, tied):
    config = AutoConfig.for_model(
        family, vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, tie_word_embeddings=tied
    )
    model = AutoModelForCausalLM.from_config(config)
    heads = [model.get_input_embeddings(), model.get_output_embeddings()]
    old = [head.weight.detach().clone() for head in heads]
    if family == "phi":
        model.get_output_embeddings().bias.data.copy_(torch.arange(20.0))
    widen_codes(model, first=6, num_codes=4, wanted=16)
    rows = [*range(6), *([6, 7, 8, 9] * 4), *range(10, 20)]
    for head, before in zip((model.get_input_embeddings(), model.get_output_embeddings()), old, strict=True):
        assert torch.equal(head.weight.detach(), before[rows])
    if family == "phi":
        assert model.get_output_embeddings().bias.tolist() == rows
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied


@pytest.mark.parametrize(("family", "tied"), [("llama", True), ("llama", False), ("phi", False)])
def test_inserted_words_move_what_comes_after_them_up(family, tied):
    sizes = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = AutoConfig.for_model(family, **sizes, tie_word_embeddings=tied, pad_token_id=7)
    model = AutoModelForCausalLM.from_config(config)
    heads = (model.get_input_embeddings(), model.get_output_embeddings())
    old = [head.weight.detach().clone() for head in heads]
    if family == "phi":
        model.get_output_embeddings().bias.data.copy_(torch.arange(20.0))
    insert_words(model, 6, 3, generator("words"))
    heads = (model.get_input_embeddings(), model.get_output_embeddings())
    for head, before in zip(heads, old, strict=True):
        assert torch.equal(head.weight.detach()[[*range(6), *range(9, 23)]], before)
        assert head.weight.detach()[6:9].std() > 0
    if family == "phi":
        assert model.get_output_embeddings().bias.tolist() == [*range(6), *[2.5] * 3, *range(6, 20)]
    assert (heads[0].weight is heads[1].weight) == tied
    assert model.config.pad_token_id == heads[0].padding_idx == 10


@pytest.mark.parametrize("tied", [True, False])
def test_translated_codes_begin_as_those_that_lay_in_their_places(tied):
    config = AutoConfig.for_model(
        "llama", vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, tie_word_embeddings=tied
    )
    model = AutoModelForCausalLM.from_config(config)
    embedding = TokenEmbedding(token_embedding.Config(width=8, num_bits=3, first_visual=6))
    heads = [model.get_input_embeddings(), model.get_output_embeddings()]
    before = [head.weight.detach().clone() for head in heads]
    bits = embedding.signs(torch.arange(8)).float() @ embedding.bits_embedding.weight.T.detach()
    # Each new code is an old one with its bits turned round; code 7 is never met.
    new = torch.arange(7).repeat(10_000)
    translate_codes(model, embedding, 6, 8, new, 7 - new)
    for head, rows in zip(heads, before, strict=True):
        found = head.weight.detach()
        assert torch.equal(found[:6], rows[:6]) and torch.equal(found[14:], rows[14:])
        torch.testing.assert_close(found[6:13], rows[7:14].flip(0), atol=1e-3, rtol=0)
        torch.testing.assert_close(found[13], rows[7:14].mean(dim=0))
    found = embedding.signs(torch.arange(7)).float() @ embedding.bits_embedding.weight.T.detach()
    torch.testing.assert_close(found, bits[1:].flip(0), atol=1e-3, rtol=0)
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
