import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from videopoet import cli, presets, runtime
from videopoet.config import override
from videopoet.data import toybox
from videopoet.data.mixture import Share, TaskBatch
from videopoet.data.tokenizer_batches import Windows
from videopoet.models import construction, language_model
from videopoet.models.language_model import LanguageModel
from videopoet.sequence import layout
from videopoet.sequence.tasks import find_task
from videopoet.text_encoders.own_tokens import OwnTokens
from videopoet.tokenizers.magvit_v2 import MagvitV2
from videopoet.tokenizers.soundstream import SoundStream
from videopoet.training import generation_plan, loop, optimizer, plan, reconstruction, rehearsal, step_costs
from videopoet.training.language_model import vocabulary_of
from videopoet.training.next_token import NextToken


def planned(**changes):
    """The plan of the tiny preset's language model, trained on text to video alone unless told otherwise."""
    config = presets.tiny()
    stage = config.language_model
    shares = tuple(share for share in stage.mixture.shares if share.task == "text_to_video")
    stage = stage.model_copy(update={"mixture": stage.mixture.model_copy(update={"shares": shares})} | changes)
    return config.model_copy(update={"language_model": stage})


def of_language_model(config, gpus):
    return plan._language_model(config, plan.parts_of(config), gpus, 400.0)


@pytest.fixture(scope="module")
def parts():
    config = presets.tiny()
    video, audio = MagvitV2(config.video_tokenizer.model), SoundStream(config.audio_tokenizer.model)
    return video, audio, OwnTokens.from_words(toybox.words())


@pytest.fixture(scope="module")
def model(parts) -> LanguageModel:
    vocabulary = vocabulary_of(parts[2], parts[0], parts[1])
    torch.manual_seed(0)
    config = presets.tiny().language_model.model
    return construction.from_scratch(config, vocabulary.size, vocabulary.range("video"), (2, 512), 5)


def rows(parts, count: int) -> layout.Batch:
    video, audio, words = parts
    vocabulary = vocabulary_of(words, video, audio)
    pieces = {"text_in": torch.zeros(12, dtype=torch.long), "video_out": torch.zeros(video.grid(9, 32, 32)).long()}
    row = layout.build(find_task("text_to_video"), vocabulary, pieces)
    return layout.batch_rows([row] * count, vocabulary.special("<pad>"))


@pytest.mark.parametrize("recompute", [False, True])
def test_operations_of_a_language_models_step_are_those_that_are_counted_in_one(parts, model, recompute):
    batch = rows(parts, 4)
    objective = NextToken(model.train(), [])
    with FlopCounterMode(display=False) as counted, rehearsal.autocast():
        objective.loss(type("Batch", (), {"rows": batch, "task": "text_to_video"})()).backward()
    model.zero_grad(set_to_none=True)
    start, stop = batch.ranges[batch.targets][0].tolist()
    choices = ((start, stop, int(batch.targets[0].sum())),)
    with rehearsal.without_values():
        shape = construction.from_scratch(
            presets.tiny().language_model.model, len(model.head_weight), (start, stop), (2, 512), 5
        ).train()
    if recompute:
        shape.recompute_layers()
    cost = step_costs.rows_cost(shape, 4, batch.tokens.shape[1], choices, True)
    ratio = cost.flops / counted.get_total_flops()
    assert 1.2 < ratio < 1.4 if recompute else ratio == pytest.approx(1, abs=0.01)


def test_operations_of_a_tokenizers_step_are_those_that_are_counted_in_one(parts):
    config = presets.tiny().video_tokenizer
    real = reconstruction.VideoReconstruction(MagvitV2(config.model).train(), config.objective)
    with FlopCounterMode(display=False) as counted, rehearsal.autocast():
        real(Windows(torch.zeros(2, 3, 9, 32, 32)), 1, runtime.generator(0)).total.backward()
    with rehearsal.without_values():
        objective = reconstruction.VideoReconstruction(MagvitV2(config.model), config.objective)
        batch = Windows(torch.zeros(2, 3, 9, 32, 32))
    cost = step_costs.objective_cost(objective, batch, 1, True)
    assert cost.flops == pytest.approx(counted.get_total_flops(), rel=0.01)


def test_a_deep_stack_costs_what_two_shallow_ones_say():
    config = presets.tiny().language_model.model.model_copy(update={"num_layers": 5})
    with rehearsal.without_values():
        model = construction.from_scratch(config, 400, (100, 356), (2, 512), 5).train()
    choices = ((100, 356, 30),)
    foretold = step_costs.rows_cost(model, 2, 40, choices, True)
    assert model.num_layers == len(model.backbone.model.layers) == 5
    counts = [step_costs.rows_cost(_with_layers(config, count), 2, 40, choices, True) for count in (1, 2)]
    assert foretold.flops == counts[0].flops + 4 * (counts[1].flops - counts[0].flops)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_loss_of_many_chunks_costs_what_a_few_of_them_say(monkeypatch, recompute):
    config = presets.tiny().language_model.model.model_copy(update={"num_layers": 3})
    with rehearsal.without_values():
        model = construction.from_scratch(config, 700, (100, 356), (2, 512), 5).train()
    if recompute:
        model.recompute_layers()
    monkeypatch.setitem(language_model.MOST_LOGITS, "cuda", 8 * 256)  # 8 rows of the first range in a chunk
    choices = ((100, 356, 60), (400, 410, 7))
    foretold = step_costs.rows_cost(model, 2, 80, choices, True, shares=8)
    monkeypatch.setattr(step_costs, "FEW_CHUNKS", 15)
    whole = step_costs.rows_cost(model, 2, 80, choices, True, shares=8)
    assert (foretold.flops, foretold.peak_bytes) == (whole.flops, whole.peak_bytes)
    assert foretold.divided_bytes == whole.divided_bytes


