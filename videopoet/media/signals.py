"""Control signals: how a clip moves and how far away things are, measured, and as the clip stylization is given.

Optical flow is measured by OpenCV (DIS), depth by a Hugging Face model of the user's; both are imported when they are
called for. Nothing here invents depth: where none is known, the structure clip says so.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from videopoet import pretrained
from videopoet.errors import CheckpointError, MediaError

FULL_SCALE = 1 / 8
"""The displacement, as a share of the frame's width or height, that fills the range; at 8 fps a fast crossing."""
LEAST_FLOW_SIDE = 256
"""Pixels; smaller frames are enlarged for the measuring of flow, whose patches of 8 pixels would cover too much."""
EDGE_RADIUS = 5
"""Steps around a pixel from which its flow is chosen, each a 64th of the short side."""
EDGE_COLOUR = 10.0
"""Grey levels by which a pixel may differ to have a say in another's flow."""
EDGE_ROUNDS = 3
METRIC_DEPTH = ("zoedepth", "depth_pro", "glpn", "prompt_depth_anything")
"""Kinds of depth models that give distances, not their inverse."""
INSTALL_FLOW = "pip install 'videopoet[signals]'"


def structure_clip(depth: Tensor | None, flow: Tensor) -> Tensor:
    """Join optical flow and depth into one clip of three channels in [-1, 1], (B, 3, T, H, W), as in VideoPoet A.4.

    Channels 0 and 1 are the flow to the right and downwards, 1.0 at `FULL_SCALE` of the frame and clipped there, so
    that a motion looks the same at every resolution and a still scene is 0. Channel 2 is the depth, each clip's from
    -1, its farthest, to 1, its nearest: what depth models know is the order, not the scale. Where depth is absent, or
    the same everywhere, the channel is 0 throughout.

    Args:
        depth: Any finite values that grow as things come nearer, (B, 1, T, H, W); None where it is not known.
        flow: Displacements in pixels per frame, (B, 2, T, H, W).
    """
    height, width = flow.shape[-2:]
    full = torch.tensor([width, height], dtype=flow.dtype, device=flow.device) * FULL_SCALE
    flow = (flow / full.view(1, 2, 1, 1, 1)).clamp(-1.0, 1.0)
    if depth is None:
        return torch.cat([flow, torch.zeros_like(flow[:, :1])], dim=1)
    farthest, nearest = depth.amin((1, 2, 3, 4), keepdim=True), depth.amax((1, 2, 3, 4), keepdim=True)
    spread = nearest - farthest
    placed = ((depth - farthest) / spread.clamp_min(1e-12) * 2.0 - 1.0).clamp(-1.0, 1.0)
    depth = torch.where(spread > 0, placed, torch.zeros_like(depth))
    return torch.cat([flow, depth.to(flow.dtype)], dim=1)


def optical_flow(frames: Tensor, height: int | None = None, width: int | None = None) -> Tensor:
    """Measure how each pixel moves until the next frame.

    Dense inverse search (DIS) finds the motion of patches; each pixel then takes the median of those around it that
    look like it, so that what moves has its own outline and not that of the patches.

    Args:
        frames: uint8 (3, T, H, W).
        height: Of the result; without it, that of the frames.
        width: Of the result.

    Returns:
        Displacements to the right and down in pixels of the result, (2, T, height, width); zero in the last frame.

    Raises:
        MediaError: OpenCV is not installed.
    """
    cv2 = _opencv()
    num_frames, own_height, own_width = frames.shape[1:]
    height, width = height or own_height, width or own_width
    enlarged = max(1.0, LEAST_FLOW_SIDE / min(own_height, own_width))
    size = round(own_height * enlarged), round(own_width * enlarged)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1, 1)
    grey = (frames.cpu().float() * luma).sum(0)[:, None]  # (T, 1, H, W)
    if size != (own_height, own_width):
        grey = F.interpolate(grey, size, mode="bicubic", align_corners=False)
    pictures = grey[:, 0].round().clamp(0, 255).to(torch.uint8).contiguous().numpy()
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = torch.zeros(num_frames, 2, height, width)
    scale = torch.tensor([width / size[1], height / size[0]]).view(2, 1, 1)
    for number in range(num_frames - 1):
        found = torch.from_numpy(search.calc(pictures[number], pictures[number + 1], None)).permute(2, 0, 1)
        flow[number] = F.interpolate(found[None], (height, width), mode="area")[0] * scale
    colours = F.interpolate(frames.cpu().float().transpose(0, 1), (height, width), mode="area")
    flow[:-1] = _along_edges(flow[:-1], colours[:-1])
    return flow.transpose(0, 1)


