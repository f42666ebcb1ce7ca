from types import SimpleNamespace

import pytest
import torch

from videopoet.models.masks import for_backbone

CAUSAL = torch.ones(1, 1, 6, 6, dtype=torch.bool).tril()


def config(**values):
    return SimpleNamespace(_attn_implementation="sdpa", **values)


def test_without_a_window_the_mask_stays_as_it_is():
    assert for_backbone(config(), CAUSAL, torch.float32) is CAUSAL
    assert for_backbone(config(sliding_window=4, layer_types=["full_attention"]), CAUSAL, torch.float32) is CAUSAL


def test_a_window_ends_on_both_sides():
    everything = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    mask = for_backbone(config(sliding_window=2), everything, torch.float32)
    assert isinstance(mask, torch.Tensor)
    assert mask[0, 0].int().tolist() == [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 0],
        [0, 0, 0, 1, 1, 1],
        [0, 0, 0, 0, 1, 1],
    ]


def test_a_cached_step_has_the_last_rows_of_the_whole_mask():
    whole = for_backbone(config(sliding_window=3), CAUSAL, torch.float32)
    step = for_backbone(config(sliding_window=3), CAUSAL[:, :, 4:], torch.float32)
    assert isinstance(whole, torch.Tensor) and isinstance(step, torch.Tensor)
    assert torch.equal(step, whole[:, :, 4:])


def test_each_kind_of_layer_has_its_own_mask():
    kinds = ["sliding_attention", "full_attention"]
    masks = for_backbone(config(sliding_window=1, layer_types=kinds), CAUSAL, torch.float32)
    assert isinstance(masks, dict) and masks.keys() == set(kinds)
    assert torch.equal(masks["full_attention"], CAUSAL)
    assert torch.equal(masks["sliding_attention"], torch.eye(6, dtype=torch.bool)[None, None])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_eager_attention_gets_numbers_that_shut_positions_out(dtype):
    mask = for_backbone(SimpleNamespace(_attn_implementation="eager"), CAUSAL, dtype)
    assert isinstance(mask, torch.Tensor) and mask.dtype == dtype
    assert torch.equal(mask == 0, CAUSAL)
    assert torch.equal((torch.zeros(6, dtype=dtype) + mask).softmax(dim=-1) > 0, CAUSAL)
