"""Nine families of language models, tiny and random, each made a poet."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from videopoet import VideoPoet, cli
from videopoet.data.mixture import TaskBatch
from videopoet.errors import CheckpointError, ConfigError, TaskError
from videopoet.generation.convert import Conversion, convert
from videopoet.generation.decoders.autoregressive import Autoregressive
from videopoet.generation.sampling import Sampling
from videopoet.models.language_model import LanguageModel
from videopoet.runtime import generator
from videopoet.sequence import layout
from videopoet.sequence.tasks import find_task
from videopoet.text_encoders.own_tokens import OwnTokens
from videopoet.training.next_token import NextToken

ROWS = 100  # of a model's table; its tokenizer knows far fewer words
SIZES = {
    "vocab_size": ROWS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128}
FAMILIES = {
    "llama": {},
    "qwen3": {"tie_word_embeddings": True},
    "qwen2": {"tie_word_embeddings": False},
    "gemma3_text": {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
    "mistral": {"sliding_window": 8},
    "gpt2": GPT,
    "gpt_neox": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 24},
    "phi": {},
}
TEXT = torch.arange(20)[None] % 17 + 3


def make_source(folder: Path, family: str, **changes) -> Path:
    """A folder as the hub has them: random weights, and a tokenizer of 13 words."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(family, **(SIZES | FAMILIES.get(family, {}) | changes))
    )
    for weight in model.parameters():  # strong enough that every position depends on all that it sees
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=0.15)
    model.save_pretrained(folder)
    OwnTokens.from_words("a red ball bounces blue star flies over the sea at night".split()).save(folder)
    return folder


@dataclass
class Converted:
    source: Path
    made: Conversion
    poet: VideoPoet

    @property
    def model(self) -> LanguageModel:
        return self.poet.parts.language_model

    def rows(self, count=4) -> layout.Batch:
        """Text to video and its sound, of random codes."""
        parts, stream, rows = self.poet.parts, generator("rows"), []
        for number in range(count):
            pieces = {
                "text_in": torch.tensor(parts.text_encoder.encode("a red ball" + " flies" * number)),
                "video_out": torch.randint(64, (5, 2, 2), generator=stream),
            }
            rows.append(layout.build(find_task("text_to_video"), parts.vocabulary, pieces))
        return layout.batch_rows(rows, parts.vocabulary.special("<pad>"))


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory, make_poet) -> Path:
    """A poet whose tokenizers are taken."""
    folder = tmp_path_factory.mktemp("tokenizers") / "poet"
    make_poet().save_pretrained(folder, torch.float32)
    return folder


@pytest.fixture(scope="module", params=FAMILIES)
def converted(request, tmp_path_factory, tokenizers) -> Converted:
    place = tmp_path_factory.mktemp(request.param)
    source = make_source(place / "source", request.param)
    made = convert(source, place / "poet", video_tokenizer=tokenizers, audio_tokenizer=tokenizers)
    return Converted(source, made, VideoPoet.from_pretrained(made.folder, device="cpu"))


def causal(length: int) -> torch.Tensor:
    return torch.ones(1, 1, length, length, dtype=torch.bool).tril()


@torch.no_grad()
def hidden(model: LanguageModel, batch: layout.Batch) -> torch.Tensor:
    embeddings = model.embed(batch.tokens, batch.modality, batch.places)
    return model(embeddings, batch.attention_mask(model.causal_prefix), batch.positions)


@torch.no_grad()
def test_text_logits_are_unchanged_to_the_bit(converted):
    before = AutoModelForCausalLM.from_pretrained(converted.source)(TEXT).logits
    model = converted.model
    embeddings = model.embed(TEXT, torch.zeros_like(TEXT), torch.full((*TEXT.shape, 3), -1))
    states = model(embeddings, causal(20), torch.arange(20)[None])
    assert torch.equal(model.logits(states, 0, ROWS), before)


@torch.no_grad()
def test_plain_transformers_opens_the_language_model(converted):
    folder = converted.made.folder / "language_model"
    before = AutoModelForCausalLM.from_pretrained(converted.source)
    after, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    assert type(after) is type(before)
    old, new = before(TEXT).logits, after(TEXT).logits
    assert new.shape[-1] == converted.poet.parts.vocabulary.size > ROWS
    torch.testing.assert_close(new[..., :ROWS], old, rtol=1e-6, atol=1e-6)
    words = "a red ball flies"
    ids = AutoTokenizer.from_pretrained(folder)(words, add_special_tokens=False)["input_ids"]
    assert ids == converted.poet.parts.text_encoder.encode(words)


