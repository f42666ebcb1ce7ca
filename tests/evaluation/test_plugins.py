"""The metrics that need networks of others, with tiny random networks in their place."""

import hashlib
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from videopoet.errors import CheckpointError, ConfigError
from videopoet.evaluation import plugins
from videopoet.evaluation.cases import Take
from videopoet.evaluation.metrics.fad import vggish_examples
from videopoet.evaluation.metrics.inception_score import inception_score
from videopoet.media.types import Video


class TinyI3D(nn.Module):
    def __init__(self, width: int = 400):
        super().__init__()
        self.head = nn.Linear(6, width)

    def forward(self, x, rescale: bool = True, resize: bool = True, return_features: bool = False):
        assert not rescale and not resize and return_features
        assert x.shape[1:] == torch.Size([3, 16, 224, 224])
        return self.head(torch.cat([x.mean(dim=(2, 3, 4)), x.std(dim=(2, 3, 4))], dim=1))


class TinyC3D(nn.Module):
    def __init__(self, softmax: bool = True):
        super().__init__()
        self.head, self.softmax = nn.Linear(3, 101), softmax

    def forward(self, x):
        assert x.shape[1:] == torch.Size([3, 16, 112, 112]) and x.max() > 2
        logits = self.head(x.mean(dim=(2, 3, 4)) / 16)
        return logits.softmax(dim=1) if self.softmax else logits


class TinyVGGish(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 128)

    def forward(self, x):
        assert x.shape[1:] == torch.Size([1, 96, 64])
        return self.head(x.mean(dim=(1, 2)))


@pytest.fixture
def weights(tmp_path):
    """Saves a network and gives the argument that names it."""

    def save(name, network) -> str:
        path = tmp_path / f"{name}.pt"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.script(network).save(str(path))
        return f"{name}={path}@{hashlib.sha256(path.read_bytes()).hexdigest()}"

    return save


def collected(metric, cases, change=lambda take: take):
    items = [metric.collect(case, change(case.right)) for case in cases]
    return [item for item in items if item is not None]


def brighter(take):
    return Take(Video((take.video.frames.float() * 0.5 + 120).byte(), take.video.frame_rate), take.audio)


def test_fvd_is_nothing_between_equal_sets_and_grows_with_a_change(weights, cases_of):
    name, metric = plugins.load(weights("fvd", TinyI3D()))
    assert name == "fvd" and metric.least == 2048 and metric.has_reference
    true = collected(metric, cases_of("text_to_video", 4))
    assert true[0].shape == (400,)
    assert metric.summarize(true, true)["fvd"] == pytest.approx(0, abs=1e-6)
    assert metric.summarize(collected(metric, cases_of("text_to_video", 4), brighter), true)["fvd"] > 1e-3


def test_a_network_of_another_width_is_not_fvd(weights, cases_of):
    _, metric = plugins.load(weights("fvd", TinyI3D(width=10)))
    with pytest.raises(CheckpointError, match="10 numbers"):
        collected(metric, cases_of("text_to_video")[:1])


def test_a_network_that_takes_something_else_is_not_fvd(weights, cases_of):
    _, metric = plugins.load(weights("fvd", TinyC3D()))
    with pytest.raises(CheckpointError, match="does not take"):
        collected(metric, cases_of("text_to_video")[:1])


def test_the_inception_score_is_1_of_one_answer_and_the_number_of_classes_of_all():
    assert inception_score(np.full((10, 101), 1 / 101)) == pytest.approx(1)
    assert inception_score(np.eye(101)) == pytest.approx(101, rel=1e-6)


def test_the_inception_score_needs_probabilities(weights, cases_of):
    _, metric = plugins.load(weights("inception_score", TinyC3D()))
    shares = collected(metric, cases_of("text_to_video", 4))
    assert shares[0].sum() == pytest.approx(1, abs=1e-5)
    assert 1 <= metric.summarize(shares, [])["is"] <= 101
    _, metric = plugins.load(weights("inception_score", TinyC3D(softmax=False)))
    with pytest.raises(CheckpointError, match="softmax"):
        collected(metric, cases_of("text_to_video")[:1])


