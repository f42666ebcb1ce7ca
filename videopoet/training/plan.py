"""What a run will take before it is started: parameters, memory, operations, days and tokens, stage by stage.

Every step is gone through once, as `training` takes it, with tensors that have no values; see `rehearsal`. Not counted:
rendering and reading clips, saving, validation, and what the processes themselves take.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from videopoet.data import toybox
from videopoet.data.tokenizer_batches import Windows
from videopoet.errors import ConfigError
from videopoet.generation import poet_folder
from videopoet.models.language_model import LanguageModel
from videopoet.models.super_resolution import Config as SuperResolutionConfig
from videopoet.models.super_resolution import SuperResolution
from videopoet.nn.losses import multi_scale_mel_loss
from videopoet.registry import component
from videopoet.sequence import layout
from videopoet.sequence.tasks import Task, find_task
from videopoet.sequence.vocabulary import Vocabulary
from videopoet.text_encoders.own_tokens import OwnTokens
from videopoet.tokenizers.base import Published
from videopoet.tokenizers.magvit_v2 import MagvitV2
from videopoet.tokenizers.soundstream import SoundStream
from videopoet.training import adaptation, loop, optimizer, reconstruction, rehearsal, step_costs
from videopoet.training.language_model import check_architecture, fresh, vocabulary_of, widened
from videopoet.training.rehearsal import Cost
from videopoet.training.run import RunConfig
from videopoet.training.run_folder import StageName


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
    """Bytes on each GPU at the worst moment, with the config's `training.sharding`."""
    memory_sharded: int
    """The same with `training.sharding=full`: weights, gradients and the optimizer's states divided among the GPUs."""
    days: float


@dataclass(frozen=True)
class PlannedParts:
    """A run's networks, without values."""

    video: MagvitV2
    audio: SoundStream
    words: OwnTokens
    model: LanguageModel
    vocabulary: Vocabulary
    super_resolution: SuperResolution | None


@dataclass(frozen=True)
class _Batch:
    """One kind of batch: how often, how many tokens, what it costs."""

    weight: float
    tokens: int
    cost: Cost


def plan(config: RunConfig, gpus: int = 1, teraflops: float = 400.0) -> list[StagePlan]:
    """Plan the stages of a run on so many GPUs, each of which sees batches of its own.

    Args:
        config: The run.
        gpus: How many.
        teraflops: What each keeps up, in 10^12 operations a second.

    Raises:
        ConfigError: The run starts from a poet with tokenizers that others trained, which are not gone through; or its
            language model's architecture does not suit.
    """
    if config.init_from is None and "language_model" in config.stages:
        check_architecture(config.language_model.model)
    parts = parts_of(config)
    plans: dict[StageName, Callable[[], StagePlan]] = {
        "video_tokenizer": lambda: _video_tokenizer(config, parts.video, gpus, teraflops),
        "audio_tokenizer": lambda: _audio_tokenizer(config, parts.audio, gpus, teraflops),
        "language_model": lambda: _language_model(config, parts, gpus, teraflops),
    }
    if parts.super_resolution is not None:
        plans["super_resolution"] = lambda: _super_resolution(config, parts, gpus, teraflops)
    return [plan() for stage, plan in plans.items() if stage in config.stages]


def parts_of(config: RunConfig) -> PlannedParts:
    """The networks that a run trains; a language model that it starts from has its own shape and vocabulary.

    Raises:
        ConfigError: The run starts from a poet with tokenizers that others trained, which are not gone through.
    """
    _refuse_published(config)
    with rehearsal.without_values():
        video = MagvitV2(config.video_tokenizer.model)
        audio = SoundStream(config.audio_tokenizer.model)
    if config.init_from is None:
        words = OwnTokens.from_words(toybox.words())
    else:
        words = OwnTokens.load(_source(config) / "language_model")
    model, vocabulary = _model_of(config, video, audio, words)
    upscaler = None
    if config.super_resolution is not None:
        with rehearsal.without_values():
            upscaler = SuperResolution(
                SuperResolutionConfig(
                    **config.super_resolution.model.to_dict(),
                    num_bits=(video.num_codes - 1).bit_length(),
                    text_size=words.size,
                    longest_text=words.longest,
                )
            ).train()
    return PlannedParts(video, audio, words, model, vocabulary, upscaler)


