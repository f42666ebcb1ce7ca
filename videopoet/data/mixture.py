"""What a step of the language model sees: a task by lot, and rows of it.

Batch number `index` is a pure function of (seed, index), whatever was read before.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from videopoet import runtime
from videopoet.config import BaseConfig
from videopoet.data.toybox_styles import stylize
from videopoet.data.world import Scene, World, drawn_scenes
from videopoet.errors import ConfigError, DataError
from videopoet.media.signals import structure_clip
from videopoet.sequence import conditions, layout
from videopoet.sequence.conditions import Change, View
from videopoet.sequence.tasks import TASKS, Task, find_task
from videopoet.sequence.vocabulary import Vocabulary
from videopoet.text_encoders.base import TextEncoder
from videopoet.tokenizers.base import AudioTokenizer, VideoTokenizer


class Share(BaseConfig):
    """How much of a language model's training one task gets."""

    task: str
    batch_size: int = Field(ge=1)
    """Rows in a batch of this task."""
    weight: float = Field(ge=0)
    """Chance of the task in a step, relative to the other tasks'."""
    early_weight: float | None = Field(default=None, ge=0)
    """The same during the early batches; None keeps `weight`."""

    @field_validator("task")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in TASKS:
            raise ValueError(f"there is no task '{name}'; there are {', '.join(TASKS)}")
        return name


class MixtureConfig(BaseConfig):
    """Which tasks are trained, how often, and in what order."""

    shares: tuple[Share, ...]
    """The tasks that are trained, and how much each is."""
    early_batches: int = Field(default=0, ge=0)
    """Steps at the start with the early weights; the paper gives images 90% of the first quarter."""
    text_drop: float = Field(default=0.1, ge=0, le=1)
    """Share of batches whose text is left out, so that guidance has an unconditional model."""
    drawn_masks: float = Field(default=0.5, ge=0, le=1)
    """Share of painting batches with masks as users draw them, one for each clip; the others have one of MAGVIT's
    regions. A model that saw only the regions would take a mask's shape for one of them."""
    depth_drop: float = Field(default=0.3, ge=0, le=1)
    """Share of stylization batches whose depth is left out: not every clip comes with it."""
    impact_share: float = Field(default=0.0, ge=0, le=1)
    """Share of batches with sound made only of clips in which something strikes something: the rest of the world is
    quiet, and when a sound comes is learned from those that do."""
    sizes: tuple[tuple[Annotated[int, Field(ge=16)], Annotated[int, Field(ge=16)]], ...] = ()
    """Heights and widths in pixels of clips beside the world's own, such as portrait and landscape. A row names its
    size where it is not the world's."""
    usual_pools: int = Field(default=1, ge=1)
    """Pools in the world's own size before each of `sizes` has one, and so on in turn."""
    pool_clips: int = Field(default=256, ge=1)
    """Clips that are rendered and tokenized together, and that batches are then drawn from."""
    pool_batches: int = Field(default=32, ge=1)
    """Batches drawn from one pool before the next takes its place."""

    @model_validator(mode="after")
    def _batches_fit(self) -> Self:
        for share in self.shares:
            if (share.weight or share.early_weight) and share.batch_size > self.pool_clips:
                raise ValueError(
                    f"a batch of {share.task} has {share.batch_size} clips, a pool only {self.pool_clips}; raise "
                    "pool_clips or lower the share's batch_size"
                )
        return self

    @property
    def turns(self) -> list[tuple[int, int] | None]:
        """The sizes of one round of pools, None for the world's own."""
        return [*[None] * self.usual_pools, *self.sizes]


@dataclass(frozen=True)
class TaskBatch:
    """Rows of one task and one shape."""

    task: str
    rows: layout.Batch


