"""The network behind wFD: a small 3-D CNN that was trained to read the toy box's labels, frozen, and known by its hash.

It sees clips of the toy box and nothing that a model makes. `benchmarks/train_world_network.py` trains it; a file with
another hash is refused. It reads far less surely than the oracle, so it judges no clip: its features compare sets.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from videopoet import checkpoint
from videopoet.data.toybox_world import CAMERAS, COLOURS, KINDS, MAX_SUBJECTS, MOTIONS, SHAPES, SIZES
from videopoet.errors import CheckpointError

LABELS: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "colour": COLOURS,
    "size": tuple(SIZES),
    "motion": MOTIONS,
    "scenery": KINDS,
    "camera": CAMERAS,
    "count": tuple(str(number) for number in range(1, MAX_SUBJECTS + 1)),
}
"""What it reads, and the values of each; of shape to motion there is one for each subject."""
SIDE = 64
"""Pixels a side that clips are read at."""
CHANNELS = 16, 32, 64, 96
WIDTH = 2 * CHANNELS[-1]
"""Features of a clip."""
FILE = Path(__file__).parent / "world_network.safetensors"
SHA256 = "ba09cfcefa58ef992d7e504fc8752deb392f9ede94a07921f6c074eb862a33cf"
"""Of the committed weights; others are refused."""


class WorldNetwork(nn.Module):
    """Four 3-D convolutions, mean and maximum of each channel over the clip, and a linear reading of each label."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third, fourth = CHANNELS
        self.layers = nn.Sequential(
            *_layer(3, first, (1, 5, 5), (1, 2, 2)),
            *_layer(first, second, (3, 3, 3), (1, 2, 2)),
            *_layer(second, third, (3, 3, 3), (2, 2, 2)),
            *_layer(third, fourth, (3, 3, 3), (2, 2, 2)),
        )
        self.heads = nn.ModuleDict({label: nn.Linear(WIDTH, len(values)) for label, values in LABELS.items()})

    def features(self, video: Tensor) -> Tensor:
        """Features, (B, WIDTH), of pixels in [-1, 1], (B, 3, T, SIDE, SIDE)."""
        layer = self.layers(video)  # (B, C, t, h, w)
        return torch.cat([layer.mean(dim=(2, 3, 4)), layer.amax(dim=(2, 3, 4))], dim=1).float()

    def forward(self, video: Tensor) -> dict[str, Tensor]:
        """Logits of every label, each (B, number of values)."""
        features = self.features(video)
        return {label: head(features) for label, head in self.heads.items()}


@cache
def world_network() -> WorldNetwork:
    """The network that ships, on the CPU.

    Raises:
        CheckpointError: The weights are missing, or not the committed ones.
    """
    tensors = checkpoint.load_tensors(FILE)
    found = checkpoint.sha256(FILE)
    if found != SHA256:
        raise CheckpointError(
            f"the weights in '{FILE.name}' have sha256 {found[:16]}..., and wFD is defined with {SHA256[:16]}...; with "
            "others its values do not compare; restore the file",
            code="weights_mismatch",
        )
    network = WorldNetwork()
    checkpoint.load_weights(network, tensors, FILE)
    return network.eval().requires_grad_(False)


def _layer(channels: int, width: int, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> list[nn.Module]:
    time, rows, columns = kernel
    padding = time // 2, rows // 2, columns // 2
    convolution = nn.Conv3d(channels, width, kernel, stride, padding, bias=False)  # the norm has a bias
    return [convolution, nn.BatchNorm3d(width), nn.ReLU()]
