"""Write what the oracle knows of how the toy box looks: its scenery and its silhouettes, as pictures.

Run it after the toy box changes its looks, before anything is scored; the oracle's hash changes with the pictures.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from videopoet.data.toybox import Config, ToyBox
from videopoet.data.toybox_scenery import scenery
from videopoet.data.toybox_world import SHAPES
from videopoet.evaluation import oracle

FOLDER = Path(oracle.__file__).parent / "looks"
SIDE = 512
"""Pixels of the pictures from which silhouettes are measured."""
EXTENT, GRID = 1.25, 80
"""Silhouettes reach so many radii from the centre, in a square of so many pixels."""


def save(name: str, picture: Tensor) -> None:
    """Write (channels, rows, columns) in [0, 1]."""
    pixels = (picture.clamp(0, 1) * 255).round().byte().movedim(0, -1).squeeze(-1).numpy()
    Image.fromarray(np.ascontiguousarray(pixels)).save(FOLDER / name, optimize=True)


def silhouette(world: ToyBox, shape: str) -> Tensor:
    """How much of each pixel of the square a shape covers, (GRID, GRID), from its mask in a large picture."""
    scene = world.scene(0, num_subjects=1, shape=shape, size="big", motion="up", kind="night", camera="still")
    (subject,) = scene.subjects
    # It flies up from half its way below where it is drawn: the first frame shows it in the middle of the picture.
    centred = replace(subject, x=0.0, y=-0.5 * subject.span, facing=1)
    clips = world.render([replace(scene, subjects=(centred,))], audio=False, truth=True)
    assert clips.masks is not None and clips.tracks is not None
    mask, (column, row) = clips.masks[0, 0, 0].float(), clips.tracks[0, 0, 0].tolist()
    steps = ((torch.arange(4 * GRID) + 0.5) / (4 * GRID) * 2 - 1) * EXTENT * subject.radius * SIDE
    grid = torch.stack(torch.meshgrid(steps + column, steps + row, indexing="xy"), dim=-1)
    seen = F.grid_sample(mask[None, None], (2 * grid[None] + 1) / SIDE - 1, align_corners=False)
    return F.avg_pool2d(seen, 4)[0, 0]


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    painted = scenery(64, 0.5, torch.device("cpu"))
    for name, layer in (("sky", painted.sky), ("middle", painted.middle), ("ground", painted.ground)):
        picture = torch.cat([layer[:, :3] / 2 + 0.5, layer[:, 3:]], dim=1)
        # The last column repeats the first.
        save(f"{name}.png", picture[..., :-1].movedim(0, 1).flatten(1, 2))
    world = ToyBox(Config(height=SIDE, width=SIDE, num_frames=2, split="validation"))
    save("silhouettes.png", torch.cat([silhouette(world, shape) for shape in SHAPES])[None])


if __name__ == "__main__":
    main()
