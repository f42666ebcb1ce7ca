"""The task table: what each task is given, as which view of a clip, and what it predicts.

Training, command line, server, studio and evaluation read this table; a new task is one more entry.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from videopoet.errors import TaskError
from videopoet.sequence.conditions import View, audio, image, text, video


@dataclass(frozen=True)
class Task:
    """One entry of the table."""

    name: str
    description: str
    given: tuple[View, ...]
    predict: tuple[View, ...]
    task_token: str = "<task:video>"
    """Names the kind of output, not the input: tasks with the same kind of output share it, as in the paper."""
    open_ended: bool = False
    """The row has no end marker and no <eos>, so that what it predicts can go on: an image, into a video."""

    @property
    def requires(self) -> tuple[str, ...]:
        """What a user must give, among prompt, image, video and audio."""
        return tuple(view.inputs[0] for view in self.given if not view.optional)

    @property
    def optional(self) -> tuple[str, ...]:
        """What a user may give, mask included."""
        return tuple(name for view in self.given for name in view.inputs if name not in self.requires)

    @property
    def takes(self) -> tuple[str, ...]:
        """Everything a user can give."""
        return self.requires + self.optional

    @property
    def hears(self) -> bool:
        """Whether sound is given or predicted."""
        return any(view.modality == "audio" for view in (*self.given, *self.predict))

    @property
    def any_length(self) -> bool:
        """Whether it makes clips of any length: nothing is given but words and a beginning."""
        return self.gives == ("video",) and all(view.modality == "text" or view.starts_output for view in self.given)

    @property
    def gives(self) -> tuple[str, ...]:
        """What comes out, in order: image, video, audio or text."""
        return tuple(view.name for view in self.predict)


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("text_to_video", "Make a clip from words.", given=(text,), predict=(video,)),
        Task("text_to_image", "Make a picture from words.", given=(text,), predict=(image,), open_ended=True),
        Task("unconditional", "Make any clip.", given=(), predict=(video,)),
        Task(
            "image_to_video",
            "Bring a picture to life, as words say or freely.",
            given=(text.or_nothing(), image.at_start()),
            predict=(video,),
        ),
        Task(
            "video_continuation",
            "Show what happens next in a clip.",
            given=(text.or_nothing(), video.first_half().at_start()),
            predict=(video,),
        ),
        Task(
            "inpainting",
            "Fill a hidden part of a clip.",
            given=(text.or_nothing(), video.through("hide_region")),
            predict=(video,),
            task_token="<task:inpainting>",
        ),
        Task(
            "outpainting",
            "Extend a clip beyond the part that is kept.",
            given=(text.or_nothing(), video.through("keep_region")),
            predict=(video,),
            task_token="<task:outpainting>",
        ),
        Task(
            "stylization",
            "Keep the depth and motion of a clip and paint it anew, as words say.",
            given=(text, video.through("structure")),
            predict=(video,),
            task_token="<task:stylization>",
        ),
        Task(
            "video_to_audio",
            "Make the sound of a silent clip.",
            given=(video,),
            predict=(audio,),
            task_token="<task:audio>",
        ),
        Task("audio_to_video", "Make the picture that belongs to a sound.", given=(audio,), predict=(video,)),
        Task("text_to_audio", "Make a sound from words.", given=(text,), predict=(audio,), task_token="<task:audio>"),
        Task(
            "audio_video_continuation",
            "Go on from a picture and the first half of the sound, in picture and sound.",
            given=(image, audio.first_half()),
            predict=(video, audio),
            task_token="<task:video_audio>",
        ),
        Task("video_captioning", "Say what a clip shows.", given=(video,), predict=(text,), task_token="<task:text>"),
    )
}


def find_task(name: str) -> Task:
    """The entry of that name.

    Raises:
        TaskError: There is none; the message names the closest, or all.
    """
    if name not in TASKS:
        close = difflib.get_close_matches(name, TASKS, n=3)
        raise TaskError(
            f"unknown task '{name}'; {'the closest are' if close else 'there are'} {', '.join(close or TASKS)}; "
            "see `videopoet tasks`",
            code="task_unknown",
        )
    return TASKS[name]


def task_tokens() -> tuple[str, ...]:
    """The distinct task tokens of the table, in its order."""
    return tuple(dict.fromkeys(task.task_token for task in TASKS.values()))
