"""Objectives that teach the tokenizers to rebuild what they encode (MAGVIT-v2, section 2.3; SoundStream, section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn

from videopoet import runtime
from videopoet.config import BaseConfig
from videopoet.data.tokenizer_batches import Windows
from videopoet.media.types import Audio, Image
from videopoet.nn import losses
from videopoet.nn.discriminators import (
    Judgement,
    SpectrogramDiscriminator,
    SpectrogramDiscriminatorConfig,
    VideoDiscriminator,
    VideoDiscriminatorConfig,
    WaveformDiscriminator,
    WaveformDiscriminatorConfig,
)
from videopoet.tokenizers.magvit_v2 import MagvitV2
from videopoet.tokenizers.soundstream import SoundStream
from videopoet.training.loop import Losses, Objective


class VideoConfig(BaseConfig):
    """Weights of the video tokenizer's loss; the defaults are the paper's, its perceptual network left out."""

    squared_weight: float = Field(default=5.0, ge=0)
    """Weight of the mean squared error."""
    absolute_weight: float = Field(default=0.0, ge=0)
    """Weight of the mean absolute error, which keeps edges sharper."""
    subject_weight: float = Field(default=1.0, ge=1)
    """How much more the error of a pixel on a subject, or next to one, weighs in both than another's: small things are
    hard to keep, and what a clip is about. Where nobody knows of subjects all pixels weigh alike."""
    commitment_weight: float = Field(default=0.25, ge=0)
    """Weight of what holds latents near their codes."""
    entropy_weight: float = Field(default=0.1, ge=0)
    """Weight of what asks for sure codes, and for the use of all of them."""
    entropy_extra_steps: int = Field(default=2000, ge=0)
    """Steps over which the entropy weight falls from four times itself to itself."""
    adversarial_weight: float = Field(default=0.1, ge=0)
    """Weight of the non-saturating adversarial term; 0 trains without a discriminator."""
    adversary: VideoDiscriminatorConfig = VideoDiscriminatorConfig()
    gradient_penalty: float = Field(default=10.0, ge=0)
    """Weight of R1."""
    gradient_penalty_every: int = Field(default=16, ge=1)
    """Steps from one R1 term to the next, which is scaled up to match."""
    lecam_weight: float = Field(default=0.001, ge=0)
    """Weight of LeCAM, which keeps the discriminator's values near their running means."""


