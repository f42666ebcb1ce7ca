import math

import pytest
import torch

from videopoet.nn.losses import (
    LeCamRegularizer,
    feature_matching_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    mel_spectrogram,
    multi_scale_mel_loss,
    non_saturating_discriminator_loss,
    non_saturating_generator_loss,
    r1_penalty,
    relative_squared_error,
)

SAMPLE_RATE = 16_000


@pytest.fixture
def tone() -> torch.Tensor:
    seconds = torch.arange(8_000) / SAMPLE_RATE
    return (0.3 * torch.sin(2 * math.pi * 440 * seconds)).expand(2, 1, -1)


def noise(generator_seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 1, 8_000, generator=torch.Generator().manual_seed(generator_seed))


def test_equal_sounds_have_no_mel_loss(tone):
    assert multi_scale_mel_loss(tone, tone, SAMPLE_RATE) == pytest.approx(0.0, abs=1e-6)


def test_mel_loss_grows_with_distortion(tone):
    losses = [multi_scale_mel_loss(tone + level * noise(), tone, SAMPLE_RATE).item() for level in (0.001, 0.01, 0.1)]
    assert losses == sorted(losses)
    assert losses[0] > 0.01


def test_mel_loss_has_finite_gradients_in_digital_silence():
    silence = torch.zeros(1, 1, 8_000, requires_grad=True)
    multi_scale_mel_loss(silence, torch.zeros(1, 1, 8_000), SAMPLE_RATE).backward()
    assert silence.grad is not None
    assert silence.grad.isfinite().all()


def test_mel_loss_is_the_same_under_autocast(tone):
    expected = multi_scale_mel_loss(tone + 0.01 * noise(), tone, SAMPLE_RATE)
    with torch.autocast("cpu", torch.bfloat16):
        assert multi_scale_mel_loss(tone + 0.01 * noise(), tone, SAMPLE_RATE) == expected


@pytest.mark.parametrize("window", [64, 512, 2048])
def test_every_mel_band_hears_something(window):
    bands = mel_spectrogram(noise(), SAMPLE_RATE, window, num_mels=64)
    assert bands.mean(dim=(0, 2)).min() > 0.1


def test_a_tone_is_loudest_in_the_band_of_its_frequency(tone):
    bands = mel_spectrogram(tone, SAMPLE_RATE, 2048, num_mels=64).mean(dim=(0, 2))
    edges = 700 * (10 ** (torch.linspace(0, 2595 * math.log10(1 + 8000 / 700), 66) / 2595) - 1)
    loudest = int(bands.argmax())
    assert edges[loudest] < 440 < edges[loudest + 2]


def test_a_silent_reconstruction_has_a_relative_error_near_one(tone):
    assert relative_squared_error(tone, tone) == 0
    assert relative_squared_error(torch.zeros_like(tone), tone) == pytest.approx(1.0, abs=0.01)


def test_hinge_losses_vanish_behind_the_margin():
    real, fake = torch.tensor([1.5, 3.0]), torch.tensor([-1.0, -7.0])
    assert hinge_discriminator_loss(real, fake) == 0
    assert hinge_discriminator_loss(fake, real) == 5 + 3.25
    assert hinge_generator_loss(real) == 0
    assert hinge_generator_loss(fake) == 5


def test_undecided_logits_have_the_entropy_of_a_coin():
    undecided = torch.zeros(3)
    assert non_saturating_discriminator_loss(undecided, undecided) == pytest.approx(2 * math.log(2))
    assert non_saturating_generator_loss(undecided) == pytest.approx(math.log(2))


def test_the_generator_wants_what_the_discriminator_does_not():
    fake = torch.zeros(4, requires_grad=True)
    (generator_gradient,) = torch.autograd.grad(non_saturating_generator_loss(fake), fake)
    (discriminator_gradient,) = torch.autograd.grad(non_saturating_discriminator_loss(torch.zeros(4), fake), fake)
    assert (generator_gradient < 0).all()
    assert (discriminator_gradient > 0).all()


def test_feature_matching_sends_no_gradient_to_the_real_side():
    real, fake = torch.zeros(2, 3, requires_grad=True), torch.full((2, 3), 0.5, requires_grad=True)
    loss = feature_matching_loss([real, real], [fake, 3 * fake])
    loss.backward()
    assert loss == 1.0
    assert real.grad is None
    assert fake.grad is not None


def test_r1_of_a_linear_discriminator_is_its_squared_weight():
    weight = torch.tensor([3.0, -4.0], requires_grad=True)
    real = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    penalty = r1_penalty(real @ weight, real)
    penalty.backward()
    assert penalty.item() == pytest.approx(25.0)
    assert torch.allclose(weight.grad, 2 * weight.detach())


def test_lecam_follows_the_mean_logits_in_training_only():
    regularizer = LeCamRegularizer(decay=0.9)
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([-1.0, -1.0])
    regularizer(real, fake)
    assert regularizer.real == pytest.approx(0.2)
    assert regularizer.fake == pytest.approx(-0.1)
    regularizer.eval()(real, fake)
    assert regularizer.real == pytest.approx(0.2)


def test_lecam_pulls_the_two_sides_together():
    regularizer = LeCamRegularizer().eval()
    assert regularizer(torch.zeros(2), torch.zeros(2)) == 0
    assert regularizer(torch.full((2,), 2.0), torch.full((2,), -1.0)) == 5


def test_lecam_resumes_where_it_stopped():
    first, second = LeCamRegularizer(), LeCamRegularizer()
    first(torch.tensor([0.3]), torch.tensor([-0.7]))
    second.load_state_dict(first.state_dict())
    logits = torch.tensor([0.9]), torch.tensor([0.1])
    assert torch.equal(first(*logits), second(*logits))
    assert torch.equal(first.real, second.real)
