import pytest
import torch

from videopoet import checkpoint, presets
from videopoet.config import override
from videopoet.errors import CheckpointError, ConfigError
from videopoet.training import journal, run, run_folder

STEPS = "{stage}.training.num_steps={number}"
PARTS = ("language_model", "super_resolution")
CPU = torch.device("cpu")


def steps(config, **numbers):
    return override(config, [STEPS.format(stage=stage, number=number) for stage, number in numbers.items()])


def short(**numbers):
    """The tiny preset with so many steps of each stage, one where nothing is said, and little beside them."""
    settings = [
        f"{stage}.training.{setting}"
        for stage in run_folder.STAGES
        for setting in ("checkpoint_every=1", "validate_every=99", "log_every=1")
    ]
    settings += ["validation_clips=2", "language_model.sample_prompts=[]", "super_resolution.pairs.pool_clips=4"]
    return steps(override(presets.tiny(), settings), **(dict.fromkeys(run_folder.STAGES, 1) | numbers))


def test_a_run_of_an_older_version_resumes_with_defaults_for_what_its_config_lacks(tmp_path):
    config = presets.preset("small")
    values = config.to_dict()
    for stage in values["video_tokenizer"]["stages"]:
        del stage["crop_size"]
    checkpoint.write_json(tmp_path / "config.json", values)
    run_folder.keep(tmp_path, config, resume=True)
    assert checkpoint.read_json(tmp_path / "config.json") == config.to_dict()


def test_a_run_may_go_on_divided_among_other_processes(tmp_path):
    config = presets.preset("tiny")
    checkpoint.write_json(tmp_path / "config.json", config.to_dict())
    divided = override(config, ["language_model.training.accumulation=4", "super_resolution.training.sharding=full"])
    run_folder.keep(tmp_path, divided, resume=True)
    assert checkpoint.read_json(tmp_path / "config.json") == divided.to_dict()
    with pytest.raises(ConfigError, match="another config"):
        run_folder.keep(tmp_path, override(divided, ["language_model.training.seed=1"]), resume=True)


@pytest.mark.parametrize("changed", [{"validation_clips": 3}, {"was_removed": 1}])
def test_a_run_of_another_config_is_not_resumed(tmp_path, changed):
    config = presets.preset("small")
    checkpoint.write_json(tmp_path / "config.json", config.to_dict() | changed)
    with pytest.raises(ConfigError, match="another config"):
        run_folder.keep(tmp_path, config, resume=True)


def test_a_run_without_super_resolution_can_be_given_one(tmp_path):
    config = presets.preset("tiny")
    assert config.super_resolution is not None
    checkpoint.write_json(tmp_path / "config.json", config.model_copy(update={"super_resolution": None}).to_dict())
    run_folder.keep(tmp_path, config, resume=True)
    assert run.RunConfig.from_dict(checkpoint.read_json(tmp_path / "config.json")) == config
    with pytest.raises(ConfigError, match="another config"):
        run_folder.keep(tmp_path, config.model_copy(update={"super_resolution": None}), resume=True)


def test_a_finished_stage_that_is_lengthened_goes_on_by_the_new_schedule(tmp_path, caplog):
    begun = short(video_tokenizer=2)
    run.train(begun, tmp_path, stages=("video_tokenizer",), device=CPU)
    before = checkpoint.load_tensors(tmp_path / "video_tokenizer" / "final" / "model.safetensors")
    run.train(steps(begun, video_tokenizer=4), tmp_path, resume=True, stages=("video_tokenizer",), device=CPU)
    said = "video_tokenizer: num_steps was 2 and is 4; the schedule of the learning rate now ends there; the finished"
    assert said in caplog.text
    after = checkpoint.load_tensors(tmp_path / "video_tokenizer" / "final" / "model.safetensors")
    assert any(not torch.equal(before[name], tensor) for name, tensor in after.items())
    entries = [entry for entry in journal.read(tmp_path / "video_tokenizer") if entry["kind"] == "train"]
    assert [entry["step"] for entry in entries] == [0, 1, 2, 3]
    assert run_folder.is_finished(tmp_path, "video_tokenizer")
    caplog.clear()
    run.train(steps(begun, video_tokenizer=4), tmp_path, resume=True, stages=("video_tokenizer",), device=CPU)
    assert not caplog.text


