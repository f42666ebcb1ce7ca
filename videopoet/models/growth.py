"""Room for media tokens in a language model that was trained on text: new rows after the old ones, which stay; more
words in one that knows a list of them; and codes of another tokenizer in the place of those that a model knows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from videopoet.models.token_embedding import TokenEmbedding

HEAD_SPREAD = 0.25
"""Spread of new rows that are read as logits, in that of the old ones. With all of it a model that has learned nothing
of media would be as sure of its first guesses as it is of words."""
_MIXED = 8
_CHUNK = 4096
_RARE = 2.0
"""As many times as this, every new code is taken to have been met in the place of old ones of all kinds."""


@torch.no_grad()
def grow(backbone: Any, size: int, num_known: int, generator: torch.Generator) -> None:
    """Give a Hugging Face causal LM `size` ids, in place; the rows of its old ids are not touched.

    New rows have the mean and the covariance of the first `num_known` old ones, which are those that text has trained:
    a model's table is often longer than its tokenizer's list.
    """
    old = len(backbone.get_input_embeddings().weight)
    with torch.random.fork_rng(devices=[]):  # transformers draws rows of its own, which are replaced here
        backbone.resize_token_embeddings(size, mean_resizing=False)
    table, head = backbone.get_input_embeddings(), backbone.get_output_embeddings()
    num_known = min(num_known, old)
    is_tied = head.weight is table.weight
    _draw(table.weight, old, num_known, HEAD_SPREAD if is_tied else 1.0, generator)
    if not is_tied:
        _draw(head.weight, old, num_known, HEAD_SPREAD, generator)
    if getattr(head, "bias", None) is not None:
        head.bias[old:] = head.bias[:num_known].float().mean().to(head.bias.dtype)


@torch.no_grad()
def insert_words(backbone: Any, first: int, count: int, generator: torch.Generator) -> None:
    """Give a backbone, in place, `count` more ids of text, which begin at `first`, after those it has; all others move
    up.

    Their rows are drawn as those of `grow` are, from the rows of the words that it knows.
    """
    old = [tensor.clone() for tensor in _tables(backbone)]
    before = torch.arange(len(old[0]))
    rows = torch.cat([before[:first], torch.zeros(count, dtype=torch.long), before[first:]])
    with torch.random.fork_rng(devices=[]):  # transformers draws rows of its own, which are replaced here
        backbone.resize_token_embeddings(len(rows), mean_resizing=False)
    tables = _tables(backbone)
    is_tied = backbone.get_output_embeddings().weight is backbone.get_input_embeddings().weight
    for number, (tensor, values) in enumerate(zip(tables, old, strict=True)):
        tensor.copy_(values[rows])
        if tensor.ndim == 1:
            tensor[first : first + count] = values[:first].float().mean().to(tensor.dtype)
        else:
            is_read = is_tied or number == 1
            _draw(tensor[: first + count], first, first, HEAD_SPREAD if is_read else 1.0, generator)
    padding = backbone.config.get_text_config().pad_token_id
    if padding is not None and padding >= first:
        for config in (backbone.config.get_text_config(), backbone.generation_config):
            config.pad_token_id = padding + count
        backbone.get_input_embeddings().padding_idx = padding + count


@torch.no_grad()
def widen_codes(backbone: Any, first: int, num_codes: int, wanted: int) -> None:
    """Give a backbone, in place, `wanted` visual codes for the `num_codes` whose ids begin at `first`.

    A code of more bits begins as the code of its lower bits; what comes after the visual codes moves up.
    """
    old = [tensor.clone() for tensor in _tables(backbone)]
    last = first + num_codes
    rows = torch.cat([torch.arange(first), first + torch.arange(wanted) % num_codes, torch.arange(last, len(old[0]))])
    with torch.random.fork_rng(devices=[]):  # transformers draws rows of its own, which are replaced here
        backbone.resize_token_embeddings(len(rows), mean_resizing=False)
    for tensor, values in zip(_tables(backbone), old, strict=True):
        tensor.copy_(values[rows])


@torch.no_grad()
def translate_codes(
    backbone: Any, embedding: TokenEmbedding, first: int, num_codes: int, new: Tensor, old: Tensor
) -> None:
    """Let a model, in place, take each visual code for what stood in the same places when another tokenizer wrote.

    A row becomes the mean of the rows of the old codes in its places, and what the bits of codes say is fitted to the
    mean of what those of the old ones said.

    Args:
        backbone: A Hugging Face causal LM.
        embedding: What its visual codes add to their rows.
        first: Id of the visual code 0.
        num_codes: C, how many there are.
        new: int64 (N,) codes of the tokenizer that the model is to know, in [0, C).
        old: Those that the one it knows wrote in the same places, likewise.
    """
    pairs, counts = torch.unique(new * num_codes + old, return_counts=True)
    places = torch.stack([pairs // num_codes, pairs % num_codes])
    met = torch.sparse_coo_tensor(places, counts.float(), (num_codes, num_codes), check_invariants=True)
    often, often_old = (torch.bincount(codes, minlength=num_codes).float() for codes in (new, old))

    def means(values: Tensor) -> Tensor:
        values = values.float()
        usual = often_old @ values / often_old.sum()
        return (torch.sparse.mm(met, values) + _RARE * usual) / (often[:, None] + _RARE)

    for tensor in _tables(backbone):
        rows = tensor[first : first + num_codes]  # a head's bias has single numbers
        rows.copy_(means(rows.reshape(num_codes, -1)).reshape(rows.shape))
    bits = embedding.bits_embedding
    if bits is not None:
        signs = embedding.signs(torch.arange(num_codes)).float()
        weights = often.sqrt()[:, None]
        wanted = means(signs @ bits.weight.float().T)
        bits.weight.copy_(torch.linalg.lstsq(weights * signs, weights * wanted).solution.T)


def _tables(backbone: Any) -> list[Tensor]:
    """What has a row for each id: the table, the head where it is another, and the head's bias where it has one."""
    table, head = backbone.get_input_embeddings(), backbone.get_output_embeddings()
    tensors = [table.weight] if head.weight is table.weight else [table.weight, head.weight]
    return tensors if getattr(head, "bias", None) is None else [*tensors, head.bias]


def _draw(weight: Tensor, first: int, num_known: int, spread: float, generator: torch.Generator) -> None:
    """Fill the rows (V - first, D) from `first` on."""
    mean = weight[:num_known].float().mean(dim=0)  # (D,)
    for start in range(first, len(weight), _CHUNK):
        count = min(_CHUNK, len(weight) - start)
        # A sum of centred rows with random signs has their covariance, with no matrix to factor.
        picks = torch.randint(num_known, (count, _MIXED), generator=generator)
        signs = (2.0 * torch.randint(2, (count, _MIXED, 1), generator=generator) - 1).to(weight.device)
        rows = ((weight[picks].float() - mean) * signs).sum(dim=1) / _MIXED**0.5  # (count, D)
        weight[start : start + count] = (mean + spread * rows).to(weight.dtype)
