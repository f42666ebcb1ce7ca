"""EnCodec (arXiv 2210.13438) as `transformers` has it, such as `facebook/encodec_24khz`: 24 kHz, 75 frames a second."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from videopoet.errors import ConfigError
from videopoet.tokenizers.base import PublishedAudioTokenizer


class Encodec(PublishedAudioTokenizer):
    """A causal codec with residual levels. The stereo model at 48 kHz, which codes chunks and their loudness, is none
    that a row of tokens can hold.

    Raises:
        ConfigError: It codes several channels, or chunks, or loudness.
    """

    family = "encodec"

    def __init__(self, network: Any):
        config = network.config
        if config.normalize or config.chunk_length_s is not None:
            raise ConfigError(
                f"this encodec codes sound of {config.audio_channels} channels in chunks, or with its loudness; "
                "codes alone are taken; use one such as facebook/encodec_24khz",
                code="tokenizer_unfit",
            )
        super().__init__(
            network, config.sampling_rate, config.hop_length, (1, len(network.quantizer.layers)), config.audio_channels
        )

    @staticmethod
    def network_class() -> Any:
        from transformers import EncodecModel

        return EncodecModel

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        audio = self.whole_hops(audio)
        # Levels are asked for as kilobits per second; the first of many are those of few.
        rates, quantizer = sorted(self.config.target_bandwidths), self.network.quantizer
        enough = [rate for rate in rates if quantizer.get_num_quantizers_for_bandwidth(rate) >= self.num_quantizers]
        bandwidth = enough[0] if enough else rates[-1]
        with self.own_precision(audio):
            codes = self.network.encode(audio.float(), bandwidth=bandwidth).audio_codes[0]
        return codes[:, : self.num_quantizers]  # (B, Q, s)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        with self.own_precision(codes):
            return self.network.decode(codes[None], [None]).audio_values.clamp(-1, 1)
