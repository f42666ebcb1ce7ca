"""The Descript Audio Codec (arXiv 2306.06546) as `transformers` has it, such as `descript/dac_16khz`.

It is not causal: a code depends on some hundredths of a second of what follows. Where a task goes on from the beginning
of a sound, the last codes of that beginning are therefore not quite those of the whole sound.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from videopoet.tokenizers.base import PublishedAudioTokenizer


class Dac(PublishedAudioTokenizer):
    """A codec with residual levels, of 1,024 codes each: 50 frames a second at 16 kHz."""

    family = "dac"

    def __init__(self, network: Any):
        config = network.config
        super().__init__(network, config.sampling_rate, config.hop_length, (1, config.n_codebooks))

    @staticmethod
    def network_class() -> Any:
        from transformers import DacModel

        return DacModel

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        audio = self.whole_hops(audio)
        with self.own_precision(audio):
            return self.network.encode(audio.float(), n_quantizers=self.num_quantizers).audio_codes  # (B, Q, s)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        with self.own_precision(codes):
            audio = self.network.decode(audio_codes=codes).audio_values[:, None]  # (B, 1, S)
        # Upsampling by an odd factor loses samples: the sound comes out some too short.
        return F.pad(audio, (0, codes.shape[-1] * self.hop - audio.shape[-1])).clamp(-1, 1)
