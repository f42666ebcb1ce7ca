"""What every test may count on: one thread, no network, and fixtures for what is optional on a machine."""

import os
from pathlib import Path

# Before torch is imported: workers that share cores run many times slower with more threads than one.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest

ROOT = Path(__file__).resolve().parents[1]
REAL_MEDIA = ROOT.parent / "shared" / "media"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` where there is no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def real_media() -> Path:
    """A folder of real clips, sounds and pictures beside the repository; the test is skipped where there is none."""
    if not REAL_MEDIA.is_dir():
        pytest.skip("no folder of real media beside the repository")
    return REAL_MEDIA


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """`stand_in(fake)`: what commands load in place of a model; the test runs in an empty folder."""
    import videopoet

    def put(fake):
        monkeypatch.setitem(vars(videopoet), "VideoPoet", fake)
        monkeypatch.chdir(tmp_path)
        return fake

    return put


@pytest.fixture(scope="session")
def make_published():
    """Writes a tiny tokenizer of `transformers` with random weights into a folder, as the hub has them.

    Takes the folder, the name of its file in `tokenizers/`, and settings; returns the network in evaluation mode.
    """
    import torch
    import transformers
    from transformers.models.emu3.modeling_emu3 import Emu3VQVAE

    kinds = {
        "encodec": (
            transformers.EncodecModel,
            transformers.EncodecConfig,
            {
                **{"num_filters": 4, "hidden_size": 8, "codebook_size": 16, "num_lstm_layers": 1},
                **{"upsampling_ratios": [5, 4, 4, 4], "target_bandwidths": [0.9, 2.4]},
            },
        ),
        "dac": (
            transformers.DacModel,
            transformers.DacConfig,
            {
                **{"encoder_hidden_size": 4, "decoder_hidden_size": 64, "downsampling_ratios": [2, 4, 5, 8]},
                **{"n_codebooks": 5, "codebook_size": 16, "codebook_dim": 4},
            },
        ),
        "mimi": (
            transformers.MimiModel,
            transformers.MimiConfig,
            {
                **{"hidden_size": 16, "num_filters": 4, "upsampling_ratios": [8, 5, 4, 2], "codebook_size": 16},
                **{"codebook_dim": 8, "num_quantizers": 5, "vector_quantization_hidden_dimension": 8},
                **{"upsample_groups": 16, "num_hidden_layers": 1, "intermediate_size": 32},
                **{"num_attention_heads": 2, "num_key_value_heads": 2},
            },
        ),
        "emu3": (
            Emu3VQVAE,
            transformers.Emu3VQVAEConfig,
            {
                **{"codebook_size": 64, "base_channels": 32, "channel_multiplier": [1, 1, 1, 2], "hidden_size": 64},
                **{"num_res_blocks": 1},
            },
        ),
    }

    def make(folder, name, **settings):
        torch.manual_seed(0)
        model, config, sizes = kinds[name]
        network = model(config(**(sizes | settings))).eval()
        for key, tensor in network.state_dict().items():
            if "codebook" in key and "embed" in key or key == "quantize.embedding.weight":
                tensor.normal_()  # fresh codebooks are zero or hardly differ: all codes would be one
        if name == "encodec":  # its latents hardly differ: codes are to be found among them
            with torch.no_grad():
                latents = network.encoder(torch.rand(1, network.config.audio_channels, 320 * 16) * 2 - 1)[
                    0
                ].T  # (16, D)
            for number, layer in enumerate(network.quantizer.layers):
                layer.codebook.embed.copy_(latents if not number else (latents - latents.mean(0)) / 2**number)
        network.save_pretrained(folder)
        return network

    return make


@pytest.fixture(scope="session")
def make_t5():
    """Writes a tiny T5, encoder and decoder, with random weights and a tokenizer of a few words into a folder."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<pad>", "</s>", "<unk>", *"a red ball bounces blue star flies over the sea on grass , night".split()]

    def make(folder, family="t5", dtype=torch.float32):
        torch.manual_seed(0)
        model, config = {
            "t5": (transformers.T5ForConditionalGeneration, transformers.T5Config),
            "mt5": (transformers.MT5ForConditionalGeneration, transformers.MT5Config),
            "umt5": (transformers.UMT5ForConditionalGeneration, transformers.UMT5Config),
        }[family]
        sizes = {"vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
        network = model(config(**sizes, num_decoder_layers=1))
        for weight in network.parameters():  # strong enough that every position depends on all that it sees
            if weight.ndim == 2:
                torch.nn.init.normal_(weight, std=0.3)
        network.to(dtype).save_pretrained(folder)
        tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
        special = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"}
        transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)

    return make
