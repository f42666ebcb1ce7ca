"""What a run will take before it is started: parameters, memory, operations, days and tokens, stage by stage.

Every step is gone through once, as `training` takes it, with tensors that have no values; see `rehearsal`. Not counted:
rendering and reading clips, saving, validation, and what the processes themselves take.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from videopoet import runtime
from videopoet.data import toybox
from videopoet.generation import poet_folder
from videopoet.models.language_model import AUDIO_FRAMES, LanguageModel
from videopoet.models.super_resolution import Config as SuperResolutionConfig
from videopoet.models.super_resolution import SuperResolution
from videopoet.nn.losses import multi_scale_mel_loss
from videopoet.sequence import layout
from videopoet.sequence.tasks import Task, find_task
from videopoet.sequence.vocabulary import Vocabulary
from videopoet.text_encoders.own_tokens import OwnTokens
from videopoet.tokenizers.magvit_v2 import MagvitV2
from videopoet.tokenizers.soundstream import SoundStream
from videopoet.training import adaptation, loop, optimizer, reconstruction, rehearsal
from videopoet.training.rehearsal import Cost
from videopoet.training.run import RunConfig, vocabulary_of

CLIPS_AT_ONCE = 16
"""Clips that `data.mixture` tokenizes together."""
MEAN_MASKED = 2 / math.pi
"""Share of codes that the cosine schedule of masked training hides on average."""


@dataclass(frozen=True)
class StagePlan:
    """One stage of a run."""

    stage: str
    parameters: dict[str, int]
    """By part; those of a discriminator are no part of what is kept."""
    steps: int
    tokens: int
    """Codes and ids that the stage reads in all, over all GPUs."""
    flops_per_step: float
    """Forward and backward, with the tokenizing of clips, over all GPUs."""
    flops: float
    """Of the whole stage."""
    memory: int
    """Bytes on each GPU at the worst moment."""
    memory_sharded: int
    """The same, were weights, gradients and the optimizer's state divided among the GPUs."""
    days: float


@dataclass(frozen=True)
class _Batch:
    """One kind of batch: how often, how many tokens, what it costs."""

    weight: float
    tokens: int
    cost: Cost


def plan(config: RunConfig, gpus: int = 1, teraflops: float = 400.0) -> list[StagePlan]:
    """Plan every stage of a run on so many GPUs, each of which sees batches of its own.

    Args:
        config: The run.
        gpus: How many.
        teraflops: What each keeps up, in 10^12 operations a second.
    """
    with rehearsal.without_values():
        video = MagvitV2(config.video_tokenizer.model)
        audio = SoundStream(config.audio_tokenizer.model)
    if config.init_from is None:
        words = OwnTokens.from_words(toybox.words())
    else:
        words = OwnTokens.load(_source(config) / "language_model")
    plans = [
        _video_tokenizer(config, video, gpus, teraflops),
        _audio_tokenizer(config, audio, gpus, teraflops),
        _language_model(config, video, audio, words, gpus, teraflops),
    ]
    if config.super_resolution is not None:
        plans.append(_super_resolution(config, video, words, gpus, teraflops))
    return plans


