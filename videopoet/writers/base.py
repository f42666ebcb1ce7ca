"""Writers turn an idea into a storyboard: the contract, and what those that ask a chat model share.

A writer is a file in this folder. What it says is checked against a schema; a chat model is told what was wrong with
its answer, and asked once more.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from videopoet import registry
from videopoet.errors import TaskError
from videopoet.generation.storyboard import LONGEST_TITLE, LONGEST_WORD, MOST_SCENES, Scene, Storyboard
from videopoet.sequence.cameras import CAMERA_MOVES

LONGEST_IDEA = 500
"""Characters."""
LONGEST_DRAFT_PROMPT = 300
"""Characters that a writer may give to a scene."""
SECONDS_OF_SCENE = 2.0
BUILT_IN = "toybox"
Message = dict[str, str]
"""`role` and `content`, as chat models take them."""


def _short_words(text: Any) -> Any:
    if isinstance(text, str) and any(len(word) > LONGEST_WORD for word in text.split()):
        raise ValueError(f"it has a word of more than {LONGEST_WORD} characters")
    return text


class DraftScene(BaseModel):
    """A scene as a writer gives it."""

    model_config = ConfigDict(extra="ignore")  # chat models like to say more

    prompt: Annotated[str, BeforeValidator(_short_words)] = Field(min_length=1, max_length=LONGEST_DRAFT_PROMPT)
    camera: str | None = None


class Draft(BaseModel):
    """What a writer gives."""

    model_config = ConfigDict(extra="ignore")

    title: Annotated[str, BeforeValidator(_short_words)] = Field(max_length=LONGEST_TITLE)
    scenes: list[DraftScene] = Field(min_length=1, max_length=MOST_SCENES)


class Writer(ABC):
    """Someone who writes storyboards."""

    warnings: tuple[str, ...] = ()
    """What of the last idea is not in its draft."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Who it is, as the storyboard says it."""

    @abstractmethod
    def write(self, idea: str, num_scenes: int, seed: int) -> Draft:
        """A draft of so many scenes.

        Raises:
            TaskError: It cannot make one of this idea.
        """


class ChatWriter(Writer):
    """A chat model as a writer.

    Args:
        unknown_words: Says which words of a prompt the model that makes the scenes does not know.
        vocabulary: The words that it does know, where they are few enough to be listed.
    """

    def __init__(
        self,
        unknown_words: Callable[[str], list[str]] | None = None,
        vocabulary: Sequence[str] | None = None,
    ):
        self._unknown_words, self._vocabulary = unknown_words, vocabulary

    @abstractmethod
    def answer(self, messages: list[Message]) -> str:
        """What the chat model says next.

        Raises:
            TaskError: It cannot be asked.
        """

    def write(self, idea: str, num_scenes: int, seed: int) -> Draft:
        messages = [
            {"role": "system", "content": self._instructions(num_scenes)},
            {"role": "user", "content": f"The idea: {idea}"},
        ]
        reason = ""
        for _ in range(2):
            said = self.answer(messages)
            try:
                return self._draft(said, num_scenes)
            except ValueError as error:
                reason = str(error)
            messages += [
                {"role": "assistant", "content": said[:20_000]},
                {"role": "user", "content": f"That cannot be used: {reason}. Answer again, with the JSON alone."},
            ]
        raise TaskError(
            f"the writer {self.name} gave no storyboard in two answers ({reason}); JSON with a title and "
            f"{num_scenes} scenes is needed; ask again, or ask another writer",
            code="writer_invalid",
        )

    def _instructions(self, num_scenes: int) -> str:
        shape = '{"title": "...", "scenes": [{"prompt": "...", "camera": null}]}'
        lines = [
            "You write the storyboard of a short film that a text-to-video model will make.",
            f"Answer with JSON alone, of this shape: {shape}",
            f"Write exactly {num_scenes} scenes that tell the idea from its beginning to its end.",
            "Each prompt is one short sentence of at most 14 words that says what is seen: subject, motion and place. "
            "The model reads each prompt alone, so name the subject in every one, with the same colour and looks.",
            f"camera is null, or one of: {', '.join(CAMERA_MOVES)}. Use one in some scenes only.",
            f"The title has at most {LONGEST_TITLE // 2} characters.",
        ]
        if self._vocabulary is not None:
            lines.append(f"The model knows these words alone; prompts use no others: {' '.join(self._vocabulary)}")
        return "\n".join(lines)

    def _draft(self, said: str, num_scenes: int) -> Draft:
        """The draft in an answer.

        Raises:
            ValueError: Says what is wrong with it.
        """
        try:
            draft = Draft.model_validate(_json_in(said))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "the answer"
            raise ValueError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from None
        if len(draft.scenes) != num_scenes:
            raise ValueError(f"it has {len(draft.scenes)} scenes, and {num_scenes} are wanted")
        for number, scene in enumerate(draft.scenes, start=1):
            if scene.camera is not None and scene.camera not in CAMERA_MOVES:
                raise ValueError(f"the camera of scene {number} is {scene.camera[:40]!r}, which is not in the list")
            if self._unknown_words is not None and (unknown := self._unknown_words(scene.prompt)):
                words = ", ".join(unknown)[:200]
                raise ValueError(f"scene {number} has words that the model does not know: {words}")
        return draft


