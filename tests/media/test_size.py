import pytest

from videopoet.errors import ConfigError
from videopoet.media.size import parse_size


@pytest.mark.parametrize(("text", "size"), [("64x48", (48, 64)), ("128X128", (128, 128)), (" 96*64 ", (64, 96))])
def test_a_size_is_width_by_height(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["64", "64x", "ax64", "-64x64", "1e3x64"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ConfigError, match="64x64"):
        parse_size(text)
