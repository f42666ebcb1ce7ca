"""A second reader, made apart from the oracle, to check it by: colour and motion of one subject, camera at rest.

It shares no code with the oracle, and of its method only the rules by which a path is named, written here again. It
knows no scenery and no silhouettes: the subject is what has a colour of the palette or moves, its colour is where the
weight of its hues lies, and its motion is that of the first two moments of its pixels. Where lengths have no unit, they
are shares of the picture's short side.

It may miss a white subject that stands still on snow, and it finds some colour in pictures that are nothing but noise.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

PALETTE = {
    "red": (0.89, 0.14, 0.16),
    "orange": (0.99, 0.52, 0.06),
    "yellow": (1.00, 0.86, 0.12),
    "green": (0.08, 0.60, 0.24),
    "blue": (0.10, 0.32, 0.92),
    "purple": (0.52, 0.18, 0.74),
    "pink": (1.00, 0.48, 0.72),
    "white": (0.98, 0.98, 0.98),
}
"""The names of what is seen, as red, green and blue in [0, 1] in even light; white comes last."""
MOTIONS = ("left", "right", "up", "down", "still", "bounce", "orbit", "fall", "grow", "shrink")

_SHADES = 0.6, 1.1
"""How dark and how light a colour may be drawn."""
_LEAST_AREA = 0.0025
"""Part of the picture that a subject fills at least."""
_LEAST_CONTRAST = 0.12
"""How far, in the RGB cube, a white subject is from the scenery at least."""
_HORIZON = 0.56
"""Part of the picture that is above the ground."""
_LEAST_PATH = 0.1
"""A subject that goes less far than this stands still."""
_BENT = 0.03
"""Root mean square distance of a track from a straight, even motion, from which on it is another motion."""
_LEAST_GROWTH = math.log(1.5)
"""Change of the logarithm of the radius from which on a subject grows or shrinks."""


class SecondReading(NamedTuple):
    """What is seen; None for a colour says that most frames show no subject, for a motion, that it is none of ours."""

    colour: str | None
    motion: str | None
    track: Tensor
    """The subject's centre in pixels (column, row), (T, 2); NaN where it is not seen."""


def read_again(video: Tensor) -> SecondReading:
    """Say the colour and the motion of the one subject in pixels in [-1, 1], (3, T, H, W)."""
    pixels = _smooth((video.float() + 1) / 2)
    colour, masks = _coloured(pixels)
    if masks is None:
        colour, masks = _faint(pixels)
        white = _white(pixels)
        if white is not None and (masks is None or _change(pixels, white) > _change(pixels, masks)):
            colour, masks = "white", white
    if masks is None:
        return SecondReading(None, None, video.new_full((video.shape[1], 2), math.nan))
    track, radius = _follow(masks)
    return SecondReading(colour, _motion(track / min(video.shape[2:]), radius), track)


def _smooth(frames: Tensor) -> Tensor:
    """(3, T, H, W) to (T, H, W, 3), with a little less noise."""
    padded = F.pad(frames.transpose(0, 1), (1, 1, 1, 1), mode="replicate")
    rows = 0.8 * padded[..., 1:-1] + 0.1 * (padded[..., :-2] + padded[..., 2:])
    return (0.8 * rows[:, :, 1:-1] + 0.1 * (rows[:, :, :-2] + rows[:, :, 2:])).movedim(1, -1)


def _from_shades(colours: Tensor) -> Tensor:
    """How far, in the RGB cube, colours (..., 3) are from the shades of each colour of the palette, (..., 8)."""
    palette = colours.new_tensor(list(PALETTE.values()))
    along, squares = colours @ palette.T, palette.square().sum(dim=1)
    shade = (along / squares).clamp(*_SHADES)
    # |p - s c|^2 without a tensor for every difference.
    distances = colours.square().sum(dim=-1, keepdim=True) + shade * (shade * squares - 2 * along)
    return distances.clamp_min(0).sqrt()


def _chroma(pixels: Tensor) -> Tensor:
    """How far pixels are from grey; the scenery is pale."""
    return pixels.amax(dim=-1) - pixels.amin(dim=-1)


def _contrast(pixels: Tensor) -> Tensor:
    """How far pixels are from what their row mostly shows; the scenery looks much alike along a row."""
    return (pixels - pixels.median(dim=2, keepdim=True).values.median(dim=0).values).norm(dim=-1)