class VideoReconstruction(Objective):
    """Teaches a video tokenizer on windows of clips."""

    model: MagvitV2

    def __init__(
        self,
        tokenizer: MagvitV2,
        config: VideoConfig,
        validation: Sequence[Tensor] = (),
        footage: Sequence[Tensor] = (),
    ):
        self.model = tokenizer
        self.config = config
        self.validation, self.footage = validation, footage
        if config.adversarial_weight:
            with next(tokenizer.parameters()).device:
                self.adversary = nn.ModuleDict(
                    {"video": VideoDiscriminator(config.adversary), "lecam": losses.LeCamRegularizer()}
                )

    def __call__(self, batch: Windows, step: int, generator: torch.Generator) -> Losses:
        video, quantized = self.model(batch.video)
        video = video.float()
        error = video - batch.video
        squared, absolute = self._weighted(error.square(), batch.subjects), self._weighted(error.abs(), batch.subjects)
        extra = 3 * max(0.0, 1 - step / self.config.entropy_extra_steps) if self.config.entropy_extra_steps else 0.0
        total = (
            self.config.squared_weight * squared
            + self.config.absolute_weight * absolute
            + self.config.commitment_weight * quantized.commitment
            + self.config.entropy_weight * (1 + extra) * quantized.entropy
        )
        figures: dict[str, float | Tensor] = {
            "psnr": 10 * torch.log10(4 / error.detach().square().mean()),
            "entropy": quantized.entropy.detach(),
            "commitment": quantized.commitment.detach(),
        }
        if self.adversary is not None:
            fooling = losses.non_saturating_generator_loss(self.adversary["video"](video))
            total = total + self.config.adversarial_weight * fooling
            figures["adversarial"] = fooling.detach()
        tokens = len(video) * math.prod(self.model.grid(*video.shape[2:]))
        return Losses(total, figures, made=video, tokens=tokens)

    def _weighted(self, errors: Tensor, subjects: Tensor | None) -> Tensor:
        """The mean of errors, (B, 3, T, H, W), in which subjects weigh more."""
        if subjects is None or self.config.subject_weight == 1:
            return errors.mean()
        weights = 1 + (self.config.subject_weight - 1) * subjects
        return (errors * weights).mean() / weights.mean()

    def adversary_loss(self, batch: Windows, made: Tensor, step: int) -> Losses:
        assert self.adversary is not None
        penalize = self.config.gradient_penalty > 0 and step % self.config.gradient_penalty_every == 0
        real = batch.video.detach().requires_grad_(penalize)
        real_logits, fake_logits = self.adversary["video"](real), self.adversary["video"](made)
        loss = losses.non_saturating_discriminator_loss(real_logits, fake_logits)
        total = loss + self.config.lecam_weight * self.adversary["lecam"](real_logits, fake_logits)
        if penalize:
            scale = self.config.gradient_penalty / 2 * self.config.gradient_penalty_every
            total = total + scale * losses.r1_penalty(real_logits, real)
        return Losses(total, {"adversary": loss.detach()})

    @torch.no_grad()
    def validate(self, folder: Path) -> dict[str, float]:
        """PSNR and share of codes in use on validation clips; a sheet of clips above what the codes kept of them.

        Footage that is seen beside them has a PSNR and a sheet of its own.
        """
        figures: dict[str, float] = {}
        if self.validation:
            figures["psnr"], codes = self._kept(self.validation, folder / "clips.png")
            figures["code_usage"] = codes.unique().numel() / self.model.num_codes
        if self.footage:
            figures["psnr_footage"], _ = self._kept(self.footage, folder / "footage.png")
        return figures

    def _kept(self, videos: Sequence[Tensor], sheet: Path) -> tuple[float, Tensor]:
        codes, psnrs = [], []
        for number, video in enumerate(videos):
            with runtime.autocast(video.device):
                video_codes = self.model.encode(video)
                seen = self.model.decode(video_codes).float()
            codes.append(video_codes.flatten())
            psnrs.append(psnr(seen, video))
            if number == 0:
                _write_sheet(torch.stack([video[:8], seen[:8]], dim=1).flatten(0, 1), sheet)
        return torch.cat(psnrs).mean().item(), torch.cat(codes)


class AudioConfig(BaseConfig):
    """Weights of the audio tokenizer's loss; the defaults are SoundStream's."""

    mel_weight: float = Field(default=1.0, ge=0)
    """Weight of the distance of mel spectrograms."""
    mel_floor: float = Field(default=1e-5, gt=0)
    """Added to mel magnitudes before their logarithm; what is far below it is not heard."""
    relative_weight: float = Field(default=0.0, ge=0)
    """Weight of the squared error of samples relative to their power, which ties onsets; the paper has none."""
    commitment_weight: float = Field(default=1.0, ge=0)
    """Weight of what holds latents near their codes."""
    adversarial_weight: float = Field(default=1.0, ge=0)
    """Weight of the hinge adversarial term; 0 trains without discriminators."""
    feature_weight: float = Field(default=100.0, ge=0)
    """Weight of feature matching, where there are discriminators."""
    waveform_adversary: WaveformDiscriminatorConfig = WaveformDiscriminatorConfig()
    spectrogram_adversary: SpectrogramDiscriminatorConfig = SpectrogramDiscriminatorConfig()


