"""Text as the language model's own tokenizer reads it: ids that the model embeds itself."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, Self

from videopoet import pretrained
from videopoet.errors import TaskError
from videopoet.text_encoders.base import TextEncoder

LONGEST_PROMPT = 64
"""The most text positions in a row (VideoPoet, section 3.1)."""
_SPECIAL = re.compile(r"</?[a-z]+(_[io]|:[^<>\s]*)?>")
_INVISIBLE = re.compile(r"[\s\u200b-\u200f\u2060\ufeff]+")


def check_words(prompt: str, special: Collection[str] = ()) -> None:
    """Refuse a prompt that says nothing or is no plain text, whatever the tokenizer; `special` are its own tokens.

    Raises:
        TaskError: Says what is in it.
    """
    if not _INVISIBLE.sub("", prompt):
        raise TaskError(
            "the prompt is empty; a prompt needs at least one word; write what is to be seen", code="prompt_empty"
        )
    found = _SPECIAL.search(prompt)
    if mark := found.group() if found else next((token for token in special if token in prompt), None):
        raise TaskError(
            f"the prompt holds '{mark}', which looks like one of the model's special tokens; plain words fit; "
            "write it without the brackets",
            code="prompt_special_token",
        )
    if "\0" in prompt or any("\ud800" <= character <= "\udfff" for character in prompt):
        raise TaskError(
            "the prompt holds a character that is not text (NUL or half of a pair); plain text fits; remove it",
            code="prompt_invalid_character",
        )


class OwnTokens(TextEncoder):
    """A Hugging Face fast tokenizer, without special tokens added."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self.size = len(tokenizer)
        self.longest = LONGEST_PROMPT
        # Such as <|im_start|>; a tokenizer would read them out of a prompt, as the marks that they are.
        self._special = tuple(tokenizer.all_special_tokens)

    @classmethod
    def from_words(cls, words: list[str]) -> Self:
        """A tokenizer that knows these words, lower-cased, each with an id of its own."""
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        table = {word: index for index, word in enumerate(["<unk>", *sorted(set(words))])}
        tokenizer = Tokenizer(models.WordLevel(table, unk_token="<unk>"))
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
        )
        return cls(PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>"))

    def encode(self, prompt: str) -> list[int]:
        check_words(prompt, self._special)
        ids = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        if len(ids) > LONGEST_PROMPT:
            raise TaskError(
                f"the prompt has {len(ids)} tokens; the most is {LONGEST_PROMPT}; shorten it", code="prompt_too_long"
            )
        return ids

    def decode(self, ids: list[int]) -> str:
        text = self.tokenizer.decode(ids, skip_special_tokens=False)
        return text.replace(" ,", ",")

    def unknown_words(self, prompt: str) -> list[str]:
        unknown = self.tokenizer.unk_token_id
        if unknown is None:
            return []
        encoded = self.tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
        spans = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        return list(dict.fromkeys(prompt[start:stop] for index, (start, stop) in spans if index == unknown))

    def known_words(self) -> list[str] | None:
        # A tokenizer of pieces can spell any word; one without an unknown token has no other way.
        if self.tokenizer.unk_token_id is None or self.unknown_words("qzxj") == []:
            return None
        return sorted(set(self.tokenizer.get_vocab()) - set(self._special))

    def save(self, folder: str | Path) -> None:
        self.tokenizer.save_pretrained(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read the tokenizer of a Hugging Face folder.

        Raises:
            CheckpointError: The folder has none, or it is broken.
        """
        from transformers import PreTrainedTokenizerFast

        remedy = "the folder is broken; restore it or save the model again"
        with pretrained.loading("the text tokenizer", folder, remedy):
            return cls(PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True))
