"""A head beside the language model that guesses tokens before the model comes to them.

A decoder that checks guesses needs first ones. A place of a picture resembles its neighbours, and what the model
thought at two of them is known long before it comes to the place: at the same place a latent frame before, and at the
one above.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from videopoet.config import BaseConfig


class Config(BaseConfig):
    """Sizes of the head."""

    width: int = Field(ge=1)
    """Width of the language model."""
    hidden_width: int = Field(ge=1)
    """Width inside of the head."""


class DraftHead(nn.Module):
    """States whose logits, by the language model's own head, are guesses."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        inputs = 5 * config.width  # two states, two tokens, a place
        self.direct = nn.Linear(inputs, config.width, bias=False)
        self.rise = nn.Linear(inputs, config.hidden_width)
        self.fall = nn.Linear(config.hidden_width, config.width)
        with torch.no_grad():  # at first, the mean of what the neighbours' own states say of the tokens after them
            self.direct.weight.zero_()
            for number in range(2):
                self.direct.weight[:, number * config.width : (number + 1) * config.width].fill_diagonal_(0.5)
            self.fall.weight.zero_()
            self.fall.bias.zero_()

    def forward(self, states: Tensor, tokens: Tensor, present: Tensor, place: Tensor) -> Tensor:
        """States, (..., D), as large as the language model's.

        Args:
            states: (..., 2, D), of the two neighbours, each after it has read the neighbour's token.
            tokens: (..., 2, D), embeddings of these tokens.
            present: bool (..., 2), whether there is such a neighbour.
            place: (..., D), embedding of the place whose token is guessed.
        """
        there = present[..., None].to(states.dtype)
        around = torch.cat([_even(states) * there, _even(tokens) * there], dim=-2)  # (..., 4, D)
        inputs = torch.cat([around.flatten(-2), _even(place)], dim=-1)
        size = states.square().mean(dim=-1, keepdim=True).sqrt()
        size = (size * there).sum(dim=-2) / there.sum(dim=-2).clamp_min(1)  # (..., 1)
        return size * (self.direct(inputs) + self.fall(F.silu(self.rise(inputs))))


def _even(vectors: Tensor) -> Tensor:
    return F.rms_norm(vectors, vectors.shape[-1:])
