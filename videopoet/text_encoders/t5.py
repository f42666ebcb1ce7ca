"""Frozen T5 features, as in the paper (section 3.1): what stands in a row for a prompt, and is projected by the model.

Words that the language model writes, such as captions, stay ids of its own tokenizer: T5 only reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from videopoet import checkpoint, pretrained
from videopoet.errors import CheckpointError, TaskError
from videopoet.text_encoders.base import TextEncoder
from videopoet.text_encoders.own_tokens import LONGEST_PROMPT, OwnTokens, check_words

FAMILIES = ("t5", "mt5", "umt5")
"""Model types of `transformers` that have a T5 encoder."""
_FOLDER, _REFERENCE = "text_encoder", "reference.json"


class T5(TextEncoder):
    """The encoder of a T5, never trained, beside the language model's own tokenizer.

    Args:
        network: The encoder, of `transformers`.
        tokenizer: Its own, a fast one.
        own: The language model's.
        reference: Where the weights can be had again, and their hashes; None where they are to be saved along.
    """

    def __init__(self, network: Any, tokenizer: Any, own: OwnTokens, reference: dict[str, Any] | None = None):
        self.network = network.eval().requires_grad_(False)
        self.tokenizer, self.own, self.reference = tokenizer, own, reference
        self.size, self.longest = len(tokenizer), LONGEST_PROMPT
        self.num_features = network.config.d_model
        self._special = tuple(tokenizer.all_special_tokens)

    @classmethod
    def open(cls, source: str | Path, own: OwnTokens) -> Self:
        """A T5 in a folder, whose encoder is saved with the poet, or one on the hub, which is saved by its name.

        Args:
            source: A folder, or an id on the Hugging Face hub.
            own: The language model's tokenizer.

        Raises:
            CheckpointError: It is missing or broken, has no safetensors, or is no T5.
        """
        if Path(source).is_dir():
            return cls._read(Path(source), Path(source), own, None)
        folder = pretrained.from_hub(str(source))
        encoder = cls._read(folder, folder, own, None)
        encoder.reference = {"hub": str(source), "sha256": _hashes(folder)}
        return encoder

    @property
    def answer_size(self) -> int:
        return self.own.size

    def encode(self, prompt: str) -> list[int]:
        check_words(prompt, self._special)
        ids = self.tokenizer(prompt)["input_ids"]  # with the end mark that T5 was trained with
        if len(ids) > self.longest:
            raise TaskError(
                f"the prompt has {len(ids)} tokens; the most is {self.longest}; shorten it", code="prompt_too_long"
            )
        return ids

    @torch.no_grad()
    def features(self, ids: Tensor, visible: Tensor) -> Tensor:
        # In the precision of its weights, so that training and generation see the same features.
        with torch.autocast(ids.device.type, enabled=False):
            network = self.network.to(ids.device)
            return network(input_ids=ids, attention_mask=visible.long()).last_hidden_state

    def encode_answer(self, caption: str) -> list[int]:
        return self.own.encode_caption(caption)

    def decode(self, ids: list[int]) -> str:
        return self.own.decode(ids)

    def unknown_words(self, prompt: str) -> list[str]:
        encoded = self.tokenizer(prompt, return_offsets_mapping=True)
        spans = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        unknown = self.tokenizer.unk_token_id
        return list(dict.fromkeys(prompt[start:stop] for index, (start, stop) in spans if index == unknown))

    def save(self, folder: str | Path) -> None:
        """Write the own tokenizer into `folder`, and T5 into `text_encoder/` there: its tokenizer, and its weights or
        where they can be had."""
        self.own.save(folder)
        place = Path(folder) / _FOLDER
        place.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(place)
        if self.reference is not None:
            checkpoint.write_json(place / _REFERENCE, self.reference)
            return
        pretrained.save_network(self.network, place)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote; weights that were not saved along come from the hub.

        Raises:
            CheckpointError: A file is missing or broken, or the weights are no longer those that were used.
        """
        own, place = OwnTokens.load(folder), Path(folder) / _FOLDER
        if not place.is_dir():
            raise CheckpointError(
                f"no {_FOLDER} in '{folder}'; the model reads prompts with a T5, which it holds; restore it or save "
                "the model again",
                code="checkpoint_missing",
            )
        if not (place / _REFERENCE).exists():
            return cls._read(place, place, own, None)
        reference = checkpoint.read_json(place / _REFERENCE)
        source = pretrained.from_hub(reference["hub"])
        found = _hashes(source)
        if changed := sorted(name for name, digest in reference["sha256"].items() if found.get(name) != digest):
            raise CheckpointError(
                f"'{changed[0]}' of '{reference['hub']}' is not the one that this model was trained with: its hash has "
                "changed; fetch that version, or convert and train again",
                code="checkpoint_mismatch",
            )
        return cls._read(source, place, own, reference)

    @classmethod
    def _read(cls, weights: Path, words: Path, own: OwnTokens, reference: dict[str, Any] | None) -> Self:
        """The T5 with the weights and the tokenizer of these folders."""
        network, tokenizer = _network(weights), _tokenizer(words)
        if len(tokenizer) > network.config.vocab_size:
            raise CheckpointError(
                f"the tokenizer in '{words}' has {len(tokenizer)} ids, its T5 a table of {network.config.vocab_size}; "
                "they do not belong together; use those that were trained together",
                code="checkpoint_mismatch",
            )
        return cls(network, tokenizer, own, reference)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # frozen: a model that is copied reads with the same one


def _network(folder: Path) -> Any:
    from transformers import AutoModelForTextEncoding

    values = checkpoint.read_json(folder / "config.json")
    family = values.get("model_type") if isinstance(values, dict) else None
    if family not in FAMILIES:
        raise CheckpointError(
            f"'{folder}' holds a model of the family '{family}', no T5; {', '.join(FAMILIES)} fit; choose one, such as "
            "google/flan-t5-xl",
            code="checkpoint_mismatch",
        )
    pretrained.check_safetensors(folder)
    network = pretrained.load_network(AutoModelForTextEncoding, folder, "the T5", dtype="auto")
    return network.float() if network.dtype == torch.float16 else network  # T5's values reach beyond half precision


def _tokenizer(folder: Path) -> Any:
    from transformers import PreTrainedTokenizerFast

    remedy = "a fast one is needed, with a tokenizer.json; save it again with transformers"
    with pretrained.loading("the tokenizer of the T5", folder, remedy):
        # The class that its config names may build a tokenizer anew, without what tokenizer.json says.
        return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)


def _hashes(folder: Path) -> dict[str, str]:
    """Of what features depend on: weights and tokenizer."""
    files = [*folder.glob("*.safetensors"), *folder.glob("tokenizer.json")]
    return {file.name: checkpoint.sha256(file) for file in sorted(files)}
