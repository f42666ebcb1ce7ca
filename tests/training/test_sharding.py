"""Two processes with divided weights are one with twice the accumulation, and read one another's checkpoints."""

import copy
import datetime
from unittest import mock

import pytest
import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing
from transformers import AutoConfig, AutoModelForCausalLM

from videopoet import checkpoint, runtime
from videopoet.data.mixture import TaskBatch
from videopoet.generation.request import Settings
from videopoet.models import construction
from videopoet.runtime import generator
from videopoet.sequence import layout
from videopoet.sequence import vocabulary as vocabularies
from videopoet.sequence.tasks import find_task
from videopoet.sequence.vocabulary import Vocabulary
from videopoet.training import adaptation, checkpoints, journal, loop, optimizer
from videopoet.training.adaptation import LoraConfig
from videopoet.training.next_token import NextToken
from videopoet.training.self_play import PairBatches, SelfPlay, SelfPlayConfig

pytestmark = pytest.mark.skipif(not distributed.is_available(), reason="this torch has no torch.distributed")
TEXT, STEPS, EVERY = 51, 6, 2
VOCABULARY = Vocabulary(
    vocabularies.Config(text_size=TEXT, num_special=40, visual_codes=64, audio_codebook_size=16, audio_quantizers=2)
)
VARIANTS = {
    "adamw": {},
    "muon, recomputed, parts frozen": {"name": "muon", "recompute": True, "frozen": ("backbone.model.layers.0.mlp",)},
    "muon in fp32": {"name": "muon", "fp32": True},
    "lora": {"lora": True},
    "kept text, clipped": {"keep_text": True, "clip": 1e-2},
    "draft head": {"drafts": True},
    "self-play": {"drafts": True, "plays": True},
    "bf16": {"recompute": True, "bf16": True},
}


class Stop(Exception):
    pass


def make_objective(
    recompute: bool, lora: bool, keep_text: bool, drafts: bool, num_hidden: int
) -> tuple[NextToken, object]:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama", vocab_size=TEXT, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=num_hidden, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    backbone = AutoModelForCausalLM.from_config(construction.without_dropout(config))
    model = construction.from_text_model(
        backbone, VOCABULARY.size, VOCABULARY.range("video"), (2, 16), TEXT, generator("grow")
    )
    if drafts:
        model.add_draft_head(9)
    if recompute:
        model.recompute_layers()
    if keep_text:
        adaptation.keep_text_rows(model, TEXT)
    adapted = adaptation.add_lora(model, LoraConfig(rank=2), TEXT) if lora else None
    return NextToken(model, [batch(10**6)]), adapted


def batch(index: int) -> TaskBatch:
    """Rows of one of two tasks, by lot, so that two processes have different ones."""
    stream = generator("batch", index)
    task = ("text_to_video", "unconditional")[index % 3 == 0]
    pieces = {
        "text_in": torch.randint(TEXT, (4,), generator=stream),
        "video_out": torch.randint(64, (3, 2, 2), generator=stream),
    }
    if task == "unconditional":
        del pieces["text_in"]
    row = layout.build(find_task(task), VOCABULARY, pieces)
    return TaskBatch(task, layout.batch_rows([row] * 2, VOCABULARY.special("<pad>")))


def train(folder, sharding, accumulation, variant, stop, resume):
    settings = dict(VARIANTS[variant])
    built = {name: settings.pop(name, False) for name in ("recompute", "lora", "keep_text", "drafts")}
    fp32, bf16, plays = (settings.pop(name, False) for name in ("fp32", "bf16", "plays"))
    # With 27 rows the second process has fewer than the first, with 28 as many.
    objective, adapted = make_objective(**built, num_hidden=28 if fp32 else 27)
    config = loop.Config(
        num_steps=STEPS,
        accumulation=accumulation,
        frozen=settings.get("frozen", ()),
        sharding=sharding,
        optimizer=optimizer.Config(
            name=settings.get("name", "adamw"),
            learning_rate=1e-3,
            warmup_steps=1,
            weight_decay=0.1,
            gradient_clip=settings.get("clip", 1.0),
        ),
        bf16=bf16,
        log_every=1,
        validate_every=3,
        checkpoint_every=EVERY,
        keep_checkpoints=10,
    )

    def read(index):
        if stop is not None and index >= 2 * stop:
            raise Stop
        return batch(index)

    batches = read
    if plays:
        played = SelfPlayConfig()
        batches = PairBatches(read, copy.deepcopy(objective.model), VOCABULARY, Settings(), played, 0, bf16)
        objective = SelfPlay(played, objective.model, objective.validation)

    dtype = torch.float32 if fp32 else runtime.compute_dtype("cpu")
    try:
        with mock.patch.object(runtime, "compute_dtype", lambda device: dtype):
            loop.train(objective, batches, config, folder, resume=resume)
    except Stop:
        return None
    if adapted is not None:
        adaptation.merge(adapted)
    assert type(objective.model.layers[0]).__name__ == "LlamaDecoderLayer"
    model = copy.deepcopy(objective.model)  # plain again, to the last module
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def process(rank, folder, variant, stop, resume):
    torch.set_num_threads(1)
    rendezvous = f"file://{folder}.rendezvous"
    patience = datetime.timedelta(seconds=120)
    distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2, timeout=patience)
    tensors = train(folder, "full", 1, variant, stop, resume)
    if tensors is not None:
        checkpoint.save_tensors(f"{folder}.rank-{rank}.safetensors", tensors)
    distributed.destroy_process_group()


