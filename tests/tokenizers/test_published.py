"""Tokenizers that others trained, with random weights: what the adapters give is what `transformers` gives."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from videopoet import runtime
from videopoet.errors import CheckpointError, ConfigError, MediaError
from videopoet.nn.causal_conv import PastFrames
from videopoet.registry import component

AUDIO = ("encodec", "dac", "mimi")
HOPS = {"encodec": 320, "dac": 320, "mimi": 640}


@pytest.fixture(scope="module")
def made(tmp_path_factory, make_published):
    """A folder, the network of `transformers` in it, and the adapter that reads it, by the family's name."""
    held = {}

    def of(name):
        if name not in held:
            folder = tmp_path_factory.mktemp(name)
            network = make_published(folder, name)
            held[name] = folder, network, component("tokenizers", name).load(folder)
        return held[name]

    return of


def sound(num_samples, batch=2, seed=0):
    return torch.rand(batch, 1, num_samples, generator=runtime.generator("sound", seed)) * 2 - 1


def clip(num_frames, height=16, width=24, seed=0):
    return torch.rand(2, 3, num_frames, height, width, generator=runtime.generator("clip", seed)) * 2 - 1


@torch.no_grad()
def theirs(name, network, audio, levels):
    """Codes and samples as the public implementation has them."""
    if name == "encodec":
        codes = network.encode(audio, bandwidth=network.config.target_bandwidths[-1]).audio_codes[0][:, :levels]
        return codes, network.decode(codes[None], [None]).audio_values
    if name == "dac":
        codes = network.encode(audio, n_quantizers=levels).audio_codes
        return codes, network.decode(audio_codes=codes).audio_values[:, None]
    codes = network.encode(audio, num_quantizers=levels).audio_codes
    return codes, network.decode(codes).audio_values


@pytest.mark.parametrize("name", AUDIO)
def test_codes_and_sound_equal_those_of_the_public_implementation(made, name):
    _, network, tokenizer = made(name)
    audio = sound(10 * HOPS[name])
    codes, samples = theirs(name, network, audio, tokenizer.num_quantizers)
    assert torch.equal(tokenizer.encode(audio), codes)
    assert codes.unique().numel() > 4
    decoded = tokenizer.decode(codes)
    assert decoded.shape == audio.shape
    assert torch.equal(decoded[..., : samples.shape[-1]], samples.clamp(-1, 1))
    assert not decoded[..., samples.shape[-1] :].any()


@pytest.mark.parametrize("name", AUDIO)
def test_figures_come_from_the_codecs_config(made, name):
    _, network, tokenizer = made(name)
    assert (tokenizer.sample_rate, tokenizer.hop) == (network.config.sampling_rate, HOPS[name])
    assert (tokenizer.num_quantizers, tokenizer.codebook_size) == (4, 16)
    codes = tokenizer.encode(sound(3 * HOPS[name] + 7))
    assert codes.shape == (2, 4, 3) == (2, 4, tokenizer.num_frames(3 * HOPS[name] + 7))
    assert 0 <= codes.min() and codes.max() < 16


@pytest.mark.parametrize("name", AUDIO)
def test_fewer_levels_are_the_first_of_more_and_are_kept(made, name, tmp_path):
    folder, _, tokenizer = made(name)
    few = component("tokenizers", name).load(folder)
    few.use_levels(2)
    audio = sound(5 * HOPS[name])
    assert torch.equal(few.encode(audio), tokenizer.encode(audio)[:, :2])
    few.save(tmp_path)
    again = component("tokenizers", name).load(tmp_path)
    assert again.num_quantizers == 2
    assert torch.equal(again.encode(audio), few.encode(audio))
    assert torch.equal(again.decode(few.encode(audio)), few.decode(few.encode(audio)))


