import math

import pytest
import torch

from videopoet.data.tokenizer_batches import Windows
from videopoet.nn.discriminators import (
    SpectrogramDiscriminatorConfig,
    VideoDiscriminatorConfig,
    WaveformDiscriminatorConfig,
)
from videopoet.tokenizers import magvit_v2, soundstream
from videopoet.training import journal, loop, optimizer
from videopoet.training.reconstruction import AudioConfig, AudioReconstruction, VideoConfig, VideoReconstruction, psnr

VIDEO = magvit_v2.Config(
    num_bits=4,
    patch_size=4,
    channels=(8, 8),
    strides=((4, 2),),
    num_blocks=1,
    num_middle_blocks=0,
    entropy_group_bits=4,
)
AUDIO = soundstream.Config(patch=20, strides=(4, 4), channels=8, dim=8, codebook_size=16, num_quantizers=2)


def video_objective():
    torch.manual_seed(0)
    config = VideoConfig(
        adversary=VideoDiscriminatorConfig(channels=4, multipliers=(2, 2)),
        gradient_penalty_every=2,
        entropy_extra_steps=4,
    )
    return VideoReconstruction(magvit_v2.MagvitV2(VIDEO), config, [clips(100).video])


def audio_objective():
    torch.manual_seed(0)
    config = AudioConfig(
        waveform_adversary=WaveformDiscriminatorConfig(num_scales=1, channels=4, num_strided=2),
        spectrogram_adversary=SpectrogramDiscriminatorConfig(channels=4),
    )
    return AudioReconstruction(soundstream.SoundStream(AUDIO), config, [sounds(100)])


def clips(index):
    return Windows(torch.rand(2, 3, 5, 16, 16, generator=torch.Generator().manual_seed(index)) * 2 - 1)


def sounds(index):
    return torch.rand(2, 1, 6400, generator=torch.Generator().manual_seed(index)) - 0.5


def config(num_steps):
    settings = optimizer.Config(name="muon", learning_rate=1e-3, warmup_steps=2)
    return loop.Config(num_steps=num_steps, optimizer=settings, log_every=1, validate_every=4, checkpoint_every=4)


@pytest.mark.parametrize(("make", "batches"), [(video_objective, clips), (audio_objective, sounds)])
def test_adversarial_training_stays_finite_and_resumes_exactly(make, batches, tmp_path):
    whole = make()
    loop.train(whole, batches, config(8), tmp_path / "whole")
    for entry in journal.read(tmp_path / "whole"):
        assert all(value is not None and math.isfinite(value) for key, value in entry.items() if key != "kind")

    class Stop(Exception):
        pass

    def stopping(index):
        if index == 6:
            raise Stop
        return batches(index)

    with pytest.raises(Stop):
        loop.train(make(), stopping, config(8), tmp_path / "broken")
    resumed = make()
    loop.train(resumed, batches, config(8), tmp_path / "broken", resume=True)
    for one, other in ((whole.model, resumed.model), (whole.adversary, resumed.adversary)):
        assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())


def test_the_discriminator_gets_no_gradient_from_the_tokenizers_loss():
    objective = video_objective()
    objective.adversary.requires_grad_(False)
    losses = objective(clips(0), 0, torch.Generator())
    losses.total.backward()
    assert all(parameter.grad is None for parameter in objective.adversary.parameters())
    assert any(parameter.grad is not None for parameter in objective.model.parameters())


def test_errors_on_subjects_weigh_more_where_subjects_are_known():
    config = VideoConfig(subject_weight=4, adversarial_weight=0)
    objective = VideoReconstruction(magvit_v2.MagvitV2(VIDEO), config)
    video = clips(0).video
    with torch.no_grad():
        error = objective.model(video).video - video
        subjects = error.square().mean(dim=1, keepdim=True) > 1 / 3
        known = objective(Windows(video, subjects), 0, torch.Generator())
        unknown = objective(Windows(video), 0, torch.Generator())
    squared, weights = error.square().mean(dim=1, keepdim=True), 1 + 3 * subjects
    expected = config.squared_weight * ((squared * weights).sum() / weights.sum() - squared.mean())
    assert expected > 0.1
    torch.testing.assert_close(known.total - unknown.total, expected, rtol=1e-4, atol=1e-4)
    assert known.figures["psnr"] == unknown.figures["psnr"]


def test_psnr_of_a_known_error():
    truth = torch.zeros(1, 3, 1, 8, 8)
    torch.testing.assert_close(psnr(truth + 0.02, truth), torch.tensor([40.0]), atol=1e-3, rtol=0)