def write_storyboard(
    idea: str, writer: Writer | None = None, *, scenes: int = 5, seconds: float | None = None, **fields: Any
) -> Storyboard:
    """Turn an idea into a storyboard.

    Args:
        idea: A sentence.
        writer: Who writes; without one, the built-in story grammar.
        scenes: How many there are to be.
        seconds: Length of all scenes together, shared evenly; without it, 2 for each.
        fields: Further fields of the storyboard, such as `seed`, `transition`, `shape` or a `title` of one's own.

    Raises:
        TaskError: The idea or a field does not fit, or the writer cannot write.
    """
    if not isinstance(idea, str) or not idea.strip() or len(idea) > LONGEST_IDEA:
        found = "empty" if not str(idea).strip() else f"{len(str(idea))} characters long"
        raise TaskError(
            f"the idea is {found}; a sentence of at most {LONGEST_IDEA} characters fits; write one", code="idea_invalid"
        )
    if not (isinstance(scenes, int) and 1 <= scenes <= MOST_SCENES):
        raise TaskError(
            f"scenes is {scenes}; it must be from 1 to {MOST_SCENES}; ask for fewer, or write the storyboard yourself",
            code="range",
        )
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise TaskError(f"seconds is {seconds}; it must be above 0; change it", code="range")
    if longest := next((word for word in idea.split() if len(word) > LONGEST_WORD), None):
        raise TaskError(
            f"the word '{longest[:20]}...' of the idea has {len(longest)} characters; {LONGEST_WORD} are the most; "
            "shorten it",
            code="idea_invalid",
        )
    if writer is None:
        writer = registry.component("writers", BUILT_IN)()
        assert isinstance(writer, Writer)
    draft = writer.write(idea, scenes, fields.get("seed", 0))
    each = SECONDS_OF_SCENE if seconds is None else seconds / scenes
    made = [Scene(prompt=scene.prompt, camera=scene.camera, seconds=each).model_dump() for scene in draft.scenes]
    values = {"title": draft.title, "idea": idea, "writer": writer.name, **fields, "scenes": made}
    return Storyboard.of(values).completed()


def _json_in(said: str) -> Any:
    """The first JSON object in a text: chat models wrap it in words and fences.

    Raises:
        ValueError: There is none.
    """
    decoder, start = json.JSONDecoder(), said.find("{")
    while start >= 0:
        try:
            return decoder.raw_decode(said, start)[0]
        except (ValueError, RecursionError):
            start = said.find("{", start + 1)
        if start > 2000:  # far into an answer that is none
            break
    raise ValueError("it holds no readable JSON object")
