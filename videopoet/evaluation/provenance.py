"""What a report says of where its figures are from: the model, its codes, the code and the memory that they took."""

from __future__ import annotations

import hashlib
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from videopoet.generation.pipeline import VideoPoet
from videopoet.generation.window import Window


def model_hash(poet: VideoPoet) -> str:
    """sha256 over all weights, as float32, in the order of their names: the same on every device and in every dtype."""
    digest = hashlib.sha256()
    parts = poet.parts
    modules = (parts.video_tokenizer, parts.audio_tokenizer, parts.language_model, parts.super_resolution)
    for module in (module for module in modules if module is not None):
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().to(torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def code_facts(poet: VideoPoet, window: Window) -> dict[str, Any]:
    """What a clip weighs in codes."""
    video, audio = poet.parts.video_tokenizer, poet.parts.audio_tokenizer
    num_video = int(torch.tensor(window.grid).prod())
    video_bits = num_video * torch.log2(torch.tensor(float(video.num_codes))).item()
    audio_bits = (
        window.audio_grid[0] * window.audio_grid[1] * torch.log2(torch.tensor(float(audio.codebook_size))).item()
    )
    return {
        "video_codes": num_video,
        "video_bits_per_pixel": round(video_bits / (window.num_frames * window.height * window.width), 5),
        "audio_codes": window.audio_grid[0] * window.audio_grid[1],
        "audio_kbit_per_second": round(audio_bits / window.seconds / 1000, 3),
    }


def peak_memory(device: torch.device) -> float:
    """The most memory that this process has taken on a device, in MiB."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def commit() -> str | None:
    """The commit of the code, with a plus sign when tracked files differ from it; None outside a repository."""
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    try:
        described = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return described.stdout.strip() or None
