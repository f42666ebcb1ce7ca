import hashlib
import json
import shutil

import pytest
import torch

from videopoet import VideoPoet, presets
from videopoet.cli import run as command
from videopoet.config import override
from videopoet.data import token_batches
from videopoet.data.clips import Config
from videopoet.data.prepare import prepare
from videopoet.data.prepared import PreparedClips
from videopoet.data.toybox import ToyBox
from videopoet.data.upscaling import PairBatches, PairsConfig
from videopoet.errors import DataError
from videopoet.media.types import Audio, Image, Video
from videopoet.training import run
from videopoet.training.footage import clips_for, fitted, is_raw

SHORT = [
    f"{stage}.training.{name}={value}"
    for stage in ("video_tokenizer", "audio_tokenizer", "language_model", "super_resolution")
    for name, value in (("num_steps", 2), ("validate_every", 2), ("checkpoint_every", 2), ("log_every", 1))
] + ["validation_clips=2", "language_model.mixture.pool_clips=8", "super_resolution.pairs.pool_clips=8"]


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    """Four clips of drifting colours, with tones and captions."""
    folder = tmp_path_factory.mktemp("footage")
    generator = torch.Generator().manual_seed(0)
    for number in range(4):
        ground = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 12, generator=generator), (48, 96), mode="bicubic")
        frames = torch.stack([ground[0, :, :, 2 * k : 2 * k + 48] for k in range(20)], dim=1) * 2 - 1
        tone = torch.sin(torch.arange(40_000) * 0.05 * (number + 1))[None] * 0.5
        Video.from_pixels(frames, 8.0, Audio(tone, 16_000)).save(folder / f"{number}.mp4")
        (folder / f"{number}.txt").write_text(f"colours number {number} drift by")
    return folder


def test_one_command_makes_a_model_of_raw_footage(footage, tmp_path, capsys):
    settings = [word for setting in SHORT for word in ("--set", setting)]
    train = ["train", "--data", str(footage), "-o", str(tmp_path), "--preset", "tiny", *settings]
    assert command([*train, "--json"]) == 0
    out, err = capsys.readouterr()
    assert "4 = 4 kept + 0 rejected" in err
    poet = VideoPoet.from_pretrained(json.loads(out)["poet"])
    made = poet.generate("text_to_video", prompt="colours drift", seed=0, progress=False)
    assert made.media.frames.shape == (3, 9, 32, 32) and not made.warnings
    assert poet.generate("text_to_video", prompt="a red ball", seed=0, progress=False).warnings
    assert (
        command(["train", "--data", str(footage), "-o", str(tmp_path), "--preset", "tiny", *settings, "--resume"]) == 0
    )