def test_old_rows_come_first_and_ties_stay(converted):
    before, after = AutoModelForCausalLM.from_pretrained(converted.source), converted.model.backbone
    for part in ("get_input_embeddings", "get_output_embeddings"):
        assert torch.equal(getattr(after, part)().weight[:ROWS], getattr(before, part)().weight)
    for model in (before, after):
        tied = model.get_input_embeddings().weight.data_ptr() == model.get_output_embeddings().weight.data_ptr()
        assert tied == before.config.tie_word_embeddings
    assert converted.poet.parts.vocabulary.range("text") == (0, ROWS)


def test_twenty_steps_lower_the_loss(converted):
    model = LanguageModel.load(converted.made.folder / "language_model").train()
    objective, batch = NextToken(model, []), TaskBatch("text_to_video", converted.rows())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for step in range(21):
        loss = objective(batch, step, generator(step)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1.0


@torch.no_grad()
def test_the_prefix_is_read_both_ways_and_the_output_one_way(converted):
    model, batch = converted.model, converted.rows(1)
    length, prefix = batch.tokens.shape[1], int(batch.prefix_length)
    before = hidden(model, batch)[0]

    def moved_by(place: int) -> torch.Tensor:
        tokens = batch.tokens.clone()
        tokens[0, place] = tokens[0, place] + 1
        changed = layout.Batch(**(vars(batch) | {"tokens": tokens}))
        return (hidden(model, changed)[0] - before).abs().amax(dim=-1) > 1e-6

    assert not model.causal_prefix
    assert moved_by(prefix - 2)[:prefix].all()
    place = prefix + 5
    moved = moved_by(place)
    assert not moved[:place].any() and moved[place : place + 8].all()
    reach = 2 * 8 - 1 if converted.made.family == "mistral" else length  # two layers of its windows
    assert torch.equal(moved[place:], torch.arange(length - place) < reach)


@torch.no_grad()
def test_cached_decoding_chooses_what_one_pass_would(converted):
    parts, stream = converted.poet.parts, generator("prompt")
    rows = [
        layout.plan(
            find_task("text_to_video"),
            parts.vocabulary,
            {"text_in": torch.randint(10, (count,), generator=stream)},
            {"video_out": (5, 2, 2)},
        )
        for count in (2, 5)
    ]
    likeliest = Sampling(temperature=0)
    made = Autoregressive().decode(converted.model, parts.vocabulary, rows, [], likeliest, [generator(0), generator(1)])
    start, stop = parts.vocabulary.range("video")
    for row in made:
        batch = layout.batch_rows([row], parts.vocabulary.special("<pad>"))
        logits = converted.model.logits(hidden(converted.model, batch), start, stop)[0, :-1]
        chosen = row.targets[1:]
        picked = logits[chosen].gather(1, (row.tokens[1:][chosen] - start)[:, None])[:, 0]
        torch.testing.assert_close(picked, logits[chosen].amax(dim=-1), rtol=1e-4, atol=1e-4)


def test_a_converted_poet_comes_back_from_its_folder(converted, tmp_path):
    converted.poet.save_pretrained(tmp_path / "again", torch.float32)
    again = VideoPoet.from_pretrained(tmp_path / "again", device="cpu")
    batch = converted.rows()
    assert torch.equal(hidden(again.parts.language_model, batch), hidden(converted.model, batch))
    assert again.parts.vocabulary == converted.poet.parts.vocabulary


def test_nothing_is_drawn_in_training(converted):
    model = LanguageModel.load(converted.made.folder / "language_model").train()
    assert torch.equal(hidden(model, converted.rows()), hidden(model, converted.rows()))


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("granite", {"logits_scaling": 4.0, "embedding_multiplier": 3.0}),
        ("gemma2", {"final_logit_softcapping": 2.0, "sliding_window": 8}),
        ("cohere", {"logit_scale": 0.5}),
    ],
)
@torch.no_grad()
def test_families_that_bend_their_logits_say_the_same_of_text(family, changes, tokenizers, tmp_path):
    source = make_source(tmp_path / "source", family, **changes)
    convert(source, tmp_path / "poet", video_tokenizer=tokenizers, audio_tokenizer=tokenizers)
    model = LanguageModel.load(tmp_path / "poet" / "language_model")
    embeddings = model.embed_tokens(TEXT, torch.zeros_like(TEXT))
    logits = model.logits(model(embeddings, causal(20), torch.arange(20)[None]), 0, ROWS)
    torch.testing.assert_close(logits, AutoModelForCausalLM.from_pretrained(source)(TEXT).logits)