def _video_tokenizer(config: RunConfig, video: MagvitV2, gpus: int, teraflops: float) -> StagePlan:
    run, world = config.video_tokenizer, config.world
    loop.freeze(video, run.training.frozen)
    with rehearsal.without_values():
        objective = reconstruction.VideoReconstruction(video, run.objective)
    batches, begun = [], 0
    for number, stage in enumerate(run.stages):
        count = stage.num_batches if number < len(run.stages) - 1 else max(1, run.training.num_steps - begun)
        begun += count
        for kind in stage.kinds:
            size = kind.num_windows
            shape = (size, 3, kind.num_frames, kind.scale * world.height, kind.scale * world.width)
            tokens = size * math.prod(video.grid(*shape[2:]))
            with rehearsal.without_values():
                batch = Windows(torch.zeros(shape), torch.zeros(size, 1, *shape[2:], dtype=torch.bool))
            every = run.objective.gradient_penalty_every if objective.adversary is not None else 1
            for step, weight in ((0, 1 / every), (1, 1 - 1 / every)):  # the gradient penalty comes now and then
                if weight:
                    cost = step_costs.objective_cost(objective, batch, step, run.training.bf16)
                    batches.append(_Batch(count * weight * kind.share, tokens, cost))
    return _stage("video_tokenizer", objective.model, objective.adversary, run.training, batches, 0, gpus, teraflops)


def _audio_tokenizer(config: RunConfig, audio: SoundStream, gpus: int, teraflops: float) -> StagePlan:
    run, world = config.audio_tokenizer, config.world
    num_samples = run.sounds.num_samples or round(world.num_frames / world.frame_rate * world.sample_rate)
    loop.freeze(audio, run.training.frozen)
    with rehearsal.without_values():
        objective = reconstruction.AudioReconstruction(audio, run.objective)
        audio.quantizer.initialized = torch.tensor(True)  # a constant keeps its value: the usual step is planned
    # Filters are made once and kept, so they must be real ones.
    silence = torch.zeros(1, 1, num_samples)
    multi_scale_mel_loss(silence, silence, audio.sample_rate, floor=run.objective.mel_floor)
    with rehearsal.without_values():
        batch = torch.zeros(run.sounds.batch_size, 1, num_samples)
    cost = step_costs.objective_cost(objective, batch, 1, run.training.bf16)
    tokens = run.sounds.batch_size * audio.num_quantizers * audio.num_frames(num_samples)
    batches = [_Batch(1.0, tokens, cost)]
    return _stage("audio_tokenizer", objective.model, objective.adversary, run.training, batches, 0, gpus, teraflops)


def _language_model(config: RunConfig, parts: PlannedParts, gpus: int, teraflops: float) -> StagePlan:
    run, world = config.language_model, config.world
    video, audio, model, vocabulary = parts.video, parts.audio, parts.model, parts.vocabulary
    if run.recompute:
        model.recompute_layers()
    if run.lora is not None:
        with rehearsal.without_values():
            adaptation.add_lora(model, run.lora, vocabulary.config.text_size)
    loop.freeze(model, run.training.frozen)
    num_samples = round(world.num_frames / world.frame_rate * world.sample_rate)
    heard = step_costs.encoding_flops(audio, (1, num_samples))
    turns = run.mixture.turns
    costs: dict[tuple, Cost] = {}  # tasks with rows of one shape cost the same
    batches, pool = [], 0.0
    for size in dict.fromkeys(turns):
        height, width = size or (world.height, world.width)
        often = turns.count(size) / len(turns)
        shapes = {
            "text": (mean_text(config, parts.words),),
            "video": video.grid(world.num_frames, height, width),
            "audio": (audio.num_quantizers, audio.num_frames(num_samples)),
        }
        seen = step_costs.encoding_flops(video, (3, world.num_frames, height, width))
        pool += seen * run.mixture.pool_clips / run.mixture.pool_batches * often
        for share in run.mixture.shares:
            if not (share.weight or share.early_weight):
                continue
            task = find_task(share.task)
            row = row_of(task, vocabulary, shapes)
            drafted = ()
            if model.draft_head is not None:
                around = torch.tensor(layout.batch_rows([row], vocabulary.special("<pad>")).neighbours)
                drafted = _choices(row, row.targets & (around >= 0).any(dim=1))
            plays = run.self_play is not None and task.name in run.self_play.tasks
            num_rows = share.batch_size * (2 if plays else 1)
            key = (num_rows, len(row.tokens), _choices(row, row.targets), drafted)
            if key not in costs:
                costs[key] = step_costs.rows_cost(model, *key[:3], run.training.bf16, gpus, drafted)
            # Sound, and views that are changed in pixels, are tokenized for each batch.
            views = (*task.given, *task.predict)
            encoding = seen * sum(view.change is not None for view in views)
            encoding += heard * task.hears
            # A step passes over both rows of a pair three times. The model as it was passes over the own answer and the
            # row without a prompt while it answers, and over both rows to weigh them.
            flops = costs[key].flops * (10 / 6 if plays else 1)
            cost = replace(costs[key], flops=flops + share.batch_size * encoding)
            batches.append(_Batch(share.weight * often, num_rows * len(row.tokens), cost))
    plan = _stage("language_model", model, None, run.training, batches, pool, gpus, teraflops, model.layers)
    if run.self_play is not None:
        as_it_was = _bytes(_parameters(model))  # every process has all of it
        plan = replace(plan, memory=plan.memory + as_it_was, memory_sharded=plan.memory_sharded + as_it_was)
    return plan