def with_two(folder, variant, stop=None, resume=False):
    (folder.parent / f"{folder.name}.rendezvous").unlink(missing_ok=True)
    multiprocessing.start_processes(process, (str(folder), variant, stop, resume), nprocs=2, start_method="fork")
    if stop is not None:
        return None
    ranks = [checkpoint.load_tensors(f"{folder}.rank-{rank}.safetensors") for rank in range(2)]
    assert all(torch.equal(ranks[0][name], ranks[1][name]) for name in ranks[0])
    return ranks[0]


def with_one(folder, variant, stop=None, resume=False):
    return train(str(folder), "full", 2, variant, stop, resume)


def assert_near(some: dict, others: dict) -> None:
    assert some.keys() == others.keys()
    for name, tensor in some.items():
        torch.testing.assert_close(tensor, others[name], rtol=1e-4, atol=1e-5, msg=lambda text, name=name: name + text)


def figures(folder, name="loss", kind="train") -> list[float]:
    return [entry[name] for entry in journal.read(folder) if entry["kind"] == kind]


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_processes_learn_what_one_does(tmp_path, variant):
    if "lora" in variant:
        pytest.importorskip("peft")
    one = with_one(tmp_path / "one", variant)  # first, so that what it imports is there for both
    two = with_two(tmp_path / "two", variant)
    rounding = 1e-2 if variant == "bf16" else 1e-5
    if variant != "bf16":
        assert_near(two, one)
    for name in ("loss", "gradient_norm"):
        assert figures(tmp_path / "two", name) == pytest.approx(figures(tmp_path / "one", name), abs=rounding)
    assert figures(tmp_path / "two", "loss_text_to_video", "validation") == pytest.approx(
        figures(tmp_path / "one", "loss_text_to_video", "validation"), abs=rounding
    )
    assert (tmp_path / "two" / "checkpoint-0000006" / "model").is_dir()


def test_a_run_goes_on_with_another_number_of_processes(tmp_path):
    variant = "muon, recomputed, parts frozen"
    whole = with_one(tmp_path / "whole", variant)
    with_two(tmp_path / "mixed", variant, stop=3)
    with_one(tmp_path / "mixed", variant, stop=5, resume=True)
    assert not list((tmp_path / "mixed" / "checkpoint-0000004").glob("*/"))
    mixed = with_two(tmp_path / "mixed", variant, resume=True)
    assert_near(mixed, whole)
    assert figures(tmp_path / "mixed") == pytest.approx(figures(tmp_path / "whole"), abs=1e-5)


def test_two_processes_that_are_stopped_resume_to_the_same_bits(tmp_path):
    variant = "muon, recomputed, parts frozen"
    unbroken = with_two(tmp_path / "unbroken", variant)
    with_two(tmp_path / "broken", variant, stop=3)
    with_two(tmp_path / "broken", variant, stop=5, resume=True)
    broken = with_two(tmp_path / "broken", variant, resume=True)
    assert all(torch.equal(broken[name], unbroken[name]) for name in unbroken)
    assert figures(tmp_path / "broken") == figures(tmp_path / "unbroken")


def test_each_process_holds_a_part_of_every_checkpoint(tmp_path):
    with_two(tmp_path / "run", "adamw")
    source = tmp_path / "run" / "checkpoint-0000006"
    files = sorted((source / "model").glob("*.safetensors"))
    assert len(files) == 2 and checkpoint.why_invalid(source) is None
    rows = [checkpoint.load_tensors(file)["backbone.model.embed_tokens.weight"].shape[0] for file in files]
    assert sum(rows) == checkpoints.described(source, "model")["backbone.model.embed_tokens.weight"].shape[0]
    assert min(rows) > 0.4 * sum(rows)
