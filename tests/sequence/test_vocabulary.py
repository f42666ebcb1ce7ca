import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from videopoet.errors import ConfigError, DataError
from videopoet.sequence.tasks import TASKS
from videopoet.sequence.vocabulary import MODALITIES, Config, Vocabulary

configs = st.builds(
    Config,
    text_size=st.integers(1, 50_000),
    num_special=st.integers(64, 256),
    visual_codes=st.integers(1, 2**18),
    audio_codebook_size=st.integers(1, 1024),
    audio_quantizers=st.integers(1, 4),
    lengths=st.just((1, 17)),
    resolutions=st.just(((64, 64), (128, 224))),
    sources=st.just(("toybox",)),
)


@given(configs)
def test_the_ranges_follow_one_another_and_cover_every_id(config):
    vocabulary = Vocabulary(config)
    levels = [vocabulary.range("audio", level) for level in range(config.audio_quantizers)]
    ranges = [vocabulary.range(modality) for modality in MODALITIES[: MODALITIES.index("audio")]] + levels
    assert ranges[0][0] == 0
    assert all(before[1] == after[0] for before, after in zip(ranges, ranges[1:], strict=False))
    assert ranges[-1][1] == vocabulary.range("audio")[1] == vocabulary.size


@settings(deadline=None)
@given(configs, st.data())
def test_codes_of_every_modality_and_level_come_back_from_their_tokens(config, data):
    vocabulary = Vocabulary(config)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    shapes = {"text": (7,), "video": (2, 3, 4, 5), "audio": (2, config.audio_quantizers, 9)}
    sizes = {"text": config.text_size, "video": config.visual_codes, "audio": config.audio_codebook_size}
    for modality, shape in shapes.items():
        codes = torch.randint(sizes[modality], shape, generator=generator)
        tokens = vocabulary.tokens(modality, codes)
        start, stop = vocabulary.range(modality)
        assert tokens.min() >= start and tokens.max() < stop
        assert torch.equal(vocabulary.codes(modality, tokens), codes)
    for level in range(config.audio_quantizers):
        start, stop = vocabulary.range("audio", level)
        tokens = vocabulary.tokens("audio", torch.randint(config.audio_codebook_size, (config.audio_quantizers, 5)))
        assert ((start <= tokens[level]) & (tokens[level] < stop)).all()


@given(configs)
def test_text_ids_are_untouched_and_a_text_output_may_end_in_one_range(config):
    vocabulary = Vocabulary(config)
    ids = torch.tensor([0, config.text_size - 1])
    assert torch.equal(vocabulary.tokens("text", ids), ids)
    assert vocabulary.special("<eot_o>") == config.text_size


@given(configs)
def test_a_config_comes_back_from_json(config):
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_defaults_are_the_papers_sizes():
    vocabulary = Vocabulary(Config(text_size=32_000))
    assert vocabulary.size == 32_000 + 256 + 2**18 + 4 * 1024


def test_every_task_has_its_token():
    vocabulary = Vocabulary(Config(text_size=10))
    for task in TASKS.values():
        start, stop = vocabulary.range("special")
        assert start <= vocabulary.special(task.task_token) < stop


def test_ids_of_a_saved_vocabulary_do_not_move_when_the_task_table_grows():
    saved = Config(text_size=10, lengths=(17,), task_tokens=("<task:video>",)).to_dict()
    vocabulary = Vocabulary(Config.from_dict(saved))
    assert vocabulary.special("<len:17>") == vocabulary.special("<task:video>") + 1


@pytest.mark.parametrize("codes", [torch.tensor([[[-1]]]), torch.tensor([[[4096]]])])
def test_a_code_outside_the_vocabulary_is_refused(codes):
    with pytest.raises(DataError, match="holds 0 to 4095"):
        Vocabulary(Config(text_size=10, visual_codes=4096)).tokens("video", codes)


def test_a_token_of_another_level_is_refused():
    vocabulary = Vocabulary(Config(text_size=10))
    tokens = vocabulary.tokens("audio", torch.zeros(4, 3, dtype=torch.int64))
    with pytest.raises(DataError):
        vocabulary.codes("audio", tokens.flip(0))


def test_more_audio_levels_than_the_vocabulary_holds_are_refused():
    with pytest.raises(DataError, match="5 levels"):
        Vocabulary(Config(text_size=10)).tokens("audio", torch.zeros(5, 3, dtype=torch.int64))


def test_an_unknown_special_token_names_the_closest():
    with pytest.raises(ConfigError, match="<len:17>"):
        Vocabulary(Config(text_size=10, lengths=(17,))).special("<len:18>")


def test_names_that_do_not_fit_or_repeat_are_refused():
    with pytest.raises(ConfigError, match="num_special"):
        Config(text_size=10, num_special=20)
    with pytest.raises(ConfigError, match="twice"):
        Config(text_size=10, lengths=(17, 17))


def test_new_resolutions_take_spare_ids_and_move_none():
    config = Config(text_size=10, num_special=40, visual_codes=8, resolutions=((64, 64),))
    grown = config.with_resolutions(((96, 64), (64, 64), (64, 96)))
    before, after = Vocabulary(config), Vocabulary(grown)
    assert grown.resolutions == ((64, 64), (96, 64), (64, 96))
    assert after.size == before.size and after.special_tokens | before.special_tokens == after.special_tokens
    assert config.with_resolutions(((64, 64),)) == config


@pytest.mark.parametrize(
    ("given", "said"), [({"lengths": (17,)}, "lengths stand after"), ({"num_special": 23}, "all 23 special ids")]
)
def test_a_vocabulary_without_room_names_no_new_resolution(given, said):
    config = Config(**({"text_size": 10, "num_special": 40, "visual_codes": 8} | given))
    with pytest.raises(ConfigError, match=f"96x64.*{said}"):
        config.with_resolutions(((64, 96), (32, 32)))
