"""Reconstruction and adversarial losses: functions of tensors, one module for the one loss that remembers.

Every loss is a mean in fp32 without a weight; weights belong to the objective that adds them up.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videopoet.ranks import mean_over_ranks

MEL_WINDOWS = (64, 128, 256, 512, 1024, 2048)
"""SoundStream's six scales, in samples."""


def multi_scale_mel_loss(
    reconstruction: Tensor,
    target: Tensor,
    sample_rate: int,
    windows: Sequence[int] = MEL_WINDOWS,
    num_mels: int = 64,
    floor: float = 1e-5,
) -> Tensor:
    """The distance of two sounds, (B, 1, S), in mel spectrograms of several window lengths (SoundStream).

    Per frame and window of s samples: (L1 of the magnitudes + sqrt(s / 2) * L2 of their logarithms) / num_mels.

    Args:
        windows: Window lengths in samples, the longest under 2 S; frames are a quarter of a window apart.
        num_mels: Bands. Those of a short window that would hold no frequency at all are left out.
        floor: Added to the magnitudes before the logarithm; white noise has about its own standard deviation.
    """
    total = target.new_zeros((), dtype=torch.float32)
    for window in windows:
        of_reconstruction, of_target = (
            mel_spectrogram(audio, sample_rate, window, num_mels) for audio in (reconstruction, target)
        )
        magnitude = (of_reconstruction - of_target).abs().sum(dim=1)
        logarithm = (of_reconstruction + floor).log() - (of_target + floor).log()
        # The root of a sum of squares has no gradient at zero.
        logarithm = (logarithm.square().sum(dim=1) + 1e-12).sqrt() - 1e-6
        total = total + (magnitude + math.sqrt(window / 2) * logarithm).mean() / num_mels
    return total / len(windows)


def mel_spectrogram(audio: Tensor, sample_rate: int, window: int, num_mels: int) -> Tensor:
    """Magnitudes, (B, M, 1 + 4 S / window), of sound, (B, 1, S), in at most `num_mels` bands; white noise is flat."""
    with torch.autocast(audio.device.type, enabled=False):
        hann, bank = _mel_analysis(sample_rate, window, num_mels, audio.device)
        spectrum = torch.stft(
            audio.squeeze(1).float(), window, window // 4, window=hann, center=True, return_complex=True
        )  # (B, window / 2 + 1, frames)
        # A plain absolute value has no gradient at zero, where digital silence is.
        magnitudes = (torch.view_as_real(spectrum).square().sum(dim=-1) + 1e-14).sqrt()
        return bank @ magnitudes


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)  # What is kept from an evaluation must serve training too.
def _mel_analysis(sample_rate: int, window: int, num_mels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """A Hann window of unit energy, and triangular bands of unit sum, (M, window / 2 + 1)."""
    hann = torch.hann_window(window, device=device)
    frequencies = torch.linspace(0, sample_rate / 2, window // 2 + 1, device=device)
    highest_mel = 2595 * math.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, highest_mel, num_mels + 2, device=device) / 2595) - 1)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
    bank = torch.minimum(rising, falling).clamp(min=0)
    weights = bank.sum(dim=1, keepdim=True)
    return hann / hann.square().sum().sqrt(), (bank / weights.clamp(min=1e-8))[weights[:, 0] > 0]


def relative_squared_error(reconstruction: Tensor, target: Tensor, floor: float = 1e-4) -> Tensor:
    """Squared error of a batch over its energy, near 1 for a silent reconstruction; it makes loud events right.

    Args:
        floor: Added to the energy, so that an error in silence stays bounded.
    """
    target = target.float()
    return (reconstruction.float() - target).square().mean() / (target.square().mean() + floor)


def hinge_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Push real logits over 1 and fake ones under -1."""
    return F.relu(1 - real_logits.float()).mean() + F.relu(1 + fake_logits.float()).mean()


def hinge_generator_loss(fake_logits: Tensor) -> Tensor:
    """Push fake logits over 1, as in SoundStream, which stops where the discriminator's own margin does."""
    return F.relu(1 - fake_logits.float()).mean()


def non_saturating_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Cross-entropy of telling real from fake."""
    return F.softplus(-real_logits.float()).mean() + F.softplus(fake_logits.float()).mean()


def non_saturating_generator_loss(fake_logits: Tensor) -> Tensor:
    """Cross-entropy of being taken for real."""
    return F.softplus(-fake_logits.float()).mean()


def feature_matching_loss(real_features: Sequence[Tensor], fake_features: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of a discriminator's features; no gradient reaches the real side."""
    distances = [
        F.l1_loss(fake.float(), real.detach().float()) for real, fake in zip(real_features, fake_features, strict=True)
    ]
    return torch.stack(distances).mean()


def r1_penalty(real_logits: Tensor, real: Tensor) -> Tensor:
    """Mean squared norm of the gradient of the logits at real inputs; `real` must require gradients."""
    (gradient,) = torch.autograd.grad(real_logits.float().sum(), real, create_graph=True)
    return gradient.float().square().flatten(1).sum(dim=1).mean()


class LeCamRegularizer(nn.Module):
    """Hold each side's logits near the running mean of the other side's, so that few data do not overfit (LeCAM).

    The running means are buffers: they save and resume with the discriminator's state.
    """

    real: Tensor
    fake: Tensor

    def __init__(self, decay: float = 0.999):
        super().__init__()
        self.decay = decay
        self.register_buffer("real", torch.zeros(()))
        self.register_buffer("fake", torch.zeros(()))

    def forward(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """The penalty against the running means, which training mode moves first."""
        real_logits, fake_logits = real_logits.float(), fake_logits.float()
        if self.training:
            self.real.lerp_(mean_over_ranks(real_logits.detach().mean()), 1 - self.decay)
            self.fake.lerp_(mean_over_ranks(fake_logits.detach().mean()), 1 - self.decay)
        return F.relu(real_logits - self.fake).square().mean() + F.relu(self.real - fake_logits).square().mean()
