"""Where clips come from: what training asks of the toy box and of prepared footage alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from videopoet.data import toybox
from videopoet.data.prepared import Dataset, PreparedClips


class Scene(Protocol):
    """A clip before it is rendered."""

    @property
    def caption(self) -> str:
        """What it shows; empty where nobody said."""
        ...


class Clips(Protocol):
    """A batch of rendered scenes; see `toybox.Clips`."""

    @property
    def video(self) -> Tensor: ...
    @property
    def audio(self) -> Tensor | None: ...
    @property
    def depth(self) -> Tensor | None: ...
    @property
    def flow(self) -> Tensor | None: ...
    @property
    def hidden(self) -> Sequence[Tensor | None] | None:
        """bool (T, H, W) of each clip: what inpainting hides; None where chance decides."""
        ...

    @property
    def structures(self) -> Sequence[Tensor | None] | None:
        """(3, T, H, W) in [-1, 1] of each clip: its structure; None where depth and flow make it."""
        ...


class World(Protocol):
    """Clips by number: the same number is the same clip, always."""

    @property
    def config(self) -> toybox.Config:
        """Size, length and rates of the clips, and the split they are of."""
        ...

    @property
    def styles(self) -> Sequence[str]:
        """Styles that stylization paints clips in; with none, it gives the clips as they are."""
        ...

    @property
    def has_clips(self) -> bool:
        """Whether there are clips at all: footage may be of pictures and sounds alone."""
        ...

    @property
    def has_sound(self) -> bool:
        """Whether there is a clip in which something is heard."""
        ...

    @property
    def pictures(self) -> Self | None:
        """Pictures beside the clips, as clips of one frame; None where there are none of that size."""
        ...

    @property
    def sounds(self) -> Self | None:
        """Sounds beside the clips, which can be heard and not rendered; None where there are none."""
        ...

    def for_frames(self, generator: torch.Generator) -> Self:
        """Where a batch of single frames comes from, by lot: the clips or the pictures, as often as there are each."""
        ...

    def for_sound(self, generator: torch.Generator) -> Self:
        """Where a batch of sounds comes from, by lot: the clips that are heard or the sounds, in the same way."""
        ...

    def at_scale(self, scale: int) -> Self:
        """The same world with `scale` times as many pixels a side."""
        ...

    def of_size(self, height: int, width: int) -> Self:
        """The same world in another picture."""
        ...

    # Scenes are opaque to whoever draws them: each world takes its own back.
    def scene(self, seed: int) -> Any:
        """The clip of that number."""
        ...

    def spread(self, count: int, heard: bool = False) -> list[Any]:
        """So many clips from all over it, to measure on: always the same ones; with `heard`, of those that are."""
        ...

    def render(
        self, scenes: Sequence[Any], device: torch.device | str = "cpu", audio: bool = True, truth: bool = False
    ) -> Clips:
        """Picture and sound; with `truth`, also flow, and depth where it is known."""
        ...

    def masks(self, scenes: Sequence[Any], device: torch.device | str = "cpu") -> Tensor | None:
        """bool (B, subjects, T, H, W): where each subject is seen; None where nobody knows."""
        ...

    def sound(self, scenes: Sequence[Any], device: torch.device | str = "cpu") -> Tensor:
        """The sound alone, (B, 1, S)."""
        ...

    def is_heard(self, scene: Any) -> bool:
        """Whether the clip has sound to learn from."""
        ...

    def strikes(self, scene: Any) -> bool:
        """Whether something strikes something in it; where nobody knows, whether it is heard."""
        ...

    def words(self) -> list[str]:
        """The words of its captions."""
        ...


def all_words(world: World) -> list[str]:
    """The words of the captions of its clips, and of pictures and sounds beside them."""
    worlds = [one for one in (world, world.pictures, world.sounds) if one is not None]
    return list(dict.fromkeys(word for one in worlds for word in one.words()))


def drawn_scenes(world: World, count: int, generator: torch.Generator) -> list[Any]:
    """Scenes of the world that the generator draws."""
    seeds = torch.randint(2**48, (count,), generator=generator)
    return [world.scene(int(seed)) for seed in seeds]


def open_worlds(data: str, config: toybox.Config) -> tuple[World, World]:
    """The clips to train on and those held out: of the toy box, or of a folder that `prepare` wrote.

    Raises:
        DataError: The folder is none, or its clips cannot be shown in that size, length and rate.
    """
    held_out = config.model_copy(update={"split": "validation"})
    if data == "toybox":
        return toybox.ToyBox(config), toybox.ToyBox(held_out)
    dataset = Dataset(data)
    return PreparedClips(dataset, config), PreparedClips(dataset, held_out)
