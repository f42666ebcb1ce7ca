"""A poet that reads prompts as the features of a tiny random T5: converted, trained, guided, saved, used."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from videopoet import VideoPoet, cli, presets
from videopoet.config import override
from videopoet.data.mixture import MixtureConfig, Share, TaskBatch, TaskBatches
from videopoet.data.toybox import Config as World
from videopoet.data.toybox import ToyBox
from videopoet.errors import CheckpointError, ConfigError
from videopoet.generation import poet_folder
from videopoet.generation.convert import convert
from videopoet.generation.decoders.autoregressive import Autoregressive
from videopoet.generation.decoders.speculative import Speculative
from videopoet.generation.sampling import Sampling
from videopoet.runtime import generator
from videopoet.sequence import layout
from videopoet.sequence.tasks import find_task
from videopoet.text_encoders.own_tokens import OwnTokens
from videopoet.text_encoders.t5 import T5
from videopoet.training import run
from videopoet.training.language_model import vocabulary_of
from videopoet.training.next_token import NextToken

WORDS = "a red ball bounces blue star flies over the sea at night".split()


@pytest.fixture(scope="module")
def place(tmp_path_factory, make_poet, make_t5):
    """A folder with a text model, a T5, a poet whose tokenizers are taken, and a poet made of these."""
    place = tmp_path_factory.mktemp("t5")
    torch.manual_seed(0)
    sizes = {"vocab_size": 30, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 48, "max_position_embeddings": 512}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen3", **sizes, bos_token_id=1, eos_token_id=2))
    for weight in model.parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=0.15)
    model.save_pretrained(place / "text")
    OwnTokens.from_words(WORDS).save(place / "text")
    make_t5(place / "t5")
    make_poet().save_pretrained(place / "tokenizers", torch.float32)
    options = ["--video-tokenizer", str(place / "tokenizers"), "--audio-tokenizer", str(place / "tokenizers")]
    options += ["--text-encoder", str(place / "t5"), "-o", str(place / "poet")]
    assert cli.run(["convert", str(place / "text"), *options]) == 0
    return place


@pytest.fixture
def poet(place) -> VideoPoet:
    return VideoPoet.from_pretrained(place / "poet", device="cpu")


def rows(poet, *prompts) -> layout.Batch:
    """Text to video, of the same random codes for every prompt; None is a row without text."""
    parts, built = poet.parts, []
    for prompt in prompts:
        pieces = {"video_out": torch.randint(64, (5, 2, 2), generator=generator("codes"))}
        if prompt is not None:
            pieces["text_in"] = torch.tensor(parts.text_encoder.encode(prompt))
        built.append(layout.build(find_task("text_to_video"), parts.vocabulary, pieces))
    return layout.batch_rows(built, parts.vocabulary.special("<pad>"))


@torch.no_grad()
def hidden(poet, batch) -> torch.Tensor:
    model = poet.parts.language_model
    return model(model.embed(batch.tokens, batch.modality, batch.places), batch.attention_mask(), batch.positions)


@torch.no_grad()
def test_projected_features_stand_for_a_prompt_and_nothing_else_changes(poet):
    model, encoder = poet.parts.language_model, poet.parts.text_encoder
    batch = rows(poet, "a red ball", None)
    ids = torch.tensor([encoder.encode("a red ball")])
    features = encoder.features(ids, torch.ones_like(ids, dtype=torch.bool))[0]
    embeddings = model.embed(batch.tokens, batch.modality, batch.places)
    at = batch.tokens >= poet.parts.vocabulary.size
    assert at.sum() == len(features) and not at[1].any()
    torch.testing.assert_close(embeddings[at], model.embedding.of_features(features))
    known = batch.tokens.masked_fill(at, 0)
    others = model.backbone.get_input_embeddings()(known) + model.embedding(known, batch.modality, batch.places)
    torch.testing.assert_close(embeddings[~at], others[~at])


def test_what_follows_depends_on_the_prompt_and_not_on_the_prompts_beside_it(poet):
    alone = hidden(poet, rows(poet, "a red ball"))[0]
    length = 5 * 4 + 3  # the output, which begins after the same prefix tokens
    for company in ("a blue star flies over the sea", None):
        together = hidden(poet, rows(poet, "a red ball", company))[0]
        torch.testing.assert_close(together[-length:], alone[-length:], rtol=1e-4, atol=1e-5)
    other = hidden(poet, rows(poet, "a blue ball"))[0]
    assert (other[-length:] - alone[-length:]).abs().amax(dim=-1).min() > 1e-3


def test_text_logits_of_the_language_model_are_unchanged_to_the_bit(place, poet):
    text = torch.arange(20)[None] % 17 + 3
    model = poet.parts.language_model
    causal = torch.ones(1, 1, 20, 20, dtype=torch.bool).tril()
    with torch.no_grad():
        before = AutoModelForCausalLM.from_pretrained(place / "text")(text).logits
        states = model(model.embed_tokens(text, torch.zeros_like(text)), causal, torch.arange(20)[None])
        assert torch.equal(model.logits(states, 0, 30), before)


def test_training_lowers_the_loss_moves_the_projection_and_leaves_t5_alone(poet):
    model, encoder = poet.parts.language_model.requires_grad_(True).train(), poet.parts.text_encoder
    before = {name: tensor.clone() for name, tensor in encoder.network.state_dict().items()}
    projection = model.embedding.features_embedding.weight.clone()
    names = {name for name, _ in model.named_parameters()}
    assert "embedding.features_embedding.weight" in names and not any("encoder" in name for name in names)
    objective = NextToken(model, [])
    batch = TaskBatch("text_to_video", rows(poet, "a red ball", "a blue star flies", "a ball", None))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(21):
        loss = objective.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1.0
    assert not torch.equal(model.embedding.features_embedding.weight, projection)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.network.state_dict().items())


def test_two_prompts_with_different_clips_are_told_apart_by_training(poet):
    model = poet.parts.language_model.requires_grad_(True).train()
    encoder, vocabulary = poet.parts.text_encoder, poet.parts.vocabulary
    built = []
    for number, prompt in enumerate(("a red ball", "a blue star")):
        pieces = {"text_in": torch.tensor(encoder.encode(prompt)), "video_out": torch.full((1, 1, 2), 7 + number)}
        built.append(layout.build(find_task("text_to_image"), vocabulary, pieces))
    batch = TaskBatch("text_to_image", layout.batch_rows(built, vocabulary.special("<pad>")))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = NextToken(model, []).loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1, "below log(2) / 2, which is the best without the prompt"


@torch.no_grad()
@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("decoder", [Autoregressive(), Speculative()])
def test_cached_decoding_chooses_what_one_pass_would(poet, decoder, guided):
    parts = poet.parts
    prompts = ("a red ball", "a blue star flies over the sea")
    shapes = {"video_out": (3, 2, 2)}
    planned = [
        layout.plan(
            find_task("text_to_video"),
            parts.vocabulary,
            {"text_in": torch.tensor(parts.text_encoder.encode(prompt))},
            shapes,
        )
        for prompt in prompts
    ]
    against = [layout.plan(find_task("text_to_video"), parts.vocabulary, {}, shapes) for _ in prompts] if guided else []
    sampling = Sampling(temperature=0, guidance_scale=2.0 if guided else 1.0)
    made = decoder.decode(
        parts.language_model, parts.vocabulary, planned, against, sampling, [generator(0), generator(1)]
    )
    start, stop = parts.vocabulary.range("video")
    for row, other in zip(made, against or made, strict=True):
        logits = []
        for one in (row, other):
            if one is not row:  # the same output after a prefix without text
                one = one.filled(torch.cat([one.tokens[: one.prefix_length], row.tokens[row.prefix_length :]]))
            batch = layout.batch_rows([one], parts.vocabulary.special("<pad>"))
            states = hidden(poet, batch)[0, :-1][one.targets[1:]]
            logits.append(parts.language_model.logits(states, start, stop))
        joined = logits[1] + 2.0 * (logits[0] - logits[1]) if guided else logits[0]
        picked = joined.gather(1, (row.tokens[1:][row.targets[1:]] - start)[:, None])[:, 0]
        torch.testing.assert_close(picked, joined.amax(dim=-1), rtol=1e-4, atol=1e-4)


def test_a_poet_comes_back_from_its_folder_with_its_encoder(place, poet, tmp_path):
    poet.save_pretrained(tmp_path / "again", torch.float32)
    assert poet_folder.read_contents(tmp_path / "again").text_encoder == "t5"
    again = VideoPoet.from_pretrained(tmp_path / "again", device="cpu")
    batch = rows(poet, "a red ball", "a blue star")
    assert torch.equal(hidden(again, batch), hidden(poet, batch))
    poet.save_pretrained(tmp_path / "half", torch.bfloat16)
    half = VideoPoet.from_pretrained(tmp_path / "half", device="cpu").parts.text_encoder.network.state_dict()
    assert all(torch.equal(tensor, half[name]) for name, tensor in poet.parts.text_encoder.network.state_dict().items())
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "again" / "language_model").config.model_type == "qwen3"


def test_text_is_left_out_in_some_batches_and_captions_are_written_in_own_words(poet):
    parts = poet.parts
    world = ToyBox(World(height=16, width=16, num_frames=17))
    shares = (
        Share(task="text_to_video", batch_size=2, weight=1),
        Share(task="video_captioning", batch_size=2, weight=1),
    )
    config = MixtureConfig(shares=shares, text_drop=0.5, pool_clips=4, pool_batches=100)
    own = OwnTokens.from_words(world.words())
    encoder = T5(parts.text_encoder.network, parts.text_encoder.tokenizer, own)
    vocabulary = vocabulary_of(encoder, parts.video_tokenizer, parts.audio_tokenizer)
    batches = TaskBatches(world, config, parts.video_tokenizer, parts.audio_tokenizer, encoder, vocabulary, 0)
    speaks = {}
    for index in range(24):
        batch = batches(index)
        prompts = (batch.rows.tokens >= vocabulary.size).any(dim=1)
        speaks.setdefault(batch.task, set()).update(prompts.tolist())
        if batch.task == "video_captioning":
            words = batch.rows.tokens[batch.rows.targets]
            assert (words <= vocabulary.special("<eot_o>")).all()
    assert speaks == {"text_to_video": {True, False}, "video_captioning": {False}}


def test_parts_without_their_encoder_do_not_belong_together(poet):
    parts = poet.parts
    own = parts.text_encoder.own
    with pytest.raises(CheckpointError, match="ids of prompts number 0"):
        VideoPoet(
            parts.video_tokenizer, parts.audio_tokenizer, own, parts.language_model, parts.vocabulary, parts.settings
        )


def test_a_run_trains_makes_clips_and_captions_and_upscales(place, tmp_path):
    settings = ["num_steps=2", "checkpoint_every=1", "validate_every=2", "log_every=1"]
    tasks = ("text_to_video", "video_captioning", "video_to_audio")
    shares = ", ".join(f"{{task: {name}, batch_size: 2, weight: 1}}" for name in tasks)
    config = override(
        presets.tiny(),
        [
            f"language_model.text_encoder={place / 't5'}",
            "validation_clips=2",
            f"language_model.mixture.shares=[{shares}]",
            "language_model.mixture.pool_clips=4",
            "language_model.sample_prompts=[a red ball]",
            "super_resolution.pairs.pool_clips=8",
            *(
                f"{stage}.training.{setting}"
                for stage in ("video_tokenizer", "audio_tokenizer", "language_model", "super_resolution")
                for setting in settings
            ),
        ],
    )
    folder = run.train(config, tmp_path / "run", device=torch.device("cpu"))
    made = VideoPoet.from_pretrained(folder, device="cpu")
    assert made.parts.text_encoder.num_features == 16
    assert made.parts.super_resolution.config.text_size == made.parts.text_encoder.size
    clips = [
        made.generate("text_to_video", prompt=prompt, guidance_scale=2.0, seed=1, sound=False, progress=False).media
        for prompt in ("a red ball", "a blue star flies over the sea")
    ]
    assert clips[0].num_frames == 9
    caption = made.generate("video_captioning", video=clips[0], seed=1, progress=False).media
    assert isinstance(caption, str)
    larger = made.upscale(clips[0], prompt="a red ball", seed=1, progress=False).media
    assert larger.height == 2 * clips[0].height
    with pytest.raises(ConfigError, match="leave the setting out"):
        run.train(override(config, [f"init_from={folder}"]), tmp_path / "next", stages=("language_model",))


@pytest.mark.parametrize(("folder", "said"), [("nowhere/t5", "nowhere/t5"), ("text", "'qwen3', no T5")])
def test_what_is_no_t5_is_refused_and_nothing_is_left(folder, said, place, tmp_path):
    given = {"video_tokenizer": place / "tokenizers", "audio_tokenizer": place / "tokenizers"}
    encoder = folder if "/" in folder else place / folder
    with pytest.raises(CheckpointError, match=said):
        convert(place / "text", tmp_path / "made", **given, text_encoder=encoder)
    assert list(tmp_path.iterdir()) == []
