"""Footage that tests prepare: written once, read by many."""

import math
from types import SimpleNamespace

import pytest
import torch

from videopoet.data.clips import Config
from videopoet.data.prepare import prepare
from videopoet.media.types import Audio, Image, Video
from videopoet.tokenizers import magvit_v2, soundstream


def moving(seconds=2.5, height=48, width=48, tint=0.0, sound=0.4, rate=8.0, speed=1.0):
    """A clip of a bright disc that goes round over a coloured ground, with a tone if `sound` is above 0."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    frames = []
    for k in range(round(seconds * rate)):
        angle = speed * k / 3
        disc = ((x - 0.5 * math.cos(angle)) ** 2 + (y - 0.5 * math.sin(angle)) ** 2 < 0.09).float()
        ground = torch.stack([x * 0.3 + tint, y * 0.3 - tint, torch.full_like(x, tint)])
        frames.append(ground * (1 - disc) + disc)
    samples = torch.sin(torch.arange(round(seconds * 16_000)) * 0.15)[None] * sound
    audio = Audio(samples, 16_000) if sound >= 0 else None
    return Video.from_pixels(torch.stack(frames, dim=1).clamp(-1, 1), rate, audio)


def joined(*clips):
    """Clips one after the other, as a film with cuts."""
    sounds = [clip.audio.samples for clip in clips if clip.audio is not None]
    audio = Audio(torch.cat(sounds, dim=1), 16_000) if len(sounds) == len(clips) else None
    return Video(torch.cat([clip.frames for clip in clips], dim=1), clips[0].frame_rate, audio)


def still(seconds, level=0.2, height=48, width=48):
    """A grey picture that stays, without sound."""
    pixels = torch.full((3, round(seconds * 8), height, width), level)
    return Video.from_pixels(pixels, 8.0, Audio(torch.zeros(1, round(seconds * 16_000)), 16_000))


@pytest.fixture(scope="session")
def make():
    """`moving`, `joined` and `still`, which make clips."""
    return SimpleNamespace(moving=moving, joined=joined, still=still)


@pytest.fixture(scope="session")
def footage(tmp_path_factory):
    """A folder of nine files: good clips of three shapes, and one of each kind that is no use."""
    folder = tmp_path_factory.mktemp("footage")
    moving(2.2).save(folder / "a.mp4")
    (folder / "a.txt").write_text("A white disc\tgoes <bov> round.\n", encoding="utf-8")
    moving(2.2, height=48, width=88, tint=0.4).save(folder / "b wide.mp4")
    (folder / "below").mkdir()
    moving(2.2, height=88, width=48, tint=-0.4, sound=-1).save(folder / "below" / "c.mp4")
    joined(moving(2.2, tint=0.6), still(1.3, -1.0), moving(1.2, tint=-0.6)).save(folder / "d film.mp4")
    still(1.5).save(folder / "e still.mp4")
    still(1.5, -1.0).save(folder / "f black.mp4")
    moving(2.2).save(folder / "g again.mp4")
    (folder / "h broken.mp4").write_bytes((folder / "a.mp4").read_bytes()[:700])
    moving(2.2, tint=-0.2, sound=0.0).save(folder / "i silent.mp4")
    (folder / "notes.pdf").write_bytes(b"%PDF")
    (folder / ".hidden.mp4").touch()
    return folder


@pytest.fixture(scope="session")
def dataset(footage, tmp_path_factory):
    """The footage, prepared as nine frames of 32 pixels a side, and its counts; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("prepared") / "data"
    return folder, prepare(footage, folder, Config(height=32, width=32, num_frames=9), workers=2)


def small_video_tokenizer(seed):
    torch.manual_seed(seed)
    config = magvit_v2.Config(
        num_bits=4, patch_size=8, channels=(8, 8), strides=((4, 1),), num_blocks=1, num_middle_blocks=0
    )
    return magvit_v2.MagvitV2(config).eval()


@pytest.fixture(scope="session")
def tokenizers():
    """The smallest video tokenizer and audio tokenizer there are."""
    video = small_video_tokenizer(0)
    audio = soundstream.SoundStream(
        soundstream.Config(patch=40, strides=(2, 4), channels=4, dim=4, codebook_size=8, num_quantizers=2)
    ).eval()
    return video, audio


@pytest.fixture(scope="session")
def another():
    """A video tokenizer of the same shape with other weights."""
    return small_video_tokenizer(1)


@pytest.fixture(scope="session")
def mixed_footage(tmp_path_factory):
    """A folder of clips without sound, pictures and sounds: good ones, and some of each that are no use."""
    folder = tmp_path_factory.mktemp("mixed")
    for number in range(3):
        moving(1.3, tint=number / 4 - 0.3, sound=-1).save(folder / f"clip {number}.mp4")
    for number, (height, width) in enumerate([(48, 48), (48, 88), (40, 40), (64, 64)]):
        frame = moving(0.5, height, width, tint=number / 4 - 0.4, speed=4 * number).frames[:, number]
        Image(frame).save(folder / f"picture {number}.png")
    Image(moving(0.5, 96, 96, tint=-0.4, speed=0).frames[:, 0]).save(folder / "picture again.png")
    Image(torch.zeros(3, 48, 48, dtype=torch.uint8)).save(folder / "picture black.png")
    (folder / "picture broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (folder / "picture 1.txt").write_text("a disc in violet light")
    for number, rate in enumerate((16_000, 44_100, 22_050)):
        times = torch.arange(round(2.6 * rate)) / rate
        tone = 0.5 * torch.sin(2 * torch.pi * (300 + 200 * number) * times * (1 + times))
        Audio(tone[None].repeat(1 + number % 2, 1), rate).save(folder / f"sound {number}.wav")
    (folder / "sound 0.txt").write_text("a tone that rises")
    Audio(0.5 * torch.sin(torch.arange(8000) * 0.2)[None], 16_000).save(folder / "sound short.wav")
    Audio(torch.zeros(1, 20_000), 16_000).save(folder / "sound silent.wav")
    return folder


@pytest.fixture(scope="session")
def mixed_dataset(mixed_footage, tmp_path_factory):
    """That folder, prepared as nine frames of 32 pixels a side, and its counts; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("prepared mixed") / "data"
    return folder, prepare(mixed_footage, folder, Config(height=32, width=32, num_frames=9), workers=2)
