"""Captions for clips that have none, by a vision-language model from `transformers`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videopoet import pretrained, runtime
from videopoet.data.sources import clean_caption
from videopoet.errors import ConfigError

REQUEST = "Describe this video frame in one short sentence."
MOST_TOKENS = 48


class Captioner:
    """Describes pictures: models that take pictures alone (BLIP, GIT), and those that are asked (LLaVA, Qwen-VL)."""

    def __init__(self, model: Any, processor: Any):
        self.model, self.processor = model, processor
        # Parts are prepared by several threads; the model answers one at a time.
        self._lock = threading.Lock()

    @classmethod
    def load(cls, name: str) -> Captioner:
        """Load a model by its folder or hub id, onto the best device there is.

        Raises:
            CheckpointError: It is no folder, and cannot be had from the hub.
            ConfigError: It is of another kind.
        """
        folder = pretrained.model_folder(name)
        from transformers import AutoModelForImageTextToText, AutoProcessor

        try:
            model: Any = AutoModelForImageTextToText.from_pretrained(
                folder, local_files_only=True, use_safetensors=True
            )
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            shown = Path(name).name if Path(name).exists() else name[:80]
            raise ConfigError(
                f"'{shown}' is no captioner that can be read ({type(error).__name__}); a folder or hub id of a model "
                "that turns pictures into text, with safetensors, is needed; check the name, or leave --captioner out",
                code="captioner_invalid",
            ) from error
        return cls(model.eval().to(device=runtime.best_device()), processor)  # pyright: ignore[reportArgumentType]

    @torch.no_grad()
    def describe(self, picture: Tensor) -> str | None:
        """One sentence about a picture, uint8 (3, H, W); None if the model says nothing."""
        image = picture.permute(1, 2, 0).contiguous().cpu().numpy()  # (H, W, 3)
        with self._lock:
            if getattr(self.processor, "chat_template", None):
                content = [{"type": "image", "image": image}, {"type": "text", "text": REQUEST}]
                inputs = self.processor.apply_chat_template(
                    [{"role": "user", "content": content}],
                    add_generation_prompt=True,
                    tokenize=True,
                    return_dict=True,
                    return_tensors="pt",
                )
            else:
                inputs = self.processor(images=image, return_tensors="pt")
            inputs = inputs.to(self.model.device)
            ids = self.model.generate(**inputs, max_new_tokens=MOST_TOKENS, do_sample=False)
        if "input_ids" in inputs and ids.shape[1] > inputs["input_ids"].shape[1]:
            ids = ids[:, inputs["input_ids"].shape[1] :]  # without the question
        return clean_caption(self.processor.batch_decode(ids, skip_special_tokens=True)[0])
