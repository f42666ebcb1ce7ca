"""Emu3's video tokenizer (arXiv 2409.18869): 32,768 codes, a fourth of the frames, an eighth of the height and width.

Read from the folder of `BAAI/Emu3-VisionTokenizer` as its authors published it, or from one that `transformers` wrote.
Its codes are rows of a table; their bits mean nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from videopoet.checkpoint import load_weights, read_json, read_weights
from videopoet.errors import CheckpointError
from videopoet.nn.causal_conv import PastFrames
from videopoet.tokenizers.base import Published, VideoTokenizer

_AUTHORS_FAMILY = "Emu3VisionVQ"
_SETTINGS = {
    "ch": "base_channels",
    "ch_mult": "channel_multiplier",
    "z_channels": "latent_channels",
    "double_z": "double_latent",
    **{
        name: name
        for name in (
            *("codebook_size", "embed_dim", "in_channels", "out_channels", "temporal_downsample_factor"),
            *("num_res_blocks", "attn_resolutions"),
        )
    },
}
"""The authors' names of settings, and those of `transformers`."""
_NAMES = (
    (r"\.mid\.attn_1\.norm\.", ".mid.attn_norm."),
    (r"\.attn\.(\d+)\.norm\.", r".attn_norms.\1."),
    (r"\.([qkv])\.(weight|bias)$", r".\1_proj.\2"),
    (r"\.proj_out\.", ".out_proj."),
    (r"^encoder\.down\.", "encoder.down_block.down."),
    (r"^decoder\.up\.", "decoder.up_block.up."),
    (r"\.mid\.", ".middle_block."),
)
"""The same for weights, as substitutions that follow one another."""


class Emu3(Published, VideoTokenizer):
    """A vector-quantized autoencoder, causal in time.

    It codes four frames at a time. Frame 0 is given to it four times, as its authors give it images, so that here too
    an image is a one-frame clip.
    """

    family = "emu3_vqgan"
    codes_are_bits = False
    latent_frames_at_once = 16

    def __init__(self, network: Any):
        super().__init__(network)
        config = network.config
        self.num_codes = config.codebook_size
        self.time_stride = config.temporal_downsample_factor
        self.space_stride = 2 ** (len(config.channel_multiplier) - 1)
        # Latent frames that a code or a frame depends on: two for each convolution in time, and some for the strides.
        self.num_past = 4 * config.num_res_blocks + 4

    @staticmethod
    def network_class() -> Any:
        from transformers.models.emu3.modeling_emu3 import Emu3VQVAE

        return Emu3VQVAE

    @classmethod
    def is_described_by(cls, values: Any) -> bool:
        return super().is_described_by(values) or (
            isinstance(values, dict) and values.get("model_type") == _AUTHORS_FAMILY
        )

    @classmethod
    def read(cls, folder: Path) -> Any:
        values = read_json(folder / "config.json")
        return super().read(folder) if values["model_type"] == cls.family else cls._read_authors(folder, values)

    @torch.no_grad()
    def encode_whole(self, video: Tensor, past: PastFrames | None = None) -> Tensor:
        num_frames, height, width = video.shape[2:]
        t, h, _ = self.grid(num_frames, height, width, goes_on=past is not None and past.begun)
        earlier = video[:, :, :1].expand(-1, -1, self.time_stride - 1, -1, -1)
        if past is not None and past.begun:
            earlier = past.of(self, video)
        frames = torch.cat([earlier, video], dim=2)  # a multiple of the stride
        _remember(past, self, frames, self.num_past * self.time_stride)
        # It would cut the first two axes of what it returns to these sizes: of a clip, those are time and rows.
        sizes = [(frames.shape[2] // self.time_stride * self.space_stride, h * self.space_stride)] * len(video)
        with self.own_precision(video):
            pixels = rearrange(frames, "b c t h w -> b t c h w").float()
            codes = torch.stack(self.network.encode(pixels, image_sizes=sizes).image_tokens)  # (B, t, h, w)
        return codes[:, -t:]

    @torch.no_grad()
    def decode_whole(self, codes: Tensor, past: PastFrames | None = None) -> Tensor:
        num_frames = codes.shape[1] * self.time_stride
        if past is None or not past.begun:
            num_frames -= self.time_stride - 1
        known = codes[:, None]  # (B, 1, t, h, w)
        if past is not None and past.begun:
            known = torch.cat([past.of(self, known), known], dim=2)
        _remember(past, self, known, self.num_past)
        with self.own_precision(codes):
            frames = rearrange(self.network.decode(known[:, 0]), "b t c h w -> b c t h w")
        return frames[:, :, -num_frames:].clamp(-1, 1)

    @classmethod
    def _read_authors(cls, folder: Path, values: dict[str, Any]) -> Any:
        """The network in a folder with its authors' names; the code that lies beside its weights is not run."""
        from transformers import Emu3VQVAEConfig

        settings = {_SETTINGS[name]: value for name, value in values.items() if name in _SETTINGS}
        try:
            config = Emu3VQVAEConfig(**settings)
            config.hidden_size = config.base_channels * config.channel_multiplier[-1]
            network = cls.network_class()(config)
        except Exception as error:  # whatever a wrong setting leads to
            raise CheckpointError(
                f"the tokenizer in '{folder}' cannot be built from its config.json ({str(error).splitlines()[0]}); "
                "fetch it again",
                code="checkpoint_corrupt",
            ) from None
        expected = network.state_dict()
        tensors = {}
        for name, tensor in read_weights(folder).items():
            for pattern, replacement in _NAMES:
                name = re.sub(pattern, replacement, name)
            if name in expected and tensor.ndim == 4 and expected[name].ndim == 2:
                tensor = tensor.flatten(1)  # a convolution over one pixel is a matrix
            tensors[name] = tensor.float() if tensor.is_floating_point() else tensor
        load_weights(network, tensors, folder)
        return network


def _remember(past: PastFrames | None, tokenizer: Emu3, frames: Tensor, count: int) -> None:
    """Keep the last `count` frames for the next piece: all that it depends on; they are computed anew with it."""
    if past is not None:
        past.keep(tokenizer, frames[:, :, -count:])
        past.begun = True
