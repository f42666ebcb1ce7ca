"""Temporal consistency: things stay what they are, move without jumps, and pixels go where the motion takes them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from videopoet.evaluation.cases import Case, Take
from videopoet.evaluation.metrics.base import Figure, PerPrompt, Score
from videopoet.evaluation.metrics.motion import MOVES, extent
from videopoet.evaluation.reading import ClipReading

JUMP = {"bounce": 0.8, "fall": 0.8}
"""Change of velocity from frame to frame, in short sides a frame, above what the law allows: landings turn it round."""
OTHER_JUMP = 0.18
"""The same for what does not land: three times the acceleration of the tightest orbit."""
TOUCHES = 3
"""Pixels between two subjects, of a clip of 64, within which one may hide a part of the other."""


class TemporalConsistency(PerPrompt):
    """Constant count, shape and colour; no jumps; small warp error; no flicker where all is at rest.

    Shape and colour are constant where every frame in which they can be told says the same: one odd frame breaks them.
    A frozen clip wins all of these, so how many clips move stands beside them. Warp error follows the true flow, which
    is known where the answer's motion is given: in painting and reconstruction; it is reported above that of the truth
    itself. Flicker is VBench's (mean absolute difference of neighbouring frames, over 255), only on prompts that ask
    for rest.
    """

    number = "M7"
    suites = (
        "text_to_video",
        "unconditional",
        "image_to_video",
        "video_continuation",
        "inpainting",
        "outpainting",
        "audio_to_video",
        "audio_video_continuation",
        "tokenizer",
    )
    verdict = {"unconditional": ("identity",)}
    figures = {
        "identity": Figure("valid clips whose subjects keep count, shape and colour", has_chance=False),
        "jumps": Figure("steps of subjects that no law of motion allows", better="lower", has_chance=False),
        "moves": Figure(
            "clips in which a subject goes 1/16 of the picture or more", better="neither", has_chance=False
        ),
        "warp_error": Figure("difference after following the flow, above the truth's, of 255", "", better="lower"),
        "still_flicker": Figure("difference of neighbouring frames at rest, of 255", "", better="lower"),
    }
    baselines = ("freeze",)

    def score(self, case: Case, take: Take) -> dict[str, Score]:
        reading = take.reading
        scores: dict[str, Score] = {"identity": reading is not None and is_constant(reading)}
        if reading is not None:
            short = min(reading.height, reading.width)
            scores["jumps"] = _jumps(reading, short)
            scores["moves"] = any(extent(one.path) >= MOVES * short for one in reading.subjects)
        if take.video is None or take.video.num_frames < 2:
            return scores
        scene = case.truth.scene
        if case.keep is not None or case.suite == "tokenizer":
            pixels, truth = take.video.frames.float(), case.truth.video.frames.float()
            if pixels.shape == truth.shape:
                scores["warp_error"] = warp_error(pixels, case) - warp_error(truth, case)
        if scene.camera == "still" and all(one.motion == "still" for one in scene.subjects) and case.asked.subjects:
            scores["still_flicker"] = float(take.video.frames.float().diff(dim=1).abs().mean())
        return scores


def is_constant(reading: ClipReading) -> bool:
    """Whether what is seen stays what it is; of subjects that touch, one may be hidden: its shape is not asked for."""
    if not reading.valid or not reading.subjects:
        return False
    covered = torch.stack([one.masks for one in reading.subjects]).sum(dim=0)
    for one in reading.subjects:
        others = (covered - one.masks.int() > 0).float()
        near = F.max_pool2d(others[:, None], 2 * TOUCHES + 1, stride=1, padding=TOUCHES)[:, 0] > 0
        alone = ~(near & one.masks).flatten(1).any(dim=1)
        shapes = [shape for shape, free in zip(one.frame_shapes, alone.tolist(), strict=True) if free]
        if not (_is_one(one.frame_colours) and _is_one(shapes)):
            return False
    return True


def _is_one(seen: Sequence[str | None]) -> bool:
    return len({value for value in seen if value is not None}) <= 1


def _jumps(reading: ClipReading, short: int) -> tuple[float, float]:
    jumps = total = 0
    for one in reading.subjects:
        turns = one.path.diff(n=2, dim=0).norm(dim=1) / short
        turns = turns[~turns.isnan()]
        jumps += int((turns > JUMP.get(one.motion or "", OTHER_JUMP)).sum())
        total += len(turns)
    return float(jumps), float(total)


def warp_error(pixels: Tensor, case: Case) -> float:
    """Mean difference, of 255, of frames, (3, T, H, W), from the next along the true flow, where both show the same."""
    _, num_frames, height, width = pixels.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    flow, owners = case.truth.flow, _owners(case.truth.masks)
    errors = []
    for frame in range(min(num_frames, flow.shape[1]) - 1):
        x, y = columns + flow[0, frame], rows + flow[1, frame]
        grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], dim=-1)[None]
        after = F.grid_sample(pixels[None, :, frame + 1], grid, align_corners=True)[0]
        same = F.grid_sample(owners[frame + 1][None, None], grid, mode="nearest", align_corners=True)[0, 0]
        inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        visible = inside & (same == owners[frame])
        if visible.any():
            errors.append((after - pixels[:, frame]).abs().mean(dim=0)[visible].mean())
    return float(torch.stack(errors).mean()) if errors else 0.0


def _owners(masks: Tensor) -> Tensor:
    """Which subject is seen, (T, H, W), from (3, T, H, W); 0 is none."""
    numbers = torch.arange(1, len(masks) + 1, dtype=torch.float32).view(-1, 1, 1, 1)
    return (masks * numbers).amax(dim=0)
