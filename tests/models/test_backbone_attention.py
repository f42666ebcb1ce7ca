import copy
import json
import shutil

import pytest
import torch
from torch import Tensor

from videopoet.errors import ConfigError
from videopoet.models import backbone_attention, masks
from videopoet.models.language_model import LanguageModel
from videopoet.nn import product_attention
from videopoet.runtime import generator

FAMILIES = ("qwen3", "llama", "gemma", "gpt_neox")


def installed(model: LanguageModel) -> LanguageModel:
    model = copy.deepcopy(model).requires_grad_(True)
    backbone_attention.install(model.backbone)
    return model


def weakened(model: LanguageModel) -> LanguageModel:
    """The model with weights as small as those of training: large scores of attention are a choice of one."""
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.data *= 0.3
    return model


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    mask = torch.ones(2, 1, 12, 12, dtype=torch.bool).tril()
    mask[:, :, :5, :5] = True
    embeddings = torch.randn(2, 12, 32, generator=generator("embeddings"))
    return embeddings, mask, torch.arange(12).expand(2, -1)


def gradients(model: LanguageModel, bf16: bool) -> Tensor:
    """Of a weighed sum of hidden states, by all weights of the layers."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        hidden = model(*inputs()).float()
    (hidden * torch.randn(hidden.shape, generator=generator("gradient"))).sum().backward()
    found = [weight.grad for layer in model.layers for weight in layer.parameters()]
    return torch.cat([gradient.flatten() for gradient in found if gradient is not None])


@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_is_computed_by_products_and_gives_gradients_as_near_the_truth(make, family, monkeypatch):
    model = weakened(make(family))
    true = gradients(installed(model), bf16=False)
    before = (gradients(copy.deepcopy(model).requires_grad_(True), bf16=True) - true).norm() / true.norm()
    calls, attend = [], product_attention.attend
    monkeypatch.setattr(product_attention, "attend", lambda *given: calls.append(1) or attend(*given))
    error = (gradients(installed(model), bf16=True) - true).norm() / true.norm()
    assert len(calls) == 2  # layers
    assert error < max(1.5 * before, 0.01)


def test_fp32_is_what_it_was(make):
    model = make("qwen3")
    assert torch.equal(
        gradients(installed(model), bf16=False), gradients(copy.deepcopy(model).requires_grad_(True), bf16=False)
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mask_that_is_made_once_for_all_layers_says_what_theirs_do(make, family, monkeypatch):
    model = make(family)
    usual = gradients(installed(model), bf16=False)
    given, attend = [], torch.nn.functional.scaled_dot_product_attention

    def note(*arguments, attn_mask=None, **others):
        given.append(attn_mask)
        return attend(*arguments, attn_mask=attn_mask, **others)

    monkeypatch.setattr(masks, "_as_added", lambda config, mask, dtype: masks.as_numbers(mask, dtype))
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", note)
    torch.testing.assert_close(gradients(installed(model), bf16=False), usual, rtol=1e-5, atol=1e-6)
    assert len({mask.data_ptr() for mask in given}) == 1 and len(given) == 2  # layers
    assert all(mask.dtype == torch.float32 and mask.stride(-2) % 8 == 0 for mask in given)


def test_layers_that_are_computed_again_give_the_same_gradients(make):
    model = weakened(make("qwen3"))
    again = installed(model)
    again.recompute_layers()
    again.train()
    assert torch.equal(gradients(again, bf16=True), gradients(installed(model), bf16=True))


@pytest.mark.skipif(not shutil.which("g++"), reason="there is no compiler")
def test_compiled_layers_give_gradients_as_near_the_truth(make):
    model = weakened(make("qwen3"))
    true = gradients(installed(model), bf16=False)
    before = (gradients(installed(model), bf16=True) - true).norm()
    compiled = installed(model)
    compiled.compile_layers()
    compiled.train()
    assert (gradients(compiled, bf16=True) - true).norm() < 1.5 * before


def test_layers_are_not_compiled_without_a_compiler(make, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="needs a compiler, and there is none; install g.."):
        make("qwen3").compile_layers()


def test_a_model_without_a_mask_of_ours_stays_causal_and_knows_padding(make):
    model = make("llama")
    ids, seen = torch.randint(60, (2, 8), generator=generator("ids")), torch.ones(2, 8, dtype=torch.long)
    seen[0, :3] = 0
    plain, ours = (each.backbone(ids, attention_mask=seen).logits for each in (model, installed(model)))
    torch.testing.assert_close(ours[:, 3:], plain[:, 3:])


def test_the_folder_of_a_model_does_not_tell(make, tmp_path):
    installed(make("qwen3")).save(tmp_path)
    assert "attn" not in json.dumps(json.loads((tmp_path / "config.json").read_text()))


def test_attention_of_another_kind_is_left_alone(make):
    model = make("llama", attn_implementation="eager")
    backbone_attention.install(model.backbone)
    assert model.backbone.config._attn_implementation == "eager"
