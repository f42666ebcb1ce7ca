"""How long the entropy of look-up-free quantization takes at 2^18 codes, forward and backward, and how much memory.

Ours holds one number a bit for each latent, and the distribution of the mean assignment in groups of bits. Beside it:
the softmax over all codes written out, and the `LFQ` of vector-quantize-pytorch, where that package is installed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from report import report
from torch import Tensor, nn

from videopoet.nn.quantizers import LookupFreeQuantizer, unpack_bits
from videopoet.training.rehearsal import cost_of


def written_out(num_bits: int, inverse_temperature: float) -> Callable[[Tensor], Tensor]:
    """The entropy term over the whole codebook at once."""
    codebook = unpack_bits(torch.arange(2**num_bits), num_bits).float() * 2 - 1  # (V, num_bits)

    def entropy(probabilities: Tensor) -> Tensor:
        return -(probabilities * (probabilities + 1e-9).log()).sum(dim=-1)

    def loss(latents: Tensor) -> Tensor:
        rows = latents.movedim(1, -1).flatten(0, -2)  # (N, num_bits)
        probabilities = (2 * inverse_temperature * rows @ codebook.T).softmax(dim=-1)  # (N, V)
        return entropy(probabilities).mean() - entropy(probabilities.mean(dim=0))

    return loss


def by_package(num_bits: int) -> Callable[[Tensor], Tensor]:
    """The package's whole quantizer, which does little else.

    Raises:
        ImportError: It is not installed.
    """
    from vector_quantize_pytorch import LFQ  # pyright: ignore[reportMissingImports]

    quantizer = LFQ(codebook_size=2**num_bits, dim=num_bits).train()
    return lambda latents: quantizer(latents).entropy_aux_loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--bits", type=int, default=18, help="of a code")
    parser.add_argument("--latents", type=int, nargs=3, default=(4, 8, 8), help="time, rows, columns of a clip's")
    parser.add_argument("--repeats", type=int, default=5, help="how often each, after a first")
    given = parser.parse_args()
    torch.manual_seed(0)
    latents = torch.randn(1, given.bits, *given.latents)
    quantizer = LookupFreeQuantizer(given.bits).train()
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "ours": lambda values: quantizer(values).entropy,
        "written out": written_out(given.bits, quantizer.inverse_temperature),
    }
    missing = None
    try:
        ways["vector-quantize-pytorch"] = by_package(given.bits)
    except ImportError as error:
        missing = f"not installed ({error}); pip install vector-quantize-pytorch"

    def once(loss: Callable[[Tensor], Tensor]) -> float:
        leaf = latents.clone().requires_grad_(True)
        value = loss(leaf)
        value.backward()
        return value.item()

    values = {name: once(loss) for name, loss in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.repeats):
        for name, loss in ways.items():
            began = time.process_time()
            once(loss)
            seconds[name].append(time.process_time() - began)
    median = {name: statistics.median(each) for name, each in seconds.items()}
    peak = {name: cost_of(lambda loss=loss: once(loss), nn.Identity()).peak_bytes for name, loss in ways.items()}
    for name in ways:
        report(
            "lookup_free_entropy",
            way=name,
            processor_seconds=round(median[name], 5),
            spread=round(max(seconds[name]) - min(seconds[name]), 5),
            peak_memory_mb=round(peak[name] / 2**20, 3),
            times_time_of_ours=round(median[name] / median["ours"], 1),
            times_memory_of_ours=round(peak[name] / peak["ours"], 1),
            entropy=round(values[name], 4),
            codes=2**given.bits,
            latents=latents[0, 0].numel(),
            repeats=given.repeats,
        )
    if missing:
        report("lookup_free_entropy", way="vector-quantize-pytorch", failed=missing)


if __name__ == "__main__":
    main()
