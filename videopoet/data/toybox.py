"""The toy box: an endless world of small clips with captions, sound and exact truth, each made from a seed.

    toybox = ToyBox(Config())
    clips = toybox.render([toybox.scene(seed) for seed in range(8)])

`toybox_world` holds the rules, `toybox_lot` the chances, `toybox_captions` the words; `toybox_picture` and
`toybox_sound` make what one sees and hears.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from videopoet.config import BaseConfig
from videopoet.data import toybox_picture, toybox_sound
from videopoet.data.toybox_captions import STYLES, captions, loose_caption, words
from videopoet.data.toybox_lot import Lot, draw_subjects
from videopoet.data.toybox_styles import stylize
from videopoet.data.toybox_world import (
    CAMERAS,
    COLOURS,
    KINDS,
    MAX_SUBJECTS,
    MOTIONS,
    NUM_PLACES,
    SHAPES,
    SIZE_CHANGING_CAMERAS,
    SIZES,
    Scene,
    Stage,
    Subject,
    impacts,
    is_held_out,
)
from videopoet.errors import ConfigError

__all__ = ["STYLES", "Clips", "Config", "Scene", "Subject", "ToyBox", "is_held_out", "words"]


class Config(BaseConfig):
    """Size of the clips, and which part of the world they come from."""

    height: int = Field(default=64, ge=16)
    """Pixels."""
    width: int = Field(default=64, ge=16)
    """Pixels."""
    num_frames: int = Field(default=17, ge=1)
    frame_rate: float = Field(default=8.0, gt=0)
    """Frames per second."""
    sample_rate: int = Field(default=16_000, ge=8_000)
    """Samples of sound per second."""
    split: Literal["train", "validation", "test"] = "train"
    """Equal seeds give unrelated scenes in different splits."""
    combinations: Literal["seen", "held_out"] = "seen"
    """Which (shape, colour, motion) there may be; a fifth of them is held out of training."""

    @model_validator(mode="after")
    def _train_on_seen_only(self) -> "Config":
        if self.split == "train" and self.combinations == "held_out":
            raise ValueError("the training split has no held-out combinations; use split='validation' or 'test'")
        return self


@dataclass(frozen=True)
class Clips:
    """A batch of rendered scenes."""

    scenes: tuple[Scene, ...]
    captions: list[str]
    video: Tensor
    """(B, 3, T, H, W) in [-1, 1]"""
    frame_rate: float
    audio: Tensor | None
    """(B, 1, S) in [-1, 1]"""
    sample_rate: int
    depth: Tensor | None = None
    """(B, 1, T, H, W) in [0, 1]; 1 is nearest"""
    flow: Tensor | None = None
    """(B, 2, T, H, W), pixels to the right and down until the next frame; zero in the last"""
    masks: Tensor | None = None
    """bool (B, 3, T, H, W): where each subject is seen"""
    tracks: Tensor | None = None
    """(B, 3, T, 2): subjects' centres as (column, row); NaN where there is no such subject"""
    hidden: None = None
    """Chance decides what inpainting hides."""
    structures: None = None
    """Depth and flow are a clip's structure."""