def test_a_family_that_ignores_the_mask_gets_a_causal_prefix_and_says_so(tokenizers, tmp_path, capsys):
    changes = {"num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]], "window_size": 8}
    source = make_source(tmp_path / "source", "gpt_neo", **changes)
    options = ["--video-tokenizer", str(tokenizers), "--audio-tokenizer", str(tokenizers)]
    assert cli.run(["convert", str(source), "-o", str(tmp_path / "poet"), *options]) == 0
    assert "warning" in (said := capsys.readouterr()).err and "causal prefix" in said.err
    assert "prefix: causal" in said.out
    poet = VideoPoet.from_pretrained(tmp_path / "poet", device="cpu")
    assert poet.parts.language_model.causal_prefix
    with pytest.raises(TaskError, match="nothing yet"):
        poet.generate("text_to_video", prompt="a ball")


@pytest.mark.parametrize(
    ("family", "changes", "said"),
    [
        ("mamba", {"state_size": 4}, "'linear_attention'"),
        ("lfm2", {"layer_types": ["conv", "full_attention"]}, "'conv'"),
        ("bloom", {"n_layer": 2, "n_head": 2}, "ALiBi"),
    ],
)
def test_a_family_that_cannot_be_steered_is_refused_and_nothing_is_left(family, changes, said, tokenizers, tmp_path):
    source = make_source(tmp_path / "source", family, **changes)
    with pytest.raises(ConfigError, match=said) as caught:
        convert(source, tmp_path / "poet", video_tokenizer=tokenizers, audio_tokenizer=tokenizers)
    assert caught.value.code == "model_unfit"
    assert f"'{family}'" in str(caught.value) and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_weights_keep_their_precision(tokenizers, tmp_path):
    source = make_source(tmp_path / "source", "llama", dtype="bfloat16")
    AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16).save_pretrained(source)
    convert(source, tmp_path / "poet", video_tokenizer=tokenizers, audio_tokenizer=tokenizers)
    before = AutoModelForCausalLM.from_pretrained(source, dtype="auto")
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "poet" / "language_model", dtype="auto")
    assert after.dtype == before.dtype == torch.bfloat16
    assert torch.equal(after.model.embed_tokens.weight[:ROWS], before.model.embed_tokens.weight)


def test_tokenizers_alone_are_found_by_their_configs(tokenizers, tmp_path):
    source = make_source(tmp_path / "source", "llama")
    parts = {name: tokenizers / name for name in ("video_tokenizer", "audio_tokenizer")}
    made = convert(source, tmp_path / "poet", **parts)
    assert (made.vocabulary.visual_codes, made.vocabulary.audio_quantizers) == (64, 2)
    with pytest.raises(CheckpointError, match="no video tokenizer"):
        convert(source, tmp_path / "other", **(parts | {"video_tokenizer": tokenizers / "audio_tokenizer"}))


def remove(*names):
    def change(source):
        for name in names:
            (source / name).unlink()

    return change


def ask_for_code(source):
    path = source / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoModel": "own.Model"}}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (remove("config.json"), "no config.json"),
        (remove("model.safetensors"), "no safetensors"),
        (remove("tokenizer.json", "tokenizer_config.json"), "tokenizer"),
        (ask_for_code, "code of its own"),
        (lambda source: (source / "model.safetensors").write_bytes(b"no"), "cannot be loaded"),
    ],
)
def test_a_broken_source_is_refused_in_one_sentence(change, said, tokenizers, tmp_path):
    change(source := make_source(tmp_path / "source", "llama"))
    with pytest.raises(CheckpointError, match=said) as caught:
        convert(source, tmp_path / "poet", video_tokenizer=tokenizers, audio_tokenizer=tokenizers)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "poet").exists()


def test_a_poet_is_not_converted_again_and_nothing_is_overwritten(tokenizers, tmp_path):
    with pytest.raises(ConfigError, match="poet already"):
        convert(tokenizers, tmp_path / "poet")
    with pytest.raises(ConfigError, match="is there already"):
        convert(tmp_path / "source", tokenizers)


def test_a_source_that_is_nowhere_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="owner/no-such-model"):
        convert("owner/no-such-model", tmp_path / "poet")


def test_a_row_beyond_the_models_positions_is_refused(converted):
    limit = converted.model.longest
    assert limit == 128
    with pytest.raises(ConfigError, match="129 positions.*128") as caught:
        converted.model(torch.zeros(1, 129, 24), causal(129), torch.arange(129)[None])
    assert caught.value.code == "row_too_long"


def test_marks_of_the_tokenizers_own_are_no_prompt(tokenizers, tmp_path):
    source = make_source(tmp_path / "source", "llama")
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[|stop|]"]})
    tokenizer.save_pretrained(source)
    convert(source, tmp_path / "poet", video_tokenizer=tokenizers, audio_tokenizer=tokenizers)
    encoder = VideoPoet.from_pretrained(tmp_path / "poet", device="cpu").parts.text_encoder
    with pytest.raises(TaskError, match=r"\[\|stop\|\]"):
        encoder.encode("a red ball [|stop|]")
