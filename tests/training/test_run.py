import pytest

from videopoet import checkpoint, presets
from videopoet.errors import ConfigError
from videopoet.training import run


def test_a_run_of_an_older_version_resumes_with_defaults_for_what_its_config_lacks(tmp_path):
    config = presets.preset("small")
    values = config.to_dict()
    for stage in values["video_tokenizer"]["stages"]:
        del stage["scales"]
    checkpoint.write_json(tmp_path / "config.json", values)
    run._keep_config(tmp_path, config, resume=True)
    assert checkpoint.read_json(tmp_path / "config.json") == config.to_dict()


@pytest.mark.parametrize("changed", [{"validation_clips": 3}, {"was_removed": 1}])
def test_a_run_of_another_config_is_not_resumed(tmp_path, changed):
    config = presets.preset("small")
    checkpoint.write_json(tmp_path / "config.json", config.to_dict() | changed)
    with pytest.raises(ConfigError, match="another config"):
        run._keep_config(tmp_path, config, resume=True)