@dataclass(frozen=True)
class Pool:
    """Clips and their codes, in order of the length of their captions."""

    scenes: list[Scene]
    texts: list[list[int]]
    """Empty where a clip has no caption."""
    codes: Mapping[str, Any]
    """`video` (N, t, h, w) and `audio` (N, Q, s), or what gives them for a list of clips; of sounds only `audio`."""
    world: World
    """The world in the size of these clips."""
    resolution: tuple[int, int] | None
    """Their height and width, where they are not the usual ones."""

    def suited(self, task: Task) -> list[int]:
        """Numbers of the clips that have what the task cannot do without: sound, or words to predict."""
        tells = any(view.modality == "text" for view in task.predict)
        return [
            number
            for number, (scene, text) in enumerate(zip(self.scenes, self.texts, strict=True))
            if (text or not tells) and (not task.hears or self.world.is_heard(scene))
        ]

    def striking(self, numbers: Sequence[int]) -> list[int]:
        """Those of the clips in which something strikes something; all of them where that is none."""
        return [number for number in numbers if self.world.strikes(self.scenes[number])] or list(numbers)


class TaskBatches:
    """Batches for the language model: a task by lot, clips of a pool, their codes, laid out as rows.

    Clips of a batch have captions of about one length, so that hardly a position is padding.
    """

    def __init__(
        self,
        world: World,
        config: MixtureConfig,
        video_tokenizer: VideoTokenizer,
        audio_tokenizer: AudioTokenizer,
        text_encoder: TextEncoder,
        vocabulary: Vocabulary,
        seed: int | str,
        device: torch.device | str = "cpu",
    ):
        self.world, self.config, self.seed, self.device = world, config, seed, device
        self.video_tokenizer, self.audio_tokenizer = video_tokenizer, audio_tokenizer
        self.text_encoder, self.vocabulary = text_encoder, vocabulary
        self._pools: dict[int, Pool] = {}
        self._pools_beside: dict[tuple[int, str], Pool] = {}
        self._lock = threading.Lock()

    def __call__(self, index: int) -> TaskBatch:
        generator = runtime.generator(self.seed, "task", index)
        number = index // self.config.pool_batches
        with self._lock:  # several threads may make batches, at most of two pools at a time
            if number not in self._pools:
                held = {other: pool for other, pool in self._pools.items() if other == number - 1}
                self._pools = held | {number: self.pool(number, self.config.pool_clips)}
            pool = self._pools[number]
        early = index < self.config.early_batches
        weights = [
            share.early_weight if early and share.early_weight is not None else share.weight
            for share in self.config.shares
        ]
        # Footage may be without sound or without words: then there is no batch of the tasks that need them.
        tasks = [find_task(share.task) for share in self.config.shares]
        suited = [float(bool(pool.suited(task)) or beside(pool.world, task) is not None) for task in tasks]
        weights = torch.tensor(weights) * torch.tensor(suited)
        if not weights.any():
            raise DataError(
                "none of the tasks can be trained on these clips; those that are asked for need sound or captions; add "
                "captions, or a task such as unconditional",
                code="data_unsuited",
            )
        share = self.config.shares[int(torch.multinomial(weights, 1, generator=generator))]
        task = find_task(share.task)
        return self.batch(task, share.batch_size, self._by_lot(task, pool, number, generator), generator)

    def _by_lot(self, task: Task, pool: Pool, number: int, generator: torch.Generator) -> Pool:
        """The pool of clips, or for a task that pictures or sounds suffice for, by lot one of those."""
        other = beside(pool.world, task)
        if other is None:
            return pool
        is_seen = other is pool.world.pictures
        drawn = pool.world.for_frames(generator) if is_seen else pool.world.for_sound(generator)
        if drawn is pool.world and pool.suited(task):
            return pool
        key = number, "pictures" if is_seen else "sounds"
        with self._lock:
            if key not in self._pools_beside:
                held = {known: pool for known, pool in self._pools_beside.items() if known[0] >= number - 1}
                lot = runtime.generator(self.seed, "pool of", key[1], number)
                made = self.drawn_pool(other, pool.resolution, self.config.pool_clips, lot, is_seen)
                self._pools_beside = held | {key: made}
            return self._pools_beside[key]

    def pool(self, number: int, num_clips: int) -> Pool:
        """Render and tokenize the pool of that number; number 0 has the usual size."""
        return self.drawn_pool(*self.shown(number), num_clips, runtime.generator(self.seed, "pool", number))

    @torch.no_grad()
    def drawn_pool(
        self,
        world: World,
        resolution: tuple[int, int] | None,
        num_clips: int,
        generator: torch.Generator,
        is_seen: bool = True,
    ) -> Pool:
        """Clips of a world that the generator draws, rendered and tokenized; of sounds there is nothing to render."""
        scenes = drawn_scenes(world, num_clips, generator)
        scenes.sort(key=lambda scene: len(self.text_encoder.encode_caption(scene.caption)))
        video_codes = []
        for first in range(0, num_clips if is_seen else 0, 16):
            clips = world.render(scenes[first : first + 16], device=self.device, audio=False)
            with runtime.autocast(self.device):
                video_codes.append(self.video_tokenizer.encode(clips.video))
        codes: dict[str, Any] = {"audio": _Heard(self, world, scenes)}
        if is_seen:
            codes["video"] = torch.cat(video_codes)
        texts = [self.text_encoder.encode_caption(scene.caption) for scene in scenes]
        return Pool(scenes, texts, codes, world, resolution)

    def shown(self, number: int) -> tuple[World, tuple[int, int] | None]:
        """The world in the size of the pool of that number, and its height and width if they are not the usual ones."""
        resolution = self.config.turns[number % len(self.config.turns)]
        return self.world if resolution is None else self.world.of_size(*resolution), resolution

    @torch.no_grad()
    def batch(self, task: Task, batch_size: int, pool: Pool, generator: torch.Generator) -> TaskBatch:
        """Rows of one task, made of clips of the pool that the generator draws.

        Raises:
            ConfigError: The pool has fewer clips than the batch.
        """
        if batch_size > len(pool.scenes):
            raise ConfigError(
                f"a batch of {task.name} has {batch_size} clips, a pool only {len(pool.scenes)}; raise "
                "mixture.pool_clips or lower the share's batch_size",
                code="config_invalid",
            )
        chosen = _drawn(pool, task, batch_size, self.config.impact_share, generator)
        scenes, texts = [pool.scenes[number] for number in chosen], [pool.texts[number] for number in chosen]
        style, styles = None, pool.world.styles
        if styles and any(view.change == "structure" for view in task.given):
            style = styles[int(torch.randint(len(styles), (), generator=generator))]
            texts = [self.text_encoder.encode(f"{scene.caption}, {style}") for scene in scenes]
        drops_text = float(torch.rand((), generator=generator)) < self.config.text_drop or not all(texts)
        pieces: dict[str, Tensor | list[Tensor]] = {}
        for view, name in _named_views(task):
            if view.modality == "text":
                if view in task.predict:
                    texts = [self.text_encoder.encode_answer(scene.caption) for scene in scenes]
                if not (view in task.given and drops_text):
                    pieces[name] = [torch.tensor(text) for text in texts]
            elif view.change is None and not (style and view in task.predict):
                pieces[name] = view.of(pool.codes[view.modality][chosen]).cpu()
            else:
                pieces[name] = self.changed_codes(view, pool.world, scenes, style, generator).cpu()
        # Where nothing is seen, as in text to audio, there is no size to name.
        sees = any(view.modality == "video" for view in (*task.given, *task.predict))
        rows = [
            layout.build(
                task,
                self.vocabulary,
                {name: codes[number] for name, codes in pieces.items()},
                resolution=pool.resolution if sees else None,
            )
            for number in range(batch_size)
        ]
        # Rows are hundreds of small tensors, which a GPU would make one after another.
        return TaskBatch(task.name, layout.batch_rows(rows, self.vocabulary.special("<pad>")).to(self.device))

    def changed_codes(
        self, view: View, world: World, scenes: list[Scene], style: str | None, generator: torch.Generator
    ) -> Tensor:
        """The codes of a view whose pixels are changed first: masked, turned into structure, or painted in a style."""
        clips = world.render(scenes, device=self.device, audio=False, truth=view.change == "structure")
        if view.change == "structure":
            assert clips.flow is not None
            has_depth = float(torch.rand((), generator=generator)) >= self.config.depth_drop
            pixels = structure_clip(clips.depth if has_depth else None, clips.flow)
            pixels = torch.stack(_with_given(pixels.unbind(), clips.structures))
        elif view.change is None:
            assert style is not None
            pixels = stylize(clips.video, style)
        else:
            pixels = self._masked(clips.video, view.change, generator, clips.hidden)
        with runtime.autocast(self.device):
            return view.of(self.video_tokenizer.encode(pixels))

    def _masked(
        self,
        video: Tensor,
        change: Change,
        generator: torch.Generator,
        hidden: Sequence[Tensor | None] | None = None,
    ) -> Tensor:
        """Clips, (B, 3, T, H, W), of which a region is seen, or what a mask leaves: a drawn one, or a clip's own."""
        shape = video.shape[2:]
        if float(torch.rand((), generator=generator)) < self.config.drawn_masks:
            keeps = [conditions.random_mask(generator, change, *shape) for _ in video]
        else:
            keeps = [conditions.keep_mask(conditions.random_region(generator), change, *shape)] * len(video)
        if change == "hide_region":
            keeps = _with_given(keeps, hidden and [None if mask is None else ~mask for mask in hidden])
        pairs = zip(video, keeps, strict=True)
        return torch.stack([conditions.masked_clip(clip, keep.to(video.device)) for clip, keep in pairs])


