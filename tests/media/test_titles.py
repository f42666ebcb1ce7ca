import pytest
import torch

from videopoet.errors import MediaError
from videopoet.media import framing
from videopoet.media.titles import with_title


def rows_with_light(picture):
    return (picture.amax(dim=0).amax(dim=1) > 200).nonzero()[:, 0].tolist()


@pytest.mark.parametrize("size", [(640, 360), (360, 640), (160, 90), (480, 480)])
@pytest.mark.parametrize("text", ["Sea", "A Raccoon Travels to the Sea", "word " * 16])
def test_a_title_stands_in_the_middle_and_within_the_margins(size, text):
    black = torch.zeros(3, *size, dtype=torch.uint8)
    drawn = with_title(black, text)
    rows = rows_with_light(drawn)
    columns = rows_with_light(drawn.transpose(1, 2))
    assert rows and columns
    assert abs((rows[0] + rows[-1]) / 2 - size[0] / 2) < 0.08 * size[0]
    assert columns[0] >= 0.05 * size[1] and columns[-1] <= 0.95 * size[1]
    assert black.sum() == 0


def test_a_longer_title_has_more_lines():
    black = torch.zeros(3, 640, 360, dtype=torch.uint8)
    short, long = (rows_with_light(with_title(black, text)) for text in ("Sea", "A Raccoon Travels to the Sea"))
    assert long[-1] - long[0] > 2 * (short[-1] - short[0])


def test_a_letter_that_the_font_lacks_is_named():
    with pytest.raises(MediaError, match="the font has no letter '海'"):
        with_title(torch.zeros(3, 64, 64, dtype=torch.uint8), "the 海")


def test_a_file_that_is_no_font_is_refused(tmp_path):
    (tmp_path / "a.ttf").write_text("no font")
    with pytest.raises(MediaError, match=r"the font 'a\.ttf' cannot be read"):
        with_title(torch.zeros(3, 64, 64, dtype=torch.uint8), "Sea", tmp_path / "a.ttf")


def test_what_does_not_fit_is_refused():
    with pytest.raises(MediaError, match="does not fit in 36x64"):
        with_title(torch.zeros(3, 64, 36, dtype=torch.uint8), "m" * 80)


def test_a_picture_is_whole_before_its_backdrop():
    frames = torch.zeros(3, 2, 16, 16, dtype=torch.uint8)
    frames[:, :, :, 0] = frames[:, :, :, -1] = 255  # edges that cutting would lose
    placed = framing.place(frames, 64, 36)
    assert placed.shape == (3, 2, 64, 36)
    middle = placed[:, :, 14:50]
    assert (middle[..., 0] > 200).all() and (middle[..., -1] > 200).all() and (middle[..., 18] < 30).all()
    assert placed[:, :, 0].float().mean() < 150
    filled = framing.fill(frames, 64, 36)
    assert filled.shape == (3, 2, 64, 36) and (filled[..., 0] < 200).all()


def test_a_picture_of_the_right_shape_has_no_backdrop():
    frames = torch.full((3, 1, 16, 16), 200, dtype=torch.uint8)
    assert (framing.place(frames, 48, 48) == 200).all()
