import sys

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from videopoet.data.mixture import TaskBatch
from videopoet.errors import ConfigError
from videopoet.models import construction
from videopoet.models.language_model import LanguageModel
from videopoet.runtime import generator
from videopoet.sequence import layout
from videopoet.sequence import vocabulary as vocabularies
from videopoet.sequence.tasks import find_task
from videopoet.sequence.vocabulary import Vocabulary
from videopoet.training import adaptation, loop, optimizer
from videopoet.training.adaptation import LoraConfig
from videopoet.training.next_token import NextToken

TEXT = 50
VOCABULARY = Vocabulary(
    vocabularies.Config(text_size=TEXT, num_special=40, visual_codes=64, audio_codebook_size=16, audio_quantizers=2)
)


def make_model(family: str = "llama") -> LanguageModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        family, vocab_size=TEXT, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=48, max_position_embeddings=64,
    )  # fmt: skip
    backbone = AutoModelForCausalLM.from_config(construction.without_dropout(config))
    video = VOCABULARY.range("video")
    return construction.from_text_model(backbone, VOCABULARY.size, video, (2, 16), TEXT, generator("grow"))


def make_batch() -> TaskBatch:
    stream = generator("batch")
    rows = [
        layout.build(
            find_task("text_to_video"),
            VOCABULARY,
            {
                "text_in": torch.randint(TEXT, (4,), generator=stream),
                "video_out": torch.randint(64, (3, 2, 2), generator=stream),
            },
        )
        for _ in range(4)
    ]
    return TaskBatch("text_to_video", layout.batch_rows(rows, VOCABULARY.special("<pad>")))


def tensors_of(model: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def train(model: LanguageModel, folder, num_steps=12, name="adamw", **settings) -> list[float]:
    losses = []

    class Recorded(NextToken):
        def __call__(self, batch, step, generator):
            result = super().__call__(batch, step, generator)
            losses.append(result.total.item())
            return result

    config = loop.Config(
        num_steps=num_steps,
        optimizer=optimizer.Config(name=name, learning_rate=1e-2, warmup_steps=1, weight_decay=0.1),
        ema_decay=0.0,
        bf16=False,
        **settings,
    )
    batch = make_batch()
    loop.train(Recorded(model, []), lambda index: batch, config, folder)
    return losses


@pytest.fixture
def peft():
    return pytest.importorskip("peft")


@pytest.mark.parametrize(("family", "name"), [("llama", "adamw"), ("gpt2", "muon")])
def test_lora_lowers_the_loss_and_leaves_a_plain_model_with_its_text_rows(peft, family, name, tmp_path):
    model = make_model(family)
    before = tensors_of(model)
    adapted = adaptation.add_lora(model, LoraConfig(rank=4, alpha=8), TEXT)
    losses = train(model, tmp_path / "run", name=name)
    assert losses[-1] < losses[0] - 0.5
    batch = make_batch().rows
    embeddings = model.embed(batch.tokens, batch.modality, batch.places)
    with torch.no_grad():
        changed = model(embeddings, batch.attention_mask(), batch.positions)
        adaptation.merge(adapted)
        merged = model(embeddings, batch.attention_mask(), batch.positions)
    torch.testing.assert_close(merged, changed, rtol=1e-4, atol=1e-4)
    after = model.state_dict()
    assert after.keys() == before.keys()
    tables = {id(model.head_weight), id(model.backbone.get_input_embeddings().weight)}
    for key, parameter in model.named_parameters():
        if id(parameter) in tables:
            assert torch.equal(parameter[:TEXT], before[key][:TEXT]), key
            assert not torch.equal(parameter[TEXT:], before[key][TEXT:]), key
    moved = {key for key in before if not torch.equal(after[key], before[key])}
    assert any(key.endswith(("q_proj.weight", "c_attn.weight")) for key in moved)
    assert not any("norm" in key or "ln_" in key or "wpe" in key for key in moved)
    model.save(tmp_path / "model")
    again = LanguageModel.load(tmp_path / "model")
    assert all(torch.equal(again.state_dict()[key], after[key]) for key in after)


def test_lora_moves_only_the_matrices_that_are_named(peft, tmp_path):
    model = make_model()
    before = tensors_of(model)
    adapted = adaptation.add_lora(model, LoraConfig(rank=2, alpha=4, targets=("v_proj",)), TEXT)
    train(model, tmp_path, num_steps=2)
    adaptation.merge(adapted)
    moved = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    assert {key.split(".")[-2] for key in moved if "layers" in key} == {"v_proj"}


def test_a_target_that_is_no_matrix_is_refused_with_those_there_are(peft):
    with pytest.raises(ConfigError, match="'query'.*q_proj"):
        adaptation.add_lora(make_model(), LoraConfig(targets=("query",)), TEXT)


def test_without_peft_lora_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"videopoet\[lora\]") as caught:
        adaptation.add_lora(make_model(), LoraConfig(), TEXT)
    assert caught.value.code == "extra_missing"


def test_kept_text_rows_stay_to_the_bit_while_the_rest_moves(tmp_path):
    model = make_model()
    before = tensors_of(model)
    adaptation.keep_text_rows(model, TEXT)
    train(model, tmp_path, num_steps=3)
    for key, tensor in model.state_dict().items():
        if "embed_tokens" in key or "lm_head" in key:
            assert torch.equal(tensor[:TEXT], before[key][:TEXT])
        if "layers" in key or key == "backbone.lm_head.weight":
            assert not torch.equal(tensor, before[key]), key


def test_frozen_parts_stay_and_have_no_running_mean(tmp_path):
    model = make_model()
    before = tensors_of(model)
    train(model, tmp_path, num_steps=2, frozen=("backbone.model.layers.0.",))
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[key]) == (".layers.0." in key), key
    assert not any(".layers.0." in name for name in loop.MeanWeights(model, 0.9).tensors)


def test_muon_leaves_every_table_to_adamw():
    model = make_model("gpt2")
    muon = next(each for each in optimizer.build(model, optimizer.Config(name="muon")) if type(each) is optimizer.Muon)
    moved = {id(parameter) for group in muon.param_groups for parameter in group["params"]}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in moved}
    assert names and not any("wte" in name or "wpe" in name or "embedding" in name for name in names)
    assert any("c_attn" in name for name in names)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_recomputing_gives_the_same_gradients(family):
    gradients = []
    for recompute in (False, True):
        model = make_model(family).train()
        if recompute:
            model.recompute_layers()
        NextToken(model, [])(make_batch(), 0, generator("step")).total.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name in gradients[0]:
        torch.testing.assert_close(gradients[1][name], gradients[0][name])
