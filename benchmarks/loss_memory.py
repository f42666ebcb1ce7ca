"""How much memory does the loss over a large vocabulary take, beside a softmax over all positions at once?"""

from __future__ import annotations

import argparse

import torch
from report import report
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM

from videopoet import runtime
from videopoet.models import token_embedding
from videopoet.models.language_model import LanguageModel
from videopoet.models.token_embedding import TokenEmbedding
from videopoet.training.rehearsal import cost_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codes", type=int, default=2**18, help="Size of the softmax.")
    parser.add_argument("--positions", type=int, default=1280, help="Predicted tokens, such as those of a clip.")
    parser.add_argument("--width", type=int, default=256, help="Of the model.")
    arguments = parser.parse_args()
    device = runtime.best_device()
    with device:
        model = head_of(arguments.codes, arguments.width)
        torch.manual_seed(0)
        hidden = torch.randn(arguments.positions, arguments.width)
        targets = torch.randint(arguments.codes, (arguments.positions,))

    def naive() -> Tensor:
        return F.cross_entropy(F.linear(leaf, model.head_weight).float(), targets, reduction="none")

    def chunked() -> Tensor:
        return model.loss_within(leaf, targets, 0, arguments.codes)

    kept, peaks, losses, gradients = [], {}, {}, {}
    for name, loss in (("naive", naive), ("chunked", chunked)):
        leaf = hidden.clone().requires_grad_(True)
        kept.append(leaf)

        def compute(loss=loss, name=name) -> None:
            losses[name] = loss()
            losses[name].mean().backward()
            losses[name] = losses[name].detach()

        # What both must have is no part of the comparison: weights, hidden states and their gradients.
        weights = sum(p.numel() * p.element_size() for p in model.parameters())
        needed = 2 * (weights + hidden.numel() * hidden.element_size())
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            compute()
            peaks[name] = torch.cuda.max_memory_allocated() - needed
        else:
            peaks[name] = cost_of(compute, model).peak_bytes - needed
        gradients[name] = (leaf.grad, model.head_weight.grad)
        model.zero_grad(set_to_none=True)
    difference = float((losses["naive"] - losses["chunked"]).abs().max())
    pairs = zip(gradients["naive"], gradients["chunked"], strict=True)
    report(
        "loss_memory",
        codes=arguments.codes,
        positions=arguments.positions,
        width=arguments.width,
        naive_mb=peaks["naive"] / 1e6,
        chunked_mb=peaks["chunked"] / 1e6,
        share=peaks["chunked"] / peaks["naive"],
        largest_difference=difference,
        largest_gradient_difference=max(
            float((one - other).norm() / one.norm())
            for one, other in pairs  # pyright: ignore
        ),
    )


def head_of(codes: int, width: int) -> LanguageModel:
    """A language model of next to no layers whose head has so many codes."""
    config = AutoConfig.for_model(
        "qwen3",
        vocab_size=codes,
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
        intermediate_size=8,
        tie_word_embeddings=True,
    )
    backbone = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    embedding = TokenEmbedding(token_embedding.Config(width=width, video_places=(1, 1, 1), audio_places=(1, 1)))
    nn.init.normal_(backbone.get_output_embeddings().weight, std=0.02)
    return LanguageModel(backbone, embedding)


if __name__ == "__main__":
    main()
