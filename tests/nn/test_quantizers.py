import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videopoet.nn.quantizers import LookupFreeQuantizer, unpack_bits


@pytest.mark.parametrize("spherical", [False, True])
def test_latents_of_codes_have_those_codes(spherical):
    quantizer = LookupFreeQuantizer(10, group_bits=5, spherical=spherical)
    codes = torch.arange(1024).view(1, 16, 8, 8)
    # A latent of equal signs has no sign left under the norm over a frame, so signs are read without it.
    latents = quantizer.latents(codes)
    bits = (latents > 0).movedim(1, -1)
    assert torch.equal((bits * 2 ** torch.arange(10)).sum(-1), codes)


@given(st.integers(0, 2**18 - 1))
def test_a_code_is_the_sum_of_its_bits(code):
    bits = unpack_bits(torch.tensor(code), 18)
    assert sum(2**index for index, bit in enumerate(bits.tolist()) if bit) == code


def test_gradients_pass_straight_through():
    quantizer = LookupFreeQuantizer(4, group_bits=4, spherical=True)
    latents = torch.randn(1, 4, 1, 2, 2, requires_grad=True)
    quantizer(latents).latents.sum().backward()
    assert latents.grad is not None and latents.grad.abs().sum() > 0


def test_grouped_entropy_equals_the_full_codebook_where_one_group_holds_all_bits():
    torch.manual_seed(0)
    quantizer = LookupFreeQuantizer(6, group_bits=6, inverse_temperature=0.7, spherical=True)
    latents = torch.randn(2, 6, 1, 3, 3)
    entropy = quantizer(latents).entropy
    unit = torch.nn.functional.normalize(latents, dim=1).movedim(1, -1).reshape(-1, 6)
    codebook = quantizer.latents(torch.arange(64).view(1, 1, 8, 8)).reshape(6, 64)
    assignment = (2 * 0.7 * unit @ codebook).softmax(dim=1)
    per_latent = -(assignment * assignment.log()).sum(dim=1).mean()
    mean = assignment.mean(dim=0)
    torch.testing.assert_close(entropy, per_latent + (mean * mean.log()).sum(), atol=1e-4, rtol=1e-4)


def test_spread_codes_have_the_lowest_entropy_term():
    quantizer = LookupFreeQuantizer(8, group_bits=4, inverse_temperature=50.0, spherical=True)
    spread = quantizer.latents(torch.arange(256).view(1, 4, 8, 8))
    collapsed = quantizer.latents(torch.zeros(1, 4, 8, 8, dtype=torch.int64))
    assert quantizer(spread).entropy < -8 * math.log(2) + 0.1
    assert quantizer(collapsed).entropy > -0.1


def test_the_quantizer_stays_in_fp32_under_autocast():
    quantizer = LookupFreeQuantizer(6, group_bits=6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        quantized = quantizer(torch.randn(1, 6, 1, 2, 2, dtype=torch.bfloat16))
    assert quantized.latents.dtype == torch.float32 and quantized.entropy.dtype == torch.float32


@pytest.mark.parametrize("spherical", [False, True])
def test_by_place_a_code_depends_on_its_own_latent_alone(spherical):
    quantizer = LookupFreeQuantizer(6, group_bits=6, spherical=spherical, norm="place")
    latents = torch.randn(1, 6, 2, 4, 4)
    changed = latents.clone()
    changed[..., 2:] = 5 + 9 * torch.randn(1, 6, 2, 4, 2)
    assert torch.equal(quantizer.codes(changed)[..., :2], quantizer.codes(latents)[..., :2])
    assert torch.equal(quantizer(latents).codes, quantizer.codes(latents))
