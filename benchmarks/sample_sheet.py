"""What a model makes, unchosen: a sheet of the first 32 test prompts at seed 0, and a moving picture of every task.

    python sample_sheet.py --output ../docs/samples

`prompts.webp` has a row of frames a prompt. `tasks.webp` moves: beside what each task is given stands what it makes of
it. The task in place i of the table has test prompt i, so that nobody chose; a sound is shown as its waveform.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import torch
from held_out import add_model
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from videopoet import VideoPoet
from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.suites import cases, world_of
from videopoet.generation.window import Window
from videopoet.media.types import Audio, Video
from videopoet.sequence.tasks import TASKS

PAPER, INK, QUIET, WAVE = (255, 255, 255), (30, 30, 30), (120, 120, 120), (70, 110, 160)
UNKNOWN = 200
"""The grey of pixels that a task is not given."""
SIDE, STRIP, GAP, LINE = 128, 24, 8, 15
HEAD = 3 * LINE + 2
COLUMNS, SHOWN_FRAMES = 3, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model(parser)
    parser.add_argument("--output", type=Path, required=True, help="folder of the two pictures")
    parser.add_argument("--count", type=int, default=32, help="prompts on the sheet")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    poet = VideoPoet.from_pretrained(given.model)
    window = Window(poet.parts)
    prompt_sheet(poet, window, given.count).save(given.output / "prompts.webp", quality=80, method=6)
    frames = task_frames(poet, window)
    frames[0].save(
        given.output / "tasks.webp",
        save_all=True,
        append_images=frames[1:],
        duration=round(1000 / window.frame_rate),
        loop=0,
        quality=80,
        method=6,
    )


def prompt_sheet(poet: VideoPoet, window: Window, count: int) -> Image.Image:
    """The first test prompts in two columns: each its words above frames of the clip, evenly through time."""
    asked = list(cases("text_to_video", world_of(window, "in"), window, range(count), 0))
    made = poet.generate_batch([case.request(0) for case in asked])
    side = SIDE * 3 // 4
    width, height = SHOWN_FRAMES * side, LINE + 4 + side
    rows = -(-count // 2)
    sheet = Image.new("RGB", (2 * width + 3 * GAP, rows * (height + GAP) + GAP), PAPER)
    for number, (case, one) in enumerate(zip(asked, made, strict=True)):
        left, top = GAP + number % 2 * (width + GAP), GAP + number // 2 * (height + GAP)
        write(sheet, (left, top), f"{number}  {case.prompt}")
        frames = Take.of(one.media).video
        assert frames is not None
        for place, index in enumerate(torch.linspace(0, frames.num_frames - 1, SHOWN_FRAMES).round().int().tolist()):
            sheet.paste(tile(frames.frames[:, index], side), (left + place * side, top + LINE + 4))
    return sheet


def task_frames(poet: VideoPoet, window: Window) -> list[Image.Image]:
    """The frames of a picture in which every task of the model shows what it is given and what it makes."""
    tasks = [name for name in TASKS if name in poet.parts.settings.tasks]
    world, length = world_of(window, "in"), window.num_frames
    asked = [next(cases(name, world, window, range(place, place + 1), 0)) for place, name in enumerate(tasks)]
    shown: list[tuple[Case, list[Image.Image], list[Image.Image]]] = []
    for case in asked:
        made = Take.of(poet(case.request(0)).media)
        sound = made.audio if "audio" in case.task.gives or "audio" not in case.given else None
        shown.append((case, given_cells(case, length), cells(made.video, sound, made.text, length)))
    width, height = 2 * SIDE + GAP, HEAD + SIDE + STRIP
    rows = -(-len(tasks) // COLUMNS)
    frames: list[Image.Image] = []
    for time in range(length):
        frame = Image.new("RGB", (COLUMNS * (width + 2 * GAP) - GAP, rows * (height + GAP) + GAP), PAPER)
        for place, (case, before, after) in enumerate(shown):
            left, top = GAP + place % COLUMNS * (width + 2 * GAP), GAP + place // COLUMNS * (height + GAP)
            write(frame, (left, top), case.task.name.replace("_", " "))
            for line, words in enumerate(textwrap.wrap(case.prompt or "", 46)[:2]):
                write(frame, (left, top + (line + 1) * LINE), words, QUIET)
            if before:
                frame.paste(before[time], (left, top + HEAD))
            frame.paste(after[time], (left + SIDE + GAP, top + HEAD))
        frames.append(frame)
    return frames


def given_cells(case: Case, length: int) -> list[Image.Image]:
    """What a task is given besides words, a cell for each frame; nothing where there is nothing."""
    given = case.given
    if (structure := given.get("structure")) is not None:
        return cells(Video.from_pixels(structure.clamp(-1, 1), case.window.frame_rate), None, None, length)
    if (picture := given.get("image")) is not None:
        return cells(Video(picture.frame[:, None], 1.0), given.get("audio"), None, length)
    if (video := given.get("video")) is not None and case.keep is not None:
        video = Video(torch.where(case.keep, video.frames, UNKNOWN), video.frame_rate)
    if video is None and "audio" not in given:
        return []
    return cells(video, given.get("audio"), None, length)


def cells(video: Video | None, audio: Audio | None, text: str | None, length: int) -> list[Image.Image]:
    """Media as `length` pictures: frames, the last one held, above a waveform; words as a page."""
    cell = Image.new("RGB", (SIDE, SIDE + STRIP), PAPER if video is not None else (245, 245, 245))
    for line, words in enumerate(textwrap.wrap(text or "", 19)):
        write(cell, (6, 6 + line * LINE), words)
    if audio is not None:
        draw = ImageDraw.Draw(cell)
        loudness = audio.samples.abs().amax(dim=0)
        for column, part in enumerate(loudness.tensor_split(SIDE)):
            reach = round(float(part.max()) * (STRIP // 2 - 1)) if len(part) else 0
            draw.line(((column, SIDE + STRIP // 2 - reach), (column, SIDE + STRIP // 2 + reach)), fill=WAVE)
    if video is None:
        return [cell] * length
    pictures: list[Image.Image] = []
    for index in range(length):
        picture = cell.copy()
        picture.paste(tile(video.frames[:, min(index, video.num_frames - 1)], SIDE), (0, 0))
        pictures.append(picture)
    return pictures


def tile(frame: Tensor, side: int) -> Image.Image:
    """A frame, uint8 (3, H, W), `side` pixels high."""
    picture = Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy())
    return picture.resize((round(side * picture.width / picture.height), side), Image.Resampling.BICUBIC)


def write(picture: Image.Image, place: tuple[int, int], words: str, colour: tuple[int, int, int] = INK) -> None:
    ImageDraw.Draw(picture).text(place, words, fill=colour, font=ImageFont.load_default(11))


if __name__ == "__main__":
    main()
