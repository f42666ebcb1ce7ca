"""Sounds of windows joined into one: each fades into the next where both can be heard, and the length stays."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from videopoet.generation.window import Window

FADE_SECONDS = 0.02
"""How long one window's sound takes to give way to the next."""


class Soundtrack:
    """The sound of consecutive stretches of a clip, of which at most one is held.

    The sound of a window reaches back before the stretch that it is for, and that is where it fades in: by equal power,
    since two windows agree in what happens and not in their waves.
    """

    def __init__(self, window: Window):
        self.window = window
        self.num_frames = 0
        self._held: Tensor | None = None
        # The last code of a window does not always reach its end; what follows it is silence, and is not heard.
        self._unheard = max(0, window.num_samples - window.audio_grid[1] * window.parts.audio_tokenizer.hop)
        self._fade = round(FADE_SECONDS * window.sample_rate)

    @property
    def lead_frames(self) -> int:
        """How many frames before its stretch a window must show, for its sound to fade in."""
        return math.ceil((self._fade + self._unheard) / self.window.sample_rate * self.window.frame_rate)

    def add(self, samples: Tensor, first: int, num_frames: int) -> Tensor | None:
        """Take the sound of a stretch.

        Args:
            samples: (1, S) of the whole window.
            first: The frame of the window with which the stretch begins.
            num_frames: Of the stretch.

        Returns:
            The sound of the stretch before it, (1, S), now that its end is known; None at the first.
        """
        start = self._position(first)
        length = self._position(self.num_frames + num_frames) - self._position(self.num_frames)
        self.num_frames += num_frames
        finished, self._held = self._held, samples[:, start : start + length].clone()
        if finished is not None:
            reach = min(self._fade + self._unheard, start, finished.shape[1])
            num_faded = max(0, reach - self._unheard)
            angle = torch.ones(reach)
            angle[:num_faded] = (torch.arange(num_faded) + 0.5) / max(1, num_faded)
            angle *= math.pi / 2
            end = finished.shape[1] - reach
            finished[:, end:] = finished[:, end:] * angle.cos() + samples[:, start - reach : start] * angle.sin()
        return finished

    def end(self) -> Tensor:
        """The sound of the last stretch, (1, S)."""
        assert self._held is not None
        return self._held

    def _position(self, frame: int) -> int:
        return round(frame / self.window.frame_rate * self.window.sample_rate)
