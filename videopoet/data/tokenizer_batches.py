"""What a step of a tokenizer sees: pixels or sounds.

Batch number `index` is a pure function of (seed, index), whatever was read before.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from videopoet import runtime
from videopoet.config import AtLeastOne, BaseConfig
from videopoet.data.world import Scene, World, drawn_scenes

FRAMES_PER_CLIP = 4
"""Of a clip that is rendered to train on single frames."""


class Kind(NamedTuple):
    """One kind of batch in a stage."""

    share: float
    """How often it comes."""
    scale: int
    num_windows: int
    """Of whole frames; as many more crops, as their area is smaller."""
    num_frames: int
    windows_per_clip: int
    crop_size: int | None


class Stage(BaseConfig):
    """A stretch of a video tokenizer's training, on clips of one shape."""

    num_batches: int = Field(ge=1)
    """Steps in this stage; the last stage goes on for as long as the run does."""
    batch_size: int = Field(ge=1)
    """Windows in a batch."""
    num_frames: int = Field(default=17, ge=1)
    """Frames of a window; 1 trains on images."""
    windows_per_clip: int = Field(default=1, ge=1)
    """Windows cut from one rendered clip, at random times."""
    scales: tuple[AtLeastOne, ...] = Field(default=(1,), min_length=1)
    """Sizes of the clips as multiples of the world's; each batch is of one, by lot. At scale 2 a batch has a quarter
    of the windows, at least one: every batch costs about the same."""
    image_share: float = Field(default=0.0, ge=0, le=1)
    """Share of batches, by lot, of single frames: many different pictures for what a few clips cost. Where footage has
    pictures, such a batch is of those or of frames of clips, as often as there are each."""
    image_batch_size: int = Field(default=32, ge=1)
    """Frames in such a batch, four from each clip."""
    crop_share: float = Field(default=0.0, ge=0, le=1)
    """Share of batches, by lot, of square crops that show a subject, or any place where nobody knows of subjects: what
    is hardest to keep is then most of what is seen. For tokenizers that normalize each place alone."""
    crop_size: int = Field(default=32, ge=8)
    """Pixels per side of a crop, a multiple of the tokenizer's stride."""

    @property
    def kinds(self) -> list[Kind]:
        """The kinds of batches that it draws from, by lot."""
        kinds: list[Kind] = []
        for scale in self.scales:
            windows, images = (max(1, size // scale**2) for size in (self.batch_size, self.image_batch_size))
            for crop_size, lot in ((None, 1 - self.crop_share), (self.crop_size, self.crop_share)):
                share = lot / len(self.scales)
                clips, pictures = share * (1 - self.image_share), share * self.image_share
                kinds.append(Kind(clips, scale, windows, self.num_frames, self.windows_per_clip, crop_size))
                kinds.append(Kind(pictures, scale, images, 1, FRAMES_PER_CLIP, crop_size))
        return [kind for kind in kinds if kind.share]


class Windows(NamedTuple):
    """What a video tokenizer is shown in a step."""

    video: Tensor
    """Pixels in [-1, 1], (B, 3, T, H, W)."""
    subjects: Tensor | None = None
    """Where subjects are, with a pixel around them, bool (B, 1, T, H, W); None where nobody knows or asked."""


class VideoBatches:
    """Windows of clips in stages, such as images, then short clips, then whole clips.

    Args:
        with_subjects: Say where subjects are; crops find them in any case.
    """

    def __init__(
        self,
        world: World,
        stages: tuple[Stage, ...],
        seed: int | str,
        device: torch.device | str = "cpu",
        with_subjects: bool = False,
    ):
        self.world, self.stages, self.seed, self.device = world, stages, seed, device
        self.with_subjects = with_subjects

    def __call__(self, index: int) -> Windows:
        stage = self._stage(index)
        generator = runtime.generator(self.seed, "video", index)
        kinds = stage.kinds
        number = int(torch.multinomial(Tensor([kind.share for kind in kinds]), 1, generator=generator))
        kind = kinds[number]
        world = self.world.at_scale(kind.scale)
        num_windows = kind.num_windows
        if kind.crop_size is not None:
            num_windows *= world.config.height * world.config.width // kind.crop_size**2
        windows_per_clip = kind.windows_per_clip
        if kind.num_frames == 1 and (drawn_from := world.for_frames(generator)) is not world:
            world, windows_per_clip = drawn_from, 1  # a picture is one window
        num_clips = -(-num_windows // windows_per_clip)
        scenes = drawn_scenes(world, num_clips, generator)
        clips = world.render(scenes, device=self.device, audio=False).video
        wants_subjects = self.with_subjects or kind.crop_size is not None
        masks = world.masks(scenes, self.device) if wants_subjects else None
        subjects = None if masks is None else _widened(masks.any(dim=1, keepdim=True))
        last = clips.shape[2] - kind.num_frames
        windows: list[Windows] = []
        for number in range(num_windows):
            clip = number % num_clips
            start = int(torch.randint(last + 1, (), generator=generator))
            times = slice(start, start + kind.num_frames)
            window = Windows(clips[clip, :, times], None if subjects is None else subjects[clip, :, times])
            if kind.crop_size is not None:
                window = _cropped(window, kind.crop_size, generator)
            windows.append(window)
        video = torch.stack([window.video for window in windows])
        known = [window.subjects for window in windows if window.subjects is not None]
        return Windows(video, torch.stack(known) if known else None)

    def _stage(self, index: int) -> Stage:
        for stage in self.stages:
            if index < stage.num_batches:
                return stage
            index -= stage.num_batches
        return self.stages[-1]


def _widened(masks: Tensor) -> Tensor:
    """Masks, bool (B, 1, T, H, W), and the pixels that touch them."""
    return F.max_pool3d(masks.float(), (1, 3, 3), stride=1, padding=(0, 1, 1)) > 0


def _cropped(window: Windows, size: int, generator: torch.Generator) -> Windows:
    """A square around some place where a subject is seen in the middle of a window, or around any place."""
    video, subjects = window
    lot = torch.rand(3, generator=generator)
    places = None if subjects is None else subjects[0, subjects.shape[1] // 2].nonzero().cpu()
    if places is not None and len(places):
        centre = places[int(lot[0] * len(places))] + (lot[1:] - 0.5) * size / 2
    else:
        centre = lot[1:] * torch.tensor(video.shape[2:])
    top, left = (
        min(max(int(place) - size // 2, 0), side - size) for place, side in zip(centre, video.shape[2:], strict=True)
    )
    rows, columns = slice(top, top + size), slice(left, left + size)
    return Windows(video[..., rows, columns], None if subjects is None else subjects[..., rows, columns])


class Sounds(BaseConfig):
    """What sounds an audio tokenizer is trained on."""

    batch_size: int = Field(default=4, ge=1)
    num_samples: int | None = Field(default=None, ge=2048)
    """Samples of a crop, from a random place; None takes whole clips."""
    impact_share: float = Field(default=0.0, ge=0, le=1)
    """Share of batches made only of clips in which something strikes something: the rest of the world is quiet."""


def hears(world: World) -> bool:
    """Whether there is sound to learn from, in clips or beside them."""
    return world.has_sound or world.sounds is not None


class AudioBatches:
    """Sounds of clips, and those beside them: calling it gives samples in [-1, 1], (B, 1, S)."""

    def __init__(self, world: World, config: Sounds, seed: int | str, device: torch.device | str = "cpu"):
        assert hears(world)
        self.world, self.config, self.seed, self.device = world, config, seed, device

    def __call__(self, index: int) -> Tensor:
        generator = runtime.generator(self.seed, "audio", index)
        size, world = self.config.batch_size, self.world.for_sound(generator)
        scenes: list[Scene] = []
        strikes = float(torch.rand((), generator=generator)) < self.config.impact_share
        while len(scenes) < size:
            drawn = [scene for scene in drawn_scenes(world, size, generator) if world.is_heard(scene)]
            scenes += [scene for scene in drawn if world.strikes(scene) or not strikes]
        audio = world.sound(scenes[:size], self.device)
        if self.config.num_samples is None:
            return audio
        starts = torch.randint(audio.shape[-1] - self.config.num_samples + 1, (size,), generator=generator)
        pairs = zip(audio, starts.tolist(), strict=True)
        return torch.stack([sound[:, start : start + self.config.num_samples] for sound, start in pairs])
