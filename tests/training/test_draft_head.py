"""A draft head is trained beside the language model, or alone on a finished one."""

import copy

import pytest
import torch

from videopoet import presets
from videopoet.config import override
from videopoet.data.mixture import TaskBatch
from videopoet.generation import poet_folder
from videopoet.models import construction
from videopoet.models.language_model import Config, LanguageModel
from videopoet.runtime import generator
from videopoet.sequence import layout
from videopoet.sequence import vocabulary as vocabularies
from videopoet.sequence.tasks import TASKS
from videopoet.sequence.vocabulary import Vocabulary
from videopoet.training import loop, optimizer, run
from videopoet.training.next_token import NextToken

VOCABULARY = Vocabulary(
    vocabularies.Config(text_size=30, num_special=40, visual_codes=64, audio_codebook_size=16, audio_quantizers=2)
)
TINY = Config(width=32, num_layers=2, num_heads=2, num_key_value_heads=1, head_width=16, hidden_width=48)
WORDS = {"text": torch.arange(4), "video": torch.arange(20).view(5, 2, 2), "audio": torch.arange(16).view(2, 8) % 16}


def make_model(draft_width: int) -> LanguageModel:
    torch.manual_seed(0)
    video, pad = VOCABULARY.range("video"), VOCABULARY.special("<pad>")
    model = construction.from_scratch(TINY, VOCABULARY.size, video, (2, 16), pad)
    if draft_width:
        model.add_draft_head(draft_width)
    return model


def make_batch(name: str) -> TaskBatch:
    task = TASKS[name]
    pieces = {view.piece: view.of(WORDS[view.modality]) for view in task.given}
    pieces |= {f"{view.modality}_out": view.of(WORDS[view.modality]) for view in task.predict}
    row = layout.build(task, VOCABULARY, pieces)
    return TaskBatch(name, layout.batch_rows([row, row], VOCABULARY.special("<pad>")))


@pytest.mark.parametrize("name", TASKS)
def test_the_model_learns_what_it_learns_without_a_head(name):
    batch, gradients = make_batch(name), []
    for draft_width in (0, 16):
        model = make_model(draft_width)
        losses = NextToken(model, [])(batch, 0, generator("step"))
        losses.total.backward()
        assert (f"draft_loss_{name}" in losses.figures) == bool(draft_width)
        torch.testing.assert_close(losses.total.detach(), sum(losses.figures.values()))
        gradients.append({key: weight.grad for key, weight in model.named_parameters() if "draft_head" not in key})
    for key, gradient in gradients[0].items():
        other = gradients[1][key]
        assert other is None if gradient is None else other is not None and torch.equal(gradient, other), key


def test_a_head_alone_learns_beside_a_model_that_stays_as_it_is(tmp_path):
    model = make_model(16)
    before = copy.deepcopy(model.state_dict())
    batches = [make_batch(name) for name in ("text_to_video", "video_to_audio", "video_captioning")]
    config = loop.Config(
        num_steps=60,
        optimizer=optimizer.Config(name="muon", learning_rate=1e-2, warmup_steps=1),
        frozen=("backbone", "embedding"),
        ema_decay=0.0,
        bf16=False,
    )
    objective = NextToken(model, batches)
    first = objective.validate(tmp_path)
    loop.train(objective, lambda index: batches[index % 3], config, tmp_path / "run")
    last = objective.validate(tmp_path)
    for name in ("text_to_video", "video_to_audio"):
        assert last[f"draft_loss_{name}"] < 0.5 * first[f"draft_loss_{name}"]
        assert last[f"loss_{name}"] == first[f"loss_{name}"]
    assert last["draft_loss_video_captioning"] == 0
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) != name.startswith("draft_head."), name


def test_a_finished_poet_is_given_a_head(tmp_path):
    training = ["num_steps=2", "checkpoint_every=2", "validate_every=2", "frozen=[backbone, embedding]"]
    assignments = [
        "init_from=bundled",
        "validation_clips=1",
        "language_model.draft_width=8",
        "language_model.mixture.shares=[{task: text_to_video, batch_size: 1, weight: 1}]",
        "language_model.mixture.sizes=[]",
        "language_model.mixture.pool_clips=1",
        "language_model.validation_tasks=[text_to_video]",
        "language_model.sample_prompts=[]",
        *(f"language_model.training.{setting}" for setting in training),
    ]
    config = override(presets.preset("small"), assignments)
    folder = run.train(config, tmp_path, stages=("language_model",), device=torch.device("cpu"))
    before = poet_folder.load(None, "cpu", torch.float32).language_model
    after = poet_folder.load(folder, "cpu", torch.float32).language_model
    assert before.draft_head is None and after.draft_head is not None
    assert bool(after.draft_head.fall.weight.any())  # it begins at zero
    for name, tensor in before.state_dict().items():
        assert torch.equal(tensor, after.state_dict()[name]), name
    assert "draft_loss_text_to_video" in run.last_figures(tmp_path)["language_model"]["validation"]
