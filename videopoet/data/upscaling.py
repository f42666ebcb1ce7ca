"""Pairs for super-resolution: the codes of a clip and those of the same clip at half the size, with its words."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from videopoet import runtime
from videopoet.config import AtLeastOne, BaseConfig
from videopoet.data.world import World
from videopoet.errors import ConfigError
from videopoet.media.resample import resize_and_crop
from videopoet.models.super_resolution import UNKNOWN
from videopoet.text_encoders.base import TextEncoder
from videopoet.tokenizers.base import VideoTokenizer

RENDERED_AT_ONCE = 4
"""Large clips that are rendered and tokenized in one batch, at scale 1."""


class PairsConfig(BaseConfig):
    """Which pairs are trained on."""

    batch_size: int = Field(default=4, ge=1)
    """Pairs in a batch at scale 1."""
    scales: tuple[AtLeastOne, ...] = Field(default=(1,), min_length=1)
    """Sizes of the small clips as multiples of the world's; the large ones have twice that. Each pool is of one, by
    lot; at scale 2, batches and pools have a quarter of the pairs, at least one."""
    image_share: float = Field(default=0.1, ge=0, le=1)
    """Share of batches that see the first frame alone, so that pictures can be upscaled too. Where footage has
    pictures, such a batch is of those or of first frames, as often as there are pictures and clips."""
    pool_clips: int = Field(default=256, ge=1)
    """Clips that are rendered and tokenized together, and that batches are then drawn from."""
    pool_batches: int = Field(default=256, ge=1)
    """Batches drawn from one pool before the next takes its place."""


@dataclass(frozen=True)
class Pairs:
    """Clips of one shape, as codes, small and large."""

    codes: Tensor
    """(B, t, 2 h, 2 w)"""
    low_codes: Tensor
    """(B, t, h, w)"""
    text: Tensor
    """(B, L) ids, UNKNOWN after their end"""

    def __getitem__(self, rows: Tensor) -> Pairs:
        return Pairs(self.codes[rows], self.low_codes[rows], self.text[rows])

    @property
    def first_frames(self) -> Pairs:
        """The same of pictures: codes are causal, so that those of frame 0 are those of the picture."""
        return Pairs(self.codes[:, :1], self.low_codes[:, :1], self.text)


class PairBatches:
    """Batches for the super-resolution transformer; the small clip is the large one, scaled down."""

    def __init__(
        self,
        world: World,
        config: PairsConfig,
        video_tokenizer: VideoTokenizer,
        text_encoder: TextEncoder,
        seed: int | str,
        device: torch.device | str = "cpu",
    ):
        if config.batch_size > config.pool_clips:
            raise ConfigError(
                f"a batch has {config.batch_size} pairs, a pool only {config.pool_clips}; raise pairs.pool_clips or "
                "lower pairs.batch_size",
                code="config_invalid",
            )
        self.world, self.config, self.seed, self.device = world, config, seed, device
        self.video_tokenizer, self.text_encoder = video_tokenizer, text_encoder
        self._pools: dict[int, Pairs] = {}
        self._picture_pools: dict[int, Pairs] = {}

    def __call__(self, index: int) -> Pairs:
        number = index // self.config.pool_batches
        if number not in self._pools:
            self._pools = {number: self.pool(number)}
        pool = self._pools[number]
        generator = runtime.generator(self.seed, "pairs", index)
        size = max(1, self.config.batch_size * len(pool.codes) // self.config.pool_clips)
        batch = pool[torch.randperm(len(pool.codes), generator=generator)[:size].to(pool.codes.device)]
        is_image = float(torch.rand((), generator=generator)) < self.config.image_share
        if not is_image:
            return batch
        seeds, scale = self._drawn(number)
        large = self.world.at_scale(2 * scale)
        if (pictures := large.for_frames(generator)) is large:
            return batch.first_frames
        if number not in self._picture_pools:
            self._picture_pools = {number: self._pairs(pictures, seeds, scale)}
        pool = self._picture_pools[number]
        return pool[torch.randperm(len(pool.codes), generator=generator)[:size].to(pool.codes.device)]

    def pool(self, number: int) -> Pairs:
        """Render and tokenize the pool of that number."""
        return self.pairs(*self._drawn(number))

    def _drawn(self, number: int) -> tuple[list[int], int]:
        """The scenes of the pool of that number, and their scale."""
        generator = runtime.generator(self.seed, "pool of pairs", number)
        scale = self.config.scales[int(torch.randint(len(self.config.scales), (), generator=generator))]
        seeds = torch.randint(2**48, (max(1, self.config.pool_clips // scale**2),), generator=generator)
        return seeds.tolist(), scale

    def pairs(self, seeds: list[int], scale: int = 1) -> Pairs:
        """The pairs of those scenes, whose small clips are `scale` times as large as the world's."""
        return self._pairs(self.world.at_scale(2 * scale), seeds, scale)

    @torch.no_grad()
    def _pairs(self, world: World, seeds: list[int], scale: int) -> Pairs:
        scenes = [world.scene(seed) for seed in seeds]
        at_once = max(1, RENDERED_AT_ONCE // scale**2)
        codes, low_codes = [], []
        for first in range(0, len(scenes), at_once):
            video = world.render(scenes[first : first + at_once], device=self.device, audio=False).video
            with runtime.autocast(self.device):
                codes.append(self.video_tokenizer.encode(video))
                low_codes.append(self.video_tokenizer.encode(halved(video)))
        # A row without words is all UNKNOWN, as those are whose words are left out.
        texts = [torch.tensor(self.text_encoder.encode_caption(scene.caption) or [UNKNOWN]) for scene in scenes]
        text = pad_sequence(texts, batch_first=True, padding_value=UNKNOWN).to(self.device)
        return Pairs(torch.cat(codes), torch.cat(low_codes), text)


def halved(video: Tensor) -> Tensor:
    """Pixels in [-1, 1], (..., H, W), at half the height and width."""
    return resize_and_crop(video, video.shape[-2] // 2, video.shape[-1] // 2).clamp(-1, 1)
