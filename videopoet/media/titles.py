"""Titles: words drawn on a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videopoet.errors import MediaError

MARGIN = 0.08
"""Of the width, left free on each side."""
LARGEST, LEAST = 0.13, 0.03
"""Height of the letters as a share of the picture's short side."""
MOST_OF_HEIGHT = 0.6
LINE = 1.25
"""From one line to the next, in heights of the letters."""
SYSTEM_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "arial.ttf")
_NO_LETTER = "\U0010fffd"  # no font has a picture of this one


def with_title(picture: Tensor, text: str, font: str | Path | None = None) -> Tensor:
    """Draw a text in the middle of a picture, uint8 (3, H, W), as large as fits, in as many lines as it takes.

    Args:
        picture: What is behind it.
        text: White, with a dark shadow.
        font: A TrueType or OpenType file; without it Pillow's own, or where that lacks a letter one of the system's.

    Raises:
        MediaError: The font cannot be read or lacks a letter, or the text does not fit.
    """
    import numpy as np
    from PIL import Image as Pillow
    from PIL import ImageDraw

    height, width = picture.shape[1:]
    short = min(height, width)
    drawn = Pillow.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
    draw = ImageDraw.Draw(drawn)
    words = text.split()
    font = _able_to_write(text, font)
    for size in range(round(LARGEST * short), max(1, round(LEAST * short)) - 1, -1):
        letters = _font(font, size)
        lines = _lines(words, letters, (1 - 2 * MARGIN) * width)
        if lines is not None and len(lines) * LINE * size <= MOST_OF_HEIGHT * height:
            lines = _evened(words, letters, lines)
            break
    else:
        raise MediaError(
            f"the title '{text[:40]}...' does not fit in {width}x{height} pixels; fewer and shorter words do; "
            "shorten it",
            code="title_too_long",
        )
    for number, line in enumerate(lines):
        place = (width / 2, height / 2 + (number - (len(lines) - 1) / 2) * LINE * size)
        shadow = (place[0] + max(1, size // 16), place[1] + max(1, size // 16))
        draw.text(shadow, line, font=letters, fill=(0, 0, 0), anchor="mm")
        draw.text(place, line, font=letters, fill=(255, 255, 255), anchor="mm")
    return torch.from_numpy(np.array(drawn)).permute(2, 0, 1).contiguous()


def _font(path: str | Path | None, size: int) -> Any:
    from PIL import ImageFont

    if path is None:
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(str(path), size)
    except OSError:
        raise MediaError(
            f"the font '{Path(path).name}' cannot be read; a TrueType or OpenType file fits; choose another",
            code="font_invalid",
        ) from None


def _lines(words: list[str], letters: Any, width: float) -> list[str] | None:
    """Words in lines no wider than that; None where one word alone is."""
    lines: list[str] = []
    for word in words:
        longer = f"{lines[-1]} {word}" if lines else word
        if letters.getlength(word) > width:
            return None
        if lines and letters.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _evened(words: list[str], letters: Any, lines: list[str]) -> list[str]:
    """The same words in as many lines, none much longer than the others."""
    narrower: list[str] | None = lines
    while narrower is not None and len(narrower) == len(lines):
        lines = narrower
        narrower = _lines(words, letters, max(map(letters.getlength, lines)) - 1)
    return lines


def _able_to_write(text: str, font: str | Path | None) -> str | Path | None:
    """The font, or where none is given the first that has all letters."""
    missing: list[str] = []
    for choice in (font,) if font is not None else (None, *SYSTEM_FONTS):
        try:
            lacking = _missing_letters(text, _font(choice, 16))
        except MediaError:
            if font is not None:
                raise
            continue  # a system without that one
        if not lacking:
            return choice
        missing = missing or lacking
    raise MediaError(
        f"the font has no letter '{missing[0]}' ({len(missing)} of the title's letters are missing); one that has them "
        "fits; give its file as font, or write another title",
        code="title_letters",
    )


def _missing_letters(text: str, letters: Any) -> list[str]:
    unknown = bytes(letters.getmask(_NO_LETTER))
    return [one for one in dict.fromkeys(text) if not one.isspace() and bytes(letters.getmask(one)) == unknown]
