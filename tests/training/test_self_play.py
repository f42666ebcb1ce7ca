from dataclasses import replace

import pytest
import torch

from videopoet import presets
from videopoet.config import override
from videopoet.data.mixture import MixtureConfig, Share, TaskBatches
from videopoet.data.toybox import Config as World
from videopoet.data.toybox import ToyBox, words
from videopoet.errors import ConfigError
from videopoet.generation.request import Settings
from videopoet.sequence import layout
from videopoet.sequence.tasks import find_task
from videopoet.text_encoders.own_tokens import OwnTokens
from videopoet.tokenizers.magvit_v2 import MagvitV2
from videopoet.tokenizers.soundstream import SoundStream
from videopoet.training import journal, run
from videopoet.training.language_model import fresh, vocabulary_of
from videopoet.training.next_token import token_losses
from videopoet.training.self_play import PairBatches, SelfPlay, SelfPlayConfig, log_probabilities, without_prompt

SHARES = (
    Share(task="text_to_video", batch_size=3, weight=1),
    Share(task="inpainting", batch_size=2, weight=1),
    Share(task="video_captioning", batch_size=2, weight=1),
)


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    config = presets.tiny()
    video, audio = MagvitV2(config.video_tokenizer.model), SoundStream(config.audio_tokenizer.model)
    text = OwnTokens.from_words(words())
    vocabulary = vocabulary_of(text, video, audio)
    mixture = MixtureConfig(shares=SHARES, pool_clips=6, pool_batches=4, text_drop=0.25)
    world = ToyBox(World(height=32, width=32, num_frames=9))
    batches = TaskBatches(world, mixture, video, audio, text, vocabulary, seed=0)
    return batches, fresh(config.language_model.model, vocabulary), vocabulary


def pairs_of(parts, tasks=("text_to_video", "inpainting"), **settings):
    batches, model, vocabulary = parts
    return PairBatches(batches, model, vocabulary, Settings(**settings), SelfPlayConfig(tasks=tasks), seed=5)


def of_task(pairs, task):
    return next(pair for pair in map(pairs, range(40)) if pair.true.task == task)


@pytest.mark.parametrize("task", ["text_to_video", "inpainting"])
def test_a_pair_has_one_prefix_and_differs_in_what_is_chosen_alone(parts, task):
    _, model, vocabulary = parts
    pair = of_task(pairs_of(parts), task)
    true, (first, own) = pair.true.rows, pair.both.tokens.chunk(2)
    assert torch.equal(first, true.tokens)
    differs = true.tokens != own
    assert differs.any() and not (differs & ~true.targets).any()
    chosen = own[true.targets]
    low, high = vocabulary.range("video")
    assert ((low <= chosen) & (chosen < high)).all()
    with torch.no_grad():
        alone = log_probabilities(token_losses(model, true), true)
        assert torch.allclose(pair.before[: len(alone)], alone, rtol=1e-3)


def test_own_answers_are_a_function_of_seed_and_number(parts):
    first, again = of_task(pairs_of(parts), "text_to_video"), of_task(pairs_of(parts), "text_to_video")
    assert torch.equal(first.both.tokens, again.both.tokens)
    other = of_task(replace_seed(pairs_of(parts)), "text_to_video")
    assert torch.equal(first.true.rows.tokens, other.true.rows.tokens)
    assert not torch.equal(first.both.tokens, other.both.tokens)


def replace_seed(pairs):
    pairs.seed = 6
    return pairs


def test_tasks_that_are_not_named_are_learned_as_ever(parts):
    _, model, _ = parts
    pair = of_task(pairs_of(parts, tasks=("text_to_video",)), "video_captioning")
    assert pair.both is None
    losses = SelfPlay(SelfPlayConfig(), model, [])(pair, 0, torch.Generator())
    assert set(losses.figures) == {"loss_video_captioning"}


def test_the_loss_is_that_of_dpo(parts):
    _, model, _ = parts
    pair = of_task(pairs_of(parts), "text_to_video")
    config = SelfPlayConfig(beta=0.5, likelihood_weight=0.25)
    with torch.no_grad():
        start = SelfPlay(config, model, [])(pair, 0, torch.Generator())
        likelihood = start.figures["loss_text_to_video"]
        # The model is what it was, so that nothing is preferred yet: log 2 a pair.
        assert start.total.item() == pytest.approx(0.6931 + 0.25 * likelihood.item(), abs=5e-3)
        ahead = replace(pair, before=pair.before + torch.tensor([-4.0, 2.0]).repeat_interleave(3))
        gained = SelfPlay(config, model, [])(ahead, 0, torch.Generator())
        assert gained.figures["preference_loss_text_to_video"].item() == pytest.approx(0.0486, abs=5e-3)
        assert gained.figures["preferred_text_to_video"] == 1


