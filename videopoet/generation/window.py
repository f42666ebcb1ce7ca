"""One window: the most that a row holds, as many frames as the model was trained on, with their sound.

Media becomes codes here, and codes media; and a task's pieces become a row whose output is still to be filled in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from videopoet import runtime
from videopoet.errors import TaskError
from videopoet.generation.poet_folder import Parts
from videopoet.nn.causal_conv import PastFrames
from videopoet.sequence import layout
from videopoet.sequence.conditions import View
from videopoet.sequence.tasks import Task


@dataclass(eq=False)
class Shape:
    """A window in media alone, for those who look at what is given without having the model."""

    height: int
    width: int
    num_frames: int
    frame_rate: float
    time_stride: int
    """Frames of a latent frame after the first."""
    sample_rate: int
    hop: int
    """Samples of a frame of audio codes."""

    @property
    def seconds(self) -> float:
        return self.num_frames / self.frame_rate

    @property
    def num_samples(self) -> int:
        return round(self.seconds * self.sample_rate)

    def shown_frames(self, view: View) -> int:
        """How many frames of a window a view shows."""
        return 1 + (view.count(1 + (self.num_frames - 1) // self.time_stride) - 1) * self.time_stride

    def shown_samples(self, view: View) -> int:
        """How many samples of a window a view shows."""
        return view.count(self.num_samples // self.hop) * self.hop

    def filled_up(self, pixels: Tensor) -> Tensor:
        """Pixels, (3, T, H, W), made a whole window by repeating the last frame."""
        missing = self.num_frames - pixels.shape[1]
        return torch.cat([pixels, pixels[:, -1:].expand(-1, missing, -1, -1)], dim=1)


class Window(Shape):
    """The shape of a window of a poet, in media and in codes.

    Args:
        parts: The poet.
        height: Pixels; None is the model's usual height.
        width: Pixels; None is the model's usual width.

    Raises:
        TaskError: The model was not trained on that size.
    """

    def __init__(self, parts: Parts, height: int | None = None, width: int | None = None):
        settings, hearing = parts.settings, parts.audio_tokenizer
        self.parts = parts
        super().__init__(
            height or settings.height,
            width or settings.width,
            settings.num_frames,
            settings.frame_rate,
            parts.video_tokenizer.time_stride,
            hearing.sample_rate,
            hearing.hop,
        )
        self._check_size()
        self.grid = parts.video_tokenizer.grid(self.num_frames, self.height, self.width)
        self.audio_grid = (hearing.num_quantizers, hearing.num_frames(self.num_samples))
        parts.language_model.embedding.check(self.grid)

    def encode(self, pixels: Tensor) -> Tensor:
        """Codes, (t, h, w), of pixels, (3, T, H, W)."""
        with torch.no_grad(), runtime.autocast(self.parts.device):
            return self.parts.video_tokenizer.encode(pixels[None].to(self.parts.device))[0].cpu()

    def decode(self, codes: Tensor, past: PastFrames | None = None) -> Tensor:
        """Pixels, (3, T, H, W), of codes, (t, h, w), which go on from those that `past` is of.

        Latent frames are always decoded one by one, so that pixels do not depend, by the rounding of sums of other
        sizes, on how many codes were known at a time.
        """
        tokenizer, past = self.parts.video_tokenizer, past or PastFrames()
        with torch.no_grad(), runtime.autocast(self.parts.device):
            latent_frames = codes[None].to(self.parts.device).split(1, dim=1)
            pieces = [tokenizer.decode(one, past)[0].float() for one in latent_frames]
        return torch.cat(pieces, dim=1).cpu()

    def encode_audio(self, samples: Tensor) -> Tensor:
        """Codes, (Q, s), of samples, (1, S)."""
        with torch.no_grad(), runtime.autocast(self.parts.device):
            return self.parts.audio_tokenizer.encode(samples[None].to(self.parts.device))[0].cpu()

    def decode_audio(self, codes: Tensor) -> Tensor:
        """The samples, (1, S), of a window's codes, (Q, s); what the last code does not reach is silent."""
        with torch.no_grad(), runtime.autocast(self.parts.device):
            samples = self.parts.audio_tokenizer.decode(codes[None].to(self.parts.device))[0].float().cpu()
        return F.pad(samples, (0, self.num_samples - samples.shape[1]))

    def num_steps(self, task: Task) -> int:
        """How many tokens are chosen in a row of a task, at the most."""
        given = sum(view.count(self.grid[0]) for view in task.given if view.starts_output)
        return sum(math.prod(self._shape(view)) for view in task.predict) - given * self.grid[1] * self.grid[2]

    def plan(self, task: Task, pieces: dict[str, Tensor]) -> layout.Row:
        """The row of a task that is given these pieces; its output is to be filled in.

        Raises:
            ConfigError: The task hears, and the model has no places for so long a sound.
        """
        settings = self.parts.settings
        if task.hears:
            self.parts.language_model.embedding.check_sound(self.audio_grid)
        usual = (self.height, self.width) == (settings.height, settings.width)
        return layout.plan(
            task,
            self.parts.vocabulary,
            pieces,
            {f"{view.modality}_out": self._shape(view) for view in task.predict},
            resolution=None if usual else (self.height, self.width),
        )

    def _shape(self, view: View) -> tuple[int, ...]:
        """The shape of the codes of a view that is predicted."""
        if view.modality == "text":
            return (self.parts.text_encoder.longest,)
        if view.modality == "audio":
            return self.audio_grid[0], view.count(self.audio_grid[1])
        return view.count(self.grid[0]), *self.grid[1:]

    def _check_size(self) -> None:
        settings = self.parts.settings
        known = ((settings.height, settings.width), *self.parts.vocabulary.config.resolutions)
        if (self.height, self.width) not in known:
            nearest = min(known, key=lambda size: abs(size[0] - self.height) + abs(size[1] - self.width))
            raise TaskError(
                f"the size {self.width}x{self.height} (width x height) is not one that this model was trained on; "
                f"those are {', '.join(f'{width}x{height}' for height, width in known)}; use {nearest[1]}x{nearest[0]}",
                code="size_invalid",
            )
