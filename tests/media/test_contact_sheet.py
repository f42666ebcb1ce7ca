import torch

from videopoet.media.contact_sheet import GAP, MARGIN, PAPER, contact_sheet
from videopoet.media.types import Image, Video


def grey(value, num_frames=1, height=100, width=120):
    return torch.full((3, num_frames, height, width), value, dtype=torch.uint8)


def test_each_clip_is_a_row_of_its_frames_in_order():
    clips = [Video(torch.cat([grey(value + 10 * k) for k in range(11)], dim=1), 8.0) for value in (0, 100)]
    sheet = contact_sheet(clips).frame
    assert sheet.shape == (3, GAP + 2 * (100 + GAP), GAP + MARGIN + 6 * (120 + GAP))
    for row, value in enumerate((0, 100)):
        line = sheet[0, GAP + row * (100 + GAP) + 50]
        seen = [int(line[GAP + MARGIN + k * (120 + GAP) + 60]) for k in range(6)]
        assert seen == [value + 10 * k for k in (0, 2, 4, 6, 8, 10)]


def test_every_row_has_a_number_of_its_own():
    sheet = contact_sheet([Video(grey(128, 2), 8.0)] * 3).frame
    labels = [sheet[:, GAP + k * (100 + GAP) : (k + 1) * (100 + GAP), GAP : GAP + MARGIN] for k in range(3)]
    assert all((label < 100).any() and (label == PAPER).any() for label in labels)
    assert not torch.equal(labels[0], labels[1]) and not torch.equal(labels[1], labels[2])


def test_pictures_form_a_square():
    sheet = contact_sheet([Image(grey(10 * k)[:, 0]) for k in range(5)]).frame
    wide, high = MARGIN + 120 + GAP, 100 + GAP
    assert sheet.shape == (3, GAP + 2 * high, GAP + 3 * wide)
    assert int(sheet[0, GAP + high + 50, GAP + wide + MARGIN + 60]) == 40
    assert (sheet[:, GAP + high :, GAP + 2 * wide :] == PAPER).all()


def test_small_frames_are_enlarged():
    assert contact_sheet([Image(grey(1, 1, 32, 32)[:, 0])]).frame.shape == (3, GAP + 96 + GAP, GAP + MARGIN + 96 + GAP)
