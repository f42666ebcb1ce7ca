import math

import pytest
import torch
from torch.nn import functional as F

from videopoet.nn.residual_quantizer import ResidualVectorQuantizer


def clouds(batch: int = 8, frames: int = 32, seed: int = 0) -> torch.Tensor:
    """Latents, (B, 4, s), around 16 places."""
    generator = torch.Generator().manual_seed(seed)
    places = 3 * torch.randn(16, 4, generator=torch.Generator().manual_seed(99))
    chosen = torch.randint(16, (batch, frames), generator=generator)
    return (places[chosen] + 0.1 * torch.randn(batch, frames, 4, generator=generator)).transpose(1, 2)


def quantizer(**settings) -> ResidualVectorQuantizer:
    return ResidualVectorQuantizer(
        **{"dim": 4, "codebook_size": 16, "num_quantizers": 3, "dead_code_threshold": 0.1} | settings
    )


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_latents_of_codes_are_the_quantized_latents():
    trained = quantizer()
    trained(clouds(), generator=seeded())
    trained.eval()
    out = trained(clouds(seed=1))
    assert out.codes.shape == (8, 3, 32)
    assert out.codes.dtype == torch.int64
    assert torch.allclose(trained.latents(out.codes), out.latents, atol=1e-5)
    assert torch.equal(trained.codes(clouds(seed=1)), out.codes)


def test_every_level_leaves_less_over():
    trained = quantizer()
    for step in range(30):
        trained(clouds(seed=step), generator=seeded(step))
    latents = clouds(seed=100)
    codes = trained.codes(latents)
    errors = [F.mse_loss(trained.latents(codes[:, :levels]), latents).item() for levels in (1, 2, 3)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.01


def test_the_first_batch_lays_out_the_codebooks():
    fresh = quantizer()
    before = F.mse_loss(fresh.eval()(clouds()).latents, clouds())
    fresh.train()(clouds(), generator=seeded())
    after = F.mse_loss(fresh.eval()(clouds()).latents, clouds())
    assert fresh.initialized
    assert after < 0.1 * before


def test_the_layout_depends_on_the_batch_and_the_generator_alone():
    first, second = quantizer(), quantizer()
    first(clouds(), generator=seeded())
    second(clouds(), generator=seeded())
    assert torch.equal(first.codebooks, second.codebooks)


def test_evaluation_never_moves_a_codebook():
    trained = quantizer()
    trained(clouds(), generator=seeded())
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    trained.eval()(clouds(seed=1))
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())


def test_codes_follow_the_running_mean_of_their_latents():
    following = quantizer(codebook_size=2, num_quantizers=1, decay=0.5, dead_code_threshold=0.0)
    following.codebooks[0] = torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]])
    following.counts[0] = torch.tensor([2.0, 2.0])
    following.initialized.fill_(True)
    following(torch.tensor([[2.0, 0, 0, 0], [4.0, 0, 0, 0]]).t()[None])
    assert torch.equal(following.counts[0], torch.tensor([2.0, 1.0]))
    # (half of 2 * 1, and half of 2 + 4) over the count of 2
    assert torch.allclose(following.codebooks[0], torch.tensor([[2.0, 0, 0, 0], [-1.0, 0, 0, 0]]))


def test_unused_codes_move_to_latents_of_the_batch():
    trained = quantizer(num_quantizers=1, decay=0.5)
    trained(clouds(), generator=seeded())
    trained.codebooks[0, 3] = 1000.0
    for step in range(12):
        trained(clouds(seed=step), generator=seeded(step))
    assert trained.codebooks[0, 3].abs().max() < 20


def test_a_state_that_is_saved_and_loaded_goes_on_bit_for_bit():
    unbroken = quantizer()
    for step in range(6):
        if step == 3:
            resumed = quantizer()
            resumed.load_state_dict(unbroken.state_dict())
        unbroken(clouds(seed=step), generator=seeded(step))
    for step in range(3, 6):
        resumed(clouds(seed=step), generator=seeded(step))
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in unbroken.state_dict().items())


