import pytest
import torch
from torch.nn import functional as F

from videopoet.errors import CheckpointError, ConfigError
from videopoet.models import construction, language_model
from videopoet.models.language_model import Config, LanguageModel
from videopoet.runtime import generator

VOCABULARY, VISUAL, PAD = 100, (20, 84), 5
TINY = Config(width=32, num_layers=2, num_heads=2, num_key_value_heads=1, head_width=16, hidden_width=48)
ARCHITECTURES = ("qwen3", "llama", "mistral", "gemma")


def make_model(**changes) -> LanguageModel:
    torch.manual_seed(0)
    model = construction.from_scratch(
        TINY.model_copy(update=changes), VOCABULARY, VISUAL, audio_places=(2, 16), pad=PAD
    )
    for weight in model.parameters():  # strong enough that every position depends on all that it sees
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=0.2)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return make_model()


def random_inputs(batch=2, length=12, seed=0):
    """Tokens of a special, some video and some audio positions, and their places."""
    stream = generator("tokens", seed)
    tokens = torch.randint(VOCABULARY, (batch, length), generator=stream)
    modality = torch.tensor([1, 2, 2, 2, 2, 3, 3, 3, 0, 0, 1, 1])[:length].expand(batch, -1)
    places = torch.randint(2, (batch, length, 3), generator=stream)
    tokens = torch.where(modality == 2, tokens % 64 + VISUAL[0], tokens)
    return tokens, modality, torch.where((modality >= 2)[..., None], places, -1)


def positions(batch, length):
    return torch.arange(length).expand(batch, -1)


def causal(batch, length):
    return torch.ones(batch, 1, length, length, dtype=torch.bool).tril()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_the_mask_says_who_sees_whom(architecture):
    model = make_model(architecture=architecture)
    embeddings = torch.randn(1, 8, 32, generator=generator("embeddings"))
    mask = torch.rand(1, 1, 8, 8, generator=generator("mask")) < 0.4
    mask |= torch.eye(8, dtype=torch.bool)
    plain = model(embeddings, mask, positions(1, 8))
    reach = mask[0, 0].float()
    reach = (reach @ reach) > 0  # two layers
    for column in range(8):
        changed = embeddings.clone()
        changed[:, column] += 1.0
        moved = (model(changed, mask, positions(1, 8)) - plain).abs().amax(dim=-1)[0] > 1e-6
        assert torch.equal(moved, reach[:, column]), f"position {column}"


