import pytest
import torch

from videopoet import runtime
from videopoet.generation.pipeline import Settings, VideoPoet
from videopoet.media.types import Audio, Image, Video
from videopoet.models import construction, language_model
from videopoet.sequence import vocabulary as vocabularies
from videopoet.sequence.vocabulary import Vocabulary
from videopoet.text_encoders.own_tokens import OwnTokens
from videopoet.tokenizers import magvit_v2, soundstream
from videopoet.tokenizers.magvit_v2 import MagvitV2
from videopoet.tokenizers.soundstream import SoundStream

WORDS = ["a", "red", "ball", "bounces", "blue", "star", "flies", ","]


def make_poet(**settings) -> VideoPoet:
    """A poet of random weights that makes 17 frames of 16x16 in 5x2x2 codes, and sound of 2 x 17 codes."""
    torch.manual_seed(0)
    video_tokenizer = MagvitV2(
        magvit_v2.Config(
            num_bits=6,
            patch_size=4,
            channels=(16, 16),
            strides=((4, 2),),
            num_blocks=1,
            num_middle_blocks=0,
            entropy_group_bits=6,
        )
    )
    audio_tokenizer = SoundStream(
        soundstream.Config(patch=50, strides=(5, 8), channels=4, dim=8, codebook_size=16, num_quantizers=2)
    )
    text_encoder = OwnTokens.from_words(WORDS)
    vocabulary = Vocabulary(
        vocabularies.Config(
            text_size=text_encoder.size, num_special=40, visual_codes=64, audio_codebook_size=16, audio_quantizers=2
        )
    )
    config = language_model.Config(
        width=32, num_layers=2, num_heads=2, num_key_value_heads=1, head_width=16, hidden_width=48, tied=False
    )
    model = construction.from_scratch(
        config, vocabulary.size, vocabulary.range("video"), (2, 32), vocabulary.special("<pad>")
    )
    for weight in model.parameters():  # strong enough that every token depends on all that it sees
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=0.5)
    defaults = {"height": 16, "width": 16, "num_frames": 17, "frame_rate": 8.0}
    return VideoPoet(
        video_tokenizer.eval(),
        audio_tokenizer.eval(),
        text_encoder,
        model.eval(),
        vocabulary,
        Settings(**(defaults | settings)),
    )


@pytest.fixture(scope="session", name="make_poet")
def _make_poet():
    return make_poet


@pytest.fixture(scope="session")
def poet() -> VideoPoet:
    return make_poet()


@pytest.fixture(scope="session")
def random_clip():
    def make(num_frames=20, height=16, width=16, frame_rate=8.0, audio=None, seed=0) -> Video:
        stream = runtime.generator("clip", seed)
        frames = torch.randint(256, (3, num_frames, height, width), generator=stream, dtype=torch.uint8)
        return Video(frames, frame_rate, audio)

    return make


@pytest.fixture(scope="session")
def random_sound():
    def make(seconds=3.0, sample_rate=16_000, channels=1, seed=0) -> Audio:
        samples = torch.rand(channels, round(seconds * sample_rate), generator=runtime.generator("sound", seed)) - 0.5
        return Audio(samples, sample_rate)

    return make


@pytest.fixture(scope="session")
def random_picture():
    def make(height=16, width=16, seed=0) -> Image:
        stream = runtime.generator("picture", seed)
        return Image(torch.randint(256, (3, height, width), generator=stream, dtype=torch.uint8))

    return make


@pytest.fixture(scope="session")
def materials(random_clip, random_sound, random_picture):
    """Something for every kind of input, by its name."""
    return {
        "prompt": "a red ball",
        "image": random_picture(),
        "video": random_clip(),
        "audio": random_sound(),
        "structure": torch.zeros(3, 17, 16, 16),
    }


@pytest.fixture(scope="session")
def given(materials):
    """What each task can be given, all of it."""

    def of(task) -> dict:
        names = ["structure" if name == "video" and task.name == "stylization" else name for name in task.takes]
        return {name: materials[name] for name in names if name in materials}

    return of
