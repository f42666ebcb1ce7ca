"""A chat model of Hugging Face on this machine as a writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from videopoet import pretrained, runtime
from videopoet.errors import CheckpointError
from videopoet.writers.base import ChatWriter, Message

MOST_TOKENS = 2048


class ChatModel(ChatWriter):
    """Always answers with the likeliest words, so that one idea gives one storyboard.

    Args:
        source: A folder, or an id on the Hugging Face hub. Weights are read from safetensors only.
        device: Where to compute; without it, the best there is.
        how: As `ChatWriter`.

    Raises:
        CheckpointError: There is none, or it is not made for chats.
    """

    def __init__(self, source: str | Path, *, device: torch.device | str | None = None, **how: Any):
        super().__init__(**how)
        self._name = Path(str(source)).name
        folder = pretrained.model_folder(source)
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype="auto"
            )
        except Exception as error:  # transformers has many errors of others for a folder that does not fit
            raise CheckpointError(
                f"the writer's model '{source}' cannot be loaded ({str(error).splitlines()[0][:160]}); a folder or hub "
                "id of a chat model with safetensors fits; check it",
                code="writer_model_invalid",
            ) from None
        if self._tokenizer.chat_template is None:
            raise CheckpointError(
                f"the writer's model '{source}' has no chat template; a model that was trained for chats has one; "
                "choose its instruct or chat variant",
                code="writer_model_invalid",
            )
        self._model = model.to(torch.device(device or runtime.best_device())).eval()

    @property
    def name(self) -> str:
        return self._name

    def answer(self, messages: list[Message]) -> str:
        ids = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self._model.device)
        with torch.no_grad():
            said = self._model.generate(
                **ids,
                do_sample=False,
                max_new_tokens=MOST_TOKENS,
                pad_token_id=self._tokenizer.pad_token_id or self._tokenizer.eos_token_id,
            )
        return self._tokenizer.decode(said[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