def _along_edges(flow: Tensor, colours: Tensor) -> Tensor:
    """Give each pixel the weighted median of the flows around it, (N, 2, H, W), like-coloured ones counting most.

    Flow that is measured by patches reaches beyond the edges of what moves. The median is the geometric one, by
    Weiszfeld's iteration.
    """
    height, width = flow.shape[-2:]
    step = max(1, min(height, width) // 64)
    reach = EDGE_RADIUS * step
    around = F.pad(flow, (reach,) * 4, mode="replicate")
    colours_around = F.pad(colours, (reach,) * 4, mode="replicate")
    offsets = range(0, 2 * reach + 1, step)
    chosen = flow
    for number in range(EDGE_ROUNDS):
        total, weights = torch.zeros_like(flow), torch.zeros_like(flow[:, :1])
        for top in offsets:
            for left in offsets:
                here = (..., slice(top, top + height), slice(left, left + width))
                unlike = (colours_around[here] - colours).square().sum(1, keepdim=True)
                weight = torch.exp(-unlike / (2 * EDGE_COLOUR**2))
                if number:
                    weight = weight / ((around[here] - chosen).square().sum(1, keepdim=True) + 1e-2).sqrt()
                total += weight * around[here]
                weights += weight
        chosen = total / weights
    return chosen


def estimated_depth(frames: Tensor, model: str | Path, device: torch.device | str = "cpu") -> Tensor:
    """Let a Hugging Face depth model say how near things are, frame by frame.

    Args:
        frames: uint8 (3, T, H, W).
        model: Folder or hub id of a model that `AutoModelForDepthEstimation` reads, such as DPT or Depth Anything.
        device: Where to compute.

    Returns:
        Values that grow as things come nearer, of no fixed scale, (1, T, H, W).

    Raises:
        CheckpointError: There is no such model, it is of another kind, or what it gives is not finite.
    """
    network, processor = _depth_model(str(model))
    network.to(device)
    pictures = [frame.permute(1, 2, 0).cpu().numpy() for frame in frames.unbind(1)]
    maps = []
    for picture in pictures:  # One by one: the memory of a large model is not multiplied by the frames.
        inputs = processor(images=[picture], return_tensors="pt")["pixel_values"].to(device)
        with torch.no_grad():
            found = network(pixel_values=inputs).predicted_depth.float().cpu()
        maps.append(F.interpolate(found[:, None], tuple(frames.shape[-2:]), mode="bilinear", align_corners=False)[0])
    depth = torch.stack(maps, dim=1)  # (1, T, H, W)
    if not depth.isfinite().all():
        raise CheckpointError(
            f"the depth model '{_shown(model)}' gives values that are not finite; depth is finite; use another model",
            code="depth_model_invalid",
        )
    config = network.config
    if config.model_type in METRIC_DEPTH or getattr(config, "depth_estimation_type", "relative") == "metric":
        depth = 1.0 / depth.clamp_min(1e-3)
    return depth


@functools.lru_cache(maxsize=1)
def _depth_model(name: str) -> tuple[Any, Any]:
    """A depth model and what prepares its pictures; the last one is kept."""
    folder = pretrained.model_folder(name)
    from transformers import AutoImageProcessor, AutoModelForDepthEstimation

    try:
        network = AutoModelForDepthEstimation.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"'{_shown(name)}' is no depth model that can be read ({type(error).__name__}); a folder or hub id of one "
            "with safetensors, such as Depth Anything, is needed; check the name, or give the depth itself",
            code="depth_model_invalid",
        ) from error
    return network.eval(), processor


def _shown(model: str | Path) -> str:
    """A model's name; of a folder, the last part alone."""
    return Path(model).name if Path(model).exists() else str(model)[:80]


def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        raise MediaError(
            "measuring how a clip moves takes OpenCV, which is not installed; it is an extra of this package; "
            f"{INSTALL_FLOW}",
            code="library_missing",
        ) from None
    cv2.setNumThreads(torch.get_num_threads())
    return cv2