@pytest.mark.parametrize("name", AUDIO)
def test_levels_that_a_codec_has_not_are_refused(made, name):
    folder, _, tokenizer = made(name)
    most = tokenizer.levels[1]
    tokenizer = component("tokenizers", name).load(folder)
    tokenizer.use_levels(most)
    assert tokenizer.encode(sound(2 * HOPS[name])).shape[1] == most
    for wrong in (0, most + 1):
        with pytest.raises(ConfigError, match=f"{wrong} audio levels.*1 to {most}"):
            tokenizer.use_levels(wrong)


@pytest.mark.parametrize("name", ["encodec", "mimi"])
def test_a_causal_codec_knows_nothing_of_what_follows(made, name):
    _, _, tokenizer = made(name)
    audio = sound(12 * HOPS[name])
    other = audio.clone()
    other[..., 8 * HOPS[name] :] = 0
    assert torch.equal(tokenizer.encode(audio)[..., :7], tokenizer.encode(other)[..., :7])
    assert not torch.equal(tokenizer.encode(audio), tokenizer.encode(other))


@pytest.mark.parametrize("name", [*AUDIO, "emu3"])
def test_surrounding_autocast_changes_no_code_and_saving_in_half_rounds_nothing(made, name, tmp_path):
    _, _, tokenizer = made(name)
    media = clip(5) if name == "emu3" else sound(10 * HOPS[name])
    codes = tokenizer.encode(media)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tokenizer.encode(media), codes)
        assert tokenizer.decode(codes).dtype == torch.float32
    tokenizer.save(tmp_path, torch.bfloat16)
    again = component("tokenizers", name).load(tmp_path)
    for key, tensor in again.state_dict().items():
        assert torch.equal(tensor, tokenizer.state_dict()[key]), key


@pytest.mark.parametrize("name", AUDIO)
def test_sound_that_is_too_short_or_has_channels_is_refused(made, name):
    _, _, tokenizer = made(name)
    with pytest.raises(MediaError, match=f"{HOPS[name] - 1} samples"):
        tokenizer.encode(sound(HOPS[name] - 1))
    with pytest.raises(MediaError, match="2 channels"):
        tokenizer.encode(sound(2 * HOPS[name]).repeat(1, 2, 1))


@pytest.mark.parametrize(
    "settings",
    [{"audio_channels": 2}, {"normalize": True}, {"chunk_length_s": 1.0, "overlap": 0.01}],
)
def test_an_encodec_of_chunks_loudness_or_channels_is_refused(settings, make_published, tmp_path):
    make_published(tmp_path, "encodec", **settings)
    with pytest.raises(ConfigError, match="channels") as caught:
        component("tokenizers", "encodec").load(tmp_path)
    assert caught.value.code == "tokenizer_unfit"


@torch.no_grad()
def test_video_codes_and_pixels_equal_those_of_the_public_implementation(made):
    _, network, tokenizer = made("emu3")
    video = clip(9)
    frames = torch.cat([video[:, :, :1]] * 3 + [video], dim=2).transpose(1, 2)  # (B, 12, 3, H, W)
    hidden = network.quant_conv(network.encoder(frames).transpose(1, 2)).transpose(1, 2)
    expected = network.quantize(hidden)
    codes = tokenizer.encode(video)
    assert codes.shape == (2, 3, 2, 3) and codes.unique().numel() > 8
    assert torch.equal(codes, expected)
    weights = tokenizer.network.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items())
    # By the weights where they lie: some processors round sums by where in memory numbers are.
    pixels = tokenizer.network.decode(expected).transpose(1, 2)[:, :, 3:].clamp(-1, 1)
    assert torch.equal(tokenizer.decode(codes), pixels)
    assert pixels.shape == video.shape


@torch.no_grad()
def test_a_picture_is_coded_as_the_public_implementation_codes_it(made):
    _, network, tokenizer = made("emu3")
    video = clip(1)
    expected = torch.stack(network.encode(video[:, :, 0], image_sizes=[(16, 24)] * 2).image_tokens)
    assert torch.equal(tokenizer.encode(video)[:, 0], expected)


