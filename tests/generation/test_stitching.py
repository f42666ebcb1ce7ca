import pytest
import torch

from videopoet.generation.stitching import num_frames_of, stitched
from videopoet.media.types import Audio, Video

RATE = 24.0


def clip(level, num_frames, loudness=0.5, sound=True):
    """A clip of one grey and one loudness."""
    audio = Audio(torch.full((1, round(num_frames / RATE * 16_000)), loudness), 16_000) if sound else None
    return Video(torch.full((3, num_frames, 4, 4), level, dtype=torch.uint8), RATE, audio)


def joined(*clips, fade_seconds=0.5, fades_out=False):
    parts = list(stitched(clips, fade_seconds, fades_out))
    sounds = [part.audio.samples for part in parts if part.audio is not None]
    return torch.cat([part.frames for part in parts], dim=1)[0, :, 0, 0], torch.cat(sounds, dim=1)[
        0
    ] if sounds else None


def test_a_cut_changes_the_picture_at_once_and_the_sound_without_a_click():
    picture, sound = joined((clip(10, 24), False), (clip(200, 24, -0.5), False))
    assert picture.tolist() == [10] * 24 + [200] * 24
    assert len(sound) == 32_000
    assert sound[15_500] == 0.5 and sound[16_500] == -0.5
    assert sound.diff().abs().max() < 0.01  # a hard joint would jump by 1


def test_a_cross_fade_overlaps_both_and_keeps_the_power_of_sounds():
    picture, sound = joined((clip(0, 24), False), (clip(240, 24), False), (clip(100, 24), True))
    assert len(picture) == 60 and len(sound) == 40_000
    faded = picture[36:48].float()
    assert (picture[24:36] == 240).all() and (picture[48:] == 100).all()
    assert faded.diff().max() < 0 and 100 < faded.min() and faded.max() < 240
    stream = torch.Generator().manual_seed(0)
    noises = [Audio(torch.randn(1, 16_000, generator=stream) * 0.1, 16_000) for _ in range(2)]
    noisy = [(Video(clip(0, 24).frames, RATE, noise), bool(number)) for number, noise in enumerate(noises)]
    _, sound = joined(*noisy)
    assert float(sound[8_000:16_000].std()) == pytest.approx(float(sound[1_000:8_000].std()), rel=0.05)


def test_a_clip_rises_from_darkness_and_ends_there():
    picture, sound = joined((clip(240, 48), True), fades_out=True)
    assert len(picture) == 48
    assert picture[0] < 20 and picture[-1] < 20 and (picture[12:36] == 240).all()
    assert sound[0].abs() < 0.01 and sound[-1].abs() < 0.01 and sound[16_000] == 0.5


def test_a_clip_that_is_all_fade_is_not_lost():
    picture, sound = joined((clip(0, 24), False), (clip(200, 12), True), (clip(50, 24), False))
    assert len(picture) == 48 and len(sound) == 32_000


def test_clips_without_sound_stay_silent():
    picture, sound = joined((clip(0, 24, sound=False), False), (clip(9, 24, sound=False), True), fades_out=True)
    assert len(picture) == 36 and sound is None


@pytest.mark.parametrize("fades", [(True, True, False, True), (False, False, True, False)])
def test_the_length_is_known_before(fades):
    lengths = (24, 31, 12, 40)
    picture, _ = joined(*((clip(7, length), one) for length, one in zip(lengths, fades, strict=True)))
    assert len(picture) == num_frames_of(list(zip(lengths, fades, strict=True)), RATE, 0.5)


def test_a_fade_of_less_than_a_frame_is_a_cut():
    clips = (clip(10, 24), False), (clip(200, 24), True)
    picture, sound = joined(*clips, fade_seconds=0.02)
    assert picture.tolist() == [10] * 24 + [200] * 24 and len(sound) == 32_000
    assert num_frames_of([(24, False), (24, True)], RATE, 0.02) == 48


@pytest.mark.parametrize("lengths", [(40, 18, 40), (40, 12, 40), (12, 12, 12), (24, 5, 24, 5)])
def test_the_length_is_known_before_also_where_fades_meet(lengths):
    picture, _ = joined(*((clip(10, length), bool(number)) for number, length in enumerate(lengths)))
    told = [(length, bool(number)) for number, length in enumerate(lengths)]
    assert num_frames_of(told, RATE, 0.5) == len(picture)
