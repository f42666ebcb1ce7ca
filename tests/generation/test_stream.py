"""Frames before a result is finished: in their order, as early as can be, and those of the result."""

import gc
import threading
from itertools import pairwise

import pytest
import torch

from videopoet.errors import TaskError
from videopoet.generation.decoders.autoregressive import Autoregressive
from videopoet.generation.request import Request
from videopoet.media.types import Image, Video
from videopoet.sequence.tasks import TASKS

TOKENS_OF_A_LATENT_FRAME = 4  # of 2x2 codes


def joined(pieces):
    """The frames of pieces, each of which must begin where the one before ended."""
    assert [piece.first for piece in pieces[1:]] == [piece.first + piece.frames.shape[1] for piece in pieces[:-1]]
    assert pieces[0].first == 0
    return torch.cat([piece.frames for piece in pieces], dim=1)


def frames_of(media):
    return media.frame[:, None] if isinstance(media, Image) else media.frames


@pytest.mark.parametrize(
    "task", [task for task in TASKS.values() if {"video", "image"} & {*task.gives}], ids=lambda task: task.name
)
def test_the_frames_of_a_stream_are_those_of_the_result_and_of_generate(poet, given, task):
    stream = poet.stream(task.name, seed=1, **given(task))
    frames = joined(list(stream))
    assert torch.equal(frames, frames_of(stream.result.media))
    alone = poet.generate(task.name, seed=1, **given(task))
    assert torch.equal(frames, frames_of(alone.media))
    assert alone.metadata == stream.result.metadata
    if isinstance(alone.media, Video) and alone.media.audio is not None:
        assert torch.equal(alone.media.audio.samples, stream.result.media.audio.samples)


def test_a_clip_that_is_heard_is_shown_at_once(poet, random_clip):
    clip, seen = random_clip(20), []
    poet.generate("video_to_audio", video=clip, on_step=lambda *step: seen and seen.append(None), on_frames=seen.append)
    assert torch.equal(seen[0].frames, clip.frames) and seen[0].frame_rate == clip.frame_rate


@pytest.mark.parametrize("task", ["text_to_audio", "video_captioning"])
def test_what_has_no_frames_gives_its_result_alone(poet, given, task):
    stream = poet.stream(task, seed=1, **given(TASKS[task]))
    assert list(stream) == []
    assert stream.result.seed == 1


@pytest.mark.parametrize("length", [{"num_frames": 9}, {"num_frames": 33}, {"seconds": 2.5}])
@pytest.mark.parametrize("task", ["text_to_video", "video_continuation", "image_to_video"])
def test_a_stream_of_any_length_is_the_whole_clip(poet, materials, task, length):
    inputs = {name: materials[name] for name in TASKS[task].requires}
    if task == "video_continuation" and "num_frames" in length:
        length = {"num_frames": length["num_frames"] - 1}
    stream = poet.stream(task, seed=3, sound=False, **inputs, **length)
    assert torch.equal(joined(list(stream)), stream.result.media.frames)


def test_a_latent_frame_leaves_with_its_last_token(make_poet):
    poet, told = make_poet(), []
    poet.decoder = Autoregressive()
    poet.generate(
        "text_to_video",
        prompt="a red ball",
        seed=1,
        sound=False,
        on_step=lambda done, total: told.append(done),
        on_frames=lambda frames: told.append((frames.first, frames.frames.shape[1])),
    )
    expected = []
    for latent in range(5):
        first = TOKENS_OF_A_LATENT_FRAME * latent
        expected += [*range(first + 1, first + TOKENS_OF_A_LATENT_FRAME + 1)]
        expected += [(0, 1) if not latent else (4 * latent - 3, 4)]
    assert told == expected


def test_a_given_picture_is_shown_before_a_token_is_chosen(poet, random_picture):
    told = []
    poet.generate(
        "image_to_video",
        image=random_picture(),
        seed=1,
        on_step=lambda *step: told.append(step),
        on_frames=told.append,
    )
    assert told[0].first == 0 and told[0].frames.shape[1] == 1


