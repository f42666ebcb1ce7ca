import json

import pytest
import torch

from videopoet.errors import MediaError, TaskError
from videopoet.generation import chain
from videopoet.generation.decoders.autoregressive import Autoregressive
from videopoet.media.files import probe
from videopoet.media.types import Audio, Image, Video

STORY = [
    {"task": "text_to_video", "prompt": "a red ball"},
    {"task": "outpainting"},
    {"task": "stylization", "prompt": "a blue star"},
    {"task": "video_to_audio"},
]


@pytest.fixture
def untouched(monkeypatch):
    """Fails the test when a token is chosen."""

    def decode(*given, **options):
        raise AssertionError("a token was chosen")

    monkeypatch.setattr(Autoregressive, "decode", decode)


def test_each_step_works_on_what_the_one_before_it_made(poet):
    seen = []
    results = poet.chain(STORY, seed=3, on_result=lambda index, result: seen.append((index, result)))
    assert [result.metadata["task"] for result in results] == [step["task"] for step in STORY]
    assert seen == list(enumerate(results))
    for number in (1, 2, 3):
        given = {key: value for key, value in STORY[number].items() if key != "task"}
        alone = poet.generate(
            STORY[number]["task"], **given, video=results[number - 1].media, seed=results[number].seed, sound=False
        )
        assert torch.equal(alone.media.frames, results[number].media.frames)
    assert [result.media.audio is None for result in results] == [True, True, True, False]


def test_one_seed_decides_all_steps(poet):
    steps = [{"task": "text_to_image", "prompt": "a ball", "temperature": 4.0}, {"task": "image_to_video"}]
    first, again, other = (poet.chain(steps, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first[1].media.frames, again[1].media.frames)
    assert not torch.equal(first[1].media.frames, other[1].media.frames)
    assert len({result.seed for result in first}) == 2
    own = poet.chain([{**steps[0], "seed": 5}, steps[1]], seed=1)
    assert (own[0].seed, own[1].seed) == (5, first[1].seed)


def test_results_are_taken_by_their_kind(poet):
    results = poet.chain(
        [
            {"task": "text_to_image", "prompt": "a ball"},
            {"task": "image_to_video"},
            {"task": "video_to_audio"},
            {"task": "audio_video_continuation"},  # the picture of the first step, the sound of the third
            {"task": "video_captioning"},
        ],
        seed=1,
    )
    kinds = [type(result.media) for result in results]
    assert kinds == [Image, Video, Video, Video, str]
    links = chain.link([{"task": result.metadata["task"], "prompt": "x"} for result in results[:1]], 1, True)
    assert links[0].taken == {}
    alone = poet.generate(
        "audio_video_continuation",
        image=results[0].media,
        audio=results[2].media.audio,
        seed=results[3].seed,
    )
    assert torch.equal(alone.media.frames, results[3].media.frames)


def test_a_caption_becomes_a_prompt():
    links = chain.link(
        [{"task": "text_to_video", "prompt": "a ball"}, {"task": "video_captioning"}, {"task": "text_to_audio"}],
        1,
        True,
    )
    assert links[2].taken == {"prompt": 1}
    assert links[2].request([None, "a red ball"]).prompt == "a red ball"


def test_the_sound_of_a_clip_can_be_seen():
    links = chain.link([{"task": "text_to_video", "prompt": "a ball"}, {"task": "audio_to_video"}], 1, True)
    assert links[1].taken == {"audio": 0}
    clip = Video(torch.zeros(3, 8, 8, 8, dtype=torch.uint8), 8.0, Audio(torch.ones(1, 16_000), 16_000))
    assert links[1].request([clip]).audio is clip.audio


def test_the_metadata_tells_the_chain(poet, tmp_path):
    results = poet.chain([{"task": "text_to_video", "prompt": "a ball"}, {"task": "inpainting"}], seed=8)
    results[-1].save(tmp_path / "clip.mp4")
    metadata = probe(tmp_path / "clip.mp4").metadata
    assert metadata["chain_seed"] == 8 and metadata["task"] == "inpainting"
    assert [step["task"] for step in metadata["chain"]] == ["text_to_video"]
    assert metadata["chain"][0]["prompt"] == "a ball" and metadata["chain"][0]["seed"] == results[0].seed


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([], "must be a list of 1 to 100 steps"),
        ({"task": "text_to_video"}, "must be a list"),
        (["text_to_video"], "step 1 is 'text_to_video'"),
        ([{"prompt": "a ball"}], "step 1 is .* must have a task"),
        ([{"task": "text_to_vdeo"}], "text_to_video"),
        ([{"task": "text_to_video", "promt": "a ball"}], "step 1 has 'promt'"),
        ([{"task": "text_to_video"}], "step 1: text_to_video needs prompt"),
        ([{"task": "outpainting"}], "step 1: outpainting needs video"),
        ([STORY[0], {"task": "stylization"}], "step 2: stylization needs prompt"),
        ([STORY[0], {"task": "text_to_image", "prompt": "a ball"}], r"step 2 .*uses nothing .*\(audio, video\)"),
        ([STORY[0] | {"sound": False}, {"task": "audio_to_video"}], "step 2 .*uses nothing"),
        ([{"task": "text_to_image", "prompt": "a"}, {"task": "outpainting"}], r"step 2 .*uses nothing .*\(image\)"),
        ([STORY[0], {"task": "outpainting", "mask": "center"}], "step 2: unknown mask"),
        ([STORY[0], {"task": "outpainting", "top_p": 7.0}], "step 2: top_p"),
        ([STORY[0], {"task": "outpainting", "height": 40}], "step 2: .*use 16x16"),
        ([STORY[0], {"task": "outpainting", "upscale": 2}], "step 2: .*super-resolution"),
        ([STORY[0], {"task": "outpainting", "prompt": "<bov_o>"}], "step 2: .*bov_o"),
    ],
)
def test_a_chain_that_cannot_be_run_is_refused_before_a_token_is_chosen(poet, untouched, steps, said):
    with pytest.raises(TaskError, match=said):
        poet.chain(steps, seed=1)


def test_a_missing_file_and_a_missing_ability_are_found_first(poet, make_poet, untouched):
    with pytest.raises(MediaError, match=r"none\.png"):
        poet.chain([{"task": "image_to_video", "image": "none.png"}, {"task": "outpainting"}], seed=1)
    for missing in ({"mask": "none.png"}, {"task": "stylization", "prompt": "a ball", "depth": "none.npy"}):
        with pytest.raises(MediaError, match=r"step 2: .*none\."):
            poet.chain([STORY[0], {"task": "inpainting", **missing}], seed=1)
    deaf = make_poet(tasks=("text_to_video", "outpainting"))
    with pytest.raises(TaskError, match="step 2: this model was not trained for stylization"):
        deaf.chain([STORY[0], STORY[2]], seed=1)


@pytest.mark.parametrize(("text", "code"), [(None, "chain_missing"), ("[", "chain_invalid")])
def test_a_file_that_is_no_chain_is_refused(tmp_path, text, code):
    if text is not None:
        (tmp_path / "chain.json").write_text(text)
    with pytest.raises(TaskError) as caught:
        chain.read_chain(tmp_path / "chain.json")
    assert caught.value.code == code


def test_a_chain_is_read_from_a_file(tmp_path):
    (tmp_path / "chain.json").write_text(json.dumps(STORY))
    assert chain.read_chain(tmp_path / "chain.json") == STORY
