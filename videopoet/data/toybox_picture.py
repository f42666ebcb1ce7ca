"""Draws scenes of the toy box: pixels, and the truth about them (depth, flow, masks, tracks).

Everything is a function of the scenes; a batch is drawn at once and each clip comes out as it would alone.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from videopoet.data.toybox_scenery import (
    GROUND_NEAREST,
    MIDDLE_BELOW,
    MIDDLE_DEPTH,
    MIDDLE_TOP,
    PERIOD,
    SKY_BELOW,
    SKY_DEPTH,
    scenery,
)
from videopoet.data.toybox_shapes import EXTENT, fields
from videopoet.data.toybox_world import (
    KINDS,
    MAX_SUBJECTS,
    NUM_PLACES,
    SHAPES,
    Lens,
    Scene,
    Stage,
    Subject,
    lens,
    pose,
    project,
)

RGB = {
    "red": (0.89, 0.14, 0.16),
    "orange": (0.99, 0.52, 0.06),
    "yellow": (1.00, 0.86, 0.12),
    "green": (0.08, 0.60, 0.24),
    "blue": (0.10, 0.32, 0.92),
    "purple": (0.52, 0.18, 0.74),
    "pink": (1.00, 0.48, 0.72),
    "white": (0.98, 0.98, 0.98),
}
"""What the colours look like in even light."""
_LIGHT_MARK, _DARK_MARK = (0.99, 0.97, 0.92), (0.12, 0.11, 0.16)
_REST = Lens(0.0, 0.0, 0.0, 1.0, 0.0, 0.0)
_SHADE = 0.85
"""Shadows darken towards minus this, not black, so that they do not look cut out."""
_NEAREST_DEPTH = 0.5
"""Depth that the depth map shows as 1."""


class Truth(NamedTuple):
    """What is exactly known about the pictures."""

    depth: Tensor
    """Relative inverse depth, (B, 1, T, H, W), in [0, 1]: 1 is nearest."""
    flow: Tensor
    """Where each pixel goes, in pixels to the right and down, (B, 2, T, H, W); the last frame's is zero."""
    masks: Tensor
    """Where each subject is seen, bool (B, MAX_SUBJECTS, T, H, W)."""
    tracks: Tensor
    """Subjects' centres in pixels (column, row), (B, MAX_SUBJECTS, T, 2); NaN where there is no such subject."""


class _Motion(NamedTuple):
    """Subjects of one slot as the camera sees them, each (n, T, 1, 1)."""

    x: Tensor
    y: Tensor
    radius: Tensor
    width: Tensor
    height: Tensor
    cos: Tensor
    sin: Tensor
    shadow_y: Tensor
    lift: Tensor
    depth: Tensor


class _Eye(NamedTuple):
    """The fields of `Lens` for every scene and frame, each (B, T, 1, 1)."""

    x: Tensor
    y: Tensor
    z: Tensor
    focal: Tensor
    shift_x: Tensor
    shift_y: Tensor