def test_listening_changes_nothing_in_a_batch(poet, given):
    requests = [
        Request(task="text_to_video", prompt="a red ball", seed=1),
        Request(task="text_to_video", prompt="a blue star flies", seed=2, num_frames=25),
        Request(task="video_captioning", seed=1, **given(TASKS["video_captioning"])),
        Request(task="inpainting", seed=1, **given(TASKS["inpainting"])),
    ]
    seen = [[] for _ in requests]
    heard = poet.generate_batch(requests, on_frames=lambda number, frames: seen[number].append(frames))
    for pieces, request, result in zip(seen, requests, heard, strict=True):
        alone = poet(request)
        if isinstance(result.media, str):
            assert not pieces and result.media == alone.media
            continue
        assert torch.equal(joined(pieces), result.media.frames)
        assert torch.equal(result.media.frames, alone.media.frames)


def test_variations_are_told_apart(poet):
    seen = {}
    results = poet.variations(
        "text_to_video",
        prompt="a red ball",
        count=3,
        seed=1,
        sound=False,
        on_frames=lambda number, frames: seen.setdefault(number, []).append(frames),
    )
    assert [torch.equal(joined(seen[number]), result.media.frames) for number, result in enumerate(results)] == [
        True
    ] * 3


# The stream itself


def test_a_wrong_request_is_refused_where_it_is_made(poet):
    for wrong in ({"height": 63}, {"seconds": -1.0}, {"prompt": "a ball <bov_o>"}, {"upscale": 2}):
        with pytest.raises(TaskError):
            poet.stream("text_to_video", **({"prompt": "a red ball"} | wrong))


def test_an_error_of_the_work_comes_out_of_the_iteration(poet, random_clip):
    stream = poet.stream("video_continuation", video=random_clip(8))
    for _ in range(2):
        with pytest.raises(Exception, match="8 frames"):
            list(stream)
    with pytest.raises(Exception, match="8 frames"):
        _ = stream.result


def test_the_result_can_be_had_without_the_frames(poet):
    stream = poet.stream("text_to_video", prompt="a red ball", seed=1)
    assert stream.result is stream.result and stream.result.media.num_frames == 17
    assert list(stream) == []


class Held:
    """Lets work go as far as its first step, and says when it has ended."""

    def __init__(self):
        self.begun, self.go, self.threads = threading.Event(), threading.Event(), set()

    def on_step(self, done, total):
        self.threads.add(threading.current_thread())
        self.begun.set()
        assert self.go.wait(60)

    def has_ended(self):
        (thread,) = self.threads
        thread.join(60)
        return not thread.is_alive()


def begin(poet, held):
    stream = poet.stream("text_to_video", prompt="a red ball", seed=1, num_frames=1441, on_step=held.on_step)
    assert held.begun.wait(60)
    held.go.set()
    return stream


def test_closing_ends_the_work(poet):
    held = Held()
    with begin(poet, held) as stream:
        first = next(stream)
    assert held.has_ended() and first.first == 0
    with pytest.raises(TaskError, match="closed before its end") as caught:
        _ = stream.result
    assert caught.value.code == "stream_closed"


def test_closing_a_finished_stream_keeps_its_result(poet):
    with poet.stream("text_to_image", prompt="a red ball", seed=1) as stream:
        made = stream.result
    assert stream.result is made


def test_letting_go_of_a_stream_ends_the_work(poet):
    held = Held()
    stream = begin(poet, held)
    del stream
    gc.collect()
    assert held.has_ended()


def test_what_a_listener_raises_comes_out_of_the_iteration(poet):
    def fail(done, total):
        raise ArithmeticError("step")

    with pytest.raises(ArithmeticError, match="step"):
        list(poet.stream("text_to_video", prompt="a red ball", on_step=fail))


def test_streams_go_on_beside_one_another(poet):
    streams = [poet.stream("text_to_video", prompt="a red ball", seed=seed, sound=False) for seed in (1, 2)]
    clips = [joined(list(stream)) for stream in streams]
    for seed, clip in zip((1, 2), clips, strict=True):
        alone = poet.generate("text_to_video", prompt="a red ball", seed=seed, sound=False)
        assert torch.equal(alone.media.frames, clip)
    assert not any(torch.equal(one, other) for one, other in pairwise(clips))
