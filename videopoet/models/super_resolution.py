"""The super-resolution transformer: codes of a small clip to those of one twice as large (VideoPoet, section 3.4).

It sees codes, ids of text and a noise level. How its answers become codes is in `generation.masked_decoding`, how it
learns in `training.masked_token`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as recompute

from videopoet.checkpoint import load_component, load_weights, save_component
from videopoet.config import BaseConfig
from videopoet.nn.attention import Attention, GatedMlp, Grid, cut, even_window, inside, join, rotary_angles

UNKNOWN = -1
"""In place of a code that is still to be chosen, of all low-resolution codes where they are left out, and of padding
after a text."""
Limits = tuple[int | None, int | None, int | None]


class Shape(BaseConfig):
    """Size of the transformer; the defaults have the parameter count and the windows of the paper's first stage."""

    num_groups: int = Field(default=2, ge=1)
    """Factors of a code: its bits in so many groups, each with an embedding and a softmax of its own."""
    width: int = Field(default=1280, ge=16)
    head_width: int = Field(default=64, ge=16, multiple_of=16)
    hidden_width: int = Field(default=3456, ge=8)
    """Width inside the gated MLP."""
    num_blocks: int = Field(default=12, ge=1)
    """Blocks; each has one layer per kind of window, and reads the text once."""
    num_reading_blocks: int = Field(default=0, ge=0)
    """Blocks that the low-resolution codes go through before they are looked at. The paper has none; in a small
    model, where few layers look, they are cheap: a quarter of the tokens."""
    windows: tuple[Limits, ...] = Field(default=((1, None, 4), (1, 8, None), (5, 8, 8)), min_length=1)
    """The most latent frames, rows and columns of each layer's windows: vertical, horizontal, temporal; None is the
    whole side. Low-resolution codes are seen through the same windows at half the rows and columns."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Shape:
        if self.width % self.head_width:
            raise ValueError(f"a width of {self.width} does not divide into heads of {self.head_width}")
        if any(side is not None and (side < 2 or side % 2) for window in self.windows for side in window[1:]):
            raise ValueError("rows and columns of a window must be even: at low resolution they are half")
        return self


class Config(Shape):
    """The transformer of one video tokenizer and one text encoder."""

    num_bits: int = Field(ge=1)
    """Bits of a visual code."""
    text_size: int = Field(ge=1)
    """Number of text ids."""
    longest_text: int = Field(default=64, ge=1)
    """The most ids of one text."""

    @model_validator(mode="after")
    def _bits_divide(self) -> Config:
        if self.num_bits % self.num_groups:
            raise ValueError(f"{self.num_bits} bits do not divide evenly into {self.num_groups} groups")
        return self

    @property
    def group_bits(self) -> int:
        """Bits of one factor of a code."""
        return self.num_bits // self.num_groups


class Cutting(NamedTuple):
    """How a grid is cut into windows."""

    window: Grid
    angles: Tensor
    """Of the places in a window."""
    inside: Tensor | None
    """Where windows hold something; None where all are full."""


class Condition(NamedTuple):
    """What a clip's codes are chosen by, the same in every step of their decoding."""

    low: Tensor
    """The low-resolution clip, read, (B, t, h / 2, w / 2, D)."""
    words: Tensor
    """(B, 1 + L, D)"""
    legible: Tensor
    """Which of the words are there, bool (B, 1 + L)."""
    cuttings: list[list[Cutting]]
    """Of each kind of window, how it cuts the high-resolution grid and the low one."""


