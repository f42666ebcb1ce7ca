import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from videopoet.nn import product_attention
from videopoet.runtime import generator


def make(length: int, reach: int) -> tuple[list[Tensor], Tensor]:
    """Queries, keys and values of 3 rows and 4 heads, exact in bf16, and who sees whom."""
    stream = generator("attention")
    inputs = [torch.randn(3, 4, size, 16, generator=stream).bfloat16().float() for size in (length, reach, reach)]
    mask = torch.rand(3, 1, length, reach, generator=stream) < 0.5
    mask[..., 0] = True
    return inputs, mask


def with_gradients(attend, inputs: list[Tensor]) -> list[Tensor]:
    inputs = [each.clone().requires_grad_() for each in inputs]
    read = attend(*inputs).float()
    weighed = read * torch.randn(read.shape, generator=generator("gradient")).bfloat16()
    return [read.detach(), *torch.autograd.grad(weighed.sum(), inputs)]


@pytest.mark.parametrize(("length", "reach"), [(24, 24), (7, 24)])
def test_products_read_what_attention_reads_up_to_the_rounding_of_bf16(length, reach):
    inputs, mask = make(length, reach)
    expected = with_gradients(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0), inputs
    )
    found = with_gradients(lambda q, k, v: product_attention.attend(q, k, v, mask), inputs)
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() < 0.02 * other.norm()


@pytest.mark.parametrize("most", [1, 24 * 24 * 2, 24 * 24 * 5, 24 * 24 * 8])
def test_parts_make_no_difference(monkeypatch, most):
    inputs, mask = make(24, 24)
    whole = with_gradients(lambda q, k, v: product_attention.attend(q, k, v, mask), inputs)
    monkeypatch.setattr(product_attention, "MOST_SCORES", most)
    parts = with_gradients(lambda q, k, v: product_attention.attend(q, k, v, mask), inputs)
    for one, other in zip(parts, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-2, atol=2e-2)


def test_one_mask_serves_all_rows():
    (queries, keys, values), mask = make(9, 9)
    alone = product_attention.attend(queries, keys, values, mask[:1])
    assert torch.equal(alone, product_attention.attend(queries, keys, values, mask[:1].expand(3, -1, -1, -1)))
