"""Whether a language model can be steered as ours must be: tried out, since families differ in what they heed."""

from __future__ import annotations

import inspect

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
    try:
        _check(model, family, num_known, own_logits)
    except ConfigError:
        raise
    except Exception as error:  # whatever its code does with a mask that it was not written for
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _unfit(family, f"it fails on embeddings with a 4-D mask ({reason})") from None


def _check(model: LanguageModel, family: str, num_known: int, own_logits: Tensor) -> None:
    from transformers import DynamicCache

    tokens, positions = _tokens(num_known), torch.arange(_LENGTH)[None]
    embeddings = model.embed_tokens(tokens, torch.zeros_like(tokens))
    causal = torch.ones(1, 1, _LENGTH, _LENGTH, dtype=torch.bool).tril()

    hidden = model(embeddings, causal, positions)
    noise = 16 * torch.finfo(hidden.dtype).eps
    logits = model.logits(hidden, 0, own_logits.shape[-1])
    if not torch.allclose(logits, own_logits, rtol=noise, atol=noise * float(own_logits.abs().max())):
        raise _unfit(family, "its text logits from embeddings are not those from ids")

    def moved_by(place: int, mask: Tensor) -> Tensor:
        """bool (L,), True for positions whose state depends on another token at `place`."""
        changed = embeddings.clone()
        changed[:, place] = embeddings[:, (place + 5) % _LENGTH]
        difference = (model(changed, mask, positions) - model(embeddings, mask, positions)).abs().amax(dim=-1)[0]
        return difference > noise * hidden.abs().max()

    prefix = causal.clone()
    prefix[:, :, :_PREFIX, :_PREFIX] = True
    model.causal_prefix = not bool(moved_by(_PREFIX - 1, prefix)[:_PREFIX].all())
    mask = causal if model.causal_prefix else prefix
    moved = moved_by(_PREFIX + 2, mask)
    if moved[: _PREFIX + 2].any() or not moved[_PREFIX + 2 :].all():
        raise _unfit(family, "a token of the output changes what stands before it, or does not change what follows")
    padded = mask.clone()
    padded[:, :, 1:, 0] = False
    if moved_by(0, padded)[1:].any():
        raise _unfit(family, "padding that the mask hides changes what follows it")

    cache, parts = DynamicCache(), []
    for start, stop in ((0, _PREFIX), *((place, place + 1) for place in range(_PREFIX, _LENGTH))):
        step = slice(start, stop)
        parts.append(model(embeddings[:, step], mask[:, :, step, :stop], positions[:, step], cache))
    cached = torch.cat(parts, dim=1)
    whole = model(embeddings, mask, positions)
    if not torch.allclose(cached, whole, rtol=8 * noise, atol=8 * noise * float(whole.abs().max())):
        raise _unfit(family, "token after token from a cache it computes something else than at once")


def _tokens(num_known: int) -> Tensor:
    """A text of different known ids, (1, L)."""
    return (torch.arange(_LENGTH)[None] * max(1, num_known // _LENGTH) + 1) % num_known


def _unfit(family: str, reason: str) -> ConfigError:
    return ConfigError(
        f"a language model of the family '{family}' cannot be converted: {reason}; choose a decoder with ordinary "
        "attention, such as Llama, Qwen, Gemma, Mistral or GPT-NeoX",
        code="model_unfit",
    )