def _with_layers(config, count: int) -> LanguageModel:
    with rehearsal.without_values():
        return construction.from_scratch(
            config.model_copy(update={"num_layers": count}), 400, (100, 356), (2, 512), 5
        ).train()


@pytest.mark.parametrize("name", ["adamw", "muon", "adamw_8bit"])
def test_what_is_held_is_what_the_optimizer_and_the_mean_come_to_hold(model, name):
    if name == "adamw_8bit":
        pytest.importorskip("bitsandbytes")
    training = loop.Config(optimizer=optimizer.Config(name=name))
    optimizers = optimizer.build(model, training.optimizer)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for each in optimizers:
        each.step()
    model.zero_grad(set_to_none=True)
    states = optimizer.state_tensors(optimizers).values()
    held = sum(tensor.nbytes for tensor in states if tensor.ndim)
    held += sum(tensor.numel() * 4 for tensor in loop.MeanWeights(model, 0.9).tensors.values())
    assert plan._held_bytes(model, training) == held


def test_gpus_add_tokens_and_take_no_longer_a_step_and_share_what_can_be_shared():
    one, four = (of_language_model(planned(), gpus) for gpus in (1, 4))
    assert four.tokens == 4 * one.tokens and four.flops == 4 * one.flops
    assert four.days == pytest.approx(one.days)
    assert four.memory == one.memory == one.memory_sharded > four.memory_sharded


def test_a_run_that_divides_is_planned_divided():
    training = presets.tiny().language_model.training.model_copy(update={"sharding": "full"})
    whole = of_language_model(planned(), 4)
    divided = [of_language_model(planned(training=training), gpus) for gpus in (1, 4, 64)]
    assert divided[0].memory == of_language_model(planned(), 1).memory
    assert divided[1].memory == divided[1].memory_sharded == whole.memory_sharded
    assert divided[0].memory > divided[1].memory > divided[2].memory > 4 * sum(whole.parameters.values())
    assert divided[1].flops == whole.flops


def test_gradients_of_layers_that_are_divided_are_kept_in_part(parts):
    config = presets.tiny().language_model.model.model_copy(update={"num_layers": 4, "width": 256})
    model = _with_layers(config, 4)
    choices = ((100, 356, 2),)
    peaks = [step_costs.rows_cost(model, 1, 4, choices, True, shares).divided_bytes for shares in (1, 2, 10**9)]
    # Of so few tokens, gradients are nearly all that a step adds.
    gradients = 4 * sum(parameter.numel() for layer in model.layers for parameter in layer.parameters())
    assert peaks[0] - peaks[1] == pytest.approx(gradients / 2, rel=0.3)
    assert peaks[0] - peaks[2] == pytest.approx(gradients, rel=0.3)


def test_accumulation_adds_tokens_and_keeps_gradients():
    training = presets.tiny().language_model.training.model_copy(update={"accumulation": 3})
    once = of_language_model(planned(), 1)
    thrice = of_language_model(planned(training=training), 1)
    assert thrice.tokens == pytest.approx(3 * once.tokens, rel=1e-3)
    assert thrice.memory == once.memory + 4 * sum(once.parameters.values())