@torch.no_grad()
def test_without_a_mask_every_position_sees_all(model):
    embeddings = torch.randn(1, 6, 32, generator=generator("embeddings"))
    everything = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    torch.testing.assert_close(model(embeddings, None, positions(1, 6)), model(embeddings, everything, positions(1, 6)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_cached_equals_uncached(architecture):
    from transformers import DynamicCache

    model = make_model(architecture=architecture)
    embeddings, mask, place = model.embed(*random_inputs()), causal(2, 12), positions(2, 12)
    mask[:, :, :5, :5] = True
    whole, cache = model(embeddings, mask, place), DynamicCache()
    steps = [slice(0, 5), slice(5, 6), slice(6, 9), slice(9, 12)]
    parts = [model(embeddings[:, step], mask[:, :, step, : step.stop], place[:, step], cache) for step in steps]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-4)


def test_an_embedding_is_its_choice_and_its_place(model):
    tokens, modality, places = random_inputs()
    whole = model.embed(tokens, modality, places)
    parts = model.embed_tokens(tokens, modality) + model.embedding.of_places(modality, places)
    assert torch.equal(whole, parts)


def test_places_and_bits_speak_of_media_alone(model):
    tokens, modality, places = random_inputs()
    added = model.embedding(tokens, modality, places).abs().amax(dim=-1)
    assert torch.equal(added > 0, modality >= 2)
    bits = model.embedding.of_bits(tokens, modality)
    assert torch.equal(bits.abs().amax(dim=-1) > 0, modality == 2)


def test_every_bit_and_every_axis_tells_tokens_apart(model):
    codes = torch.tensor([[0, 1, 2, 4, 8, 16, 32]]) + VISUAL[0]
    bits = model.embedding.of_bits(codes, torch.full_like(codes, 2))[0]
    assert torch.pdist(bits).min() > 0.1
    places = torch.tensor([[[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]])
    for modality, count in ((2, 4), (3, 3)):
        embedded = model.embedding.of_places(torch.full((1, count), modality), places[:, :count])[0]
        assert torch.pdist(embedded).min() > 0.1


def test_logits_are_a_slice_of_the_heads(model):
    hidden = torch.randn(3, 32, generator=generator("hidden"))
    everything = F.linear(hidden, model.head_weight)
    torch.testing.assert_close(model.logits(hidden, *VISUAL), everything[:, VISUAL[0] : VISUAL[1]])


def test_a_loss_counts_the_allowed_ids_alone(model, monkeypatch):
    stream = generator("loss")
    hidden = torch.randn(9, 32, generator=stream, requires_grad=True)
    ranges = torch.tensor([[20, 84], [84, 100], [0, 20]]).repeat(3, 1)
    tokens = ranges[:, 0] + torch.randint(16, (9,), generator=stream)
    losses = model.loss(hidden, tokens, ranges)
    logits = F.linear(hidden, model.head_weight)
    for loss, row, token, (start, stop) in zip(losses, logits, tokens, ranges.tolist(), strict=True):
        torch.testing.assert_close(loss, F.cross_entropy(row[start:stop], token - start))
    torch.testing.assert_close(model.loss(hidden[::3], tokens[::3], ranges[::3]), losses[::3])  # one range alone
    assert model.loss(hidden[:0], tokens[:0], ranges[:0]).shape == (0,)
    (gradient,) = torch.autograd.grad(losses.sum(), hidden, retain_graph=True)
    monkeypatch.setitem(language_model.MOST_LOGITS, "cpu", 100)  # now in chunks, recomputed in the backward pass
    chunked = model.loss(hidden, tokens, ranges)
    torch.testing.assert_close(chunked, losses)
    torch.testing.assert_close(torch.autograd.grad(chunked.sum(), hidden)[0], gradient)


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_a_model_comes_back_from_its_folder(tmp_path, tied):
    model = make_model(tied=tied)
    model.save(tmp_path / "model")
    again = LanguageModel.load(tmp_path / "model")
    embeddings = model.embed(*random_inputs())
    assert torch.equal(embeddings, again.embed(*random_inputs()))
    hidden = model(embeddings, causal(2, 12), positions(2, 12))
    assert torch.equal(hidden, again(embeddings, causal(2, 12), positions(2, 12)))
    assert torch.equal(model.logits(hidden, *VISUAL), again.logits(hidden, *VISUAL))
    assert not again.training
    assert again.num_layers == 2


def test_files_can_be_read_by_others(tmp_path):
    make_model().save(tmp_path / "model")
    assert len({file.stat().st_mode for file in (tmp_path / "model").glob("*.*")}) == 1


def test_weights_of_another_config_are_refused(tmp_path):
    make_model().save(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(path.read_text().replace('"intermediate_size": 48', '"intermediate_size": 64'))
    with pytest.raises(CheckpointError, match="do not fit") as caught:
        LanguageModel.load(tmp_path / "model")
    assert caught.value.code == "checkpoint_mismatch"


def test_a_clip_beyond_the_tables_is_refused(model):
    model.embedding.check((16, 64, 64))
    with pytest.raises(ConfigError, match="17 latent frames.*16") as caught:
        model.embedding.check((17, 64, 64))
    assert caught.value.code == "size_invalid"


def test_a_sound_beyond_the_tables_is_refused(model):
    levels, frames = model.embedding.config.audio_places
    model.embedding.check_sound((levels, frames))
    with pytest.raises(ConfigError, match=f"{frames + 1} frames.*{frames}.*shorter") as caught:
        model.embedding.check_sound((levels, frames + 1))
    assert caught.value.code == "size_invalid"
