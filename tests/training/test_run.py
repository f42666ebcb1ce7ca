from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from videopoet import checkpoint, presets
from videopoet.config import override
from videopoet.data import toybox
from videopoet.errors import CheckpointError, ConfigError
from videopoet.generation import poet_folder
from videopoet.generation.convert import convert
from videopoet.text_encoders.own_tokens import OwnTokens
from videopoet.tokenizers.magvit_v2 import MagvitV2
from videopoet.tokenizers.soundstream import SoundStream
from videopoet.training import run
from videopoet.training.adaptation import LoraConfig

CROPS = "video_tokenizer.stages=[{num_batches: 1, batch_size: 2, num_frames: 9, crop_share: 0.5, "


@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_a_converted_model_is_trained_as_it_is(tmp_path, lora):
    if lora:
        pytest.importorskip("peft")
    torch.manual_seed(0)
    backbone = AutoModelForCausalLM.from_config(
        AutoConfig.for_model("gpt2", vocab_size=200, n_embd=32, n_layer=1, n_head=2, n_positions=512)
    )
    backbone.save_pretrained(tmp_path / "text")
    OwnTokens.from_words(toybox.words()).save(tmp_path / "text")
    config = presets.tiny()
    MagvitV2(config.video_tokenizer.model).save(tmp_path / "video")
    SoundStream(config.audio_tokenizer.model).save(tmp_path / "audio")
    convert(
        tmp_path / "text",
        tmp_path / "poet",
        video_tokenizer=tmp_path / "video",
        audio_tokenizer=tmp_path / "audio",
    )
    settings = ["num_steps=2", "checkpoint_every=1", "validate_every=2", "log_every=1"]
    assignments = [
        f"init_from={tmp_path / 'poet'}",
        "validation_clips=2",
        "language_model.mixture.shares=[{task: text_to_video, batch_size: 2, weight: 1}]",
        "language_model.mixture.pool_clips=4",
        "language_model.validation_tasks=[text_to_video]",
        "language_model.sample_prompts=[]",
        *(f"language_model.training.{setting}" for setting in settings),
    ]
    config = override(config, assignments)
    config = config.model_copy(
        update={"language_model": config.language_model.model_copy(update={"lora": lora and LoraConfig(**lora)})}
    )
    folder = run.train(config, tmp_path / "run", stages=("language_model",), device=torch.device("cpu"))
    before = poet_folder.load(tmp_path / "poet", "cpu", torch.float32)
    after = poet_folder.load(folder, "cpu", torch.float32)
    assert after.language_model.backbone.config.model_type == "gpt2"
    assert after.vocabulary == before.vocabulary
    assert after.settings.tasks == ("text_to_video",)
    assert not torch.equal(after.language_model.head_weight, before.language_model.head_weight)
    assert len(run.last_figures(tmp_path / "run")) == 1


def save_untrained_tokenizers(config, folder):
    for stage, kind in (("video_tokenizer", MagvitV2), ("audio_tokenizer", SoundStream)):
        kind(getattr(config, stage).model).save(folder / stage / "final")


def test_a_task_whose_row_is_too_long_is_found_before_training(tmp_path):
    config = override(
        presets.tiny(),
        [
            "language_model.model.longest=64",
            "validation_clips=2",
            "language_model.validation_tasks=[text_to_image]",
        ],
    )
    save_untrained_tokenizers(config, tmp_path)
    with pytest.raises(ConfigError, match="this language model has 64") as caught:
        run.train(config, tmp_path, stages=("language_model",), device=torch.device("cpu"))
    assert caught.value.code == "row_too_long"
    assert not (tmp_path / "language_model").exists()


def test_a_sound_that_is_too_long_is_found_before_training(tmp_path):
    config = override(presets.tiny(), ["world.num_frames=25", "world.frame_rate=2", "validation_clips=2"])
    save_untrained_tokenizers(config, tmp_path)
    with pytest.raises(ConfigError, match="sound has 625 frames .* places for 512") as caught:
        run.train(config, tmp_path, stages=("language_model",), device=torch.device("cpu"))
    assert caught.value.code == "size_invalid"
    assert not (tmp_path / "language_model").exists()


