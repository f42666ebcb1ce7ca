"""From an empty folder to a clip: train every stage of the tiny preset, stop and resume, generate, read the file."""

import json
import os
import subprocess
import sys

import pytest

from videopoet.media.files import probe
from videopoet.training import journal

SHORT = [
    "video_tokenizer.training.num_steps=6",
    "audio_tokenizer.training.num_steps=6",
    "language_model.training.num_steps=12",
    "language_model.mixture.pool_clips=8",
    "language_model.mixture.pool_batches=6",
    "super_resolution.training.num_steps=6",
    "validation_clips=4",
]


def videopoet(*arguments, code=0):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "videopoet.cli", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mine"
    settings = [part for one in SHORT for part in ("--set", one)]
    videopoet("train", "--preset", "tiny", "--data", "toybox", "--output", folder, *settings)
    return folder, settings


def test_a_run_leaves_a_poet_that_generates(run, tmp_path):
    folder, _ = run
    clip = tmp_path / "clip.mp4"
    done = videopoet("generate", "--model", folder / "poet", "a red ball", "-o", clip, "--seed", 7, "--json")
    facts = probe(clip)
    assert (facts.num_frames, facts.height, facts.width) == (9, 32, 32)
    assert facts.audio_codec is not None
    assert facts.metadata["prompt"] == "a red ball" and json.loads(done.stdout)["metadata"]["seed"] == 7


def test_a_clip_and_what_is_generated_are_upscaled(run, tmp_path):
    poet, small, large = run[0] / "poet", tmp_path / "small.mp4", tmp_path / "large.mp4"
    videopoet("generate", "--model", poet, "a red ball", "-o", small, "--seed", 7, "--upscale", 2)
    videopoet("upscale", small, "--model", poet, "-o", large, "--seed", 7, "--num-steps", 2)
    facts = [probe(file) for file in (small, large)]
    assert [(one.num_frames, one.height, one.width) for one in facts] == [(9, 64, 64), (9, 128, 128)]
    assert facts[0].metadata["upscale"] == 2 and facts[1].audio_codec is not None
    assert (run[0] / "super_resolution" / "samples" / "step-000006" / "bicubic_upscaled_truth.png").exists()


def test_a_finished_run_resumes_to_nothing_and_refuses_to_be_overwritten(run):
    folder, settings = run
    before = (folder / "poet" / "manifest.json").read_bytes()
    videopoet("train", "--preset", "tiny", "--output", folder, "--resume", *settings)
    assert (folder / "poet" / "manifest.json").read_bytes() == before
    assert "--resume" in videopoet("train", "--preset", "tiny", "--output", folder, *settings, code=2).stderr
    other = videopoet("train", "--preset", "tiny", "--output", folder, "--resume", code=2)
    assert "another config" in other.stderr


def test_the_journal_shows_loss_and_padding(run):
    entries = journal.read(run[0] / "language_model")
    trained = [entry for entry in entries if entry["kind"] == "train"]
    assert trained and all(entry["loss"] > 0 and entry["padding"] < 0.1 for entry in trained)
    assert [entry for entry in entries if entry["kind"] == "validation"][-1]["loss_text_to_video"] > 0