def test_steps_make_the_model_prefer_what_is_true(parts):
    batches, model, vocabulary = parts
    torch.manual_seed(1)
    model = fresh(presets.tiny().language_model.model, vocabulary)
    pair = of_task(PairBatches(batches, model, vocabulary, Settings(), SelfPlayConfig(), seed=5), "text_to_video")
    learner = fresh(presets.tiny().language_model.model, vocabulary)
    learner.load_state_dict(model.state_dict())
    objective = SelfPlay(SelfPlayConfig(), learner, [])
    optimizer = torch.optim.AdamW(learner.parameters(), lr=1e-3)
    preference = []
    for _ in range(8):
        losses = objective(pair, 0, torch.Generator())
        preference.append(losses.figures["preference_loss_text_to_video"].item())
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    assert preference[-1] < 0.8 * preference[0]


def test_a_row_without_its_prompt_is_the_one_that_guidance_compares_with(parts):
    _, _, vocabulary = parts
    task, ids = find_task("text_to_video"), torch.tensor([1, 2, 3])
    shapes = {"video_out": (2, 4, 4)}
    full = layout.plan(task, vocabulary, {"text_in": ids}, shapes)
    bare = layout.plan(task, vocabulary, {}, shapes)
    cut = without_prompt(full, vocabulary)
    for name in ("tokens", "modality", "places", "ranges", "targets"):
        assert torch.equal(getattr(cut, name), getattr(bare, name))
    assert cut.prefix_length == bare.prefix_length
    assert without_prompt(bare, vocabulary) is bare


def test_rows_of_a_batch_are_those_it_was_made_of(parts):
    _, _, vocabulary = parts
    task, shapes = find_task("text_to_video"), {"video_out": (2, 4, 4)}
    rows = [layout.plan(task, vocabulary, {"text_in": torch.arange(1, n)}, shapes) for n in (3, 6)]
    batch = layout.batch_rows(rows, vocabulary.special("<pad>"))
    for row, back in zip(rows, batch.unpadded(), strict=True):
        assert torch.equal(row.tokens, back.tokens) and torch.equal(row.places, back.places)
        assert row.prefix_length == back.prefix_length


def test_a_run_plays_against_the_model_that_it_begins_with(tmp_path):
    few = ["num_steps=1", "checkpoint_every=9", "validate_every=9", "log_every=1"]
    stages = ("video_tokenizer", "audio_tokenizer", "language_model")
    settings = [f"{stage}.training.{setting}" for stage in stages for setting in few]
    settings += ["validation_clips=2", "language_model.sample_prompts=[]"]
    settings += ["language_model.mixture.shares=[{task: text_to_video, batch_size: 2, weight: 1}]"]
    first = run.train(override(presets.tiny(), settings), tmp_path / "first", stages=stages)
    play = [*settings, "language_model.self_play={beta: 0.2}", "language_model.training.num_steps=2"]
    with pytest.raises(ConfigError, match="self-play begins with a trained model"):
        override(presets.tiny(), play)
    config = override(presets.tiny(), [f"init_from={first}", *play])
    unbroken = run.train(config, tmp_path / "unbroken", stages=("language_model",))
    entries = [entry for entry in journal.read(unbroken.parent / "language_model") if entry["kind"] == "train"]
    assert entries[0]["preference_loss_text_to_video"] == pytest.approx(0.6931, abs=1e-2)


def test_a_task_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match="there is no task 'stylisation'"):
        override(presets.tiny(), ["init_from=x", "language_model.self_play={tasks: [stylisation]}"])


def test_a_task_that_is_not_trained_is_refused():
    shares = "language_model.mixture.shares=[{task: text_to_video, batch_size: 2, weight: 1}]"
    with pytest.raises(ConfigError, match="has no share of"):
        override(presets.tiny(), ["init_from=x", shares, "language_model.self_play={tasks: [inpainting]}"])


def test_a_draft_head_learns_beside(parts):
    batches, _, vocabulary = parts
    model = fresh(presets.tiny().language_model.model, vocabulary)
    model.add_draft_head(16)
    pair = of_task(PairBatches(batches, model, vocabulary, Settings(), SelfPlayConfig(), seed=5), "text_to_video")
    losses = SelfPlay(SelfPlayConfig(), model, [])(pair, 0, torch.Generator())
    losses.total.backward()
    assert losses.figures["draft_loss_text_to_video"] > 0
    assert all(parameter.grad is not None for parameter in model.draft_head.parameters())


def test_a_task_that_answers_in_words_is_refused():
    with pytest.raises(ConfigError, match="answers with a text"):
        override(presets.tiny(), ["init_from=x", "language_model.self_play={tasks: [video_captioning]}"])
