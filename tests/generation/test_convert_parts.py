"""What `convert` says of tokenizers that do not fit."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from videopoet.errors import CheckpointError, ConfigError
from videopoet.generation.convert import convert
from videopoet.text_encoders.own_tokens import OwnTokens


@pytest.fixture(scope="module")
def place(tmp_path_factory, make_poet, make_published):
    """A folder with a text model, a poet, a codec and a video tokenizer."""
    place = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    config = AutoConfig.for_model("gpt2", vocab_size=50, n_embd=32, n_layer=1, n_head=2, n_positions=64)
    AutoModelForCausalLM.from_config(config).save_pretrained(place / "text")
    OwnTokens.from_words(["a", "red", "ball"]).save(place / "text")
    make_poet().save_pretrained(place / "poet")
    make_published(place / "codec", "encodec")
    make_published(place / "stereo", "encodec", audio_channels=2)
    make_published(place / "emu3", "emu3")
    return place


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"video_tokenizer": "codec"}, CheckpointError, r"no video tokenizer.*published emu3"),
        ({"audio_tokenizer": "emu3"}, CheckpointError, r"no audio tokenizer.*dac or encodec or mimi"),
        ({"audio_tokenizer": "text"}, CheckpointError, "no audio tokenizer"),
        ({"audio_tokenizer": "nowhere/codec"}, CheckpointError, "nowhere/codec.*check the name"),
        ({"audio_tokenizer": "stereo"}, ConfigError, "2 channels"),
        ({"audio_tokenizer": "codec", "audio_levels": 9}, ConfigError, "9 audio levels.*1 to 8"),
        ({"audio_tokenizer": "poet", "audio_levels": 1}, ConfigError, "1 audio levels.*leave it out"),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_refused_and_nothing_is_left(changes, error, said, place, tmp_path):
    given = {"video_tokenizer": "poet", "audio_tokenizer": "poet"} | changes
    given = {
        name: place / value if isinstance(value, str) and "/" not in value else value for name, value in given.items()
    }
    with pytest.raises(error, match=said) as caught:
        convert(place / "text", tmp_path / "made", **given)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_levels_are_those_of_the_codec_or_those_asked_for(place, tmp_path):
    given = {"video_tokenizer": place / "emu3", "audio_tokenizer": place / "codec"}
    usual = convert(place / "text", tmp_path / "usual", **given)
    assert (usual.vocabulary.audio_quantizers, usual.vocabulary.visual_codes) == (4, 64)
    few = convert(place / "text", tmp_path / "few", **given, audio_levels=3)
    assert few.vocabulary.audio_quantizers == 3
    again = convert(
        place / "text", tmp_path / "again", video_tokenizer=tmp_path / "few", audio_tokenizer=tmp_path / "few"
    )
    assert again.vocabulary.audio_quantizers == 3
