"""CLIP similarity (CLIPSIM) of clips with their prompts, with OpenAI's CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from videopoet import runtime
from videopoet.errors import CheckpointError
from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.metrics.base import Figure, Weighty

MEAN, SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of the pixels that CLIP was trained on, from 0 to 1."""


class CLIPSIM(Weighty):
    """CLIPSIM (Wu et al. 2021): the mean cosine of the embeddings of a prompt and of each frame, mean over prompts.

    Protocol of VideoPoet's Table 2: CLIP ViT-B/16, all frames, no prompt template; frames are resized bicubically to
    the network's side and centrally cropped. The network's own name belongs beside the figure: B/32 gives other values.
    """

    suites = ("text_to_video",)
    figures = {"clipsim": Figure("mean cosine of prompt and frames", "")}
    least = 2
    what_to_get = "the folder or hub id of a CLIP model, such as openai/clip-vit-base-patch16, as safetensors"

    def __init__(self, weights: Path):
        super().__init__(weights)
        from transformers import AutoTokenizer, CLIPModel

        try:
            self.network = CLIPModel.from_pretrained(str(weights), local_files_only=True, use_safetensors=True).eval()
            self.tokenizer = AutoTokenizer.from_pretrained(str(weights), local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"'{weights}' holds no CLIP model ({str(error).splitlines()[0]}); config.json, model.safetensors and "
                "its tokenizer's files are needed; get the whole folder",
                code="weights_unreadable",
            ) from None
        self.network.to(device=runtime.best_device())  # pyright: ignore[reportCallIssue]

    @torch.no_grad()
    def collect(self, case: Case, take: Take) -> float | None:
        if take.video is None or case.prompt is None:
            return None
        vision: Any = self.network.config.vision_config
        side: int = vision.image_size
        frames = take.video.frames.float().transpose(0, 1) / 255
        scale = side / min(frames.shape[2:])
        size = tuple(max(side, round(length * scale)) for length in frames.shape[2:])
        frames = F.interpolate(frames, size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
        top, left = (frames.shape[2] - side) // 2, (frames.shape[3] - side) // 2
        frames = frames[:, :, top : top + side, left : left + side]
        mean, spread = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, SPREAD))
        words = self.tokenizer([case.prompt], return_tensors="pt", truncation=True, padding=True)
        device = self.network.device
        seen = _embedding(self.network.get_image_features(pixel_values=((frames - mean) / spread).to(device)))
        said = _embedding(self.network.get_text_features(**words.to(device)))
        return float(F.cosine_similarity(seen, said).mean())

    def summarize(self, collected: Sequence[float], reference: Sequence[object]) -> dict[str, float | None]:
        return {"clipsim": float(np.mean(collected))}


def _embedding(answer: Any) -> torch.Tensor:
    """The projected features, which some versions of transformers wrap in an output of several."""
    return answer if isinstance(answer, torch.Tensor) else answer.pooler_output
