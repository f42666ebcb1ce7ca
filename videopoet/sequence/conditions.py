"""What a task shows of a clip: views for the task table, and the pixels behind masked and structure clips.

A masked or structure clip is tokenized like any other (MAGVIT's pixel-level conditioning): the model knows of no masks.
torch is imported by the functions that need it, so that the task table can be read without it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Generator, Tensor

Modality = Literal["text", "video", "audio"]
Part = Literal["whole", "first_frame", "first_half"]
Change = Literal["keep_region", "hide_region", "structure"]


@dataclass(frozen=True)
class View:
    """One thing that a task gives or predicts, and how much of it is shown."""

    name: str
    """What a user calls it: text, image, video or audio."""
    modality: Modality
    part: Part = "whole"
    change: Change | None = None
    """What happens to the pixels before they are tokenized."""
    optional: bool = False
    starts_output: bool = False
    """Known tokens at the start of the output, where the model goes on from them, instead of in the prefix."""

    def or_nothing(self) -> View:
        """This view, which a user may leave out."""
        return replace(self, optional=True)

    def through(self, change: Change) -> View:
        """This view with its pixels changed: a region kept, a region hidden, or structure in place of appearance."""
        return replace(self, change=change)

    def first_half(self) -> View:
        """The beginning of this view: its first latent frame and half of those after it, 9 of 17 video frames."""
        return replace(self, part="first_half")

    def at_start(self) -> View:
        """This view, given as the beginning of the output."""
        return replace(self, starts_output=True)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The user inputs that make this view; only the first is ever required."""
        name = "prompt" if self.modality == "text" else self.name
        more = {"keep_region": ("mask", "box"), "hide_region": ("mask", "box"), "structure": ("depth", "depth_model")}
        return name, *more.get(self.change or "", ())

    @property
    def piece(self) -> str:
        """Where a row holds what this view gives: `text_in`, `video_in`, `audio_in` or `video_start`."""
        return f"{self.modality}_start" if self.starts_output else f"{self.modality}_in"

    def count(self, length: int) -> int:
        """How many of a clip's `length` latent frames (of its audio frames, for sound) this view shows."""
        return {"whole": length, "first_frame": 1, "first_half": 1 + (length - 1) // 2}[self.part]

    def of(self, codes: Tensor) -> Tensor:
        """The codes that this view shows of a whole clip's: video (..., t, h, w), audio (..., Q, s), text (..., L).

        Both tokenizers are causal, so the first codes of a clip are the codes of its beginning.
        """
        time = -3 if self.modality == "video" else -1
        return codes.narrow(time, 0, self.count(codes.shape[time]))


text = View("text", "text")
image = View("image", "video", part="first_frame")
video = View("video", "video")
audio = View("audio", "audio")


@dataclass(frozen=True)
class Region:
    """A box in fractions of the picture; a sliding one crosses it from the left edge to the right during the clip."""

    top: float = 0.0
    bottom: float = 1.0
    left: float = 0.0
    right: float = 1.0
    slides: bool = False
    around: bool = False
    """All but the box."""


MAGVIT_REGIONS = {
    "central": Region(0.25, 0.75, 0.25, 0.75),
    "horizontal": Region(top=0.25, bottom=0.75),
    "vertical": Region(left=0.25, right=0.75),
    "top_left": Region(bottom=0.5, right=0.5),
    "dynamic_vertical": Region(right=0.5, slides=True),
    "dynamic_central": Region(0.25, 0.75, right=0.5, slides=True),
}
"""MAGVIT's painting regions, which training and evaluation show. VideoPoet is evaluated on `central`."""
REGIONS = MAGVIT_REGIONS | {
    "left": Region(right=0.5),
    "right": Region(left=0.5),
    "top": Region(bottom=0.5),
    "bottom": Region(top=0.5),
    "half": Region(right=0.5),
    "edge": Region(0.125, 0.875, 0.125, 0.875, around=True),
    "moving_box": MAGVIT_REGIONS["dynamic_central"],
}
"""All that a user may name. Outpainting keeps the region, inpainting hides it.

Training never shows quite those beyond MAGVIT's, but boxes of all places and sizes (`random_mask`).
"""


def random_region(generator: Generator) -> Region:
    """One of `MAGVIT_REGIONS`, each as likely as the others."""
    import torch

    index = torch.randint(len(MAGVIT_REGIONS), (), generator=generator)
    return list(MAGVIT_REGIONS.values())[int(index)]


def keep_mask(region: Region, change: Change, num_frames: int, height: int, width: int) -> Tensor:
    """Which pixels stay visible, bool (T, H, W): under `keep_region` those in the region, else those around it."""
    import torch

    rows = (torch.arange(height) + 0.5) / height
    columns = (torch.arange(width) + 0.5) / width
    slide = (1 - (region.right - region.left)) * torch.linspace(0, 1, num_frames) * region.slides
    columns = columns - slide[:, None]  # (T, W)
    in_rows = (rows >= region.top) & (rows < region.bottom)
    in_columns = (columns >= region.left) & (columns < region.right)
    inside = (in_rows[:, None] & in_columns[:, None, :]) ^ region.around  # (T, H, W)
    return inside if change == "keep_region" else ~inside


def random_mask(generator: Generator, change: Change, num_frames: int, height: int, width: int) -> Tensor:
    """Which pixels stay visible when a user draws what to replace, bool (T, H, W): what `keep_mask` gives of a region.

    Outpainting keeps one box, of a quarter to nine tenths of each side; inpainting hides one to three boxes and
    ellipses of a tenth to seven tenths. Half of them stand still, the others go straight from one place to another.
    """
    import torch

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    rows = (torch.arange(height) + 0.5) / height
    columns = (torch.arange(width) + 0.5) / width
    least, most = (0.25, 0.9) if change == "keep_region" else (0.1, 0.7)
    count = 1 if change == "keep_region" else int(torch.randint(1, 4, (), generator=generator))
    inside = torch.zeros(num_frames, height, width, dtype=torch.bool)
    for _ in range(count):
        half = (least + (most - least) * draw(2)) / 2
        ends = half + (1 - 2 * half) * draw(2, 2)  # centres at the beginning and at the end, as (row, column)
        moves, is_ellipse = (draw(2) < 0.5).tolist()
        step = torch.linspace(0, 1, num_frames)[:, None] * moves
        centres = ends[0] + (ends[1] - ends[0]) * step  # (T, 2)
        down = ((rows - centres[:, :1]) / half[0])[:, :, None]  # (T, H, 1)
        across = ((columns - centres[:, 1:]) / half[1])[:, None]  # (T, 1, W)
        if is_ellipse and change == "hide_region":
            inside |= down**2 + across**2 < 1
        else:
            inside |= (down.abs() < 1) & (across.abs() < 1)
    return inside if change == "keep_region" else ~inside


def masked_clip(video: Tensor, keep: Tensor) -> Tensor:
    """A clip (..., T, H, W) in [-1, 1] of which only the pixels in `keep` (T, H, W) can be seen.

    As in MAGVIT, hidden pixels are black; but around a kept part that stands still, as in outpainting, the edge of
    its bounding box is repeated outwards, which is nearer to what the tokenizer has seen.
    """
    import torch

    shown = torch.where(keep, video, torch.full_like(video, -1.0))
    if not keep.any() or not torch.equal(keep, keep[:1].expand_as(keep)):
        return shown
    rows, columns = keep[0].any(1).nonzero(), keep[0].any(0).nonzero()
    row = torch.arange(keep.shape[1], device=keep.device).clamp(rows.min(), rows.max())
    column = torch.arange(keep.shape[2], device=keep.device).clamp(columns.min(), columns.max())
    return shown[..., row, :][..., column]