def test_several_processes_do_not_prepare_footage(footage, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert command(["train", "--data", str(footage), "-o", str(tmp_path / "run"), "--preset", "tiny"]) == 2
    assert f"run `videopoet prepare {footage} -o DATA` first" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_without_a_preset_footage_fine_tunes_the_bundled_model(footage, tmp_path, capsys, caplog):
    train = ["train", "--data", str(footage), "-o", str(tmp_path / "run"), "--json"]
    assert command([*train, "--dry-run"]) == 0
    config = json.loads(capsys.readouterr().out)
    assert (config["init_from"], config["stages"]) == ("bundled", ["language_model"])
    short = ("num_steps=1", "validate_every=9", "log_every=1")
    settings = [word for setting in short for word in ("--set", f"language_model.training.{setting}")]
    small = ["--set", "language_model.mixture.pool_clips=8", "--set", "validation_clips=1"]
    assert command([*train, *settings, *small]) == 0
    out, err = capsys.readouterr()
    assert "super-resolution" not in err
    poet = VideoPoet.from_pretrained(json.loads(out)["poet"])
    bundled = VideoPoet.from_pretrained()
    assert poet.parts.settings.tasks == bundled.parts.settings.tasks and poet.parts.super_resolution is not None
    known = bundled.parts.text_encoder.size
    assert poet.parts.text_encoder.unknown_words("colours drift by") == []
    assert poet.parts.text_encoder.size == poet.parts.super_resolution.config.text_size > known
    assert "words of the captions are new to the model" in caplog.text
    moved = [
        not torch.equal(new[: len(old)], old)
        for new, old in zip(
            poet.parts.language_model.parameters(), bundled.parts.language_model.parameters(), strict=True
        )
    ]
    assert any(moved)


def test_new_words_change_nothing_of_what_a_model_makes_of_those_it_knew(footage, tmp_path):
    settings = [*SHORT, "init_from=bundled", "language_model.training.optimizer.learning_rate=1e-30"]
    few = ["language_model.mixture.shares=[{task: text_to_video, batch_size: 1, weight: 1}]"]
    few += ["language_model.training.num_steps=1", "language_model.sample_prompts=[]"]
    prepare(footage, tmp_path / "dataset", Config())
    data = [f"data={tmp_path / 'dataset'}", "world.height=64", "world.width=64", "world.num_frames=17"]
    folder = run.train(override(presets.tiny(), [*settings, *few, *data]), tmp_path / "run", stages=("language_model",))
    taught, bundled = VideoPoet.from_pretrained(folder), VideoPoet.from_pretrained()
    asked = {"prompt": "a red ball", "seed": 0, "upscale": 2, "progress": False}
    made = [poet.generate("text_to_video", **asked).media.frames for poet in (taught, bundled)]
    assert torch.equal(*made)
    assert not taught.generate("text_to_image", prompt="colours drift by", progress=False).warnings


def test_tokenizers_see_footage_beside_the_toy_box(dataset, tmp_path):
    config = override(presets.tiny(), [*SHORT, f"footage={dataset}", "footage_share=0.5"])
    run.train(config, tmp_path, stages=run.stage_names("video_tokenizer,audio_tokenizer"))
    figures = run.last_figures(tmp_path)["video_tokenizer"]["validation"]
    assert {"psnr", "psnr_footage"} <= set(figures) and figures["psnr"] != figures["psnr_footage"]
    assert list(tmp_path.glob("video_tokenizer/**/footage.png"))


def test_super_resolution_sees_footage_beside_the_toy_box(dataset, footage, tmp_path, monkeypatch):
    seen = []
    pairs = PairBatches.pairs
    monkeypatch.setattr(
        PairBatches, "pairs", lambda self, *arguments: seen.append(type(self.world)) or pairs(self, *arguments)
    )
    settings = [*SHORT, "footage_share=0.5", "super_resolution.pairs.pool_batches=1"]
    settings += ["super_resolution.training.num_steps=6", "super_resolution.training.seed=3"]
    run.train(override(presets.tiny(), [*settings, f"footage={dataset}"]), tmp_path)
    assert {PreparedClips, ToyBox} <= set(seen)
    prepare(footage, tmp_path / "small", Config(height=32, width=32, num_frames=9))
    config = override(presets.tiny(), [*settings, f"footage={tmp_path / 'small'}"])
    with pytest.raises(DataError, match="64x64"):
        run.train(config, tmp_path / "refused")


def test_footage_beside_the_toy_box_has_to_have_its_size(dataset, tmp_path):
    config = override(presets.tiny(), [*SHORT, f"footage={dataset}", "world.height=512", "world.width=512"])
    with pytest.raises(DataError, match="512"):
        run.train(config, tmp_path, stages=run.stage_names("video_tokenizer"))
    assert not (tmp_path / "video_tokenizer").exists()


class Stopped(Exception):
    """A run that ends in the middle."""


def last_weights(folder):
    return (folder / "language_model" / "checkpoint-0000007" / "model.safetensors").read_bytes()


def test_a_chain_of_five_resumes_on_codes_is_the_unbroken_run_bit_for_bit(dataset, tmp_path, monkeypatch):
    """Seven steps over pools of three batches: the run is stopped in the middle of pools and of rounds of the clips."""
    training = ["num_steps=7", "checkpoint_every=1", "validate_every=7", "log_every=7", "accumulation=2"]
    config = override(
        presets.tiny(),
        [
            f"data={dataset}",
            *(setting for setting in SHORT if not setting.startswith("language_model")),
            *(f"language_model.training.{setting}" for setting in training),
            "language_model.mixture.shares=[{task: text_to_video, batch_size: 2, weight: 1}, "
            "{task: video_to_audio, batch_size: 2, weight: 1}]",
            "language_model.mixture.pool_clips=4",
            "language_model.mixture.pool_batches=3",
            "language_model.sample_prompts=[]",
        ],
    )
    tokenizers, whole = run.stage_names("video_tokenizer,audio_tokenizer"), tmp_path / "whole"
    run.train(config, whole, stages=tokenizers)
    shutil.copytree(whole, tmp_path / "broken")
    run.train(config, whole, resume=True, stages=("language_model",))
    assert (whole / "tokens" / "tokens.json").exists()

    ask = token_batches.Prefetched.__call__
    asked = []

    def stop_after(steps):
        def counted(self, index):
            asked.append(index)
            if len(asked) > 2 * steps:
                raise Stopped
            return ask(self, index)

        asked.clear()
        return counted

    for steps in (1, 1, 2, 1, 1):
        monkeypatch.setattr(token_batches.Prefetched, "__call__", stop_after(steps))
        with pytest.raises(Stopped):
            run.train(config, tmp_path / "broken", resume=True, stages=("language_model",))
    monkeypatch.setattr(token_batches.Prefetched, "__call__", ask)
    run.train(config, tmp_path / "broken", resume=True, stages=("language_model",))
    assert last_weights(tmp_path / "broken") == last_weights(whole)


@pytest.fixture(scope="module")
def dataset(footage, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    prepare(footage, folder, Config(height=64, width=64, num_frames=9))
    return folder


def tiny(data, *settings):
    return override(presets.tiny(), [f"data={data}", *settings])


def test_a_config_that_fits_stays_as_it_is(dataset):
    assert fitted(tiny(dataset)) == (tiny(dataset), [])
    assert fitted(presets.tiny()) == (presets.tiny(), [])


def test_what_clips_are_too_small_for_is_left_out_and_said(dataset):
    config = tiny(dataset, "language_model.mixture.sizes=[[64, 32], [96, 32]]")
    pairs = PairsConfig(scales=(1, 2))
    run = presets.small().super_resolution.model_copy(update={"pairs": pairs})
    config, notes = fitted(config.model_copy(update={"super_resolution": run, "data": str(dataset)}))
    assert config.language_model.mixture.sizes == ((64, 32),)
    assert config.super_resolution.pairs.scales == (1,)
    assert len(notes) == 2 and "32x96" in notes[0] and "scales 2" in notes[1]


def test_what_no_stage_of_a_run_asks_for_is_not_missed(dataset):
    config = tiny(dataset, "language_model.mixture.sizes=[[96, 32]]")
    stage = config.video_tokenizer.stages[-1].model_copy(update={"scales": (1, 4)})
    tokenizer = config.video_tokenizer.model_copy(update={"stages": (stage,)})
    config = config.model_copy(update={"video_tokenizer": tokenizer})
    said = {name: fitted(config.model_copy(update={"stages": (name,)}))[1] for name in config.stages}
    assert said["audio_tokenizer"] == []
    assert [len(said[name]) for name in ("video_tokenizer", "language_model")] == [1, 1]
    assert "video tokenizer" in said["video_tokenizer"][0] and "rows of" in said["language_model"][0]


def test_clips_that_do_not_fit_at_all_are_refused(dataset):
    with pytest.raises(DataError, match="--size 96x96"):
        fitted(tiny(dataset, "world.height=96", "world.width=96"))


def test_footage_is_prepared_large_enough_for_super_resolution():
    assert (clips_for(presets.tiny()).height, clips_for(presets.small()).height) == (64, 128)


def test_raw_footage_is_told_from_prepared(footage, dataset):
    assert is_raw(str(footage)) and not is_raw(str(dataset)) and not is_raw("toybox")


@pytest.fixture(scope="module")
def alone(footage, tmp_path_factory):
    """What prepares pictures or sounds of the footage alone."""
    from videopoet.media.files import read_video

    folder = tmp_path_factory.mktemp("alone")
    for number in range(4):
        clip = read_video(footage / f"{number}.mp4")
        Image(clip.frames[:, 0]).save(folder / f"{number}.png")
        clip.audio.save(folder / f"{number}.wav")
    for kind in ("picture", "sound"):
        prepare(folder, folder / "data" / kind, Config(height=32, width=32, num_frames=9), kinds=(kind,))
    return folder / "data"


@pytest.mark.parametrize(
    ("kind", "stage", "says"),
    [
        ("picture", "video_tokenizer", "shows 9 frames; add some, or show single frames with --set"),
        ("picture", "audio_tokenizer", "no sound to train on"),
        ("picture", "language_model", "the stage language_model learns from clips; add some"),
        ("picture", "super_resolution", "the stage super_resolution learns from clips"),
        ("sound", "video_tokenizer", "shows 9 frames; add some; prepare"),
        ("sound", "language_model", "learns from clips"),
    ],
)
def test_a_stage_that_needs_clips_is_refused_before_anything_is_made(alone, tmp_path, kind, stage, says):
    config, notes = fitted(tiny(alone / kind, *SHORT))
    assert not notes
    with pytest.raises(DataError, match="has no clips") as caught:
        run.train(config, tmp_path / "run", stages=run.stage_names(stage))
    assert says in str(caught.value) and caught.value.code == "data_unsuited" and not (tmp_path / "run").exists()


def test_single_frames_want_pictures_as_large_as_they_are_shown(alone, tmp_path):
    one_frame = "video_tokenizer.stages=[{num_batches: 1, batch_size: 8, num_frames: 1, scales: [1, 2]}]"
    for kind in ("picture", "sound"):
        with pytest.raises(DataError, match="no picture held out of (32x32|64x64)"):
            run.train(
                tiny(alone / kind, *SHORT, one_frame), tmp_path / "run", stages=run.stage_names("video_tokenizer")
            )


def test_pictures_alone_teach_single_frames_and_sounds_alone_the_audio_tokenizer(alone, tmp_path):
    one_frame = "video_tokenizer.stages=[{num_batches: 1, batch_size: 8, num_frames: 1}]"
    run.train(tiny(alone / "picture", *SHORT, one_frame), tmp_path / "seen", stages=run.stage_names("video_tokenizer"))
    assert "psnr" in run.last_figures(tmp_path / "seen")["video_tokenizer"]["validation"]
    run.train(tiny(alone / "sound", *SHORT), tmp_path / "heard", stages=run.stage_names("audio_tokenizer"))
    assert "mel" in run.last_figures(tmp_path / "heard")["audio_tokenizer"]["validation"]


def test_sounds_beside_silent_clips_teach_the_tasks_of_sound_alone(footage, tmp_path):
    from videopoet.media.files import read_video

    for number in range(2):
        clip = read_video(footage / f"{number}.mp4")
        Video(clip.frames, clip.frame_rate).save(tmp_path / "footage" / f"{number}.mp4")
        clip.audio.save(tmp_path / "footage" / f"{number}.wav")
        (tmp_path / "footage" / f"{number}.txt").write_text("a tone")
    prepare(tmp_path / "footage", tmp_path / "data", Config(height=32, width=32, num_frames=9))
    _, notes = fitted(tiny(tmp_path / "data"))
    (note,) = [note for note in notes if "no training clip has sound" in note]
    assert "video_to_audio" in note and "text_to_audio" not in note


def test_an_audio_tokenizer_is_measured_on_what_is_heard_wherever_it_lies(tmp_path, footage):
    """The one clip that is heard is the last of 60 that are held out, and one is asked for."""
    prepare(footage, tmp_path / "data", Config(height=32, width=32, num_frames=9))
    listed = tmp_path / "data" / "clips.jsonl"
    rows = [json.loads(line) for line in listed.read_text().splitlines()]
    silent = [{**rows[0], "heard": "silence", "split": "validation"}] * 60
    held_out = {**rows[1], "split": "validation"}
    text = "".join(json.dumps(row) + "\n" for row in [*({**row, "split": "train"} for row in rows), *silent, held_out])
    listed.write_text(text)
    described = json.loads((tmp_path / "data" / "dataset.json").read_text())
    described["lists"]["clips.jsonl"]["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(described))
    config = override(presets.tiny(), [*SHORT, f"data={tmp_path / 'data'}"])
    run.train(config, tmp_path / "run", stages=run.stage_names("audio_tokenizer"))
    assert (tmp_path / "run" / "audio_tokenizer" / "final").exists()


def test_silent_footage_without_words_says_what_it_cannot_teach(tmp_path, footage):
    from videopoet.media.files import read_video

    for number in range(2):
        clip = read_video(footage / f"{number}.mp4")
        Video(clip.frames, clip.frame_rate).save(tmp_path / "footage" / f"{number}.mp4")
    prepare(tmp_path / "footage", tmp_path / "data", Config(height=32, width=32, num_frames=9))
    _, notes = fitted(tiny(tmp_path / "data"))
    assert any("sound: video_to_audio" in note for note in notes) and any("video_captioning" in note for note in notes)


def test_footage_of_a_run_is_not_replaced_by_a_command_that_is_refused(footage, tmp_path, capsys):
    settings = [word for setting in SHORT for word in ("--set", setting)]
    train = ["train", "-o", str(tmp_path / "run"), "--preset", "tiny", "--stages", "audio_tokenizer", *settings]
    assert command([*train, "--data", str(footage)]) == 0
    other = tmp_path / "other"
    shutil.copytree(footage, other)
    (other / "0.mp4").unlink()
    dataset = (tmp_path / "run" / "data" / "dataset.json").read_bytes()
    capsys.readouterr()
    assert command([*train, "--data", str(other)]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert command([*train, "--data", str(other), "--resume"]) == 0
    assert "not looked at again" in capsys.readouterr().err
    assert (tmp_path / "run" / "data" / "dataset.json").read_bytes() == dataset
    (tmp_path / "run").rename(tmp_path / "moved")
    train[2] = str(tmp_path / "moved")
    assert command([*train, "--data", str(footage), "--resume"]) == 0