def _coloured(pixels: Tensor) -> tuple[str | None, Tensor | None]:
    """The colour of the subject, and where it is seen, (T, H, W); None if there is none other than white."""
    chroma, contrast = _chroma(pixels), _contrast(pixels)
    distance = _from_shades(pixels)[..., :-1].amin(dim=-1)
    # A small subject is blended with what is behind it: not near any shade, but still far from the scenery.
    sure = (chroma > 0.3) & (contrast > 0.2) & ((distance < 0.22) | (distance < 0.4) & (contrast > 0.4))
    likely = (chroma > 0.25) & (contrast > 0.15) & ((distance < 0.25) | (distance < 0.45) & (contrast > 0.35))
    masks = _largest(likely | sure, sure)
    if not _is_there(masks):
        return None, None
    # Hue survives shade and blending with white; the strongest colours are the purest.
    weights = (masks * chroma**4)[..., None]
    colour = (pixels * weights).sum(dim=(0, 1, 2)) / weights.sum()
    palette = pixels.new_tensor(list(PALETTE.values())[:-1])
    hues = F.normalize(palette - palette.mean(dim=1, keepdim=True), dim=1)
    return list(PALETTE)[int((hues @ (colour - colour.mean())).argmax())], masks


def _faint(pixels: Tensor) -> tuple[str | None, Tensor | None]:
    """The same for a subject that is too blended with the scenery for `_coloured`, if it moves."""
    behind = pixels.median(dim=0).values
    change = pixels - behind
    size = change.norm(dim=-1)
    # Blending moves a pixel from the scenery's colour towards the subject's.
    palette = pixels.new_tensor(list(PALETTE.values())[:-1])
    towards = F.normalize(palette - behind[..., None, :], dim=-1)  # (H, W, 7, 3)
    likeness = torch.einsum("thwc,hwpc->thwp", change, towards) / size.clamp_min(1e-6)[..., None]
    chroma, contrast = _chroma(pixels), _contrast(pixels)
    masks = _largest((size > 0.15) & (contrast > 0.15) & (chroma > 0.12) & (likeness.amax(dim=-1) > 0.75))
    if not _is_there(masks):
        return None, None
    votes = (likeness * (size * chroma * masks)[..., None]).sum(dim=(0, 1, 2))
    return list(PALETTE)[int(votes.argmax())], masks


def _white(pixels: Tensor) -> Tensor | None:
    """Where a white subject is seen, (T, H, W), if there is one: there are white things in the scenery too."""
    num_frames, height = pixels.shape[:2]
    from_white = _from_shades(pixels)[..., -1]
    light = pixels.amin(dim=-1)
    # What is behind a white subject is what is seen when it is darker there; on white scenery, what is seen mostly.
    rank = light.argsort(dim=0)[round(0.15 * (num_frames - 1))]
    behind = pixels.gather(0, rank[None, ..., None].expand(1, -1, -1, 3))
    pale = _from_shades(behind)[..., -1] < 0.06
    uncovered = (light - behind.amin(dim=-1) > 0.06) & ((pixels - behind).norm(dim=-1) > _LEAST_CONTRAST)
    changed = (pixels - pixels.median(dim=0).values).norm(dim=-1) > _LEAST_CONTRAST
    masks = _largest((from_white < 0.15) & torch.where(pale, changed, uncovered))
    if _is_there(masks):
        return masks
    # What stands still stands on the ground, which looks alike along a row and is darker, snow aside.
    row = pixels.median(dim=2, keepdim=True).values
    stands_out = (light - row.amin(dim=-1) > 0.05) & ((pixels - row).norm(dim=-1) > _LEAST_CONTRAST)
    stands_out[:, : round(_HORIZON * height)] = False
    masks = _largest((from_white < 0.12) & (light > 0.5) & stands_out)
    return masks if _is_there(masks) and _is_compact(masks) else None


def _change(pixels: Tensor, masks: Tensor) -> float:
    """How much masked pixels differ from what is mostly seen there."""
    return ((pixels - pixels.median(dim=0).values).norm(dim=-1) * masks).sum().item()


def _is_there(masks: Tensor) -> bool:
    """Whether most frames show enough of a subject."""
    return bool((masks.float().mean(dim=(1, 2)) >= _LEAST_AREA).float().mean() > 0.5)


def _is_compact(masks: Tensor) -> bool:
    """Whether what is seen keeps clear of the picture's sides, and is neither flat nor thin."""
    seen = masks.float().mean(dim=0) > 0.5
    columns, rows = seen.any(dim=0), seen.any(dim=1)
    width, height = int(columns.sum()), int(rows.sum())
    return not (columns[0] or columns[-1]) and max(width, height) < 2.5 * min(width, height)


