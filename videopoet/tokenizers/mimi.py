"""Mimi (arXiv 2410.00037) as `transformers` has it, such as `kyutai/mimi`: 24 kHz, 12.5 frames a second."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from videopoet.tokenizers.base import PublishedAudioTokenizer


class Mimi(PublishedAudioTokenizer):
    """A causal codec whose first level is learned from speech, and whose other levels are residual."""

    family = "mimi"

    def __init__(self, network: Any):
        config = network.config
        levels = (config.num_semantic_quantizers, config.num_quantizers)
        hop = round(config.sampling_rate / config.frame_rate)
        super().__init__(network, config.sampling_rate, hop, levels, config.audio_channels)

    @staticmethod
    def network_class() -> Any:
        from transformers import MimiModel

        return MimiModel

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        audio = self.whole_hops(audio)
        with self.own_precision(audio):
            return self.network.encode(audio.float(), num_quantizers=self.num_quantizers).audio_codes  # (B, Q, s)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        with self.own_precision(codes):
            return self.network.decode(codes).audio_values.clamp(-1, 1)
