import math

import pytest
import torch

from videopoet.errors import ConfigError, MediaError
from videopoet.nn.losses import multi_scale_mel_loss, relative_squared_error
from videopoet.tokenizers.soundstream import Config, SoundStream

TINY = {"channels": 4, "dim": 8, "codebook_size": 16, "dead_code_threshold": 0.1}


def soundstream(**settings) -> SoundStream:
    torch.manual_seed(0)
    return SoundStream(Config(**TINY | settings))


def sound(num_samples: int = 3_200, batch: int = 2) -> torch.Tensor:
    return 0.1 * torch.randn(batch, 1, num_samples, generator=torch.Generator().manual_seed(0))


def knocks(num_samples: int = 9_600) -> torch.Tensor:
    """Two knocks over a quiet hiss, (1, 1, S)."""
    seconds = torch.arange(num_samples) / 16_000
    audio = 0.005 * torch.randn(num_samples, generator=torch.Generator().manual_seed(0))
    for start in (0.1, 0.35):
        since = (seconds - start).clamp(min=0)
        audio += 0.5 * torch.sin(2 * math.pi * 520 * since) * torch.exp(-since / 0.03)
    return audio[None, None]


def test_the_default_config_is_videopoets_codec():
    config = Config()
    assert (config.hop, config.sample_rate // config.hop, config.num_quantizers) == (320, 50, 4)


@pytest.mark.parametrize("settings", [{}, {"patch": 8, "strides": (5, 8)}, {"patch": 4, "strides": (2, 5, 8)}])
def test_2_125_seconds_are_106_frames_of_4_levels(settings):
    tokenizer = soundstream(**settings).eval()
    codes = tokenizer.encode(sound(34_000, batch=1))
    assert codes.shape == (1, 4, 106)
    assert codes.dtype == torch.int64
    assert 0 <= codes.min() <= codes.max() < 16
    assert tokenizer.num_frames(34_000) == 106
    assert tokenizer.decode(codes).shape == (1, 1, 106 * 320)


def test_what_is_left_of_the_last_hop_is_dropped():
    tokenizer = soundstream().eval()
    assert torch.equal(tokenizer.encode(sound(3_519)), tokenizer.encode(sound(3_519)[..., :3_200]))


@pytest.mark.parametrize("settings", [{}, {"patch": 8, "strides": (5, 8)}])
def test_a_later_sample_cannot_change_an_earlier_code(settings):
    tokenizer = soundstream(**settings).train()
    tokenizer(sound())
    tokenizer.eval()
    edited = sound()
    edited[..., 5 * 320 :] = 1.0
    codes, edited_codes = tokenizer.encode(sound()), tokenizer.encode(edited)
    assert torch.equal(codes[..., :5], edited_codes[..., :5])
    assert not torch.equal(codes[..., 5:], edited_codes[..., 5:])


def test_a_later_code_cannot_change_an_earlier_sample():
    tokenizer = soundstream().eval()
    codes = tokenizer.encode(sound())
    edited = codes.clone()
    edited[..., 5:] = 0
    audio, edited_audio = tokenizer.decode(codes), tokenizer.decode(edited)
    assert torch.allclose(audio[..., : 5 * 320], edited_audio[..., : 5 * 320], atol=1e-6)


def test_training_and_coding_agree():
    tokenizer = soundstream().train()
    tokenizer(sound())
    tokenizer.eval()
    reconstruction = tokenizer(sound())
    assert torch.equal(tokenizer.encode(sound()), reconstruction.codes)
    assert torch.allclose(tokenizer.decode(reconstruction.codes), reconstruction.audio.clamp(-1, 1), atol=1e-5)


def test_fewer_levels_decode_too():
    tokenizer = soundstream().eval()
    codes = tokenizer.encode(sound())
    with torch.no_grad():
        expected = tokenizer(sound(), num_quantizers=2).audio
    assert torch.allclose(tokenizer.decode(codes[:, :2]), expected.clamp(-1, 1), atol=1e-5)


def test_quantizer_dropout_varies_the_levels_in_training_only():
    tokenizer = soundstream()
    tokenizer(sound(), torch.Generator().manual_seed(0))
    tokenizer.quantizer.decay = 1.0  # Hold the codebooks still.
    tokenizer.quantizer.dead_code_threshold = 0.0
    with torch.no_grad():
        dropped = [tokenizer(sound(), torch.Generator().manual_seed(seed)).audio for seed in range(6)]
        assert any(not torch.equal(dropped[0], other) for other in dropped[1:])
        assert torch.equal(dropped[3], tokenizer(sound(), torch.Generator().manual_seed(3)).audio)
        tokenizer.eval()
        assert torch.equal(tokenizer(sound()).audio, tokenizer(sound()).audio)


def test_a_saved_tokenizer_gives_the_same_codes(tmp_path):
    tokenizer = soundstream().train()
    tokenizer(sound())
    tokenizer.eval().save(tmp_path)
    loaded = SoundStream.load(tmp_path)
    assert loaded.config == tokenizer.config
    assert torch.equal(loaded.encode(sound()), tokenizer.encode(sound()))
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in tokenizer.state_dict().items())


def test_several_channels_and_too_short_a_sound_are_refused():
    tokenizer = soundstream()
    with pytest.raises(MediaError, match="2 channels"):
        tokenizer.encode(torch.zeros(1, 2, 3_200))
    with pytest.raises(MediaError, match="319 samples"):
        tokenizer.encode(torch.zeros(1, 1, 319))


def test_strides_must_be_positive():
    with pytest.raises(ConfigError, match="strides"):
        Config(strides=(2, 0))


def test_one_sound_is_learned_by_heart():
    tokenizer = soundstream(
        channels=16, dim=16, patch=8, strides=(5, 8), quantizer_dropout=False, codebook_decay=0.9
    ).train()
    optimizer = torch.optim.Adam(tokenizer.parameters(), 3e-3, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(0)
    audio, losses = knocks(), []
    for _ in range(120):
        reconstruction = tokenizer(audio, generator)
        error = relative_squared_error(reconstruction.audio, audio)
        mel = multi_scale_mel_loss(reconstruction.audio, audio, 16_000, windows=(128, 512), floor=3e-3)
        (mel + 5 * error + 0.1 * reconstruction.commitment).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(error.item())
    assert losses[0] > 0.9
    assert losses[-1] < 0.1