def test_fad_hears_a_change_of_sound(weights, cases_of):
    _, metric = plugins.load(weights("fad", TinyVGGish()))
    cases = cases_of("video_to_audio", 6)
    true = collected(metric, cases)
    assert true[0].shape == (3, 128)  # stretches of 0.96 s at 0, 0.5 and 1 of 2.125 s
    assert metric.summarize(true, true)["fad"] == pytest.approx(0, abs=1e-6)

    def louder(take):
        return Take(audio=type(take.audio)((take.audio.samples * 20).clamp(-1, 1), take.audio.sample_rate))

    assert metric.summarize(collected(metric, cases, louder), true)["fad"] > 0.01


def test_vggish_hears_a_tone_in_its_band():
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16_000) / 16_000)
    examples = vggish_examples(tone)
    assert examples.shape == (1, 1, 96, 64)
    bands = 1127 * np.log1p(np.array([125, 7500]) / 700)
    centres = np.linspace(*bands, 66)[1:-1]
    assert int(examples[0, 0].mean(dim=0).argmax()) == int(np.abs(centres - 1127 * np.log1p(1000 / 700)).argmin())
    assert vggish_examples(torch.zeros(16_000)).unique().tolist() == pytest.approx([np.log(0.01)], abs=1e-5)
    assert [len(vggish_examples(torch.zeros(count))) for count in (100, 15_599, 15_600, 23_599, 23_600)] == [
        0,
        0,
        1,
        1,
        2,
    ]
    noise = torch.rand(23_600, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(vggish_examples(noise)[1:], vggish_examples(noise[8_000:]))


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A CLIP model of random weights, with a tokenizer of a few words."""
    import json

    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

    folder = tmp_path_factory.mktemp("clip")
    words = ["<|startoftext|>", "<|endoftext|>", *(f"{letter}</w>" for letter in "abcdefghijklmnopqrstuvwxyz,")]
    words += list("abcdefghijklmnopqrstuvwxyz")
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = CLIPTextConfig(vocab_size=len(words), eos_token_id=1, bos_token_id=0, pad_token_id=1, **sizes)
    torch.manual_seed(0)
    vision = CLIPVisionConfig(image_size=32, patch_size=16, **sizes)
    CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)).save_pretrained(
        folder
    )
    return folder


def test_clipsim_is_a_cosine_that_depends_on_words_and_pixels(clip_folder, cases_of):
    _, metric = plugins.load(f"clipsim={clip_folder}@{plugins.fingerprint(clip_folder)}")
    cases = cases_of("text_to_video")
    same, changed = metric.collect(cases[0], cases[0].right), metric.collect(cases[0], brighter(cases[0].right))
    other = metric.collect(cases[1], cases[0].right)
    assert all(-1 <= value <= 1 for value in (same, changed, other)) and len({same, changed, other}) == 3
    assert metric.summarize([0.2, 0.4], [])["clipsim"] == pytest.approx(0.3)


def test_a_folder_without_a_model_is_no_clip(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="holds no CLIP model"):
        plugins.load(f"clipsim={tmp_path}@{plugins.fingerprint(tmp_path)}")


def test_weights_count_only_with_their_hash(weights):
    argument = weights("fvd", TinyI3D())
    source, _, digest = argument.rpartition("@")
    with pytest.raises(CheckpointError, match=f"{digest}, and none is pinned"):
        plugins.load(source)
    with pytest.raises(CheckpointError, match=f"{digest}, not {'0' * 64}"):
        plugins.load(f"{source}@{'0' * 64}")


@pytest.mark.parametrize("name", plugins.names())
def test_without_weights_a_metric_says_what_to_get(name):
    with pytest.raises(ConfigError, match="do not come with videopoet: .*--metric"):
        plugins.load(name)


def test_what_is_no_metric_no_file_or_no_network_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="clipsim, fad, fvd, inception_score"):
        plugins.load("lpips=x")
    with pytest.raises(CheckpointError, match="no weights at"):
        plugins.load(f"fvd={tmp_path / 'none.pt'}@00")
    (tmp_path / "text.pt").write_text("no network")
    digest = hashlib.sha256(b"no network").hexdigest()
    with pytest.raises(CheckpointError, match="no TorchScript"):
        plugins.load(f"fvd={tmp_path / 'text.pt'}@{digest}")