def test_a_later_frame_cannot_change_an_earlier_video_code(made):
    _, _, tokenizer = made("emu3")
    video = clip(17)
    other = video.clone()
    other[:, :, 9:] = -1
    codes, changed = tokenizer.encode(video), tokenizer.encode(other)
    assert torch.equal(codes[:, :3], changed[:, :3]) and not torch.equal(codes, changed)
    other = codes.clone()
    other[:, 3:] = 0
    assert torch.equal(tokenizer.decode(codes)[:, :, :9], tokenizer.decode(other)[:, :, :9])


def test_a_clip_in_pieces_gives_what_the_whole_clip_gives(made):
    _, _, tokenizer = made("emu3")
    video = clip(81, width=16)
    codes = tokenizer.encode(video)
    past, start, pieces = PastFrames(), 0, []
    for length in (5, 40, 4, 32):
        pieces.append(tokenizer.encode(video[:, :, start : start + length], past))
        start += length
    assert torch.equal(torch.cat(pieces, dim=1), codes)
    past = PastFrames()
    decoded = torch.cat([tokenizer.decode(piece, past) for piece in codes.split(4, dim=1)], dim=2)
    torch.testing.assert_close(decoded, tokenizer.decode(codes), rtol=1e-4, atol=1e-4)


def test_a_clip_off_the_grid_is_refused(made):
    _, _, tokenizer = made("emu3")
    with pytest.raises(MediaError, match="clip of 8 frames"):
        tokenizer.encode(clip(8))
    with pytest.raises(MediaError, match="height 12"):
        tokenizer.encode(clip(5, height=12))


def test_a_tokenizer_under_its_authors_names_is_the_same(made, tmp_path):
    folder, _, tokenizer = made("emu3")
    renamed = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if name.endswith("_proj.weight"):
            tensor = tensor[:, :, None, None].contiguous()
        for ours, their in (
            ("down_block.", ""),
            ("up_block.", ""),
            ("middle_block.", "mid."),
            ("mid.attn_norm.", "mid.attn_1.norm."),
            ("attn_norms.0.", "attn.0.norm."),
            ("attn_norms.1.", "attn.1.norm."),
            ("out_proj.", "proj_out."),
            ("q_proj.", "q."),
            ("k_proj.", "k."),
            ("v_proj.", "v."),
        ):
            name = name.replace(ours, their)
        renamed[name] = tensor
    save_file(renamed, tmp_path / "model.safetensors")
    theirs = json.loads((folder / "config.json").read_text())
    values = {
        "model_type": "Emu3VisionVQ",
        "auto_map": {"AutoModel": "modeling_emu3visionvq.Emu3VisionVQModel"},
        "ch": theirs["base_channels"],
        "ch_mult": theirs["channel_multiplier"],
        "z_channels": 4,
        "double_z": False,
        "num_res_blocks": 1,
        "codebook_size": 64,
        "attn_resolutions": [3],
    }
    (tmp_path / "config.json").write_text(json.dumps(values))
    again = component("tokenizers", "emu3").load(tmp_path)
    assert torch.equal(again.encode(clip(9)), tokenizer.encode(clip(9)))
    again.save(tmp_path / "saved")
    assert torch.equal(component("tokenizers", "emu3").load(tmp_path / "saved").encode(clip(9)), again.encode(clip(9)))


def lose_a_tensor(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize("name", [*AUDIO, "emu3"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "llama"}'), "no tokenizer of the family"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no"), "cannot be loaded"),
        (lose_a_tensor, "do not fit"),
        (pickled, "no safetensors"),
    ],
)
def test_a_broken_folder_is_refused_in_one_sentence(name, change, said, make_published, tmp_path):
    make_published(tmp_path, name)
    change(tmp_path)
    with pytest.raises(CheckpointError, match=said) as caught:
        component("tokenizers", name).load(tmp_path)
    assert "\n" not in str(caught.value)