class AudioReconstruction(Objective):
    """Teaches an audio tokenizer on samples, (B, 1, S), in [-1, 1]."""

    model: SoundStream

    def __init__(self, tokenizer: SoundStream, config: AudioConfig, validation: Sequence[Tensor] = ()):
        self.model = tokenizer
        self.config = config
        self.validation = validation
        if config.adversarial_weight:
            with next(tokenizer.parameters()).device:
                self.adversary = nn.ModuleDict(
                    {
                        "waveform": WaveformDiscriminator(config.waveform_adversary),
                        "spectrogram": SpectrogramDiscriminator(config.spectrogram_adversary),
                    }
                )

    def __call__(self, batch: Tensor, step: int, generator: torch.Generator) -> Losses:
        seen = self.model(batch, generator)
        made = seen.audio.float()
        target = batch[..., : made.shape[-1]]
        mel = losses.multi_scale_mel_loss(made, target, self.model.sample_rate, floor=self.config.mel_floor)
        relative = losses.relative_squared_error(made, target)
        total = (
            self.config.mel_weight * mel
            + self.config.relative_weight * relative
            + self.config.commitment_weight * seen.commitment
        )
        figures: dict[str, float | Tensor] = {
            "mel": mel.detach(),
            "relative_error": relative.detach(),
            "commitment": seen.commitment.detach(),
        }
        if self.adversary is not None:
            with torch.no_grad():
                real = self._judge(target)
            fake = self._judge(made)
            fooling = torch.stack([losses.hinge_generator_loss(judgement.logits) for judgement in fake]).mean()
            pairs = zip(real, fake, strict=True)
            features = torch.stack([losses.feature_matching_loss(one.features, other.features) for one, other in pairs])
            total = total + self.config.adversarial_weight * fooling + self.config.feature_weight * features.mean()
            figures |= {"adversarial": fooling.detach(), "features": features.detach().mean()}
        tokens = len(batch) * self.model.num_quantizers * self.model.num_frames(batch.shape[-1])
        return Losses(total, figures, made=made, tokens=tokens)

    def adversary_loss(self, batch: Tensor, made: Tensor, step: int) -> Losses:
        real, fake = self._judge(batch[..., : made.shape[-1]]), self._judge(made)
        pairs = zip(real, fake, strict=True)
        each = [losses.hinge_discriminator_loss(one.logits, other.logits) for one, other in pairs]
        total = torch.stack(each).mean()
        return Losses(total, {"adversary": total.detach()})

    @torch.no_grad()
    def validate(self, folder: Path) -> dict[str, float]:
        """Mel distance and the codes' use and entropy on validation sounds; the first sounds before and after."""
        codes, mels = [], []
        for number, audio in enumerate(self.validation):
            audio_codes = self.model.encode(audio)
            seen = self.model.decode(audio_codes)
            codes.append(audio_codes.movedim(1, 0).flatten(1))  # (Q, N)
            target = audio[..., : seen.shape[-1]]
            mel = losses.multi_scale_mel_loss(seen, target, self.model.sample_rate, floor=self.config.mel_floor)
            mels.append(mel.item())
            if number == 0:
                heard = torch.cat([audio[:4, 0, : seen.shape[-1]], seen[:4, 0]], dim=1).flatten()
                Audio(heard[None].float().cpu(), self.model.sample_rate).save(folder / "sounds.wav")
        if not codes:
            return {}
        counts = [level.unique(return_counts=True)[1] for level in torch.cat(codes, dim=1)]
        usage = sum(map(len, counts)) / (self.model.num_quantizers * self.model.codebook_size)
        nats = sum(float(torch.special.entr(count / count.sum()).sum()) for count in counts)
        return {"mel": sum(mels) / len(mels), "code_usage": usage, "nats_per_frame": nats}

    def _judge(self, audio: Tensor) -> list[Judgement]:
        assert self.adversary is not None
        return [*self.adversary["waveform"](audio), self.adversary["spectrogram"](audio)]


def psnr(video: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each clip in dB, (B,), for pixels in [-1, 1]."""
    return 10 * torch.log10(4 / (video - truth).square().flatten(1).mean(dim=1).clamp_min(1e-10))


def _write_sheet(video: Tensor, path: Path) -> None:
    """A PNG with a row per clip, (B, 3, T, H, W), and a column for every fourth frame."""
    rows = rearrange(video[:, :, ::4], "b c t h w -> c (b h) (t w)")
    Image.from_pixels(rows.cpu()).save(path)
