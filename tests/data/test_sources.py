import pytest

from videopoet.data.sources import clean_caption, kind_of


def test_of_a_file_whose_name_says_nothing_the_content_decides(tmp_path, footage):
    contents = {
        "clip": (footage / "a.mp4").read_bytes(),
        "picture": b"\x89PNG\r\n\x1a\n",
        "sound": b"fLaC",
        None: b"%PDF",
    }
    for kind, content in contents.items():
        (tmp_path / f"{kind}.dat").write_bytes(content)
        assert kind_of(tmp_path / f"{kind}.dat") == kind


@pytest.mark.parametrize("text", [None, "", " \n\u200b", "<>"])
def test_a_caption_without_words_is_none(text):
    assert clean_caption(text) is None


def test_a_caption_holds_none_of_the_models_own_marks():
    assert clean_caption("a <task:video> b\0c\ud800d") == "a task:video b c d"