def test_an_example_without_a_level_neither_hears_nor_moves_it():
    trained = quantizer(decay=0.5, dead_code_threshold=0.0)
    trained(clouds(), generator=seeded())
    before = trained.codebooks.clone()
    out = trained(clouds(seed=1), num_quantizers=torch.ones(8, dtype=torch.int64))
    assert torch.equal(trained.codebooks[1:], before[1:])
    assert not torch.equal(trained.codebooks[0], before[0])
    assert torch.allclose(out.latents, before[0][out.codes[:, 0]].transpose(1, 2), atol=1e-5)


def test_gradients_pass_straight_through():
    latents = clouds().requires_grad_()
    weights = torch.randn(latents.shape, generator=seeded())
    (quantizer().eval()(latents).latents * weights).sum().backward()
    assert torch.equal(latents.grad, weights)


def test_commitment_pulls_latents_to_their_codes():
    trained = quantizer(num_quantizers=1)
    trained(clouds(), generator=seeded())
    latents = clouds(seed=1).requires_grad_()
    out = trained.eval()(latents)
    out.commitment.backward()
    difference = (latents - out.latents).detach()
    assert out.commitment.item() == pytest.approx(difference.square().mean().item(), rel=1e-4)
    assert torch.allclose(latents.grad, 2 * difference / latents.numel(), atol=1e-6)


def test_a_code_is_taken_where_its_information_is_worth_its_distance():
    weighing = quantizer(codebook_size=2, num_quantizers=1, rate_weight=0.5)
    weighing.codebooks[0] = torch.tensor([[0.0, 0, 0, 0], [2.0, 0, 0, 0]])
    weighing.counts[0] = torch.tensor([3.0, 1.0])
    # The mean power is 4 / 4 and the two cost 0.5 ln(4 / 3) and 0.5 ln 4: the border moves from 1 to 1 + 0.5 ln 3 / 4.
    border = 1 + 0.5 * math.log(3) / 4
    latents = torch.tensor([[border - 0.01, 0, 0, 0], [border + 0.01, 0, 0, 0]]).t()[None]
    assert weighing.codes(latents).flatten().tolist() == [0, 1]
    assert weighing.eval()(latents).codes.flatten().tolist() == [0, 1]
    weighing.rate_weight = 0.0
    assert weighing.codes(latents).flatten().tolist() == [1, 1]


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_what_is_quiet_takes_few_codes_at_any_scale(scale):
    """A fifth of the latents are loud; the others are faint noise, on which nearest codes spend most of theirs."""
    generator = seeded(5)
    entropies = {}
    for rate_weight in (0.0, 0.05):
        trained = quantizer(num_quantizers=1, decay=0.5, dead_code_threshold=0.0, rate_weight=rate_weight)
        for step in range(20):
            loud, quiet = clouds(batch=2, seed=step), 0.2 * torch.randn(8, 4, 32, generator=generator)
            trained(scale * torch.cat([loud, quiet]), generator=seeded(step))
        quiet = scale * 0.2 * torch.randn(8, 4, 32, generator=seeded(6))
        shares = torch.bincount(trained.codes(quiet).flatten(), minlength=16) / 256
        entropies[rate_weight] = float(torch.special.entr(shares).sum())
    assert entropies[0.05] < 0.1 < 0.5 < entropies[0.0]


def test_codes_are_the_same_under_autocast():
    trained = quantizer()
    trained(clouds(), generator=seeded())
    expected = trained.codes(clouds(seed=1))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(trained.codes(clouds(seed=1)), expected)
        assert trained.eval()(clouds(seed=1)).latents.dtype == torch.float32


def test_fewer_latents_than_codes_are_enough_to_begin():
    begun = quantizer(codebook_size=64)
    begun(clouds(batch=1, frames=5), generator=seeded())
    assert begun.codebooks.isfinite().all()
