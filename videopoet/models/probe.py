"""Whether a language model can be steered as ours must be: tried out, since families differ in what they heed."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from videopoet.errors import ConfigError
from videopoet.models.language_model import LanguageModel

_LENGTH, _PREFIX = 12, 6
_TAKEN = ("inputs_embeds", "attention_mask", "position_ids", "past_key_values")


def check_family(backbone) -> None:
    """Refuse a Hugging Face causal LM that by its config and signature cannot be steered.

    Raises:
        ConfigError: It has layers other than attention, or takes no embeddings, mask, positions or cache.
    """
    family = backbone.config.model_type
    kinds = set(getattr(backbone.config.get_text_config(), "layer_types", None) or ())
    if other := sorted(kinds - {"full_attention", "sliding_attention"}):
        raise _unfit(family, f"it has layers of the kind '{other[0]}', which heed no mask")
    taken = inspect.signature(backbone.base_model.forward).parameters
    if missing := [name for name in _TAKEN if name not in taken]:
        raise _unfit(family, f"it takes no {missing[0]}, as state-space models and those with ALiBi do not")


@torch.no_grad()
def text_logits(backbone, num_known: int) -> Tensor:
    """What a Hugging Face causal LM says of the probe's text by itself, (1, L, V)."""
    return backbone(input_ids=_tokens(num_known), use_cache=False).logits


@torch.no_grad()
def check(model: LanguageModel, num_known: int, own_logits: Tensor) -> None:
    """Try a model's masks, positions and cache on a few tokens, and set `causal_prefix` where it needs that.

    Args:
        model: In evaluation mode.
        num_known: Ids that its text tokenizer gives.
        own_logits: `text_logits` of its backbone before it was touched, (1, L, V).

    Raises:
        ConfigError: It lets positions see what the mask forbids, gives other logits from embeddings than from ids, or
            cannot go on from a cache; the message says which.
    """
    family = model.backbone.config.model_type
    with refusing(family, "it fails on embeddings with a 4-D mask"):
        _check(model, family, num_known, own_logits)


@contextmanager
def refusing(family: str, what: str = "it cannot be built") -> Iterator[None]:
    """Say of whatever the code of `transformers` raises that the family does not fit."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0].split(". ")[0] if str(error) else type(error).__name__
        raise _unfit(family, f"{what} ({reason})") from None


def _check(model: LanguageModel, family: str, num_known: int, own_logits: Tensor) -> None:
    from transformers import DynamicCache

    tokens, positions = _tokens(num_known), torch.arange(_LENGTH)[None]
    embeddings = model.embed_tokens(tokens, torch.zeros_like(tokens))
    causal = torch.ones(1, 1, _LENGTH, _LENGTH, dtype=torch.bool).tril()

    hidden = model(embeddings, causal, positions)
    eps = torch.finfo(hidden.dtype).eps
    if not _close(model.logits(hidden, 0, own_logits.shape[-1]), own_logits, 16 * eps):
        raise _unfit(family, "its text logits from embeddings are not those from ids")

    def change_by(place: int, mask: Tensor) -> Tensor:
        """How much another token at `place` changes the state of each position, (L,)."""
        changed = embeddings.clone()
        changed[:, place] = embeddings[:, (place + 5) % _LENGTH]
        return (model(changed, mask, positions) - model(embeddings, mask, positions)).abs().amax(dim=-1)[0]

    # What is masked adds exactly nothing; experts alone may round otherwise when other tokens share them.
    rounding = 2 * eps * float(hidden.abs().max())
    prefix = causal.clone()
    prefix[:, :, :_PREFIX, :_PREFIX] = True
    model.causal_prefix = not bool((change_by(_PREFIX - 1, prefix)[:_PREFIX] > 0).all())
    mask = causal if model.causal_prefix else prefix
    place = _PREFIX + 2
    change = change_by(place, mask)
    if (change[:place] > rounding).any() or not (change[place:] > 0).all():
        raise _unfit(family, "a token of the output changes what stands before it, or does not change what follows")
    padded = mask.clone()
    padded[:, :, 1:, 0] = False
    if (change_by(0, padded)[1:] > rounding).any():
        raise _unfit(family, "padding that the mask hides changes what follows it")

    cache, parts = DynamicCache(), []
    for start, stop in ((0, _PREFIX), *((place, place + 1) for place in range(_PREFIX, _LENGTH))):
        step = slice(start, stop)
        parts.append(model(embeddings[:, step], mask[:, :, step, :stop], positions[:, step], cache))
    if not _close(torch.cat(parts, dim=1), model(embeddings, mask, positions), 32 * eps):
        raise _unfit(family, "token after token from a cache it computes something else than at once")


def _close(found: Tensor, expected: Tensor, share: float) -> bool:
    return bool((found - expected).abs().max() <= share * expected.abs().max())


def _tokens(num_known: int) -> Tensor:
    """A text of different known ids, (1, L)."""
    return (torch.arange(_LENGTH)[None] * max(1, num_known // _LENGTH) + 1) % num_known


def _unfit(family: str, reason: str) -> ConfigError:
    return ConfigError(
        f"a language model of the family '{family}' cannot be used: {reason}; choose a decoder with ordinary "
        "attention, such as Llama, Qwen, Gemma, Mistral or GPT-NeoX",
        code="model_unfit",
    )
