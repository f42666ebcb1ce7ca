"""A language model's batches from a cache of tokens: which clips, in which order, and ahead of time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from videopoet import ranks, runtime
from videopoet.data import toybox
from videopoet.data.mixture import MixtureConfig, Pool, TaskBatch, TaskBatches
from videopoet.data.prepared import PreparedClips, Scene
from videopoet.data.token_cache import TOKENS, TokenCache, Views, starts
from videopoet.data.tokenize import finish, tokenize
from videopoet.data.world import World
from videopoet.errors import DataError
from videopoet.sequence.conditions import View
from videopoet.sequence.tasks import find_task
from videopoet.sequence.vocabulary import Vocabulary
from videopoet.text_encoders.base import TextEncoder
from videopoet.tokenizers.base import AudioTokenizer, VideoTokenizer

T = TypeVar("T")


@contextmanager
def from_tokens(
    made: TaskBatches, num_batches: int, folder: str | Path, per_step: int = 1
) -> Iterator[Prefetched[TaskBatch] | None]:
    """The batches of a run on footage, read from codes on disk ahead of time; None where they are made as usual.

    Args:
        made: Batches whose clips are tokenized when they are drawn; their seed is the same in all processes.
        num_batches: How many batches all processes will ask for.
        folder: Where the run keeps its codes; see `cache_for`.
        per_step: How many of them all processes read in a step.
    """
    world, parts = made.world, (made.video_tokenizer, made.audio_tokenizer)
    cache = None
    if isinstance(world, PreparedClips):
        cache = cache_for(world, made.config, num_batches, *parts, folder)
    if cache is None or not isinstance(world, PreparedClips):
        yield None
        return
    texts = made.text_encoder, made.vocabulary
    config = made.config.model_copy(update={"early_batches": made.config.early_batches * per_step})
    own = CachedBatches(cache, world, config, *parts, *texts, made.seed, made.device)
    with Prefetched(own, stride=ranks.count(), end=num_batches) as batches:
        yield batches


def check_tokens(
    world: World, config: MixtureConfig, tokenizers: tuple[VideoTokenizer, AudioTokenizer] | None
) -> TokenCache | None:
    """Refuse, before any training, codes beside the clips that a run cannot read; None where there are none.

    Args:
        world: The run's clips.
        config: What is made of them.
        tokenizers: The model's; None if the run is going to train one.

    Raises:
        DataError: The codes are of another tokenizer, of other views, or not whole.
    """
    if not isinstance(world, PreparedClips) or not (world.dataset.folder / TOKENS).exists():
        return None
    cache = TokenCache(world.dataset)
    if tokenizers is None:
        raise DataError(
            f"'{cache.folder}' holds {cache.counts['clips']} clips as codes of a tokenizer that is trained already, "
            "and this run trains one of its own; go on from that model with --init-from and --stages language_model, "
            "or remove the folder",
            code="tokens_mismatch",
        )
    cache.check_tokenizers(*tokenizers)
    cache.check_views(views_of(world.config, config).model_copy(update={"structure": False}))
    return cache


def cache_for(
    world: PreparedClips,
    config: MixtureConfig,
    num_batches: int,
    video_tokenizer: VideoTokenizer,
    audio_tokenizer: AudioTokenizer,
    folder: str | Path,
) -> TokenCache | None:
    """The codes that a run reads: those that `videopoet tokenize` put beside the clips, or else its own, made here.

    Args:
        world: The run's clips.
        config: What is made of them.
        num_batches: How many batches all processes will ask for.
        video_tokenizer: The model's.
        audio_tokenizer: The model's.
        folder: Where the run keeps its own.

    Returns:
        None where the run sees fewer clips than there are: it tokenizes those that it sees.

    Raises:
        DataError: As of `check_tokens`.
    """
    parts = (video_tokenizer, audio_tokenizer)
    if (cache := check_tokens(world, config, parts)) is not None:
        return cache
    views = views_of(world.config, config)
    seen = -(-num_batches // config.pool_batches) * config.pool_clips
    if seen < len(world.dataset) * len(starts(world)) * len(views.sizes):
        return None
    tokenize(world.dataset, views, *parts, folder, rank=ranks.rank(), num_ranks=ranks.count(), progress=True)
    ranks.wait()
    if ranks.rank() == 0:
        finish(world.dataset, views, folder)
    ranks.wait()
    return TokenCache(world.dataset, folder)


def views_of(world: toybox.Config, config: MixtureConfig) -> Views:
    """The codes that batches of a mixture are made of."""
    tasks = [find_task(share.task) for share in config.shares if share.weight or share.early_weight]
    return Views(
        sizes=((world.height, world.width), *config.sizes),
        num_frames=world.num_frames,
        frame_rate=world.frame_rate,
        sample_rate=world.sample_rate,
        structure=any(view.change == "structure" for task in tasks for view in task.given),
    )


class CachedBatches(TaskBatches):
    """Task batches whose codes are read and not made; pools go through all clips before any comes again.

    A batch depends on the seed and its number alone. So processes and threads may divide the numbers among themselves
    as they like, each reads the codes of its own batches only, and the place to go on from is a number.

    Args:
        cache: The codes.
        world: The clips that they are of.
        others: As of `TaskBatches`; the tokenizers make the codes of clips that are masked at random.
    """

    world: PreparedClips

    def __init__(
        self,
        cache: TokenCache,
        world: PreparedClips,
        config: MixtureConfig,
        video_tokenizer: VideoTokenizer,
        audio_tokenizer: AudioTokenizer,
        text_encoder: TextEncoder,
        vocabulary: Vocabulary,
        seed: int | str,
        device: torch.device | str = "cpu",
    ):
        parts = (video_tokenizer, audio_tokenizer, text_encoder, vocabulary)
        super().__init__(world, config, *parts, seed, device)
        self.cache = cache
        self._orders: dict[tuple[int, int, int], Tensor] = {}

    def pool(self, number: int, num_clips: int) -> Pool:
        """The clips of the pool of that number; their codes are read when a batch asks for them."""
        world, resolution = self.shown(number)
        assert isinstance(world, PreparedClips)
        rounds, turn = divmod(number, len(self.config.turns))
        first = (rounds * self.config.turns.count(resolution) + self.config.turns[:turn].count(resolution)) * num_clips
        drawn = [self.scene(world, place) for place in range(first, first + num_clips)]
        told = sorted(((self.text_encoder.encode_caption(scene.caption), scene) for scene in drawn), key=_length)
        scenes: list[Any] = [scene for _, scene in told]
        texts = [text for text, _ in told]
        codes = {view: _OnDisk(self.cache, scenes, view, world, self.device) for view in ("video", "audio")}
        return Pool(scenes, texts, codes, world, resolution)

    def scene(self, world: PreparedClips, place: int) -> Scene:
        """The clip at a place of the endless sequence: all clips in an order of their own, then again in another."""
        epoch, place = divmod(place, len(world))
        size = world.config.height, world.config.width
        if (*size, epoch) not in self._orders:
            self._orders = {key: order for key, order in self._orders.items() if key[2] >= epoch - 1}
            generator = runtime.generator(self.seed, "order", *size, epoch)
            self._orders[*size, epoch] = torch.randperm(len(world), generator=generator)
        first_frame = self.cache.starts[epoch % len(self.cache.starts)]
        return world.stretch(int(self._orders[*size, epoch][place]), first_frame)

    def changed_codes(
        self, view: View, world: World, scenes: list[Any], style: str | None, generator: torch.Generator
    ) -> Tensor:
        size = world.config.height, world.config.width
        if view.change == "structure" and self.cache.has("structure", size):
            assert isinstance(world, PreparedClips)
            return view.of(_OnDisk(self.cache, scenes, "structure", world, self.device)[list(range(len(scenes)))])
        return super().changed_codes(view, world, scenes, style, generator)


class _OnDisk:
    """The codes of a pool's clips, read when they are asked for."""

    def __init__(
        self, cache: TokenCache, scenes: list[Scene], view: str, world: PreparedClips, device: torch.device | str
    ):
        self.cache, self.scenes, self.view, self.device = cache, scenes, view, device
        self.size = world.config.height, world.config.width

    def __getitem__(self, chosen: list[int], /) -> Tensor:
        scenes = [self.scenes[number] for number in chosen]
        numbers, first_frames = [scene.number for scene in scenes], [scene.first_frame for scene in scenes]
        return self.cache.codes(numbers, first_frames, self.view, self.size).to(self.device)


