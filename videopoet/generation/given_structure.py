"""What stylization is given: depth and motion of a clip, given or measured, at the window's size and rate."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videopoet.errors import MediaError, TaskError
from videopoet.generation.given import LIMITS, check_shape, first_window, over_time, say_cut, size_of
from videopoet.generation.request import Request
from videopoet.generation.window import Shape, Window
from videopoet.media.resample import resize_and_crop
from videopoet.media.signals import LEAST_FLOW_SIDE, estimated_depth, optical_flow, structure_clip
from videopoet.media.types import Audio, Image, Video


def structure(
    request: Request, window: Window, warnings: list[str], facts: dict[str, Any]
) -> tuple[Tensor, Audio | None]:
    """Depth and motion of at most one window, (3, T, H, W) in [-1, 1], and the sound of the clip they are of.

    They are given, or measured: the motion always, the depth where a file or a model says it; `facts` gets its source.

    Raises:
        TaskError: What is given as structure is of another shape, range or dtype.
        MediaError: A file is missing or broken, or OpenCV is not installed.
        CheckpointError: The depth model cannot be read.
    """
    if request.structure is not None:
        return checked_structure(request.structure, window), None
    assert request.video is not None
    enlarged = max(1, math.ceil(LEAST_FLOW_SIDE / min(window.height, window.width)))
    height, width = enlarged * window.height, enlarged * window.width
    seen = first_window(request.video, window, warnings, start=request.start, height=height, width=width)
    say_cut(request.video, window, warnings)
    flow = optical_flow(seen.frames, window.height, window.width)
    depth = None
    if request.depth is not None:
        facts["depth"] = "given"
        depth = depth_maps(request.depth, request.video, seen.num_frames, window)
    elif request.depth_model is not None:
        facts["depth"] = "estimated"
        depth = estimated_depth(seen.frames, request.depth_model, window.parts.device)
        depth = resize_and_crop(depth, window.height, window.width)
    else:
        facts["depth"] = "absent"
        warnings.append(
            "the depth of the clip is not known, and its motion alone is kept; name a depth model with --depth-model, "
            "such as the folder of a downloaded Depth Anything, or give the depth as a file with --depth"
        )
    return structure_clip(depth[None] if depth is not None else None, flow[None])[0], seen.audio


def depth_maps(
    given: str | Path | Image | Video | Tensor, video: str | Path | Video, num_frames: int, window: Shape
) -> Tensor:
    """Given depth in the window, (1, T, H, W), larger where nearer.

    Raises:
        TaskError: It is of another shape than the clip, too short, or not of finite numbers.
        MediaError: The file is missing or broken.
    """
    if isinstance(given, (str, Path)) and Path(given).suffix.lower() == ".npy":
        given = _array(Path(given))
    if isinstance(given, Tensor):
        maps = _checked_maps(given, num_frames)
    else:
        frames, _ = over_time("depth", given, num_frames, window)
        maps = frames.float().mean(0)  # (T, H, W)
    check_shape("depth", (maps.shape[1], maps.shape[2]), size_of(video), window)
    return resize_and_crop(maps, window.height, window.width)[None].expand(1, num_frames, -1, -1)


def _checked_maps(given: Tensor, num_frames: int) -> Tensor:
    """Depth as an array: one map, or one for each frame that is used, (1 or num_frames, H, W)."""
    maps = given if given.ndim == 3 else given[None]
    if maps.ndim != 3 or not maps.numel() or 1 < maps.shape[0] < num_frames:
        raise TaskError(
            f"depth has shape {tuple(given.shape)}; (H, W), or (T, H, W) with the {num_frames} frames of the clip that "
            "are used, fits; cut or export it again",
            code="control_invalid",
        )
    maps = maps[:num_frames].float().cpu()
    if not maps.isfinite().all():
        raise TaskError(
            "depth holds values that are not finite; numbers that grow as things come nearer fit; fill the holes",
            code="control_invalid",
        )
    return maps


def _array(path: Path) -> Tensor:
    """The numbers in a .npy file.

    Raises:
        MediaError: It is missing, broken, too large, or holds something else.
    """
    import numpy

    try:
        array = numpy.load(path, mmap_mode="r")  # reads the header alone, and no objects
        if array.nbytes > LIMITS.output_bytes or array.dtype.kind not in "fiu":
            raise ValueError
        return torch.from_numpy(numpy.array(array, dtype=numpy.float32))
    except (OSError, ValueError, EOFError) as error:
        missing = isinstance(error, FileNotFoundError)
        found = "there is no such file" if missing else "it is no array of numbers, or too large a one"
        raise MediaError(
            f"{path.name}: {found}; depth as .npy holds numbers that grow as things come nearer, (H, W) or (T, H, W); "
            f"{'check the path' if missing else 'export it again'}",
            code="media_missing" if missing else "media_corrupt",
        ) from None


def checked_structure(given: Tensor, window: Shape) -> Tensor:
    """Depth and motion that are given, checked."""
    height, width, most = window.height, window.width, window.num_frames
    if given.ndim != 4 or given.shape[::2] != (3, height) or given.shape[3] != width or not 1 <= given.shape[1] <= most:
        raise TaskError(
            f"structure has shape {tuple(given.shape)}; (3, T, {height}, {width}) with 1 to {most} frames fits; "
            "resize or cut it",
            code="control_invalid",
        )
    if not given.is_floating_point() or not (given.abs() <= 1).all():
        raise TaskError(
            f"structure is {str(given.dtype).removeprefix('torch.')} with values outside [-1, 1] or not finite; floats "
            "in [-1, 1] fit; make it by `structure_clip`",
            code="control_invalid",
        )
    return given.float().cpu()
