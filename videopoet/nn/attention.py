"""Attention over tokens that lie in space and time: rotary places, local windows, and a gated MLP."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

Grid = tuple[int, int, int]
"""Latent frames, rows and columns."""
SLOWEST = 100.0
"""Tokens over which the slowest pair of a rotary embedding turns by one radian."""


class Attention(nn.Module):
    """Multi-head attention with QK-norm.

    Args:
        width: D of queries, context and result.
        head_width: Of one head; it divides `width`.
    """

    def __init__(self, width: int, head_width: int):
        super().__init__()
        self.head_width = head_width
        self.to_queries = nn.Linear(width, width, bias=False)
        self.to_keys_and_values = nn.Linear(width, 2 * width, bias=False)
        self.query_norm = nn.RMSNorm(head_width)
        self.key_norm = nn.RMSNorm(head_width)
        self.to_result = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.to_result.weight)  # a fresh layer passes its input on

    def forward(
        self,
        x: Tensor,
        context: Tensor,
        places: tuple[Tensor, Tensor] | None = None,
        visible: Tensor | None = None,
    ) -> Tensor:
        """What each position of `x`, (N, L, D), reads in `context`, (N, K, D).

        Args:
            x: Gives the queries.
            context: Gives keys and values.
            places: Angles by which queries (L, head_width / 2) and keys (K, head_width / 2) are turned; see
                `rotary_angles`. None is without places.
            visible: bool (N, K), False where nothing may be read; None is all of it.
        """
        split = "n l (h d) -> n h l d"
        queries = _normed(rearrange(self.to_queries(x), split, d=self.head_width), self.query_norm)
        keys, values = self.to_keys_and_values(context).chunk(2, dim=-1)
        keys = _normed(rearrange(keys, split, d=self.head_width), self.key_norm)
        values = rearrange(values, split, d=self.head_width)
        if places is not None:
            queries, keys = turn(queries, places[0]), turn(keys, places[1])
        mask = None if visible is None else visible[:, None, None]  # (N, 1, 1, K)
        read = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return self.to_result(rearrange(read, "n h l d -> n l (h d)"))


def _normed(x: Tensor, norm: nn.RMSNorm) -> Tensor:
    """The norm with its weight in the dtype of `x`, without which torch takes a slow way under autocast."""
    return F.rms_norm(x, x.shape[-1:], norm.weight.to(x.dtype), torch.finfo(torch.float32).eps)


class GatedMlp(nn.Module):
    """Two maps whose product is mapped back (SwiGLU)."""

    def __init__(self, width: int, hidden_width: int):
        super().__init__()
        self.to_gate_and_value = nn.Linear(width, 2 * hidden_width, bias=False)
        self.to_result = nn.Linear(hidden_width, width, bias=False)
        nn.init.zeros_(self.to_result.weight)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.to_gate_and_value(x).chunk(2, dim=-1)
        return self.to_result(F.silu(gate) * value)


def rotary_angles(window: Grid, head_width: int, spacing: int = 1, device: torch.device | None = None) -> Tensor:
    """Angles of a window's places, (t h w, head_width / 2): a quarter of the pairs for time, the rest for space.

    Args:
        window: Latent frames, rows and columns.
        head_width: Of the attention; a multiple of 16.
        spacing: Rows and columns of a finer grid that one row or column stands for; it lies in the middle of them.
        device: Of the result.
    """
    pairs = head_width // 2
    parts = (pairs // 4, 3 * pairs // 8, 3 * pairs // 8)
    axes = [torch.arange(size, device=device).float() for size in window]
    axes[1:] = [spacing * axis + (spacing - 1) / 2 for axis in axes[1:]]
    turns = []
    for place, count in zip(torch.meshgrid(*axes, indexing="ij"), parts, strict=True):
        speeds = SLOWEST ** -torch.linspace(0, 1, count, device=device)
        turns.append(place.flatten()[:, None] * speeds)
    return torch.cat(turns, dim=-1)


def turn(x: Tensor, angles: Tensor) -> Tensor:
    """Turn pairs of channels of (..., L, D) by (L, D / 2): a product of two then depends on how far apart they are."""
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def even_window(grid: Grid, most: tuple[int | None, int | None, int | None]) -> Grid:
    """The window that cuts a grid into the fewest parts of at most `most` a side, all of nearly one size.

    None is a whole side.
    """
    time, rows, columns = (
        size if limit is None else -(-size // -(-size // limit)) for size, limit in zip(grid, most, strict=True)
    )
    return time, rows, columns


def cut(x: Tensor, window: Grid) -> Tensor:
    """Cut a grid, (B, t, h, w, D), into windows, (B n, L, D); what sticks out at the ends is filled with zeros."""
    missing = [-size % part for size, part in zip(x.shape[1:4], window, strict=True)]
    if any(missing):
        x = F.pad(x, (0, 0, 0, missing[2], 0, missing[1], 0, missing[0]))
    t, h, w = window
    return rearrange(x, "b (i t) (j h) (k w) d -> (b i j k) (t h w) d", t=t, h=h, w=w)


def join(windows: Tensor, window: Grid, grid: Grid) -> Tensor:
    """Undo `cut`: windows, (B n, L, D), to a grid, (B, t, h, w, D)."""
    counts = [-(-size // part) for size, part in zip(grid, window, strict=True)]
    (i, j, k), (t, h, w) = counts, window
    x = rearrange(windows, "(b i j k) (t h w) d -> b (i t) (j h) (k w) d", i=i, j=j, k=k, t=t, h=h, w=w)
    return x[:, : grid[0], : grid[1], : grid[2]]


def inside(grid: Grid, window: Grid, batch_size: int, device: torch.device | None = None) -> Tensor | None:
    """Where the windows of a grid hold something, bool (B n, L); None where all of them are full."""
    if not any(size % part for size, part in zip(grid, window, strict=True)):
        return None
    return cut(torch.ones(batch_size, *grid, 1, device=device), window).squeeze(-1) > 0
