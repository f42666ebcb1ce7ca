import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from videopoet.errors import CheckpointError
from videopoet.models import construction
from videopoet.models.draft_head import Config, DraftHead
from videopoet.models.language_model import Config as ModelConfig
from videopoet.models.language_model import LanguageModel
from videopoet.runtime import generator

WIDTH = 32
TINY = ModelConfig(width=WIDTH, num_layers=2, num_heads=2, num_key_value_heads=1, head_width=16, hidden_width=48)


def strengthen(module):
    for weight in module.parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=0.3)
    return module.eval()


def make_model(hidden_width=24) -> LanguageModel:
    torch.manual_seed(0)
    model = construction.from_scratch(TINY, 100, (20, 84), audio_places=(2, 16), pad=5)
    if hidden_width:
        model.add_draft_head(hidden_width)
    return strengthen(model)


def inputs():
    """What `draft` takes, of 2 rows of 9 positions, of which two are wanted."""
    stream = generator("draft")
    hidden, placed = torch.randn(2, 2, 9, WIDTH, generator=stream)
    tokens = torch.randint(20, 84, (2, 9), generator=stream)
    wanted = torch.tensor([[6, 7]]).expand(2, -1)
    around = torch.tensor([[[2, 4], [3, -1]]]).expand(2, -1, -1)
    return {
        "hidden": hidden,
        "tokens": tokens,
        "modality": torch.full((2, 9), 2),
        "placed": placed,
        "wanted": wanted,
        "around": around,
    }


@torch.no_grad()
def test_a_draft_depends_on_its_neighbours_and_its_place_alone():
    model, given = make_model(), inputs()
    plain = model.draft(**given)
    for position in range(9):
        for name in ("hidden", "tokens", "placed"):
            changed = given[name].clone()
            changed[:, position] = 20 + (changed[:, position] + 7) % 64 if name == "tokens" else -changed[:, position]
            moved = (model.draft(**(given | {name: changed})) - plain).abs().amax(dim=(0, 2)) > 1e-6
            readers = {"placed": {6: [True, False], 7: [False, True]}}.get(
                name, {2: [True, False], 4: [True, False], 3: [False, True]}
            )
            assert moved.tolist() == readers.get(position, [False, False]), (name, position)


@torch.no_grad()
def test_drafts_are_as_large_as_the_states_they_are_made_of():
    head = DraftHead(Config(width=WIDTH, hidden_width=8))
    states, tokens, place = torch.randn(5, 2, WIDTH), torch.randn(5, 2, WIDTH), torch.randn(5, WIDTH)
    present = torch.tensor([[True, True], [True, False], [False, True], [True, True], [False, False]])
    plain = head(states, tokens, present, place)
    torch.testing.assert_close(head(3 * states, tokens, present, place), 3 * plain)
    assert torch.equal(plain[4], torch.zeros(WIDTH))


def test_the_rest_of_the_model_learns_nothing_from_drafts():
    model, given = make_model(), inputs()
    given["hidden"].requires_grad_(True)
    states = model.draft(**given).flatten(0, 1)
    ranges = torch.tensor([20, 84]).expand(len(states), 2)
    model.loss(states, torch.full((len(states),), 30), ranges, head_learns=False).sum().backward()
    assert model.draft_head is not None and given["hidden"].grad is None
    learning = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert learning == {f"draft_head.{name}" for name, _ in model.draft_head.named_parameters()}


@torch.no_grad()
def test_a_head_comes_back_from_its_folder_and_transformers_needs_none(tmp_path):
    model = make_model()
    model.save(tmp_path / "model")
    again = LanguageModel.load(tmp_path / "model")
    assert torch.equal(again.draft(**inputs()), model.draft(**inputs()))
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model", local_files_only=True)
    assert torch.equal(plain.get_output_embeddings().weight, model.head_weight)
    shape = LanguageModel.shaped_as(tmp_path / "model")
    assert {name: tuple(w.shape) for name, w in shape.named_parameters()} == {
        name: tuple(w.shape) for name, w in model.named_parameters()
    }
    shutil.rmtree(tmp_path / "model" / "draft_head")
    assert LanguageModel.load(tmp_path / "model").draft_head is None


def test_a_model_without_a_head_is_saved_without_one(tmp_path):
    make_model(hidden_width=0).save(tmp_path / "model")
    assert not (tmp_path / "model" / "draft_head").exists()


def test_a_head_of_another_shape_is_refused(tmp_path):
    make_model().save(tmp_path / "model")
    path = tmp_path / "model" / "draft_head" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_width": 7}))
    with pytest.raises(CheckpointError, match="do not fit"):
        LanguageModel.load(tmp_path / "model")
