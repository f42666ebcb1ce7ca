import pytest
import torch
from torch import nn

from videopoet.nn.discriminators import (
    SpectrogramDiscriminator,
    SpectrogramDiscriminatorConfig,
    VideoDiscriminator,
    VideoDiscriminatorConfig,
    WaveformDiscriminator,
    WaveformDiscriminatorConfig,
    blur_and_halve,
)
from videopoet.nn.losses import (
    LeCamRegularizer,
    feature_matching_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    non_saturating_discriminator_loss,
    non_saturating_generator_loss,
    r1_penalty,
)


@pytest.fixture
def of_video() -> VideoDiscriminator:
    torch.manual_seed(0)
    return VideoDiscriminator(VideoDiscriminatorConfig(channels=4, multipliers=(2, 4)))


@pytest.fixture
def of_waveform() -> WaveformDiscriminator:
    torch.manual_seed(0)
    return WaveformDiscriminator(WaveformDiscriminatorConfig(channels=4, max_channels=32))


@pytest.fixture
def of_spectrogram() -> SpectrogramDiscriminator:
    torch.manual_seed(0)
    config = SpectrogramDiscriminatorConfig(window=128, hop=32, channels=4, multipliers=(2, 2, 4))
    return SpectrogramDiscriminator(config)


def spoil_free_memory() -> None:
    """Leave NaN in what will be allocated next, so that an operator that reads what it never wrote is found."""
    spoiled = [torch.full((2**power,), float("nan")) for power in range(4, 20) for _ in range(3)]
    del spoiled


def all_finite(module: nn.Module) -> bool:
    return all(p.grad is not None and bool(p.grad.isfinite().all()) for p in module.parameters())


@pytest.mark.parametrize("shape", [(1, 16, 16), (17, 16, 16), (5, 16, 24)])
def test_a_clip_of_any_length_and_size_gets_one_logit(of_video, shape):
    assert of_video(torch.randn(2, 3, *shape)).shape == (2,)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 5])
def test_r1_reaches_every_weight_of_the_video_discriminator(of_video, num_frames):
    for _ in range(5):
        video = torch.randn(2, 3, num_frames, 16, 16, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16):
            logits = of_video(video)
        spoil_free_memory()
        (non_saturating_generator_loss(logits) + r1_penalty(logits, video)).backward()
        assert all_finite(of_video)
        of_video.zero_grad()


@pytest.mark.parametrize(("size", "expected"), [(17, 9), (5, 3), (2, 1), (1, 1)])
def test_blurring_keeps_a_constant_and_halves_rounding_up(size, expected):
    halved = blur_and_halve(torch.full((1, 1, size, 4, 4), 0.7))
    assert halved.shape == (1, 1, expected, 2, 2)
    assert torch.allclose(halved, torch.tensor(0.7))


def test_waveforms_are_judged_at_several_sample_rates(of_waveform):
    judgements = of_waveform(torch.randn(2, 1, 2048))
    assert [judgement.features[0].shape[-1] for judgement in judgements] == [2048, 1024, 512]
    assert [judgement.logits.shape for judgement in judgements] == [(2, 8), (2, 4), (2, 2)]


def test_spectrograms_are_judged_along_time(of_spectrogram):
    judgement = of_spectrogram(torch.randn(2, 1, 2048))
    assert judgement.logits.shape == (2, 32)
    assert len(judgement.features) == 4


def test_sound_discriminators_have_finite_gradients(of_waveform, of_spectrogram):
    audio = torch.cat([torch.zeros(1, 1, 2048), torch.randn(1, 1, 2048)]).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        judgements = [*of_waveform(audio), of_spectrogram(audio)]
    spoil_free_memory()
    sum(hinge_generator_loss(judgement.logits) for judgement in judgements).backward()
    assert all_finite(of_waveform)
    assert all_finite(of_spectrogram)
    assert audio.grad.isfinite().all()


def test_twenty_adversarial_steps_on_video_stay_finite(of_video):
    generator = nn.Conv3d(3, 3, 3, padding=1)
    regularizer = LeCamRegularizer()
    optimizers = [torch.optim.Adam(part.parameters(), 1e-3, betas=(0.0, 0.99)) for part in (generator, of_video)]
    video = torch.randn(2, 3, 5, 16, 16)
    for _ in range(20):
        non_saturating_generator_loss(of_video(generator(video))).backward()
        optimizers[0].step()
        optimizers[1].zero_grad()
        real = video.clone().requires_grad_()
        real_logits, fake_logits = of_video(real), of_video(generator(video).detach())
        loss = non_saturating_discriminator_loss(real_logits, fake_logits) + 10 * r1_penalty(real_logits, real)
        (loss + 0.001 * regularizer(real_logits, fake_logits)).backward()
        assert all_finite(of_video)
        optimizers[1].step()
        for optimizer in optimizers:
            optimizer.zero_grad()
        assert loss.isfinite()


def test_twenty_adversarial_steps_on_sound_stay_finite(of_waveform, of_spectrogram):
    generator = nn.Conv1d(1, 1, 31, padding=15)
    judges = nn.ModuleList([of_waveform, of_spectrogram])
    optimizers = [torch.optim.Adam(part.parameters(), 1e-3, betas=(0.5, 0.9)) for part in (generator, judges)]
    audio = 0.3 * torch.randn(2, 1, 2048)

    def judge(sound: torch.Tensor):
        return [*of_waveform(sound), of_spectrogram(sound)]

    for _ in range(20):
        fake = generator(audio)
        pairs = list(zip(judge(audio), judge(fake), strict=True))
        loss = sum(
            hinge_generator_loss(fake.logits) + 100 * feature_matching_loss(real.features, fake.features)
            for real, fake in pairs
        )
        loss.backward()
        optimizers[0].step()
        optimizers[1].zero_grad()
        pairs = zip(judge(audio), judge(fake.detach()), strict=True)
        sum(hinge_discriminator_loss(real.logits, fake.logits) for real, fake in pairs).backward()
        assert all_finite(judges)
        optimizers[1].step()
        for optimizer in optimizers:
            optimizer.zero_grad()
        assert loss.isfinite()