class ToyBox:
    """Draws scenes from seeds, and renders them."""

    styles = STYLES
    has_clips = has_sound = True
    pictures = sounds = None

    def __init__(self, config: Config | None = None):
        self.config = config = config or Config()
        short_side = min(config.height, config.width)
        self.stage = Stage(
            0.5 * config.width / short_side, 0.5 * config.height / short_side, config.num_frames, config.frame_rate
        )

    def at_scale(self, scale: int) -> "ToyBox":
        """The same world with `scale` times as many pixels a side; a seed has the same scene in both."""
        return self.of_size(scale * self.config.height, scale * self.config.width)

    def of_size(self, height: int, width: int) -> "ToyBox":
        """The same world in another picture; in one of another shape, a seed has another scene."""
        return ToyBox(self.config.model_copy(update={"height": height, "width": width}))

    def for_frames(self, generator: torch.Generator) -> "ToyBox":
        """All frames are those of clips."""
        return self

    def for_sound(self, generator: torch.Generator) -> "ToyBox":
        """All sounds are those of clips."""
        return self

    def scene(
        self,
        seed: int,
        *,
        num_subjects: int | None = None,
        shape: str | None = None,
        colour: str | None = None,
        size: str | None = None,
        motion: str | None = None,
        kind: str | None = None,
        camera: str | None = None,
    ) -> Scene:
        """Describe a seed's clip; what is given is fixed (shape to motion: of the first subject), the rest is drawn.

        Raises:
            ConfigError: A value that the world does not have, or a combination that this split does not have.
        """
        for name, value, known in (
            ("num_subjects", num_subjects, range(1, MAX_SUBJECTS + 1)),
            ("shape", shape, SHAPES),
            ("colour", colour, COLOURS),
            ("size", size, tuple(SIZES)),
            ("motion", motion, MOTIONS),
            ("kind", kind, KINDS),
            ("camera", camera, CAMERAS),
        ):
            if value is not None and value not in known:
                choices = ", ".join(map(str, known))
                raise ConfigError(
                    f"the toy box has no {name} {value!r}; it has {choices}; choose one", code="toybox_slot"
                )
        lot = Lot("toybox", self.config.split, seed)
        count = num_subjects or lot.choose((1,) * 7 + (2, 2, 3))
        kind = kind or lot.choose(KINDS)
        place = lot.choose(range(NUM_PLACES))
        triples = self._triples(lot, count, shape, colour, motion)
        sizes = [lot.choose(tuple(SIZES) if count < 3 else ("small", "medium")) for _ in triples]
        if count == 2 and sizes == ["big", "big"]:
            sizes[1] = "medium"
        sizes = [
            "medium" if triple[2] in ("grow", "shrink") else one for triple, one in zip(triples, sizes, strict=True)
        ]
        sizes[0] = size or sizes[0]
        camera = camera or self._camera(lot, triples)
        subjects = draw_subjects(lot, self.stage, triples, sizes, camera)
        paraphrases = captions(subjects, kind, camera, lot)
        says_less = lot.uniform() < 0.12
        return Scene(
            seed=seed,
            subjects=subjects,
            kind=kind,
            place=place,
            camera=camera,
            stage=self.stage,
            impacts=impacts(subjects, self.stage),
            ambience_start=lot.uniform(),
            captions=paraphrases,
            caption=loose_caption(subjects, kind, camera, lot) if says_less else paraphrases[0],
        )

    def render(
        self,
        scenes: Sequence[Scene],
        device: torch.device | str = "cpu",
        audio: bool = True,
        truth: bool = False,
        style: str | None = None,
    ) -> Clips:
        """Picture and sound of the scenes; each clip is what it would be in any other batch.

        Raises:
            ConfigError: No scene, a scene of another size, or a style that there is not.
        """
        config = self.config
        if not scenes or any(scene.stage != self.stage for scene in scenes):
            found = "no scene" if not scenes else "a scene of another size or length"
            raise ConfigError(
                f"the toy box was given {found}; it renders its own {config.num_frames}x{config.height}x{config.width} "
                "scenes; make them with its scene(seed)",
                code="toybox_scenes",
            )
        video = toybox_picture.draw(scenes, config.height, config.width, device)
        if style is not None:
            video = stylize(video, style)
        known = toybox_picture.truth(scenes, config.height, config.width, device) if truth else None
        return Clips(
            scenes=tuple(scenes),
            captions=[scene.caption for scene in scenes],
            video=video,
            frame_rate=config.frame_rate,
            audio=toybox_sound.play(scenes, config.sample_rate, device) if audio else None,
            sample_rate=config.sample_rate,
            **(known._asdict() if known else {}),
        )

    def masks(self, scenes: Sequence[Scene], device: torch.device | str = "cpu") -> Tensor:
        """Where each subject is seen, bool (B, 3, T, H, W)."""
        return toybox_picture.masks(scenes, self.config.height, self.config.width, device)

    def sound(self, scenes: Sequence[Scene], device: torch.device | str = "cpu") -> Tensor:
        """The sound of the scenes alone, (B, 1, S) in [-1, 1]."""
        return toybox_sound.play(scenes, self.config.sample_rate, device)

    def spread(self, count: int, heard: bool = False) -> list[Scene]:
        """The first so many: each scene is of another kind than the next, and all are heard."""
        return [self.scene(seed) for seed in range(count)]

    def is_heard(self, scene: Scene) -> bool:
        """Always: every place has a voice."""
        return True

    def strikes(self, scene: Scene) -> bool:
        """Whether something strikes something."""
        return bool(scene.impacts)

    def words(self) -> list[str]:
        """The words of its captions and prompts."""
        return words()

    def _triples(
        self, lot: Lot, count: int, shape: str | None, colour: str | None, motion: str | None
    ) -> list[tuple[str, str, str]]:
        """(shape, colour, motion) of every subject, no two of one colour or one shape."""
        wants_held_out = self.config.combinations == "held_out"
        if shape and colour and motion and is_held_out(shape, colour, motion) != wants_held_out:
            raise ConfigError(
                f"{colour} {shape} with motion '{motion}' is not among the {self.config.combinations} combinations; "
                "a fifth is held out of training; change one of the three, or the split",
                code="toybox_combination",
            )
        together = lot.choose(MOTIONS) if lot.uniform() < 0.3 else None
        triples: list[tuple[str, str, str]] = []
        while len(triples) < count:
            first = not triples
            triple = (
                (first and shape) or lot.choose(SHAPES),
                (first and colour) or lot.choose(COLOURS),
                (first and motion) or together or lot.choose(MOTIONS),
            )
            fresh = all(triple[0] != other[0] and triple[1] != other[1] for other in triples)
            if fresh and is_held_out(*triple) == wants_held_out:
                triples.append(triple)
        return triples

    @staticmethod
    def _camera(lot: Lot, triples: Sequence[tuple[str, str, str]]) -> str:
        if lot.uniform() >= 0.38:
            return "still"
        camera = lot.choose(CAMERAS[1:])
        changes_size = any(motion in ("grow", "shrink") for _, _, motion in triples)
        return "still" if changes_size and camera in SIZE_CHANGING_CAMERAS else camera
