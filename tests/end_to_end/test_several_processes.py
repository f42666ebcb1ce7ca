"""`torchrun` and the usual command: several processes, one run."""

import json
import shutil
import subprocess
import sys

import pytest
import torch.distributed as distributed

from videopoet import VideoPoet

pytestmark = pytest.mark.skipif(not distributed.is_available(), reason="this torch has no torch.distributed")


STEPS = ("num_steps=2", "log_every=1", "checkpoint_every=1", "validate_every=2", "sharding=full")
TOKENIZERS = [f"--set={stage}_tokenizer.training.num_steps=2" for stage in ("video", "audio")]
LANGUAGE_MODEL = [
    *(f"--set=language_model.training.{step}" for step in STEPS),
    "--set=language_model.mixture.pool_clips=8",
    "--set=language_model.mixture.shares=[{task: text_to_image, batch_size: 2, weight: 1}]",
    "--set=language_model.validation_tasks=[text_to_image]",
    "--set=language_model.sample_prompts=[]",
    "--set=validation_clips=4",
]


def train(folder, num_processes: int, *arguments: str) -> None:
    program = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"]
    command = [sys.executable, *program, "-m", "videopoet.cli", "train", "--preset=tiny", f"--output={folder}"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300)
    assert not done.returncode, done.stderr


def entries(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


def test_two_processes_train_one_model_and_write_one_journal(tmp_path):
    run = tmp_path / "run"
    train(run, 2, *TOKENIZERS, *LANGUAGE_MODEL, "--stages=video_tokenizer,audio_tokenizer,language_model")
    assert [entry["kind"] for entry in entries(run / "video_tokenizer")] == ["train", "validation"]
    assert (run / "audio_tokenizer" / "final" / "model.safetensors").exists()
    assert (run / "language_model" / "checkpoint-0000002" / "model").is_dir()
    assert VideoPoet.from_pretrained(run / "poet").parts.settings.height == 32
    written = entries(run / "language_model")
    assert [entry["kind"] for entry in written] == ["train", "train", "validation"]
    assert written[0]["tokens_per_second"] > 0 and 0 < written[0]["mfu"] < 1 and 0 < written[0]["loader_wait"] < 1
    (run / "language_model" / "done.json").unlink()
    shutil.rmtree(run / "language_model" / "checkpoint-0000002")
    resume = ["--stages=language_model", "--resume"]
    train(run, 1, *TOKENIZERS, *LANGUAGE_MODEL, *resume)
    assert [entry["step"] for entry in entries(run / "language_model")] == [0, 1, 1]