class SuperResolution(nn.Module):
    """Masked high-resolution codes and what is known of the clip to hidden states, and those to logits."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        width, rows = config.width, config.num_groups * 2**config.group_bits
        self.code_embedding = nn.Embedding(rows, width)
        self.low_embedding = nn.Embedding(rows, width)
        self.text_embedding = nn.Embedding(config.text_size, width)
        self.text_place_embedding = nn.Embedding(config.longest_text, width)
        # Frame 0 is one frame of pixels, each later one several: a token must know which kind it is.
        self.frame_embedding = nn.Embedding(2, width)
        # Learned: the mask, nothing in place of the low-resolution codes, and what is read where there is no text.
        self.null_embedding = nn.Embedding(3, width)
        self.noise_embedding = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))
        self.reading = nn.ModuleList(
            Layer(config, looks=False) for _ in range(config.num_reading_blocks) for _ in config.windows
        )
        self.layers = nn.ModuleList(
            Layer(config, looks=True, reads_text=number == len(config.windows) - 1)
            for _ in range(config.num_blocks)
            for number in range(len(config.windows))
        )
        self.norm = nn.RMSNorm(width)
        self.heads = nn.Linear(width, rows)
        for module in self.children():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    @torch.no_grad()
    def widen_text(self, size: int) -> None:
        """Know `size` ids of text; a new one begins as the mean of those it knows."""
        known = self.text_embedding.weight
        new = known.mean(dim=0).expand(size - len(known), -1)
        self.text_embedding = nn.Embedding.from_pretrained(torch.cat([known, new]), freeze=not known.requires_grad)
        self.config = self.config.model_copy(update={"text_size": size})

    def recompute_layers(self) -> None:
        """Keep only what enters each layer for the backward pass, and compute its inner values there again."""
        for layer in self.modules():
            if isinstance(layer, Layer):
                layer.recomputes = True

    def forward(self, codes: Tensor, low_codes: Tensor, text: Tensor, noise: Tensor) -> Tensor:
        """Hidden states of every place, (B, t, h, w, D).

        Args:
            codes: (B, t, h, w) int64, UNKNOWN where masked.
            low_codes: (B, t, h / 2, w / 2) int64; all UNKNOWN in a row that does without.
            text: (B, L) int64 ids, UNKNOWN after their end; all UNKNOWN in a row without text.
            noise: (B,), the share of low-resolution codes that may be wrong.
        """
        return self.refine(codes, self.condition(low_codes, text, noise))

    def condition(self, low_codes: Tensor, text: Tensor, noise: Tensor) -> Condition:
        """What is known of clips before any of their codes is chosen; `forward` says what of."""
        grid: Grid = low_codes.shape[1], low_codes.shape[2], low_codes.shape[3]
        _, no_low, no_text = self.null_embedding.weight
        cuttings = [
            _cuttings(self.config, limits, grid, len(low_codes), low_codes.device) for limits in self.config.windows
        ]
        level = self.noise_embedding(noise[:, None].float())[:, None, None, None]  # (B, 1, 1, 1, D)
        low = self._embed(low_codes, self.low_embedding) + level
        low = torch.where((low_codes == UNKNOWN)[..., None], no_low, low) + self._kinds(grid[0])
        for number, layer in enumerate(self.reading):
            low = layer(low, cuttings[number % len(cuttings)][1])
        words = self.text_embedding(text.clamp_min(0)) + self.text_place_embedding.weight[: text.shape[1]]
        words = torch.cat([no_text.expand(len(words), 1, -1), words], dim=1)  # one key is always there to be read
        return Condition(low, words, F.pad(text != UNKNOWN, (1, 0), value=True), cuttings)

    def refine(self, codes: Tensor, condition: Condition) -> Tensor:
        """Hidden states of every place, (B, t, h, w, D), of codes, (B, t, h, w), some UNKNOWN, and what is known."""
        low, words, legible, cuttings = condition
        t, h, w = low.shape[1:4]
        assert codes.shape[1:] == (t, 2 * h, 2 * w), "high resolution is twice the low one"
        mask = self.null_embedding.weight[0]
        x = torch.where((codes == UNKNOWN)[..., None], mask, self._embed(codes, self.code_embedding)) + self._kinds(t)
        # Each place starts from the low-resolution code that covers it: attention need not find it first.
        x = x + low.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        for number, layer in enumerate(self.layers):
            cutting, its = cuttings[number % len(cuttings)]
            x = layer(x, cutting, (low, its), (words, legible))
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of every group's values, (..., G, 2 ** group_bits), of hidden states, (..., D)."""
        return self.heads(hidden).unflatten(-1, (self.config.num_groups, -1))

    def groups(self, codes: Tensor) -> Tensor:
        """The factors, (..., G), of codes, (...)."""
        shifts = self.config.group_bits * torch.arange(self.config.num_groups, device=codes.device)
        return (codes[..., None] >> shifts) & (2**self.config.group_bits - 1)

    def codes(self, groups: Tensor) -> Tensor:
        """The codes, (...), of factors, (..., G)."""
        return (groups << self.config.group_bits * torch.arange(self.config.num_groups, device=groups.device)).sum(-1)

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Write `config.json` and `model.safetensors`."""
        save_component(folder, self.config, {name: tensor.to(dtype) for name, tensor in self.state_dict().items()})

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote, in evaluation mode.

        Raises:
            CheckpointError: A file is missing, broken or does not fit.
        """
        config, tensors = load_component(folder, Config)
        model = cls(config)
        load_weights(model, {name: tensor.float() for name, tensor in tensors.items()}, folder)
        return model.eval()

    def _kinds(self, num_frames: int) -> Tensor:
        """What tells the first latent frame from the others, (t, 1, 1, D)."""
        later = torch.arange(num_frames, device=self.frame_embedding.weight.device) > 0
        return self.frame_embedding(later.long())[:, None, None]

    def _embed(self, codes: Tensor, table: nn.Embedding) -> Tensor:
        """The sum, (..., D), of the embeddings of the factors of codes, (...); UNKNOWN gives anything."""
        first = 2**self.config.group_bits * torch.arange(self.config.num_groups, device=codes.device)
        return table(self.groups(codes.clamp_min(0)) + first).sum(-2)


