"""Text as the language model's own tokenizer reads it: ids that the model embeds itself."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, Self

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from videopoet import pretrained
from videopoet.errors import TaskError
from videopoet.text_encoders.base import TextEncoder

LONGEST_PROMPT = 64
"""The most text positions in a row (VideoPoet, section 3.1)."""
_TOKENIZER, _SETTINGS = "tokenizer.json", "tokenizer_config.json"
_FILES = (_TOKENIZER, _SETTINGS, "special_tokens_map.json", "chat_template.jinja")
_UNKNOWN = "<unk>"
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
    """A Hugging Face fast tokenizer, without special tokens added.

    Args:
        files: Text of the files that `transformers` keeps a tokenizer in, by their names.
    """

    def __init__(self, files: dict[str, str]):
        self.files = files
        self.tokenizer = Tokenizer.from_str(files[_TOKENIZER])
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.size = self.tokenizer.get_vocab_size()
        self.longest = LONGEST_PROMPT
        settings = json.loads(files.get(_SETTINGS, "{}"))
        unknown = _content(settings.get("unk_token"))
        self.unknown = None if unknown is None else self.tokenizer.token_to_id(unknown)
        # Such as <|im_start|>; a tokenizer would read them out of a prompt, as the marks that they are.
        self._special = _special_tokens(self.tokenizer, settings)

    @classmethod
    def from_words(cls, words: list[str]) -> Self:
        """A tokenizer that knows these words, lower-cased, each with an id of its own."""
        table = {word: index for index, word in enumerate([_UNKNOWN, *sorted(set(words))])}
        tokenizer = Tokenizer(models.WordLevel(table, unk_token=_UNKNOWN))
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])  # pyright: ignore
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
        )
        tokenizer.add_special_tokens([_UNKNOWN])
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": _UNKNOWN}
        return cls({_TOKENIZER: tokenizer.to_str(pretty=True), _SETTINGS: json.dumps(settings, indent=2)})

    @classmethod
    def of(cls, tokenizer: Any) -> Self:
        """That of a fast tokenizer of `transformers`."""
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save_pretrained(folder)
            return cls.load(folder)

    def with_words(self, words: Collection[str]) -> Self:
        """One that knows these words too, whose ids come after the others; itself where it knows them all.

        A tokenizer of pieces can spell any word, and stays as it is.
        """
        described = json.loads(self.files[_TOKENIZER])
        known = described["model"]["vocab"]
        new = sorted({word.lower() for word in words} - set(known)) if described["model"]["type"] == "WordLevel" else []
        if not new:
            return self
        known |= {word: self.size + index for index, word in enumerate(new)}
        return type(self)({**self.files, _TOKENIZER: json.dumps(described, indent=2, ensure_ascii=False)})

    def encode(self, prompt: str) -> list[int]:
        check_words(prompt, self._special)
        ids = self.tokenizer.encode(prompt, add_special_tokens=False).ids
        if len(ids) > LONGEST_PROMPT:
            raise TaskError(
                f"the prompt has {len(ids)} tokens; the most is {LONGEST_PROMPT}; shorten it", code="prompt_too_long"
            )
        return ids

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False).replace(" ,", ",")

    def unknown_words(self, prompt: str) -> list[str]:
        if self.unknown is None:
            return []
        encoded = self.tokenizer.encode(prompt, add_special_tokens=False)
        spans = zip(encoded.ids, encoded.offsets, strict=True)
        return list(dict.fromkeys(prompt[start:stop] for index, (start, stop) in spans if index == self.unknown))

    def known_words(self) -> list[str] | None:
        # A tokenizer of pieces can spell any word; one without an unknown token has no other way.
        if self.unknown is None or self.unknown_words("qzxj") == []:
            return None
        return sorted(set(self.tokenizer.get_vocab()) - set(self._special))

    def save(self, folder: str | Path) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, text in self.files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read the tokenizer of a Hugging Face folder.

        Raises:
            CheckpointError: The folder has none, or it is broken.
        """
        remedy = "the folder is broken; restore it or save the model again"
        with pretrained.loading("the text tokenizer", folder, remedy):
            paths = [
                path for path in (Path(folder) / name for name in _FILES) if path.exists() or path.name == _TOKENIZER
            ]
            return cls({path.name: path.read_text(encoding="utf-8") for path in paths})


def _content(token: str | dict[str, Any] | None) -> str | None:
    """What a token is written as: `transformers` keeps some with what surrounds them."""
    return token["content"] if isinstance(token, dict) else token


def _special_tokens(tokenizer: Tokenizer, settings: dict[str, Any]) -> tuple[str, ...]:
    """Marks of a tokenizer, and those that its settings name."""
    marks = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    named = [_content(token) for name, token in settings.items() if name.endswith("_token") and token]
    return tuple(dict.fromkeys(mark for mark in (*marks, *named) if isinstance(mark, str) and mark))
