"""Frames of a clip before it is finished: a latent frame becomes pixels as soon as its last token is final.

A decoder says how many tokens are final (`Settling`), and the causal video tokenizer needs no later code to decode what
there is (`EarlyFrames`). Nothing is decoded twice: the finished clip consists of these very pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from videopoet.generation.window import Window
from videopoet.nn.causal_conv import PastFrames
from videopoet.sequence.layout import Row
from videopoet.sequence.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Frames:
    """Some consecutive frames of a result, as soon as they are known."""

    first: int
    """Index in the result of the first of them."""
    frames: Tensor
    """uint8 (3, T, H, W), those of the result."""
    frame_rate: float
    """Frames per second; a picture has the model's."""
    draft: bool = False
    """Whether they are still to be upscaled: they then come again, larger, when the result is finished."""


class EarlyFrames:
    """The pixels of a stretch of one window, decoded while later codes of the window are still to be chosen.

    Args:
        window: Decodes codes.
        first: The frame of the window with which the stretch begins.
        num_frames: Of the stretch; what comes after it is not decoded.
        show: Takes each index in the stretch and the pixels from there on, (3, T, H, W), as they are decoded.
        finish: What is made of pixels before they are shown and kept, given their index in the stretch.
    """

    def __init__(
        self,
        window: Window,
        first: int,
        num_frames: int,
        show: Callable[[int, Tensor], None],
        finish: Callable[[int, Tensor], Tensor] = lambda index, pixels: pixels,
    ):
        self.window, self.first, self.num_frames, self.show, self.finish = window, first, num_frames, show, finish
        self._past = PastFrames()
        self._num_codes, self._num_decoded = 0, 0
        self._pieces: list[Tensor] = []

    def take(self, codes: Tensor) -> None:
        """Decode the next codes of the window, (k, h, w)."""
        self._num_codes += len(codes)
        for latent_frame in codes.split(1):
            start = self._num_decoded - self.first  # in the stretch
            if start >= self.num_frames:
                return
            pixels = self.window.decode(latent_frame, self._past)
            self._num_decoded += pixels.shape[1]
            pixels = pixels[:, max(0, -start) : self.num_frames - start]
            if pixels.shape[1]:
                index = max(0, start)
                self._pieces.append(self.finish(index, pixels))
                self.show(index, self._pieces[-1])

    def all_of(self, codes: Tensor) -> Tensor:
        """The pixels of the whole stretch, (3, num_frames, H, W), now that all codes are known, (t, h, w)."""
        self.take(codes[self._num_codes :])
        return torch.cat(self._pieces, dim=1)


class Settling:
    """Hands on the codes of rows, latent frame by latent frame; it is what a decoder calls as `on_settled`.

    Args:
        rows: Planned rows.
        takers: For each of them what takes the codes that follow those it has taken, (k, h, w).
        vocabulary: What the rows are written in.
    """

    def __init__(self, rows: Sequence[Row], takers: Sequence[Callable[[Tensor], None]], vocabulary: Vocabulary):
        self.rows, self.takers, self.vocabulary = rows, takers, vocabulary
        self._num_taken = [0] * len(rows)
        spans = [row.spans["video_out"] for row in rows]
        self._unknown_before = [int(row.to_generate[: span.start].sum()) for row, span in zip(rows, spans, strict=True)]

    def begin(self) -> None:
        """Hand on what is known from the start, before any token is chosen."""
        for number, row in enumerate(self.rows):
            self._hand_on(number, row.tokens, 0)

    def __call__(self, tokens: Tensor, counts: Sequence[int]) -> None:
        for number, count in enumerate(counts):
            self._hand_on(number, tokens[number, tokens.shape[1] - len(self.rows[number].tokens) :], count)

    def _hand_on(self, number: int, tokens: Tensor, count: int) -> None:
        row, taken = self.rows[number], self._num_taken[number]
        span = row.spans["video_out"]
        num_latents, height, width = span.shape
        num_known = row.given_output + max(0, count - self._unknown_before[number])
        whole = min(num_latents, num_known // (height * width))
        if whole > taken:
            here = slice(span.start + taken * height * width, span.start + whole * height * width)
            self._num_taken[number] = whole
            self.takers[number](self.vocabulary.codes("video", tokens[here].cpu().view(-1, height, width)))