class Layer(nn.Module):
    """Self-attention in windows; where it looks, attention to the low-resolution window and the text; an MLP."""

    def __init__(self, config: Config, looks: bool, reads_text: bool = False):
        super().__init__()
        self.own = _Attended(config)
        self.low = _Attended(config) if looks else None
        self.text = _Attended(config) if reads_text else None
        self.mlp_norm, self.mlp = nn.RMSNorm(config.width), GatedMlp(config.width, config.hidden_width)
        self.recomputes = False

    def forward(
        self,
        x: Tensor,
        cutting: Cutting,
        low: tuple[Tensor, Cutting] | None = None,
        text: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Refine (B, t, h, w, D).

        Args:
            x: What is refined.
            cutting: Of its grid.
            low: The low-resolution grid, (B, t, h / 2, w / 2, D), and its cutting, for a layer that looks.
            text: Words, (B, L, D), and where they are legible, bool (B, L), for a layer that reads.
        """
        if self.recomputes and torch.is_grad_enabled():
            given = (x, cutting, low, text)
            return recompute(self._refined, *given, use_reentrant=False, preserve_rng_state=False)  # pyright: ignore
        return self._refined(x, cutting, low, text)

    def _refined(
        self,
        x: Tensor,
        cutting: Cutting,
        low: tuple[Tensor, Cutting] | None,
        text: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        grid: Grid = x.shape[1], x.shape[2], x.shape[3]
        x = cut(x, cutting.window)  # (N, L, D)
        x = self.own(x, None, (cutting.angles, cutting.angles), cutting.inside)
        if self.low is not None and low is not None:
            seen, its = low
            x = self.low(x, cut(seen, its.window), (cutting.angles, its.angles), its.inside)
        x = x + self.mlp(self.mlp_norm(x))
        x = join(x, cutting.window, grid)
        if self.text is not None and text is not None:
            x = self.text(x.flatten(1, 3), text[0], None, text[1]).view(x.shape)
        return x


class _Attended(nn.Module):
    """A normed residual branch that attends to a context, or to its own input for None."""

    def __init__(self, config: Config):
        super().__init__()
        self.norm, self.attention = nn.RMSNorm(config.width), Attention(config.width, config.head_width)

    def forward(
        self, x: Tensor, context: Tensor | None, places: tuple[Tensor, Tensor] | None, visible: Tensor | None
    ) -> Tensor:
        normed = self.norm(x)
        return x + self.attention(normed, normed if context is None else context, places, visible)


def _cuttings(config: Config, limits: Limits, low_grid: Grid, batch_size: int, device: torch.device) -> list[Cutting]:
    """How one kind of window cuts the high-resolution grid and the low one, at the same places."""
    halves = (limits[0], *(side and side // 2 for side in limits[1:]))
    window = even_window(low_grid, (halves[0], halves[1], halves[2]))
    return [
        Cutting(
            part := (window[0], scale * window[1], scale * window[2]),
            rotary_angles(part, config.head_width, spacing=2 // scale, device=device),
            inside((low_grid[0], scale * low_grid[1], scale * low_grid[2]), part, batch_size, device),
        )
        for scale in (2, 1)
    ]