def test_a_start_that_is_refused_leaves_no_run_behind(tmp_path):
    config = presets.preset("tiny")
    with pytest.raises(CheckpointError, match="no finished video tokenizer"):
        run.train(config, tmp_path / "run", stages=("language_model",), device=torch.device("cpu"))
    with pytest.raises(CheckpointError, match="nowhere"):
        run.train(config.model_copy(update={"init_from": str(tmp_path / "nowhere")}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_super_resolution_is_not_trained_by_a_config_that_has_none(tmp_path):
    config = presets.preset("tiny").model_copy(update={"super_resolution": None})
    with pytest.raises(ConfigError, match="the config has none"):
        run.train(config, tmp_path / "run", stages=("super_resolution",))
    assert not (tmp_path / "run").exists()


def test_super_resolution_needs_a_finished_poet(tmp_path):
    with pytest.raises(CheckpointError, match="no finished poet"):
        run.train(presets.preset("tiny"), tmp_path / "run", stages=("super_resolution",))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("world.num_frames=5", "shows 9 frames, the clips have 5; lower num_frames in video_tokenizer.stages"),
        (CROPS + "crop_size: 12}]", "crops of 12 pixels; they are at most the clips' shorter side, 32, and a multiple"),
        (CROPS + "crop_size: 40}]", "crops of 40 pixels; they are at most the clips' shorter side, 32, and a multiple"),
        ("audio_tokenizer.sounds.num_samples=90000", "hears 90000 samples at a time, the clips have"),
        ("validation_clips=0", "validation_clips"),
        ("language_model.mixture.shares=[{task: text_to_vidio, batch_size: 2, weight: 1}]", "no task 'text_to_vidio'"),
        ("language_model.mixture.pool_clips=2", "has 4 clips, a pool only 2; raise pool_clips"),
        ("language_model.model.architecture=mamba", "family 'mamba' cannot be used"),
    ],
)
def test_what_clips_pools_or_the_architecture_do_not_have_is_found_before_anything_is_trained(tmp_path, setting, said):
    with pytest.raises(ConfigError, match=said):
        run.train(override(presets.tiny(), [setting]), tmp_path / "run")
    assert not list(tmp_path.glob("run/*/journal.jsonl"))


def test_a_poet_that_is_trained_on_keeps_its_super_resolution_and_its_sampling(tmp_path):
    few = ["num_steps=1", "checkpoint_every=9", "validate_every=9"]
    stages = ("video_tokenizer", "audio_tokenizer", "language_model", "super_resolution")
    settings = [f"{stage}.training.{setting}" for stage in stages for setting in few]
    settings += ["validation_clips=2", "language_model.sample_prompts=[]", "super_resolution.pairs.pool_clips=4"]
    first = run.train(override(presets.tiny(), settings), tmp_path / "first")
    parts = poet_folder.load(first, "cpu", torch.float32)
    chosen = parts.settings.model_copy(update={"temperature": 0.7, "guidance_scale": 2.0, "name": "mine"})
    poet_folder.save(replace(parts, settings=chosen), tmp_path / "poet", torch.float32)
    onward = [*settings, f"init_from={tmp_path / 'poet'}"]
    second = run.train(override(presets.tiny(), onward), tmp_path / "second", stages=("language_model",))
    after = poet_folder.load(second, "cpu", torch.float32)
    assert after.super_resolution is not None and parts.super_resolution is not None
    kept = after.super_resolution.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in parts.super_resolution.state_dict().items())
    assert (after.settings.temperature, after.settings.guidance_scale) == (0.7, 2.0)


def test_the_config_of_a_run_is_read_back_and_other_files_are_refused(tmp_path):
    config = presets.preset("tiny")
    checkpoint.write_json(tmp_path / "config.json", config.to_dict())
    assert run.read_config(tmp_path / "config.json") == config
    (tmp_path / "settings.yaml").write_text(config.explained())
    assert run.read_config(tmp_path / "settings.yaml") == config
    (tmp_path / "broken.yaml").write_text("data: [toybox")
    (tmp_path / "empty.yaml").touch()
    for name in ("broken.yaml", "empty.yaml", "absent.yml"):
        with pytest.raises(ConfigError, match=f"{name}' is missing or no YAML"):
            run.read_config(tmp_path / name)
    (tmp_path / "words.txt").write_text("many words")
    for name in ("words.txt", "absent.json"):
        with pytest.raises(ConfigError, match=f"{name}' is missing or no JSON; a run's config.json fits"):
            run.read_config(tmp_path / name)
    checkpoint.write_json(tmp_path / "other.json", {"colour": "red"})
    with pytest.raises(ConfigError):
        run.read_config(tmp_path / "other.json")
