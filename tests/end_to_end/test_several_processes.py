"""`torchrun` and the usual command: several processes, one run."""

import json
import subprocess
import sys

import pytest
import torch.distributed as distributed

pytestmark = pytest.mark.skipif(not distributed.is_available(), reason="this torch has no torch.distributed")


def train(folder, num_processes: int, *arguments: str) -> list[dict]:
    steps = [f"--set={stage}.training.num_steps=2" for stage in ("video_tokenizer", "audio_tokenizer")]
    program = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"]
    command = [sys.executable, *program, "-m", "videopoet.cli", "train", "--preset=tiny", f"--output={folder}"]
    command += [*steps, "--stages=video_tokenizer,audio_tokenizer", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert not done.returncode, done.stderr
    return [json.loads(line) for line in (folder / "video_tokenizer" / "journal.jsonl").read_text().splitlines()]


def test_two_processes_train_one_model_and_write_one_journal(tmp_path):
    entries = train(tmp_path / "run", 2)
    assert [entry["kind"] for entry in entries] == ["train", "validation"]
    assert (tmp_path / "run" / "audio_tokenizer" / "final" / "model.safetensors").exists()
    resumed = train(tmp_path / "run", 2, "--resume")
    assert resumed == entries
