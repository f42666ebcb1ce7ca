import pytest
import torch

from videopoet.data.shots import Look, shots


def seen_of(frames):
    """The frames of a clip, uint8 (3, T, H, W), each with its look."""
    return list(zip(frames.unbind(1), Look.of_each(frames.transpose(0, 1)), strict=True))


def cuts(frames):
    """Numbers of the frames of a clip, uint8 (3, T, H, W), at which a shot begins."""
    return [number for number, seen in enumerate(shots(seen_of(frames))) if seen.begins]


def test_a_shot_that_only_moves_is_one(make):
    assert cuts(make.moving(4.0).frames) == [0]


def test_every_frame_comes_out_once_and_in_order(make):
    frames = seen_of(make.moving(1.0).frames)
    seen = [one.frame for one in shots(frames)]
    assert len(seen) == len(frames) and all(one is other for one, (other, _) in zip(seen, frames, strict=True))


@pytest.mark.parametrize("tint", [0.3, -0.5])
def test_a_cut_is_found_at_its_frame(make, tint):
    film = make.joined(make.moving(2.0), make.moving(2.0, tint=tint))
    assert cuts(film.frames) == [0, 16]


def test_several_cuts_in_a_row_are_found(make):
    film = make.joined(*(make.moving(1.0, tint=tint) for tint in (-0.6, 0.6, -0.2, 0.4)))
    assert cuts(film.frames) == [0, 8, 16, 24]


def test_a_pan_over_rich_ground_is_no_cut():
    spots = torch.rand(1, 3, 8, 80, generator=torch.Generator().manual_seed(0))
    ground = torch.nn.functional.interpolate(spots, (48, 480))
    frames = torch.stack([ground[0, :, :, 12 * k : 12 * k + 48] for k in range(30)], dim=1)
    assert cuts((frames * 255).to(torch.uint8)) == [0]


def test_a_dissolve_is_not_found(make):
    one, other = make.moving(1.0).frames.float(), make.moving(1.0, tint=0.6).frames.float()
    weights = torch.linspace(0, 1, 24).view(1, -1, 1, 1)
    middle = one[:, -1:] * (1 - weights) + other[:, :1] * weights
    film = torch.cat([one, middle, other], dim=1).to(torch.uint8)
    assert cuts(film) == [0]


def test_black_stretches_are_shots_of_their_own(make):
    film = make.joined(make.moving(1.0, tint=0.3), make.still(0.5, -1.0), make.moving(1.0, tint=0.3))
    assert cuts(film.frames) == [0, 8, 12]


def test_a_dark_picture_with_a_light_in_it_is_not_black():
    frame = torch.zeros(3, 48, 48, dtype=torch.uint8)
    assert Look.of_each(frame[None])[0].is_black
    frame[:, 20:26, 20:26] = 255
    assert not Look.of_each(frame[None])[0].is_black
