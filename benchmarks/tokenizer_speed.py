"""How long a video tokenizer takes to encode and decode clips, beside others of as many tokens and parameters.

*ours*: the model's own tokenizer. *ours, channels first*: the same with its tensors in torch's usual order of memory,
where they otherwise have a place's channels side by side; in fp32 it is ours without what makes it fast. Beside them
that of Emu3 in `transformers`, an autoencoder of 3-D convolutions in the way of VideoGPT, and the C-ViViT of
phenaki-pytorch where that package is installed, which needs torchvision. Weights of the others are random, and their
sizes chosen so that they have about as many parameters as the bundled one; each makes 5 x 8 x 8 codes of a clip. All
take turns in one process, in bf16 autocast and in fp32. Clips are taken whole, not latent frame by latent frame.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from held_out import add_model
from report import report
from torch import Tensor, nn

from videopoet import VideoPoet
from videopoet.training.rehearsal import cost_of

SIZE, FRAMES = 64, 17
PRECISIONS = {"bf16": torch.bfloat16, "fp32": torch.float32}


class Way(NamedTuple):
    """A tokenizer, and how it is called: pixels (B, 3, T, H, W) to codes, and codes to pixels."""

    network: nn.Module
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


def ours(model: str | None) -> Way:
    """The tokenizer of a model."""
    tokenizer = VideoPoet.from_pretrained(model).parts.video_tokenizer
    return Way(tokenizer, tokenizer.encode, tokenizer.decode)


def channels_first(way: Way) -> Way:
    """A copy of ours whose convolutions are given contiguous tensors."""
    tokenizer = copy.deepcopy(way.network)
    for module in tokenizer.modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_pre_hook(lambda _, given: (given[0].contiguous(), *given[1:]))
    return Way(tokenizer, tokenizer.encode, tokenizer.decode)  # pyright: ignore[reportArgumentType]


def emu3() -> Way:
    """The architecture of Emu3's; it takes frames in fours, so that the first one comes four times."""
    from transformers import Emu3VQVAE, Emu3VQVAEConfig

    config = Emu3VQVAEConfig(codebook_size=4096, base_channels=64, channel_multiplier=[1, 2, 2, 4], hidden_size=256)
    network = Emu3VQVAE(config).eval()

    def encode(video: Tensor) -> Tensor:
        frames = torch.cat([video[:, :, :1].expand(-1, -1, 3, -1, -1), video], dim=2).transpose(1, 2)
        sizes = torch.tensor([frames.shape[-2:]] * len(frames))
        found = network.encode(frames, sizes).image_tokens
        assert found is not None
        return torch.stack(list(found))

    return Way(network, encode, network.decode)


def c_vivit() -> Way:
    """Phenaki's, as its package has it.

    Raises:
        ImportError: It is not installed, or torchvision is not.
    """
    from phenaki_pytorch.cvivit import CViViT  # pyright: ignore[reportMissingImports]

    network = CViViT(
        dim=256, codebook_size=4096, image_size=SIZE, patch_size=8, temporal_patch_size=4, spatial_depth=4,
        temporal_depth=4, dim_head=64, heads=4, use_vgg_and_gan=False,
    ).eval()  # fmt: skip
    return Way(
        network,
        lambda video: network(video, return_only_codebook_ids=True),
        lambda codes: network.decode_from_codebook_indices(codes.flatten(1)),
    )


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_model(parser)
    parser.add_argument("--clips", type=int, nargs="+", default=(1, 8), help="in a batch")
    parser.add_argument("--repeats", type=int, default=3, help="how often each, after a first")
    given = parser.parse_args()
    torch.manual_seed(0)
    own = ours(given.model)
    ways, missing = {"ours": own, "ours, channels first": channels_first(own), "Emu3, transformers": emu3()}, {}
    try:
        ways["C-ViViT, phenaki-pytorch"] = c_vivit()
    except ImportError as error:
        missing["C-ViViT, phenaki-pytorch"] = f"not installed ({error}); pip install phenaki-pytorch torchvision"
    for count in given.clips:
        video = 2 * torch.rand(count, 3, FRAMES, SIZE, SIZE) - 1
        seconds: dict[tuple[str, str], list[tuple[float, float]]] = {}
        shown: dict[tuple[str, str], dict[str, Any]] = {}
        for turn in range(1 + given.repeats):
            for name, way in ways.items():
                for precision, dtype in PRECISIONS.items():
                    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                        began = time.process_time()
                        codes = way.encode(video)
                        between = time.process_time()
                        way.decode(codes)
                        ended = time.process_time()
                        if turn:
                            seconds.setdefault((name, precision), []).append((between - began, ended - between))
                            continue

                        def once(way: Way = way, video: Tensor = video) -> None:
                            way.decode(way.encode(video))

                        peak = cost_of(once, nn.Identity()).peak_bytes
                    shown[name, precision] = {"tokens": codes[0].numel(), "peak_memory_mb": round(peak / 2**20)}
        totals = {key: statistics.median(map(sum, turns)) for key, turns in seconds.items()}
        fastest = min(value for (name, _), value in totals.items() if name == "ours")
        for (name, precision), turns in seconds.items():
            report(
                "tokenizer_speed",
                way=name,
                precision=precision,
                clips=count,
                processor_seconds_a_clip=round(totals[name, precision] / count, 4),
                encode=round(statistics.median(each for each, _ in turns) / count, 4),
                decode=round(statistics.median(each for _, each in turns) / count, 4),
                times_ours=round(totals[name, precision] / fastest, 2),
                parameters=sum(parameter.numel() for parameter in ways[name].network.parameters()),
                **shown[name, precision],
                repeats=given.repeats,
            )
    for name, why in missing.items():
        report("tokenizer_speed", way=name, failed=why)


if __name__ == "__main__":
    main()