class Prefetched(Generic[T]):
    """Batches, a pure function of their number, made in threads while the steps before them compute.

    Whatever number is asked for comes, so that a run begins anywhere; asking for them in order is what saves time. An
    error of a thread is raised where its batch is asked for.

    Args:
        batches: Makes a batch; called from several threads.
        stride: How much larger each number is than the one before: of several processes, each asks for its own.
        num_ahead: Batches that wait at most.
        num_workers: Threads; with two, a batch that takes long holds up no other.
        end: The number from which on none is made ahead, since the run ends there.
    """

    def __init__(
        self,
        batches: Callable[[int], T],
        stride: int = 1,
        num_ahead: int = 6,
        num_workers: int = 2,
        end: int | None = None,
    ):
        self.batches, self.stride, self.num_ahead, self.end = batches, stride, num_ahead, end
        # Each thread has a GPU of its own that plain "cuda" means, and it is the first unless it is told.
        gpu = torch.cuda.current_device() if torch.cuda.is_available() else None
        self._pool = ThreadPoolExecutor(num_workers, "batches", _use_gpu, (gpu,))
        self._coming: dict[int, Future[T]] = {}

    def __call__(self, index: int) -> T:
        wanted = range(index, index + 1 + self.num_ahead * self.stride, self.stride)
        for number in [number for number in self._coming if number not in wanted]:
            self._coming.pop(number).cancel()
        for number in wanted:
            if number not in self._coming and (number == index or self.end is None or number < self.end):
                self._coming[number] = self._pool.submit(self.batches, number)
        return self._coming.pop(index).result()

    def close(self) -> None:
        """End the threads; what they are making is thrown away."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Prefetched[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _use_gpu(number: int | None) -> None:
    if number is not None:
        torch.cuda.set_device(number)


def _length(told: tuple[list[int], Scene]) -> int:
    return len(told[0])