class _Heard:
    """The codes of clips' sound, made when a batch asks for them: most batches see, and hear nothing."""

    def __init__(self, batches: TaskBatches, world: World, scenes: list[Scene]):
        self.batches, self.world, self.scenes = batches, world, scenes

    @torch.no_grad()
    def __getitem__(self, chosen: list[int], /) -> Tensor:
        device = self.batches.device
        sound = self.world.sound([self.scenes[number] for number in chosen], device)
        with runtime.autocast(device):
            return self.batches.audio_tokenizer.encode(sound)


def beside(world: World, task: Task) -> World | None:
    """What beside clips suffices for a task: pictures, if it shows a single frame alone, or sounds, if sound alone."""
    views = [view for view in (*task.given, *task.predict) if view.modality != "text"]
    if views and all(view.name == "image" and view.change is None for view in views):
        return world.pictures
    if views and all(view.modality == "audio" for view in views):
        return world.sounds
    return None


def _named_views(task: Task) -> list[tuple[View, str]]:
    """Every view of a task with the name of its piece in a row."""
    given = [(view, view.piece) for view in task.given]
    return given + [(view, f"{view.modality}_out") for view in task.predict]


def _drawn(pool: Pool, task: Task, batch_size: int, impact_share: float, generator: torch.Generator) -> list[int]:
    """Numbers of clips that suit a task, with captions of about one length, some twice where there are too few.

    Where only some have captions, a batch is of those or of the others, in the proportion that there are.

    Raises:
        DataError: No clip suits.
    """
    suited = pool.suited(task)
    if not suited:
        raise DataError(
            f"no clip suits {task.name}; it needs clips with sound or with a caption; leave the task out, or add some",
            code="data_unsuited",
        )
    if task.hears and impact_share and float(torch.rand((), generator=generator)) < impact_share:
        suited = pool.striking(suited)
    told = [number for number in suited if pool.texts[number]]
    if 0 < len(told) < len(suited) and any(view.modality == "text" for view in task.given):
        takes_told = float(torch.rand((), generator=generator)) < len(told) / len(suited)
        suited = told if takes_told else [number for number in suited if not pool.texts[number]]
    first = int(torch.randint(max(0, len(suited) - batch_size) + 1, (), generator=generator))
    return [suited[(first + number) % len(suited)] for number in range(batch_size)]


def _with_given(made: Sequence[Tensor], given: Sequence[Tensor | None] | None) -> list[Tensor]:
    """What was made, with what came with a clip in its place."""
    return [one if other is None else other for one, other in zip(made, given or [None] * len(made), strict=True)]