def _video_tokenizer(config: RunConfig, video: MagvitV2, gpus: int, teraflops: float) -> StagePlan:
    run, world = config.video_tokenizer, config.world
    with rehearsal.without_values():
        objective = reconstruction.VideoReconstruction(video, run.objective)
    batches, begun = [], 0
    for number, stage in enumerate(run.stages):
        count = stage.num_batches if number < len(run.stages) - 1 else max(1, _num_batches(run.training) - begun)
        begun += count
        for scale in stage.scales:
            size = max(1, stage.batch_size // scale**2)
            shape = (size, 3, stage.num_frames, scale * world.height, scale * world.width)
            tokens = size * math.prod(video.grid(*shape[2:]))
            every = run.objective.gradient_penalty_every if objective.adversary is not None else 1
            for step, weight in ((0, 1 / every), (1, 1 - 1 / every)):  # the gradient penalty comes now and then
                if weight:
                    cost = _objective_cost(objective, shape, step, run.training.bf16)
                    batches.append(_Batch(count * weight / len(stage.scales), tokens, cost))
    return _stage("video_tokenizer", objective.model, objective.adversary, run.training, batches, 0, gpus, teraflops)


def _audio_tokenizer(config: RunConfig, audio: SoundStream, gpus: int, teraflops: float) -> StagePlan:
    run, world = config.audio_tokenizer, config.world
    num_samples = run.sounds.num_samples or round(world.num_frames / world.frame_rate * world.sample_rate)
    with rehearsal.without_values():
        objective = reconstruction.AudioReconstruction(audio, run.objective)
        audio.quantizer.initialized = torch.tensor(True)  # a constant keeps its value: the usual step is planned
    # Filters are made once and kept, so they must be real ones.
    silence = torch.zeros(1, 1, num_samples)
    multi_scale_mel_loss(silence, silence, audio.sample_rate, floor=run.objective.mel_floor)
    shape = (run.sounds.batch_size, 1, num_samples)
    cost = _objective_cost(objective, shape, 1, run.training.bf16)
    tokens = run.sounds.batch_size * audio.num_quantizers * audio.num_frames(num_samples)
    batches = [_Batch(1.0, tokens, cost)]
    return _stage("audio_tokenizer", objective.model, objective.adversary, run.training, batches, 0, gpus, teraflops)


def _language_model(
    config: RunConfig, video: MagvitV2, audio: SoundStream, words: OwnTokens, gpus: int, teraflops: float
) -> StagePlan:
    run, world = config.language_model, config.world
    model, vocabulary = _model_of(config, video, audio, words)
    if run.recompute:
        model.recompute_layers()
    if run.lora is not None:
        with rehearsal.without_values():
            adaptation.add_lora(model, run.lora, vocabulary.config.text_size)
    num_samples = round(world.num_frames / world.frame_rate * world.sample_rate)
    sizes = ((world.height, world.width), *run.mixture.sizes)
    costs: dict[tuple, Cost] = {}  # tasks with rows of one shape cost the same
    batches, pool = [], 0.0
    for height, width in sizes:  # as often as one another
        shapes = {
            "text": (_mean_text(config, words),),
            "video": video.grid(world.num_frames, height, width),
            "audio": (audio.num_quantizers, audio.num_frames(num_samples)),
        }
        clip = _encoding_cost(video, audio, (3, world.num_frames, height, width), num_samples)
        pool += clip.flops / CLIPS_AT_ONCE * run.mixture.pool_clips / run.mixture.pool_batches / len(sizes)
        for share in run.mixture.shares:
            if not share.weight:
                continue
            task = find_task(share.task)
            row = _row(task, vocabulary, shapes)
            ranges, counts = row.ranges[row.targets].unique(dim=0, return_counts=True)
            choices = tuple((start, stop, n) for (start, stop), n in zip(ranges.tolist(), counts.tolist(), strict=True))
            key = (share.batch_size, len(row.tokens), choices)
            if key not in costs:
                costs[key] = _rows_cost(model, *key, run.training.bf16)
            # Views that are changed in pixels are tokenized for each batch.
            changed = share.batch_size * sum(view.change is not None for view in (*task.given, *task.predict))
            cost = Cost(costs[key].flops + changed * clip.flops // CLIPS_AT_ONCE, costs[key].peak_bytes)
            batches.append(_Batch(share.weight, share.batch_size * len(row.tokens), cost))
    return _stage("language_model", model, None, run.training, batches, pool, gpus, teraflops)


def _super_resolution(config: RunConfig, video: MagvitV2, words: OwnTokens, gpus: int, teraflops: float) -> StagePlan:
    run, world = config.super_resolution, config.world
    assert run is not None
    with rehearsal.without_values():
        model = SuperResolution(
            SuperResolutionConfig(
                **run.model.to_dict(),
                num_bits=(video.num_codes - 1).bit_length(),
                text_size=words.size,
                longest_text=words.longest,
            )
        ).train()
    batches, encoding = [], 0.0
    for scale in run.pairs.scales:
        size = max(1, run.pairs.batch_size // scale**2)
        t, h, w = video.grid(world.num_frames, scale * world.height, scale * world.width)
        for grid, share in (((t, h, w), 1 - run.pairs.image_share), ((1, h, w), run.pairs.image_share)):
            if share:
                cost = _pairs_cost(model, size, grid, _mean_text(config, words), run.training.bf16)
                tokens = size * 5 * math.prod(grid)  # a large clip has four times the codes of the small one
                batches.append(_Batch(share / len(run.pairs.scales), tokens, cost))
        for side in (scale, 2 * scale):
            shape = (3, world.num_frames, side * world.height, side * world.width)
            clips = max(1, run.pairs.pool_clips // scale**2)
            with rehearsal.without_values():
                clip = torch.zeros(1, *shape)
                flops = rehearsal.cost_of(lambda clip=clip: video.encode(clip), video).flops
            encoding += flops * clips / run.pairs.pool_batches / len(run.pairs.scales)
    return _stage("super_resolution", model, None, run.training, batches, encoding, gpus, teraflops)


def _stage(
    name: str,
    model: nn.Module,
    adversary: nn.Module | None,
    training: loop.Config,
    batches: list[_Batch],
    encoding_flops: float,
    gpus: int,
    teraflops: float,
) -> StagePlan:
    """Sum up: means over batches by their weights, the most memory over all of them."""
    total = sum(batch.weight for batch in batches)
    flops = sum(batch.weight * batch.cost.flops for batch in batches) / total + encoding_flops
    tokens = sum(batch.weight * batch.tokens for batch in batches) / total
    flops_per_step = gpus * training.accumulation * flops
    parts = [*_parameters(model), *([] if adversary is None else _parameters(adversary))]
    weights, trained = _bytes(parts), _bytes(parameter for parameter in parts if parameter.requires_grad)
    held = _held_bytes(model, training)
    if adversary is not None:
        held += 2 * _bytes(_parameters(adversary))  # AdamW's moments
    gradients = trained if training.accumulation > 1 else 0  # those of the batches before
    passing = max(batch.cost.peak_bytes for batch in batches) - weights
    memory = weights + held + max(gradients + passing, trained)
    parameters = {"model": _count(model)}
    if isinstance(model, LanguageModel):
        tables = {
            id(table): table.numel() for table in (model.backbone.get_input_embeddings().weight, model.head_weight)
        }
        num_tables, num_places = sum(tables.values()), _count(model.embedding)
        layers = _count(model) - num_tables - num_places
        parameters = {"layers": layers, "tables": num_tables, "places and bits": num_places}
    if adversary is not None:
        parameters["discriminator"] = _count(adversary)
    return StagePlan(
        stage=name,
        parameters=parameters,
        steps=training.num_steps,
        tokens=round(tokens * gpus * training.accumulation * training.num_steps),
        flops_per_step=flops_per_step,
        flops=flops_per_step * training.num_steps,
        memory=memory,
        memory_sharded=memory - round((weights + held + gradients) * (1 - 1 / gpus)),
        days=flops_per_step * training.num_steps / (gpus * teraflops * 1e12) / 86400,
    )


def _held_bytes(model: nn.Module, training: loop.Config) -> int:
    """What the optimizer and the running mean keep beside the weights."""
    with rehearsal.without_values():
        optimizers = optimizer.build(model, training.optimizer)
    held = 0
    for each in optimizers:
        states = 1 if isinstance(each, optimizer.Muon) else 2
        held += states * sum(_bytes(group["params"]) for group in each.param_groups)
    return held + _bytes(parameter for parameter in _parameters(model) if parameter.requires_grad)


def _objective_cost(objective: Any, shape: tuple[int, ...], step: int, bf16: bool) -> Cost:
    """A tokenizer's step on a batch of this shape, and its discriminator's."""
    objective.model.train()
    module = nn.ModuleList([objective.model, *([objective.adversary] if objective.adversary is not None else [])])
    with rehearsal.without_values():
        batch = torch.zeros(shape)

        def compute() -> None:
            if objective.adversary is not None:
                objective.adversary.requires_grad_(False)
            with runtime.autocast("cpu", bf16):
                losses = objective(batch, step, runtime.generator("plan"))
            losses.total.backward()
            if objective.adversary is not None:
                objective.adversary.requires_grad_(True)
                with runtime.autocast("cpu", bf16):
                    against = objective.adversary_loss(batch, losses.made.detach(), step)
                against.total.backward()

        cost = rehearsal.cost_of(compute, module)
        module.zero_grad(set_to_none=True)
    return cost


def _encoding_cost(video: MagvitV2, audio: SoundStream, clip: tuple[int, ...], num_samples: int) -> Cost:
    """Turning a batch of clips with their sound into codes."""
    with rehearsal.without_values(), torch.no_grad(), runtime.autocast("cpu"):
        pixels, samples = torch.zeros(CLIPS_AT_ONCE, *clip), torch.zeros(CLIPS_AT_ONCE, 1, num_samples)
        codecs = nn.ModuleList([video, audio]).eval()
        return rehearsal.cost_of(lambda: (video.encode(pixels), audio.encode(samples)), codecs)


def _rows_cost(
    model: LanguageModel, batch_size: int, length: int, choices: tuple[tuple[int, int, int], ...], bf16: bool
) -> Cost:
    """A step on rows of `length` positions, of which so many choose among the ids of each range."""

    def compute() -> None:
        tokens = torch.zeros(batch_size, length - 1, dtype=torch.long)
        mask = torch.ones(batch_size, 1, length - 1, length - 1, dtype=torch.bool)
        with runtime.autocast("cpu", bf16):
            embeddings = model.embed(tokens, tokens, torch.zeros(*tokens.shape, 3, dtype=torch.long))
            hidden = model(embeddings, mask, tokens).flatten(0, 1)
            losses = []
            for start, stop, count in choices:
                chosen = hidden[torch.zeros(batch_size * count, dtype=torch.long)]
                losses.append(model.loss_within(chosen, chosen.new_zeros(len(chosen), dtype=torch.long), start, stop))
            loss = torch.cat(losses).mean()
        loss.backward()

    return _by_layers(model, model.num_layers, 1, compute)


def _pairs_cost(model: SuperResolution, size: int, grid: tuple[int, ...], num_text: int, bf16: bool) -> Cost:
    """A step of super-resolution from codes of this grid."""
    t, h, w = grid

    def compute() -> None:
        codes = torch.zeros(size, t, 2 * h, 2 * w, dtype=torch.long)
        low, text = torch.zeros(size, t, h, w, dtype=torch.long), torch.zeros(size, num_text, dtype=torch.long)
        with runtime.autocast("cpu", bf16):
            hidden = model(codes, low, text, torch.zeros(size)).flatten(0, 3)
            masked = torch.zeros(round(MEAN_MASKED * len(hidden)), dtype=torch.long)
            logits = model.logits(hidden[masked]).float().flatten(0, 1)
            loss = nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))
        loss.backward()

    return _by_layers(model, len(model.layers), len(model.config.windows), compute)


def _by_layers(model: nn.Module, num_layers: int, period: int, compute: Callable[[], None]) -> Cost:
    """The cost of a deep stack from two shallow ones, since its layers, or its blocks of `period` layers, are alike."""

    def with_layers(count: int) -> Cost:
        parent, name, layers = _stack(model, num_layers)
        setattr(parent, name, layers[:count])
        try:
            with rehearsal.without_values():
                return rehearsal.cost_of(compute, model)
        finally:
            setattr(parent, name, layers)
            model.zero_grad(set_to_none=True)

    if num_layers <= 2 * period:
        return with_layers(num_layers)
    one, two = with_layers(period), with_layers(2 * period)
    further = num_layers / period - 1
    return Cost(
        round(one.flops + further * (two.flops - one.flops)),
        round(one.peak_bytes + further * (two.peak_bytes - one.peak_bytes)),
    )


def _stack(model: nn.Module, num_layers: int) -> tuple[nn.Module, str, nn.ModuleList]:
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.ModuleList) and name in ("layers", "h", "blocks") and len(child) == num_layers:
                return parent, name, child
    raise AssertionError(f"no stack of {num_layers} layers")


def _row(task: Task, vocabulary: Vocabulary, shapes: dict[str, tuple[int, ...]]) -> layout.Row:
    pieces: dict[str, Tensor] = {}
    for view in task.given:
        pieces[view.piece] = view.of(torch.zeros(shapes[view.modality], dtype=torch.long))
    for view in task.predict:
        pieces[f"{view.modality}_out"] = view.of(torch.zeros(shapes[view.modality], dtype=torch.long))
    return layout.build(task, vocabulary, pieces)


def _model_of(
    config: RunConfig, video: MagvitV2, audio: SoundStream, words: OwnTokens
) -> tuple[LanguageModel, Vocabulary]:
    """The language model of a run, without values; one that it starts from has its own shape and vocabulary."""
    if config.init_from is None:
        vocabulary = vocabulary_of(words, video, audio)
        with rehearsal.without_values():
            model = LanguageModel.from_scratch(
                config.language_model.model,
                vocabulary.size,
                vocabulary.range("video"),
                (audio.num_quantizers, AUDIO_FRAMES),
                vocabulary.special("<pad>"),
            )
    else:
        folder = _source(config)
        vocabulary = Vocabulary(poet_folder.read_contents(folder).vocabulary)
        with rehearsal.without_values():
            model = LanguageModel.shaped_as(folder / "language_model")
    return model.train(), vocabulary


def _source(config: RunConfig) -> Path:
    return poet_folder.find(None if config.init_from == "bundled" else config.init_from)


def _mean_text(config: RunConfig, words: OwnTokens) -> int:
    world = toybox.ToyBox(config.world)
    return round(sum(len(words.encode(world.scene(seed).caption)) for seed in range(64)) / 64)


def _num_batches(training: loop.Config) -> int:
    return training.num_steps * training.accumulation


def _parameters(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters())


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _bytes(parameters: Iterable[Tensor]) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)