def draw(scenes: Sequence[Scene], height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Pictures of the scenes in [-1, 1], (B, 3, T, H, W)."""
    stage = scenes[0].stage
    columns, rows = _pixel_grid(height, width, device)
    video = _background(scenes, stage, columns, rows)
    for slot, chosen in _slots(scenes):
        motion = _motion([scenes[i] for i in chosen], slot)
        subjects = [scenes[i].subjects[slot] for i in chosen]
        everywhere = len(chosen) == len(scenes)
        some = video if everywhere else video[chosen]
        _add_shadows(some, motion)
        _add_bodies(some, subjects, motion)
        if not everywhere:
            video[chosen] = some
    return video


def truth(scenes: Sequence[Scene], height: int, width: int, device: torch.device | str = "cpu") -> Truth:
    """Depth, flow, masks and tracks of the same pictures."""
    stage = scenes[0].stage
    num_frames, short_side = stage.num_frames, min(height, width)
    columns, rows = _pixel_grid(height, width, device)
    eye = _lenses(scenes, stage, device)
    distance = _distance_of_background(scenes, stage, columns, rows, eye)
    flow = _background_flow(distance, columns, rows, eye, _Eye(*map(_next_frame, eye)), stage)
    owner = torch.full(distance.shape, -1, device=device)
    tracks = torch.full((len(scenes), MAX_SUBJECTS, num_frames, 2), math.nan, device=device)
    centre = torch.tensor([width / 2 - 0.5, height / 2 - 0.5], device=device)
    for slot, chosen, motion, across, down, mask in _silhouettes(scenes, columns, rows, device):
        later = _Motion(*map(_next_frame, motion))
        own = _turn(across, down, motion.cos, -motion.sin)
        next_across, next_down = _turn(*own, later.cos, later.sin)
        next_x = later.x + next_across * later.radius * later.width
        next_y = later.y + next_down * later.radius * later.height
        subject_flow = torch.stack([next_x - columns, next_y - rows], dim=1)
        flow[chosen] = torch.where(mask[:, None], subject_flow, flow[chosen])
        distance[chosen] = torch.where(mask, motion.depth.expand(mask.shape), distance[chosen])
        owner[chosen] = torch.where(mask, slot, owner[chosen])
        track = torch.stack([motion.x, motion.y], dim=-1).view(len(chosen), num_frames, 2)
        tracks[chosen, slot] = track * short_side + centre
    flow[:, :, -1] = 0.0
    depth = (_NEAREST_DEPTH / distance).clamp(0, 1)[:, None]
    return Truth(depth, flow * short_side, _masks(owner), tracks)


def masks(scenes: Sequence[Scene], height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Where each subject is seen in the same pictures, bool (B, subjects, T, H, W)."""
    columns, rows = _pixel_grid(height, width, device)
    owner = torch.full((len(scenes), scenes[0].stage.num_frames, height, width), -1, device=device)
    for slot, chosen, *_, mask in _silhouettes(scenes, columns, rows, device):
        owner[chosen] = torch.where(mask, slot, owner[chosen])
    return _masks(owner)


def _masks(owner: Tensor) -> Tensor:
    return torch.stack([owner == slot for slot in range(MAX_SUBJECTS)], dim=1)


def _pixel_grid(height: int, width: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    short_side = min(height, width)
    columns = (torch.arange(width, device=device) + 0.5 - width / 2) / short_side
    rows = (torch.arange(height, device=device) + 0.5 - height / 2) / short_side
    return columns.view(1, 1, 1, -1), rows.view(1, 1, -1, 1)


def _next_frame(part: Tensor) -> Tensor:
    return torch.cat([part[:, 1:], part[:, -1:]], dim=1)


def _slots(scenes: Sequence[Scene]):
    """(slot, indices of the scenes that have it), the farthest subjects first."""
    for slot in reversed(range(MAX_SUBJECTS)):
        chosen = [i for i, scene in enumerate(scenes) if len(scene.subjects) > slot]
        if chosen:
            yield slot, chosen


def _silhouettes(scenes: Sequence[Scene], columns: Tensor, rows: Tensor, device: torch.device | str):
    """(slot, indices of the scenes that have it, motion, own coordinates across and down, mask), the farthest first."""
    for slot, chosen in _slots(scenes):
        motion = _Motion(*(part.to(device) for part in _motion([scenes[i] for i in chosen], slot)))
        across, down = _local(motion, columns, rows)
        body = _sample_fields([scenes[i].subjects[slot] for i in chosen], motion, across, down)[:, 0]
        yield slot, chosen, motion, across, down, body < 0


def _lenses(scenes: Sequence[Scene], stage: Stage, device: torch.device | str, num_frames: int | None = None) -> _Eye:
    """The cameras as tensors (B, T, 1, 1)."""
    times = [stage.progress(frame / stage.frame_rate) for frame in range(num_frames or stage.num_frames)]
    views = torch.tensor([[lens(scene.camera, progress) for progress in times] for scene in scenes], device=device)
    return _Eye(*(part[..., None, None] for part in views.unbind(dim=-1)))


def _motion(scenes: Sequence[Scene], slot: int) -> _Motion:
    rows = []
    for scene in scenes:
        stage, subject = scene.stage, scene.subjects[slot]
        views_at_rest = scene.camera == "still"
        for frame in range(stage.num_frames):
            seconds = frame / stage.frame_rate
            place = pose(subject, stage, seconds)
            view = _REST if views_at_rest else lens(scene.camera, stage.progress(seconds))
            x, y, scale = project(stage, view, place.x, place.y, subject.depth)
            shadow_y = project(stage, view, place.x, subject.ground, subject.depth)[1]
            angle = place.angle
            lift = max(subject.ground - place.y - subject.radius * place.height, 0.0)
            turn = math.cos(angle), math.sin(angle)
            away = subject.depth - view.z
            rows.append((x, y, subject.radius * scale, place.width, place.height, *turn, shadow_y, lift, away))
    table = torch.tensor(rows).view(len(scenes), scenes[0].stage.num_frames, -1)
    return _Motion(*(part[..., None, None] for part in table.unbind(dim=-1)))


def _background(scenes: Sequence[Scene], stage: Stage, columns: Tensor, rows: Tensor) -> Tensor:
    """Sky, middle distance and ground, (B, 3, T, H, W)."""
    device = columns.device
    video = torch.empty(len(scenes), 3, stage.num_frames, rows.shape[2], columns.shape[3], device=device)
    at_rest = [i for i, scene in enumerate(scenes) if scene.camera == "still"]
    moving = [i for i, scene in enumerate(scenes) if scene.camera != "still"]
    for chosen, num_frames in ((at_rest, 1), (moving, stage.num_frames)):
        if chosen:
            some = [scenes[i] for i in chosen]
            video[chosen] = _layers(some, stage, columns, rows, _lenses(some, stage, device, num_frames))
    return video


class _Rays(NamedTuple):
    """What a pixel looks along, each able to spread over (B, T, H, W): its slope to the right and downwards, and where
    it meets the layers."""

    across: Tensor
    down: Tensor
    to_middle: Tensor
    to_ground: Tensor
    middle_x: Tensor
    middle_down: Tensor
    along: Tensor


def _rays(scenes: Sequence[Scene], stage: Stage, columns: Tensor, rows: Tensor, eye: _Eye) -> _Rays:
    across, down = (columns - eye.shift_x) / eye.focal, (rows - eye.shift_y - stage.horizon) / eye.focal
    along = torch.tensor([scene.place * PERIOD / NUM_PLACES for scene in scenes], device=columns.device)
    along = along.view(-1, 1, 1, 1)
    to_middle = MIDDLE_DEPTH - eye.z
    above = (stage.eye_height - eye.y - down * to_middle) / MIDDLE_DEPTH
    return _Rays(
        across=across,
        down=down,
        to_middle=to_middle,
        to_ground=(stage.eye_height - eye.y) / down.clamp_min(1e-3),
        middle_x=(eye.x + across * to_middle) / MIDDLE_DEPTH + along,
        middle_down=(MIDDLE_TOP - above) / (MIDDLE_TOP + MIDDLE_BELOW),
        along=along,
    )


def _layers(scenes: Sequence[Scene], stage: Stage, columns: Tensor, rows: Tensor, eye: _Eye) -> Tensor:
    short_side = min(rows.shape[2], columns.shape[3])
    painted = scenery(short_side, stage.half_height, columns.device)
    kinds = [KINDS.index(scene.kind) for scene in scenes]
    rays = _rays(scenes, stage, columns, rows, eye)
    nearing = 1 - eye.z / SKY_DEPTH
    sky_x = eye.x / SKY_DEPTH + rays.across * nearing + rays.along
    sky_down = (eye.y / SKY_DEPTH + rays.down * nearing + painted.sky_top) / (painted.sky_top + SKY_BELOW)
    sky = _look_up(painted.sky[kinds], sky_x, sky_down)
    ground_x = eye.x + rays.across * rays.to_ground + rays.along
    near = 1.0 / ((eye.z + rays.to_ground) * GROUND_NEAREST)
    ground = _look_up(painted.ground[kinds], ground_x, near)
    middle = _look_up(painted.middle[kinds], rays.middle_x, rays.middle_down)
    under_horizon = (rays.down * eye.focal * short_side + 0.5).clamp(0, 1)[:, None]
    return torch.lerp(torch.lerp(sky, ground, under_horizon), middle[:, :3], middle[:, 3:])


def _look_up(layer: Tensor, x: Tensor, down: Tensor) -> Tensor:
    """Read a layer at x in units, which wraps, and at a height from 0 (top) to 1, which does not: (B, C, T, H, W)."""
    num, _, layer_rows, layer_columns = layer.shape
    # Columns are read at their centres; the last one repeats the first.
    x = torch.remainder(x / PERIOD - 0.5 / (layer_columns - 1), 1.0) * 2 - 1
    y = (down * layer_rows - 0.5) / (layer_rows - 1) * 2 - 1
    x, y = torch.broadcast_tensors(x, y)
    num_frames, height, width = x.shape[1:]
    grid = torch.stack([x, y], dim=-1).view(num, num_frames * height, width, 2)
    seen = F.grid_sample(layer, grid, padding_mode="border", align_corners=True)
    return seen.view(num, -1, num_frames, height, width)


def _distance_of_background(scenes: Sequence[Scene], stage: Stage, columns: Tensor, rows: Tensor, eye: _Eye) -> Tensor:
    """How far along z the background is that a pixel shows, (B, T, H, W)."""
    painted = scenery(min(rows.shape[2], columns.shape[3]), stage.half_height, columns.device)
    kinds = [KINDS.index(scene.kind) for scene in scenes]
    rays = _rays(scenes, stage, columns, rows, eye)
    cover = _look_up(painted.middle[kinds, 3:], rays.middle_x, rays.middle_down)[:, 0]
    to_sky = (SKY_DEPTH - eye.z).expand_as(cover)
    distance = torch.where(rays.down > 0, torch.minimum(to_sky, rays.to_ground), to_sky)
    return torch.where(cover > 0.5, rays.to_middle, distance)


def _background_flow(distance: Tensor, columns: Tensor, rows: Tensor, eye: _Eye, later: _Eye, stage: Stage) -> Tensor:
    """Where what a pixel shows will be seen from `later`, less the pixel's own place, (B, 2, T, H, W) in units."""
    x = eye.x + (columns - eye.shift_x) / eye.focal * distance
    y = eye.y + (rows - eye.shift_y - stage.horizon) / eye.focal * distance
    away = distance + eye.z - later.z
    seen_x = (x - later.x) / away * later.focal + later.shift_x
    seen_y = (y - later.y) / away * later.focal + later.shift_y + stage.horizon
    return torch.stack([seen_x - columns, seen_y - rows], dim=1)


def _local(motion: _Motion, columns: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Places in a subject's own radii, before it turns, each (n, T, H, W)."""
    across = ((columns - motion.x) / (motion.radius * motion.width)).expand(-1, -1, rows.shape[2], -1)
    down = ((rows - motion.y) / (motion.radius * motion.height)).expand(-1, -1, -1, columns.shape[3])
    return across, down


def _turn(x: Tensor, y: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    return cos * x - sin * y, sin * x + cos * y


def _sample_fields(subjects: Sequence[Subject], motion: _Motion, across: Tensor, down: Tensor) -> Tensor:
    """Signed distances to body, shaded, light and dark parts in radii, (n, 4, T, H, W)."""
    device = across.device
    tables = fields(device)[[SHAPES.index(subject.shape) for subject in subjects]]
    facing = torch.tensor([float(_mirroring(subject)) for subject in subjects], device=device).view(-1, 1, 1, 1)
    x, y = _turn(across, down, motion.cos, -motion.sin)
    num, num_frames, height, width = across.shape
    grid = (torch.stack([x * facing, y], dim=-1) / EXTENT).view(num, num_frames * height, width, 2)
    seen = F.grid_sample(tables, grid, padding_mode="border", align_corners=False)
    return seen.view(num, -1, num_frames, height, width)


def _mirroring(subject: Subject) -> int:
    return subject.facing if subject.shape in ("raccoon", "fish") else 1


def _add_shadows(video: Tensor, motion: _Motion) -> None:
    """Darken the ground under a subject in each video, (n, 3, T, H, W), in place."""
    height, width = video.shape[-2:]
    columns, rows = _pixel_grid(height, width, video.device)
    size = motion.radius * (1.0 - 0.9 * motion.lift).clamp_min(0.3)
    # Only the rows that any of the shadows reaches.
    top, bottom = (motion.shadow_y - 0.35 * size).min().item(), (motion.shadow_y + 0.35 * size).max().item()
    short_side = min(height, width)
    first, last = (min(max(int(edge * short_side + height / 2), 0), height) for edge in (top, bottom + 1 / short_side))
    motion, size = _Motion(*(part.to(video.device) for part in motion)), size.to(video.device)
    across, down = (columns - motion.x) / size, (rows[:, :, first:last] - motion.shadow_y) / (0.3 * size)
    strength = (0.42 - 0.5 * motion.lift).clamp_min(0.08)
    shadow = strength * (1.15 - across**2 - down**2).clamp(0, 1)
    ground = video[..., first:last, :]
    ground.sub_((ground + _SHADE) * shadow[:, None])


def _add_bodies(video: Tensor, subjects: Sequence[Subject], motion: _Motion) -> None:
    """Draw one subject into each video, (n, 3, T, H, W), in place, in a window that follows it."""
    num, _, num_frames, height, width = video.shape
    short_side = min(height, width)
    reach = (1.2 * motion.radius * torch.maximum(motion.width, motion.height)).max().item()
    side = 2 * math.ceil(reach * short_side) + 3
    motion = _Motion(*(part.to(video.device) for part in motion))
    window_columns, columns = _window(motion.x, side, width, short_side)
    window_rows, rows = _window(motion.y, side, height, short_side)
    across, down = _local(motion, columns[..., None, :], rows[..., :, None])
    parts = _sample_fields(subjects, motion, across, down)
    pixels = (motion.radius * short_side)[:, None]
    body, shaded, light, dark = (0.5 - parts * pixels).clamp(0, 1).unbind(dim=1)
    inside = (1.0 - (parts[:, 0] + 0.06) * pixels[:, 0]).clamp(0, 1)
    glow = (1.0 - 0.16 * (0.6 * across + 0.8 * down)).clamp(0.7, 1.16)
    lit = body * glow * (0.35 + 0.65 * inside)
    own = (1 - 0.26 * shaded) * (1 - light) * (1 - dark)
    weights = torch.stack([lit * own, lit * light * (1 - dark), lit * dark], dim=1).flatten(2)
    paints = [[RGB[subject.colour], _LIGHT_MARK, _DARK_MARK] for subject in subjects]
    colours = torch.tensor(paints, device=video.device).transpose(1, 2) @ weights
    body = body.flatten(2)[:, None]
    colours = torch.minimum(colours.view(num, 3, num_frames, -1), body)
    where = (window_rows[..., :, None] * width + window_columns[..., None, :]).flatten(2)
    where = where[:, None].expand(-1, 3, -1, -1)
    pictures = video.view(num, 3, num_frames, -1)
    behind = pictures.gather(3, where)
    pictures.scatter_(3, where, behind * (1 - body) + 2 * colours - body)


def _window(centre: Tensor, side: int, length: int, short_side: int) -> tuple[Tensor, Tensor]:
    """Pixels around a centre in units, as indices inside the picture and as places in units, each (n, T, side)."""
    side = min(side, length)
    middle = centre.flatten(1) * short_side + length / 2
    first = (middle - side / 2).round().clamp(0, length - side).long()
    indices = first[..., None] + torch.arange(side, device=centre.device)
    return indices, (indices + 0.5 - length / 2) / short_side