def test_finished_weights_are_left_in_small_files_whenever_that_is_asked_for(tmp_path):
    config, stages = short(video_tokenizer=2), run_folder.STAGES[:2]
    final = tmp_path / "video_tokenizer" / "final"
    run.train(config, tmp_path, stages=stages, device=CPU)
    whole = checkpoint.load_tensors(final / "model.safetensors")
    run.train(config, tmp_path, resume=True, stages=stages, device=CPU, max_shard_size="1MB")
    assert len(checkpoint.weight_files(final)) > 1 and checkpoint.why_invalid(final) is None
    assert all(file.stat().st_size <= 10**6 for stage in stages for file in (tmp_path / stage / "final").iterdir())
    divided = checkpoint.read_weights(final)
    assert divided.keys() == whole.keys() and all(torch.equal(divided[name], whole[name]) for name in whole)
    longer = steps(config, video_tokenizer=3, audio_tokenizer=2)
    run.train(longer, tmp_path, resume=True, stages=stages, device=CPU, max_shard_size="1.2MB")
    assert {file.name for file in checkpoint.weight_files(final)} == {file.name for file in final.glob("*.safetensors")}
    run.train(steps(longer, video_tokenizer=4), tmp_path, resume=True, stages=stages, device=CPU)
    assert {file.name for file in final.iterdir()} == {"config.json", "manifest.json", "model.safetensors"}


def test_a_limit_that_a_tensor_is_above_costs_no_step(tmp_path):
    config, stages = short(), run_folder.STAGES[:1]
    with pytest.raises(ConfigError, match=r"'decoder\..*' takes .* allow 1MB or more"):
        run.train(config, tmp_path, stages=stages, device=CPU, max_shard_size="0.1MB")
    assert run_folder.is_finished(tmp_path, "video_tokenizer")
    assert checkpoint.why_invalid(tmp_path / "video_tokenizer" / "final") is None
    run.train(config, tmp_path, resume=True, stages=stages, device=CPU, max_shard_size="1MB")


def test_a_language_model_that_is_lengthened_keeps_the_super_resolution_beside_it(tmp_path):
    run.train(short(), tmp_path, device=CPU)
    poet = tmp_path / "poet"
    before = {part: checkpoint.load_tensors(poet / part / "model.safetensors") for part in PARTS}
    run.train(short(language_model=2), tmp_path, resume=True, device=CPU)
    after = {part: checkpoint.load_tensors(poet / part / "model.safetensors") for part in PARTS}
    same = {
        part: all(torch.equal(tensor, after[part][name]) for name, tensor in before[part].items()) for part in PARTS
    }
    assert same == {"language_model": False, "super_resolution": True}
    with pytest.raises(ConfigError, match="its codes, which more steps would change, are what language_model learns"):
        run.train(short(language_model=2, audio_tokenizer=2), tmp_path, resume=True, device=CPU)
    assert run_folder.is_finished(tmp_path, "audio_tokenizer")
    assert checkpoint.read_json(tmp_path / "config.json") == short(language_model=2).to_dict()


def begun_stage(folder, stage, *, at, num_steps, finished=False):
    """A folder in which a stage has come to a step."""
    checkpoint.write_json(folder / "config.json", short(**{stage: num_steps}).to_dict())
    if at is not None:
        with checkpoint.atomic_folder(folder / stage / f"checkpoint-{at:07d}") as place:
            checkpoint.write_json(place / "state.json", {"step": at})
    if finished:
        checkpoint.write_json(folder / stage / run_folder.DONE, {})


@pytest.mark.parametrize("asked", [5, 6, 20])
def test_a_stage_may_get_any_number_of_steps_that_it_has_not_passed(tmp_path, caplog, asked):
    begun_stage(tmp_path, "language_model", at=5, num_steps=9)
    run_folder.keep(tmp_path, short(language_model=asked), resume=True)
    assert f"language_model: num_steps was 9 and is {asked}; the schedule of the learning rate now" in caplog.text
    assert "finished" not in caplog.text
    assert checkpoint.read_json(tmp_path / "config.json") == short(language_model=asked).to_dict()