def _largest(masks: Tensor, seeds: Tensor | None = None) -> Tensor:
    """The connected part of each mask, (T, H, W), with most seeds, or else pixels; gaps of two pixels are bridged."""
    num_frames, height, width = masks.shape
    bridged = F.max_pool2d(masks[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0
    labels = torch.arange(1, height * width + 1, device=masks.device).view(1, height, width) * bridged
    rows, columns = _runs(bridged), _runs(bridged.mT).mT
    while True:
        spread = _highest(columns, _highest(rows, labels))
        if torch.equal(spread, labels):
            break
        labels = spread
    counted = torch.where(masks if seeds is None else seeds, labels, 0).flatten(1)
    counts = torch.zeros(num_frames, height * width + 1, device=masks.device)
    counts.scatter_add_(1, counted, torch.ones_like(counted, dtype=counts.dtype))
    counts[:, 0] = 0
    return masks & (labels == counts.argmax(dim=1).view(-1, 1, 1))


def _runs(masks: Tensor) -> Tensor:
    """A number for each run of masked pixels along the last axis, from 1 on; 0 where there is none."""
    starts = masks & ~F.pad(masks, (1, 0))[..., :-1]
    return starts.flatten().cumsum(0).view_as(masks) * masks


def _highest(runs: Tensor, labels: Tensor) -> Tensor:
    """Give every pixel of a run the highest label in it."""
    highest = labels.new_zeros(int(runs.max()) + 1)
    return highest.scatter_reduce(0, runs.flatten(), labels.flatten(), "amax")[runs]


def _follow(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Centres in pixels (column, row), (T, 2), NaN where there is none, and root mean square radii in pixels, (T,)."""
    _, height, width = masks.shape
    across, down = masks.float().sum(dim=1), masks.float().sum(dim=2)
    area = across.sum(dim=1)
    columns, rows = (torch.arange(float(length), device=masks.device) for length in (width, height))
    centres = torch.stack([across @ columns, down @ rows], dim=1) / area[:, None]
    squares = (across @ columns.square() + down @ rows.square()) / area - centres.square().sum(dim=1)
    return centres, squares.clamp_min(0.25).sqrt()


def _motion(track: Tensor, radius: Tensor) -> str | None:
    """Name the motion of a track, (T, 2), with radii, (T,), in any unit."""
    seen = ~track.isnan().any(dim=1)
    if seen.sum() < 3:
        return None
    time = torch.linspace(0, 1, len(track), device=track.device)[seen]
    places = track[seen]
    # One frame in which something else was followed must not bend the track.
    places[1:-1] = torch.stack([places[:-2], places[1:-1], places[2:]]).median(dim=0).values
    (path_x, path_y), (bent_x, bent_y) = _line(time, places)
    path = math.hypot(path_x, path_y)
    (growth,), _ = _line(time, radius[seen].log()[:, None])
    if abs(growth) > _LEAST_GROWTH and path < 2 * _LEAST_PATH and max(bent_x, bent_y) < 2 * _BENT:
        return "grow" if growth > 0 else "shrink"
    if min(bent_x, bent_y) > _BENT:
        return "orbit" if _is_round(places) else None
    if bent_y > _BENT and abs(path_x) < _LEAST_PATH:
        steps = places[:, 1].diff()
        rises, falls = steps.clamp_max(0).abs().sum(), steps.clamp_min(0).sum()
        return "fall" if rises < 0.35 * falls else "bounce"
    if path < _LEAST_PATH:
        return "still"
    if abs(path_x) > abs(path_y):
        return "right" if path_x > 0 else "left"
    return "down" if path_y > 0 else "up"


def _is_round(places: Tensor) -> bool:
    """Whether places, (N, 2), lie on a circle that fits the picture."""
    # |p|^2 = 2 p.c + (r^2 - |c|^2) is linear in the centre c and in the rest.
    places = places - places.mean(dim=0)
    ones = torch.ones_like(places[:, :1])
    x, y, rest = torch.linalg.lstsq(torch.cat([2 * places, ones], dim=1), places.square().sum(dim=1)).solution.tolist()
    radius = math.sqrt(max(rest + x * x + y * y, 0.0))
    off = (places - places.new_tensor([x, y])).norm(dim=1) - radius
    return radius < 0.5 and off.square().mean().sqrt().item() < 2 * _BENT


def _line(time: Tensor, values: Tensor) -> tuple[list[float], list[float]]:
    """Fit each column of values, (N, K), by a line: its rise over the whole clip, and the RMS distance from it."""
    time, values = time - time.mean(), values - values.mean(dim=0)
    slope = time @ values / time.square().sum()
    return slope.tolist(), (values - time[:, None] * slope).square().mean(dim=0).sqrt().tolist()
