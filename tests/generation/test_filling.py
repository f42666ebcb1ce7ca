import pytest
import torch

from videopoet.errors import TaskError
from videopoet.generation import batch, filling
from videopoet.generation.decoders.speculative import Speculative
from videopoet.generation.request import Request
from videopoet.media.types import Video
from videopoet.sequence.tasks import TASKS


def content(media):
    """All that is in a result."""
    if isinstance(media, str):
        return media
    if isinstance(media, Video):
        return media.frames.tolist(), media.audio and media.audio.samples.tolist()
    return (media.frame if hasattr(media, "frame") else media.samples).tolist()


@pytest.fixture
def batches(monkeypatch):
    """Sizes of the decoder's batches."""
    sizes, plain = [], Speculative.decode

    def decode(self, model, vocabulary, rows, *others):
        sizes.append(len(rows))
        return plain(self, model, vocabulary, rows, *others)

    monkeypatch.setattr(Speculative, "decode", decode)
    return sizes


@pytest.mark.parametrize("task", ["text_to_video", "inpainting", "video_captioning", "text_to_image", "text_to_audio"])
def test_a_variation_is_what_its_seed_gives_alone(poet, given, task):
    inputs = given(TASKS[task]) | {"temperature": 4.0}  # so that small outputs differ too
    made = poet.variations(task, count=3, seed=7, **inputs)
    assert [result.seed for result in made] == [7, 8, 9]
    assert len({str(content(result.media)) for result in made}) == 3
    for result in made:
        alone = poet.generate(task, seed=result.seed, **inputs)
        assert content(alone.media) == content(result.media)
        assert alone.metadata == result.metadata and alone.warnings == result.warnings


def test_variations_share_the_decoders_batches(poet, batches):
    poet.variations("text_to_video", prompt="a red ball", count=5, seed=1)
    assert batches == [5, 5]  # the clips, then their sounds


def test_films_of_different_lengths_go_on_together(poet, batches):
    lengths = (9, 33, 25)
    requests = [Request(task="unconditional", seed=1, num_frames=length, sound=False) for length in lengths]
    made = poet.generate_batch(requests)
    assert [result.media.num_frames for result in made] == [9, 33, 25]
    assert batches == [3, 2, 1]
    for request, result in zip(requests, made, strict=True):
        assert torch.equal(result.media.frames, poet(request).media.frames)


def test_requests_of_a_batch_keep_their_prompts_tasks_and_sampling(poet):
    requests = [
        Request(task="text_to_video", prompt="a red ball", seed=1),
        Request(task="text_to_video", prompt="a blue star flies , a red ball", seed=1),
        Request(task="text_to_video", prompt="a red ball", seed=1, temperature=0.5),
        Request(task="text_to_video", prompt="a red ball", seed=1, guidance_scale=1.0),
        Request(task="text_to_image", prompt="a red ball", seed=1),
    ]
    together = poet.generate_batch(requests)
    alone = [poet(request) for request in requests]
    assert [content(result.media) for result in together] == [content(result.media) for result in alone]
    assert len({str(content(result.media)) for result in together}) == len(requests)


@pytest.mark.parametrize(("bound", "sizes"), [({"MOST_ROWS": 2}, [2, 2, 2, 2, 1, 1]), ({"CACHE_BYTES": 1}, [1] * 10)])
def test_a_batch_is_split_where_memory_bounds_it(poet, batches, monkeypatch, bound, sizes):
    inputs = {"prompt": "a red ball", "seed": 3, "count": 5}
    whole = poet.variations("text_to_video", **inputs)
    batches.clear()
    for name, value in bound.items():
        monkeypatch.setattr(filling, name, value)
        if hasattr(batch, name):
            monkeypatch.setattr(batch, name, value)
    split = poet.variations("text_to_video", **inputs)
    assert sorted(batches) == sorted(sizes)
    assert [content(result.media) for result in split] == [content(result.media) for result in whole]


def test_a_bad_request_in_a_batch_is_refused_before_a_token_is_chosen(poet, batches):
    good, bad = (Request(task="text_to_video", prompt=prompt) for prompt in ("a ball", "a ball <bov_o>"))
    with pytest.raises(TaskError, match="bov_o"):
        poet.generate_batch([good, bad])
    assert batches == []


@pytest.mark.parametrize("count", [0, -1, 1001])
def test_a_count_out_of_range_is_refused(poet, count):
    with pytest.raises(TaskError, match="from 1 to 1000") as caught:
        poet.variations("unconditional", count=count)
    assert caught.value.code == "range"


def test_the_steps_of_a_batch_add_up(poet):
    steps = []
    poet.variations("text_to_video", prompt="a ball", count=3, seed=1, on_step=lambda *step: steps.append(step))
    assert steps[-1][0] == steps[-1][1] == 3 * (20 + 2 * 17)
    assert poet.generate_batch([]) == []