@pytest.mark.parametrize(("num_steps", "finished"), [(9, False), (5, True)])
def test_a_stage_that_has_passed_the_step_is_refused_with_the_least_that_fits(tmp_path, num_steps, finished):
    begun_stage(tmp_path, "language_model", at=5, num_steps=num_steps, finished=finished)
    with pytest.raises(
        ConfigError, match="num_steps is 4, and the stage has passed it, at step 5; set it to 5 or more"
    ):
        run_folder.check(tmp_path, short(language_model=4), resume=True)


def test_a_finished_stage_whose_checkpoints_are_gone_keeps_its_length(tmp_path):
    begun_stage(tmp_path, "language_model", at=None, num_steps=5, finished=True)
    with pytest.raises(ConfigError, match="after 5 steps: there is no intact checkpoint left .* set it back to 5, or"):
        run_folder.check(tmp_path, short(language_model=9), resume=True)
    run_folder.check(tmp_path, short(language_model=5), resume=True)


def test_a_run_that_was_killed_while_a_stage_was_opened_again_finds_it_still_to_be_done(tmp_path, monkeypatch):
    begun_stage(tmp_path, "language_model", at=5, num_steps=5, finished=True)
    longer = short(language_model=9)
    assert run_folder.waiting(tmp_path, longer, ("language_model",)) == ["language_model"]

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(checkpoint, "write_json", killed)
        run_folder.keep(tmp_path, longer, resume=True)
    for config in (longer, short(language_model=5)):
        assert run_folder.waiting(tmp_path, config, ("language_model",)) == ["language_model"]


def test_no_language_model_begins_on_codes_of_a_tokenizer_that_is_to_go_on(tmp_path):
    begun = short()
    run.train(begun, tmp_path, stages=("video_tokenizer", "audio_tokenizer"), device=CPU)
    longer = steps(begun, video_tokenizer=2)
    with pytest.raises(CheckpointError, match="no finished video tokenizer"):
        run.train(longer, tmp_path, resume=True, stages=("language_model",), device=CPU)
    assert run_folder.waiting(tmp_path, longer, run_folder.STAGES)[0] == "video_tokenizer"


def test_two_runs_do_not_train_in_one_folder(tmp_path):
    config = short()
    with run_folder.held(tmp_path), pytest.raises(ConfigError, match="another process trains in") as caught:
        run.train(config, tmp_path, device="cpu")
    assert caught.value.code == "run_in_use"
    assert not run_folder.is_begun(tmp_path)
    with run_folder.held(tmp_path):
        pass


def test_a_run_of_another_config_says_what_differs(tmp_path):
    config = presets.preset("tiny")
    run_folder.keep(tmp_path, config, resume=False)
    other = override(config, ["video_tokenizer.training.seed=7"])
    with pytest.raises(ConfigError, match="video_tokenizer.training.seed was 0 and is 7"):
        run_folder.check(tmp_path, other, resume=True)


def test_a_run_goes_on_with_its_clips_wherever_they_lie_and_with_no_others(tmp_path):
    def datasets(**content):
        for name, text in content.items():
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "dataset.json").write_text(text)

    def of(**folders):
        return presets.preset("tiny").model_copy(update={name: str(tmp_path / at) for name, at in folders.items()})

    datasets(first="one", moved="one", other="two", beside="three")
    output = tmp_path / "run"
    run_folder.keep(output, of(data="first", footage="beside"), resume=False)
    run_folder.keep(output, of(data="moved", footage="beside"), resume=True)
    assert checkpoint.read_json(output / "config.json")["data"] == str(tmp_path / "moved")
    for changed in ({"data": "other", "footage": "beside"}, {"data": "moved", "footage": "other"}):
        with pytest.raises(ConfigError, match=r"other clips than the run in .* began with") as caught:
            run_folder.check(output, of(**changed), resume=True)
        assert caught.value.code == "clips_changed"
    with pytest.raises(ConfigError, match="footage was .* and is None"):
        run_folder.check(output, of(data="moved"), resume=True)
