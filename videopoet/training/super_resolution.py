"""The stage of super-resolution: it gives a finished poet a transformer that makes clips twice as large."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from videopoet import checkpoint, ranks, runtime
from videopoet.config import BaseConfig
from videopoet.data.mixed import mixed
from videopoet.data.upscaling import PairBatches, Pairs, PairsConfig
from videopoet.data.world import World
from videopoet.errors import CheckpointError
from videopoet.generation import poet_folder
from videopoet.generation.masked_decoding import decode
from videopoet.generation.poet_folder import Parts
from videopoet.generation.upscaling import bicubic
from videopoet.media.types import Image
from videopoet.models import super_resolution
from videopoet.models.super_resolution import UNKNOWN, SuperResolution
from videopoet.training import loop, masked_token
from videopoet.training.reconstruction import psnr
from videopoet.training.streams import Streams
from videopoet.training.surroundings import Surroundings

SAMPLED_CLIPS = 4
"""Validation clips that are upscaled and measured at each validation."""


class SuperResolutionRun(BaseConfig):
    """The stage of super-resolution, which learns pairs of codes of the poet's video tokenizer."""

    model: super_resolution.Shape
    objective: masked_token.Config = masked_token.Config()
    pairs: PairsConfig
    recompute: bool = False
    """Keep what enters a layer and compute the rest again in the backward pass: a third more work, far less memory."""
    training: loop.Config


def train(run: SuperResolutionRun, around: Surroundings) -> None:
    """Train on the codes of the run's poet, or of the one it starts from, and write that poet with what was learned.

    Raises:
        CheckpointError: There is no poet yet, or the one started from has a super-resolution of another shape.
    """
    device, validation = around.device, around.validation
    parts = _poet(around.output, device, around.source)
    torch.manual_seed(run.training.seed)
    config = super_resolution.Config(
        **run.model.to_dict(),
        num_bits=(parts.video_tokenizer.num_codes - 1).bit_length(),
        text_size=parts.text_encoder.size,
        longest_text=parts.text_encoder.longest,
    )
    model = SuperResolution(config).to(device)
    began = parts.super_resolution or (around.source and around.source.super_resolution)
    if began is not None and began.config.num_bits == config.num_bits:
        if began.config.text_size < config.text_size:
            began.widen_text(config.text_size)
        checkpoint.load_weights(model, began.state_dict(), str(around.source_name or around.output))
    if run.recompute:
        model.recompute_layers()
    codecs = (parts.video_tokenizer, parts.text_encoder)
    known = PairBatches(validation, run.pairs, *codecs, run.training.seed, device)
    seeds = list(range(around.num_validation))
    objective = masked_token.MaskedToken(
        model,
        run.objective,
        [known.pairs(seeds[first : first + 4]) for first in range(0, len(seeds), 4)],
        _sampler(parts, model, validation, known.pairs(seeds[:SAMPLED_CLIPS]), seeds[:SAMPLED_CLIPS], device),
    )

    def batches_of(shown: World, seed: int | str) -> PairBatches:
        return PairBatches(shown, run.pairs, *codecs, seed, device)

    footage = None if around.footage is None else around.footage[0]
    source = mixed(batches_of, around.world, footage, around.footage_share)
    batches = Streams(source, run.training.seed, run.training.accumulation)
    around.train("super_resolution", objective, batches, run.training)
    if ranks.rank() == 0:
        poet_folder.save(replace(parts, super_resolution=model), around.output / "poet", torch.bfloat16)


def _poet(output: Path, device: torch.device, source: Parts | None) -> Parts:
    if (output / "poet").exists():
        return poet_folder.load(output / "poet", device, torch.float32)
    if source is None or (output / "video_tokenizer" / "final").exists():
        raise CheckpointError(
            f"'{output}' has no finished poet; super-resolution is trained on its codes and becomes a part of it; "
            "train the other stages first, or take a model's with --init-from",
            code="checkpoint_missing",
        )
    for part in (source.video_tokenizer, source.audio_tokenizer, source.language_model):
        part.to(device)
    return source


def _sampler(
    parts: Parts, model: SuperResolution, validation: World, pairs: Pairs, seeds: list[int], device: torch.device
) -> Callable[[Path], dict[str, float]]:
    """What upscales validation clips, writes them beside the truth, and measures them."""
    world = validation.at_scale(2)
    truth = world.render([world.scene(seed) for seed in seeds], device, audio=False).video

    def pixels(codes: Tensor) -> Tensor:
        with runtime.autocast(device):
            return parts.video_tokenizer.decode(codes).float()

    def write_samples(folder: Path) -> dict[str, float]:
        generators = [runtime.generator("samples", seed) for seed in seeds]
        unknown = torch.full_like(pairs.codes, UNKNOWN)
        with runtime.autocast(device):
            codes = decode(model, unknown, pairs.low_codes, pairs.text, parts.settings.upscaling, generators)
        small = pixels(pairs.low_codes)
        stretched = torch.stack([bicubic(clip, *truth.shape[-2:]) for clip in small]).clamp(-1, 1)
        made = pixels(codes)
        rows = torch.stack([stretched, made, truth], dim=1).flatten(0, 1)[:, :, ::8]
        sheet = rearrange(rows, "b c t h w -> c (b h) (t w)")
        Image.from_pixels(sheet.cpu()).save(folder / "bicubic_upscaled_truth.png")
        seen = {"psnr": made, "psnr_bicubic": stretched, "psnr_ceiling": pixels(pairs.codes)}
        return {name: psnr(video, truth).mean().item() for name, video in seen.items()}

    return write_samples
