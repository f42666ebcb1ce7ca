import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from videopoet.training import rehearsal


def attend(module: nn.Module, x: torch.Tensor) -> None:
    """A little of all that is counted: a matrix product, a convolution, masked attention, and their gradients."""
    y = module(x).unflatten(1, (2, 4)).flatten(3).transpose(2, 3)  # (B, 2, L, 4)
    mask = torch.ones(y.shape[2], y.shape[2], dtype=torch.bool).tril()
    F.scaled_dot_product_attention(y, y, y, attn_mask=mask).square().mean().backward()


def test_operations_are_those_that_torch_counts_on_values():
    with FlopCounterMode(display=False) as counted:
        attend(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(6, 6)), torch.zeros(2, 3, 8, 8))
    with rehearsal.without_values():
        module, x = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(6, 6)), torch.zeros(2, 3, 8, 8)
        cost = rehearsal.cost_of(lambda: attend(module, x), module)
    assert cost.flops == counted.get_total_flops() > 0


def test_attention_is_counted_forward_and_backward():
    with rehearsal.without_values():
        x, mask = torch.zeros(2, 3, 8, 16, requires_grad=True), torch.ones(8, 8, dtype=torch.bool)

        def attend():
            return F.scaled_dot_product_attention(x, x, x, attn_mask=mask)

        forward = rehearsal.cost_of(attend, nn.Identity()).flops
        both = rehearsal.cost_of(lambda: attend().sum().backward(), nn.Identity()).flops
    product = 2 * 2 * 3 * 8 * 8 * 16
    assert (forward, both) == (2 * product, 7 * product)


def test_memory_is_the_most_that_lived_at_once():
    def compute():
        first = torch.zeros(1000)  # 4,000 bytes
        second = first + 1
        del first
        third = second + 1
        return third.sum()

    with rehearsal.without_values():
        weights = nn.Linear(9, 10)  # 400 bytes
        cost = rehearsal.cost_of(compute, weights)
    assert cost.peak_bytes == pytest.approx(400 + 8000, abs=8)


def test_what_the_backward_pass_needs_stays_in_memory():
    with rehearsal.without_values():
        layers, x = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(5))), torch.zeros(1000, 8)
        with_gradients = rehearsal.cost_of(lambda: layers(x).sum().backward(), layers).peak_bytes
        with torch.no_grad():
            without = rehearsal.cost_of(lambda: layers(x).sum(), layers).peak_bytes
    assert with_gradients >= 5 * 32_000 > 4 * 32_000 > without


def test_a_gradients_gradient_is_counted():
    def compute():
        (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
        gradient.square().sum().backward()

    with rehearsal.without_values():
        layer, x = nn.Linear(4, 4), torch.zeros(3, 4, requires_grad=True)
        once = rehearsal.cost_of(lambda: layer(x), layer).flops
        assert rehearsal.cost_of(compute, layer).flops > 2 * once