def test_the_command_line_plans_every_stage(capsys):
    assert cli.run(["plan", "tiny", "--memory", "0.03", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    stages = {stage["stage"]: stage for stage in said["stages"]}
    assert list(stages) == ["video_tokenizer", "audio_tokenizer", "language_model", "super_resolution"]
    config = presets.tiny()
    assert stages["video_tokenizer"]["parameters"]["model"] == sum(
        parameter.numel() for parameter in MagvitV2(config.video_tokenizer.model).parameters()
    )
    assert all(stage["flops"] > 0 and stage["tokens"] > 0 and stage["memory"] > 0 for stage in stages.values())
    assert {stage["fits"] for stage in stages.values()} == {True, False}
    assert said["days"] == pytest.approx(sum(stage["days"] for stage in stages.values()))
    clip = said["generation"]
    assert clip["weights"] < clip["memory"] < clip["memory_upscaled"]


def test_batches_of_the_beginning_alone_count_for_the_memory():
    def memory(**early):
        config = planned()
        run = config.language_model
        shares = (*run.mixture.shares, Share(task="text_to_image", batch_size=32, weight=0, **early))
        mixture = run.mixture.model_copy(update={"shares": shares})
        stage = run.model_copy(update={"mixture": mixture})
        return of_language_model(config.model_copy(update={"language_model": stage}), 1).memory

    assert memory(early_weight=1) > memory()


@pytest.mark.parametrize("recomputes", [False, True])
def test_a_remedy_that_is_taken_already_is_not_named(recomputes, capsys, monkeypatch):
    counts = {"steps": 1, "tokens": 1, "flops_per_step": 1.0, "flops": 1.0, "days": 1.0}
    stage = plan.StagePlan("language_model", {"layers": 1}, **counts, memory=2 * 10**9, memory_sharded=2 * 10**9)
    monkeypatch.setattr(plan, "plan", lambda *_: [stage])
    monkeypatch.setattr(generation_plan, "generation", lambda *_: generation_plan.GenerationPlan(1, 1, None))
    setting = f"language_model.recompute={str(recomputes).lower()}"
    assert cli.run(["plan", "tiny", "--memory", "1", "--set", setting]) == 0
    said = capsys.readouterr().out
    assert "does not fit 1 GB" in said and ("recompute=true" in said) != recomputes


def test_a_clip_takes_the_weights_and_what_grows_with_its_size():
    config = presets.tiny()
    small = generation_plan.generation(config)
    parts = plan.parts_of(config)
    assert parts.super_resolution is not None
    others = (parts.video, parts.audio, parts.super_resolution)
    counts = [sum(parameter.numel() for parameter in network.parameters()) for network in (parts.model, *others)]
    assert small.weights == 2 * counts[0] + 4 * sum(counts[1:])
    larger = generation_plan.generation(override(config, ["world.height=64", "world.width=64"]))
    assert larger.weights == small.weights
    assert small.memory_upscaled is not None
    assert small.memory < larger.memory <= small.memory_upscaled
    alone = generation_plan.generation(config.model_copy(update={"super_resolution": None}))
    assert alone.memory_upscaled is None and alone.weights < small.weights


def test_a_preset_that_is_not_there_is_refused(capsys):
    assert cli.run(["plan", "tony"]) == 2
    assert "did you mean tiny" in capsys.readouterr().err


def test_a_draft_head_is_planned_as_it_is_trained(parts):
    config = planned(draft_width=48)
    stage = plan.plan(config.model_copy(update={"stages": ("language_model",)}))[0]
    (share,) = config.language_model.mixture.shares
    size, shape = share.batch_size, config.language_model.model
    with rehearsal.without_values():
        head = plan.parts_of(config).model.draft_head
    assert head is not None
    assert stage.parameters["draft head"] == sum(parameter.numel() for parameter in head.parameters())

    video, audio, words = parts
    vocabulary = vocabulary_of(words, video, audio)
    model = construction.from_scratch(shape, vocabulary.size, vocabulary.range("video"), (2, 512), 5)
    model.add_draft_head(48)
    batch = rows(parts, size)
    with FlopCounterMode(display=False) as counted, rehearsal.autocast():
        losses = NextToken(model.train(), []).losses(TaskBatch("text_to_video", batch))
        torch.stack([*losses.values()]).sum().backward()
    start, stop = batch.ranges[batch.targets][0].tolist()
    num_chosen = int(batch.targets[0].sum())
    around = (torch.tensor(batch.neighbours) >= 0).any(dim=1)
    num_drafted = int((batch.targets[0] & around).sum())
    with rehearsal.without_values():
        shaped = construction.from_scratch(shape, vocabulary.size, vocabulary.range("video"), (2, 512), 5).train()
        shaped.add_draft_head(48)
    found = step_costs.rows_cost(
        shaped, size, batch.tokens.shape[1], ((start, stop, num_chosen),), True, 1, ((start, stop, num_drafted),)
    )
    assert found.flops == pytest.approx(counted.get_total_flops(), rel=0.01)


def test_a_draft_head_alone_can_be_planned():
    training = presets.tiny().language_model.training.model_copy(update={"frozen": ("backbone", "embedding")})
    both, alone = (of_language_model(planned(draft_width=48, **changes), 1) for changes in ({}, {"training": training}))
    assert alone.memory < both.memory and alone.flops < both.flops


def test_self_play_has_twice_the_rows_and_the_model_as_it_was():
    alone = [
        "init_from=bundled",
        "stages=[language_model]",
        "language_model.mixture.shares=[{task: text_to_video, batch_size: 4, weight: 1}]",
    ]
    twice = [*alone[:2], alone[2].replace("batch_size: 4", "batch_size: 8")]
    once, wide, plays = (
        next(stage for stage in plan.plan(override(presets.small(), settings)) if stage.stage == "language_model")
        for settings in (alone, twice, [*alone, "language_model.self_play={}"])
    )
    weights = 4 * sum(plays.parameters.values())
    assert plays.memory == wide.memory + weights > once.memory + weights
    assert plays.tokens == wide.tokens
    assert plays.flops > wide.flops