def _super_resolution(config: RunConfig, parts: PlannedParts, gpus: int, teraflops: float) -> StagePlan:
    run, world, video, model = config.super_resolution, config.world, parts.video, parts.super_resolution
    assert run is not None and model is not None
    loop.freeze(model, run.training.frozen)
    if run.recompute:
        model.recompute_layers()
    batches, encoding = [], 0.0
    for scale in run.pairs.scales:
        size = max(1, run.pairs.batch_size // scale**2)
        t, h, w = video.grid(world.num_frames, scale * world.height, scale * world.width)
        for grid, share in (((t, h, w), 1 - run.pairs.image_share), ((1, h, w), run.pairs.image_share)):
            if share:
                num_text = mean_text(config, parts.words)
                cost = step_costs.pairs_cost(model, size, grid, num_text, run.training.bf16, gpus)
                tokens = size * 5 * math.prod(grid)  # a large clip has four times the codes of the small one
                batches.append(_Batch(share / len(run.pairs.scales), tokens, cost))
        for side in (scale, 2 * scale):
            flops = step_costs.encoding_flops(video, (3, world.num_frames, side * world.height, side * world.width))
            clips = max(1, run.pairs.pool_clips // scale**2)
            encoding += flops * clips / run.pairs.pool_batches / len(run.pairs.scales)
    return _stage(
        "super_resolution", model, None, run.training, batches, encoding, gpus, teraflops, tuple(model.layers)
    )


def _stage(
    name: str,
    model: nn.Module,
    adversary: nn.Module | None,
    training: loop.Config,
    batches: list[_Batch],
    encoding_flops: float,
    gpus: int,
    teraflops: float,
    blocks: Sequence[nn.Module] = (),
) -> StagePlan:
    """Sum up: means over batches by their weights, the most memory over all of them."""
    total = sum(batch.weight for batch in batches)
    flops = sum(batch.weight * batch.cost.flops for batch in batches) / total + encoding_flops
    tokens = sum(batch.weight * batch.tokens for batch in batches) / total
    flops_per_step = gpus * training.accumulation * flops
    parts = [*_parameters(model), *([] if adversary is None else _parameters(adversary))]
    weights, trained = _bytes(parts), _bytes(parameter for parameter in parts if parameter.requires_grad)
    held = _held_bytes(model, training)
    of_adversary = 0 if adversary is None else 3 * _bytes(_parameters(adversary))  # with AdamW's moments
    if adversary is not None:
        held += 2 * _bytes(_parameters(adversary))
    gradients = trained if training.accumulation > 1 else 0  # those of the batches before
    passing = max(batch.cost.peak_bytes for batch in batches) - weights
    memory = weights + held + max(gradients + passing, trained)
    sharded = memory
    if gpus > 1:
        # Divided is all but the discriminator. Whole are, in a step, what is in no block, a block that computes, the
        # one that is fetched meanwhile and the gradients of a third on their way; in validation, all weights.
        kept = of_adversary + (weights + held + gradients - of_adversary) // gpus
        in_blocks = [_bytes(_parameters(block)) for block in blocks]
        passing = max(batch.cost.divided_bytes for batch in batches) - weights
        together = _bytes(_parameters(model)) - sum(in_blocks) + 3 * max(in_blocks, default=0)
        sharded = kept + max(together + passing, _bytes(_parameters(model)))
    if training.sharding == "full":
        memory = sharded
    parameters = {"model": _count(model)}
    if isinstance(model, LanguageModel):
        tables = {
            id(table): table.numel() for table in (model.backbone.get_input_embeddings().weight, model.head_weight)
        }
        num_tables, num_places = sum(tables.values()), _count(model.embedding)
        num_drafting = 0 if model.draft_head is None else _count(model.draft_head)
        layers = _count(model) - num_tables - num_places - num_drafting
        parameters = {"layers": layers, "tables": num_tables, "places and bits": num_places}
        if num_drafting:
            parameters["draft head"] = num_drafting
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
        memory_sharded=sharded,
        days=flops_per_step * training.num_steps / (gpus * teraflops * 1e12) / 86400,
    )


def _held_bytes(model: nn.Module, training: loop.Config) -> int:
    """What the optimizer and the running mean keep beside the weights."""
    eight_bits = training.optimizer.name == "adamw_8bit"
    alike = training.optimizer.model_copy(update={"name": "adamw"}) if eight_bits else training.optimizer
    with rehearsal.without_values():
        optimizers = optimizer.build(model, alike)
    held = 0
    for each in optimizers:
        for parameter in (parameter for group in each.param_groups for parameter in group["params"]):
            if isinstance(each, optimizer.Muon):
                held += _bytes([parameter])
            elif eight_bits and parameter.numel() >= 4096:
                held += 2 * (parameter.numel() + 4 * -(-parameter.numel() // 256)) + 2 * 4 * 256  # scales and codebooks
            else:
                held += 2 * _bytes([parameter])
    return held + _bytes(parameter for parameter in _parameters(model) if parameter.requires_grad)


def row_of(task: Task, vocabulary: Vocabulary, shapes: dict[str, tuple[int, ...]]) -> layout.Row:
    """A row of a task whose pieces have these shapes."""
    pieces: dict[str, Tensor] = {}
    for view in task.given:
        pieces[view.piece] = view.of(torch.zeros(shapes[view.modality], dtype=torch.long))
    for view in task.predict:
        pieces[f"{view.modality}_out"] = view.of(torch.zeros(shapes[view.modality], dtype=torch.long))
    return layout.build(task, vocabulary, pieces)


def _choices(row: layout.Row, positions: Tensor) -> tuple[tuple[int, int, int], ...]:
    """Ranges of ids, and how many of these positions choose among each."""
    ranges, counts = row.ranges[positions].unique(dim=0, return_counts=True)
    return tuple((start, stop, count) for (start, stop), count in zip(ranges.tolist(), counts.tolist(), strict=True))


def _model_of(
    config: RunConfig, video: MagvitV2, audio: SoundStream, words: OwnTokens
) -> tuple[LanguageModel, Vocabulary]:
    """The language model of a run, without values; one that it starts from has its own shape and vocabulary."""
    if config.init_from is None:
        vocabulary = vocabulary_of(words, video, audio)
        with rehearsal.without_values():
            model = fresh(config.language_model.model, vocabulary)
    else:
        folder = _source(config)
        vocabulary = Vocabulary(poet_folder.read_contents(folder).vocabulary)
        with rehearsal.without_values():
            model = LanguageModel.shaped_as(folder / "language_model")
            vocabulary = widened(model, vocabulary, video)
    if config.language_model.draft_width and model.draft_head is None:
        with rehearsal.without_values():
            model.add_draft_head(config.language_model.draft_width)
    return model.train(), vocabulary


def _refuse_published(config: RunConfig) -> None:
    if config.init_from is None:
        return
    contents = poet_folder.read_contents(_source(config))
    for name in (contents.video_tokenizer, contents.audio_tokenizer):
        if issubclass(component("tokenizers", name), Published):
            raise ConfigError(
                f"'{config.init_from}' has a published tokenizer, {name}, whose passes cannot be counted; a plan takes "
                "the preset's own; plan a poet that was converted with these, and add what the published one takes",
                code="plan_unfit",
            )


def _source(config: RunConfig) -> Path:
    return poet_folder.find(None if config.init_from == "bundled" else config.init_from)


def mean_text(config: RunConfig, words: OwnTokens) -> int:
    """How many ids a caption of the toy box has."""
    world = toybox.ToyBox(config.world)
    return round(sum(len(words.encode(world.scene(seed).caption)) for seed in range(64)) / 64)


def _parameters(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters())


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _bytes(parameters: Iterable[Tensor]) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)
