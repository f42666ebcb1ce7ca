"""A poet of published parts, tiny and random: converted, trained, saved, and used."""

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from videopoet import VideoPoet, cli, presets, runtime
from videopoet.config import override
from videopoet.data import toybox
from videopoet.errors import ConfigError
from videopoet.generation import poet_folder
from videopoet.media.types import Audio, Video
from videopoet.text_encoders.own_tokens import OwnTokens
from videopoet.training import run

TRAINED = "[{task: text_to_video, batch_size: 2, weight: 1}, {task: video_to_audio, batch_size: 2, weight: 1}]"


@pytest.fixture(scope="module")
def converted(tmp_path_factory, make_published):
    """A function that gives the folder of a poet with Emu3's video tokenizer and an audio tokenizer of that name."""
    held = {}

    def of(codec):
        if codec not in held:
            place = tmp_path_factory.mktemp(codec)
            torch.manual_seed(0)
            config = AutoConfig.for_model("gpt2", vocab_size=200, n_embd=32, n_layer=1, n_head=2, n_positions=512)
            AutoModelForCausalLM.from_config(config).save_pretrained(place / "text")
            OwnTokens.from_words(toybox.words()).save(place / "text")
            make_published(place / "video", "emu3")
            make_published(place / "audio", codec)
            options = ["--video-tokenizer", str(place / "video"), "--audio-tokenizer", str(place / "audio")]
            options += ["--audio-levels", "2", "-o", str(place / "poet")]
            assert cli.run(["convert", str(place / "text"), *options]) == 0
            held[codec] = place / "poet"
        return held[codec]

    return of


def config_for(poet, *assignments):
    parts = poet_folder.load(poet, "cpu", torch.float32)
    settings = ["num_steps=2", "checkpoint_every=1", "validate_every=2", "log_every=1"]
    return override(
        presets.tiny(),
        [
            f"init_from={poet}",
            f"world.sample_rate={parts.audio_tokenizer.sample_rate}",
            "validation_clips=2",
            f"language_model.mixture.shares={TRAINED}",
            "language_model.mixture.pool_clips=4",
            "language_model.sample_prompts=[a red ball]",
            *(f"language_model.training.{setting}" for setting in settings),
            *assignments,
        ],
    )


@pytest.mark.parametrize("codec", ["dac", "mimi"])
def test_a_poet_holds_its_codec(codec, converted, tmp_path):
    poet = VideoPoet.from_pretrained(converted(codec), device="cpu")
    poet.save_pretrained(tmp_path / "again")
    again = VideoPoet.from_pretrained(tmp_path / "again", device="cpu").parts.audio_tokenizer
    sound = torch.rand(1, 1, 6400, generator=runtime.generator("sound")) - 0.5
    codes = again.encode(sound)
    assert codes.shape[1] == poet.parts.vocabulary.config.audio_quantizers == 2
    assert torch.equal(codes, poet.parts.audio_tokenizer.encode(sound))
    assert torch.equal(again.decode(codes), poet.parts.audio_tokenizer.decode(codes))


def test_a_poet_of_published_parts_is_trained_saved_and_used(converted, tmp_path, capsys):
    codec = "encodec"
    source = converted(codec)
    folder = run.train(config_for(source), tmp_path / "run", stages=("language_model",), device=torch.device("cpu"))
    contents = poet_folder.read_contents(folder)
    assert (contents.video_tokenizer, contents.audio_tokenizer) == ("emu3", codec)
    poet, before = VideoPoet.from_pretrained(folder, device="cpu"), VideoPoet.from_pretrained(source, device="cpu")
    for name in ("video_tokenizer", "audio_tokenizer"):
        old, new = (getattr(each.parts, name).state_dict() for each in (before, poet))
        assert old.keys() == new.keys() and all(torch.equal(old[key], new[key]) for key in old)
    assert poet.parts.audio_tokenizer.num_quantizers == contents.vocabulary.audio_quantizers == 2

    clip = poet.generate("text_to_video", prompt="a red ball", seed=1, progress=False).media
    assert isinstance(clip, Video) and clip.audio is not None
    assert (clip.num_frames, clip.height, clip.width) == (9, 32, 32)
    assert clip.audio.sample_rate == poet.parts.audio_tokenizer.sample_rate
    assert clip.audio.num_samples == round(clip.seconds * clip.audio.sample_rate)
    sound = poet.generate("video_to_audio", video=clip, seed=1, progress=False).media
    assert isinstance(sound, Video) and sound.audio is not None

    clip.save(tmp_path / "clip.mp4")
    arguments = ["reconstruct", str(tmp_path / "clip.mp4"), "-m", str(folder), "-o", str(tmp_path / "seen.mp4")]
    capsys.readouterr()
    assert cli.run([*arguments, "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert seen["bits_per_pixel"] == pytest.approx(3 * 4 * 4 * 6 / (9 * 32 * 32))
    assert (tmp_path / "seen.mp4").exists()


def test_the_command_that_follows_names_the_sample_rate(converted, capsys, tmp_path):
    poet = converted("encodec")
    place = poet.parent
    options = ["--video-tokenizer", str(poet), "--audio-tokenizer", str(poet), "-o", str(tmp_path / "poet"), "--json"]
    assert cli.run(["convert", str(place / "text"), *options]) == 0
    made = json.loads(capsys.readouterr().out)
    assert "--set world.sample_rate=24000" in made["next"]
    assert (made["vocabulary"]["video"], made["vocabulary"]["audio"]) == (64, 2 * 16)


def test_clips_of_another_sample_rate_are_refused_before_training(converted, tmp_path):
    config = config_for(converted("encodec"), "world.sample_rate=16000")
    with pytest.raises(ConfigError, match=r"16000.*24000.*--set world.sample_rate=24000"):
        run.train(config, tmp_path / "run", stages=("language_model",))


@pytest.mark.parametrize("stage", ["video_tokenizer", "audio_tokenizer"])
def test_a_published_tokenizer_is_not_trained(stage, converted, tmp_path):
    with pytest.raises(ConfigError, match=f"{stage}.*--stages language_model"):
        run.train(config_for(converted("encodec")), tmp_path / "run", stages=(stage,))


def test_a_plan_says_that_it_cannot_count_a_published_tokenizer(converted, capsys):
    assert cli.run(["plan", "tiny", "--init-from", str(converted("mimi"))]) == 2
    assert "published tokenizer, emu3" in capsys.readouterr().err


def test_sound_of_a_poet_goes_through_its_codec(converted, tmp_path):
    poet = VideoPoet.from_pretrained(converted("mimi"), device="cpu")
    frames = torch.randint(256, (3, 1, 64, 64), generator=runtime.generator("frames"), dtype=torch.uint8)
    samples = torch.rand(1, 2000, generator=runtime.generator("sound")) - 0.5
    seen = poet.reconstruct(Video(frames, 8.0, Audio(samples, 16_000)))
    assert seen.video.audio is not None and seen.video.audio.sample_rate == 24_000
    assert seen.video.audio.num_samples == 3000 // 640 * 640
