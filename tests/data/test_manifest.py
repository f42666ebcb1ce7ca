import json
import os
import sys

import pytest

from videopoet.data.manifest import Listing
from videopoet.errors import DataError


@pytest.fixture
def folder(tmp_path):
    for name in ("b.mp4", "a.mp4", "below/c.webm"):
        path = tmp_path / "footage" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "footage"


def listed(*arguments, **more):
    with Listing(*arguments, **more) as listing:
        return list(listing)


def refused(*arguments, **more):
    with pytest.raises(DataError) as caught:
        Listing(*arguments, **more)
    return caught.value


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_folder_gives_its_clips_in_order_and_those_of_folders_below(folder):
    assert [source.id for source in listed(folder)] == ["a.mp4", "b.mp4", "below/c.webm"]


def test_what_is_no_footage_is_left_alone_and_counted(folder):
    write(folder / "notes.md", "notes")
    (folder / "table.csv").touch()
    write(folder / "unknown.dat", "whatever")
    (folder / ".DS_Store").touch()
    with Listing(folder) as listing:
        assert (len(listing), listing.num_others) == (3, 3)


def test_pictures_and_sounds_are_taken_beside_clips_or_left_alone(folder):
    for name in ("a.png", "below/d.JPG", "e.wav"):
        (folder / name).touch()
    write(folder / "e.txt", "a bell")
    kinds = {source.id: source.kind for source in listed(folder)}
    assert kinds == {
        "a.mp4": "clip",
        "a.png": "picture",
        "b.mp4": "clip",
        "below/c.webm": "clip",
        "below/d.JPG": "picture",
        "e.wav": "sound",
    }
    (sound,) = listed(folder, kinds=("sound",))
    assert (sound.id, sound.caption) == ("e.wav", "a bell")
    with Listing(folder, kinds=("clip", "picture")) as listing:
        assert (len(listing), listing.num_others) == (5, 1)
    (folder / "e.wav").unlink()
    error = refused(folder, kinds=("sound",))
    assert error.code == "data_empty" and "holds no sound (5 other files); .aac" in str(error)


def test_a_manifest_names_pictures_and_sounds_like_clips(folder):
    for name in ("d.png", "e.wav"):
        (folder / name).touch()
    rows = [{"video": name, "caption": name} for name in ("a.mp4", "d.png", "e.wav")]
    manifest = write(folder / "all.jsonl", "\n".join(map(json.dumps, rows)))
    assert [source.kind for source in listed(manifest)] == ["clip", "picture", "sound"]
    assert [source.id for source in listed(manifest, kinds=("picture",))] == ["d.png"]
    write(manifest, '{"video": "a.mp4"}')
    error = refused(manifest, kinds=("picture", "sound"))
    assert error.code == "data_empty" and "names no picture or sound (1 other files)" in str(error)


def test_a_clip_with_an_odd_name_is_known_by_its_content(folder, footage):
    (folder / "clip.dat").write_bytes((footage / "a.mp4").read_bytes())
    assert "clip.dat" in [source.id for source in listed(folder)]


def test_a_text_beside_a_clip_is_its_caption(folder):
    write(folder / "a.txt", "\ufeff a red\nball \u200b<eos> rolls\n")
    first, second, _ = listed(folder)
    assert (first.caption, first.caption_from) == ("a red ball eos rolls", "sidecar")
    assert (second.caption, second.caption_from) == (None, None)


def test_a_folder_without_clips_is_refused_with_what_is_looked_for(tmp_path):
    write(tmp_path / "a.md", "alone")
    error = refused(tmp_path)
    assert error.code == "data_empty" and "1 other files" in str(error) and ".mp4" in str(error)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.csv", "list.xlsx"])
def test_what_is_neither_folder_nor_list_is_refused(tmp_path, name):
    error = refused(tmp_path / name)
    assert error.code == "data_unreadable" and "there is no" in str(error)
    (tmp_path / name).touch()
    assert refused(tmp_path / name).code in ("data_type", "data_empty")


def test_a_manifest_in_jsonl_and_one_in_csv_say_the_same(folder):
    (folder / "a.wav").touch()
    rows = [{"video": "b.mp4", "caption": "a, b"}, {"video": "a.mp4", "audio": "a.wav", "reference_video": "b.mp4"}]
    jsonl = write(folder / "clips.jsonl", "\n".join(map(json.dumps, rows)))
    csv = write(folder / "clips.csv", 'video,audio,caption,reference_video\nb.mp4,,"a, b",\na.mp4,a.wav,,b.mp4\n')
    assert listed(jsonl) == listed(csv)
    first, second = listed(jsonl)
    assert (first.id, first.audio, first.caption) == ("a.mp4", str(folder / "a.wav"), None)
    assert (second.caption, second.caption_from) == ("a, b", "manifest")


def test_the_names_that_other_tools_use_for_columns_are_understood(folder):
    (source,) = listed(write(folder / "clips.jsonl", '{"media_path": "a.mp4", "ref_media_path": "b.mp4"}'))
    assert (source.id, source.reference_video) == ("a.mp4", str(folder / "b.mp4"))


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ('{"video": "a.mp4", "captoin": "x"}', "data_columns", "'captoin'"),
        ('{"caption": "x"}', "data_columns", "no column 'video'"),
        ('{"video": ""}', "data_missing", "row 1 has no video"),
        ('{"video": "z.mp4"}', "data_missing", "'z.mp4'"),
        ('{"video": "a.mp4"}\n{"video": "./a.mp4"}', "data_duplicate", "row 2 names 'a.mp4' again"),
        ('{"video": "../../x.mp4"}', "data_outside", "--allow-outside"),
        ('{"video": "/etc/passwd"}', "data_outside", "row 1"),
        ('{"video": 7}', "data_columns", "no path"),
        ('{"video": "a.mp4"}\n{"video": ', "data_syntax", "after row 1"),
        ('["a.mp4"]', "data_syntax", "no object"),
        ('{"video": "p.png", "audio": "a.mp4"}', "data_columns", "row 1 names audio for a picture"),
        ("", "data_empty", "no rows"),
    ],
)
def test_a_manifest_with_a_mistake_is_refused_with_its_place(folder, text, code, says):
    (folder / "p.png").touch()
    error = refused(write(folder / "clips.jsonl", text))
    assert error.code == code and says in str(error)


def test_all_mistakes_are_counted_and_a_few_are_told(folder):
    rows = "".join(json.dumps({"video": f"none{number}.mp4"}) + "\n" for number in range(9))
    error = refused(write(folder / "clips.jsonl", rows))
    assert "9 rows" in str(error) and "6 more" in str(error) and "none2.mp4" in str(error)


def test_a_csv_that_is_not_utf8_is_refused(folder):
    (folder / "clips.csv").write_bytes("video,caption\na.mp4,café\n".encode("latin-1"))
    assert refused(folder / "clips.csv").code == "data_encoding"


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
def test_names_that_are_not_utf8_are_counted_and_told_as_far_as_can_be(folder):
    for name in (b"caf\xe9.mp4", b"th\xe9.mp4"):
        os.close(os.open(os.fsencode(folder) + b"/" + name, os.O_CREAT))
    error = refused(folder)
    assert error.code == "data_encoding" and "2 files" in str(error) and r"'caf\udce9.mp4' is not UTF-8" in str(error)
    str(error).encode()
    error = refused(write(folder / "clips.jsonl", r'{"video": "caf\udce9.mp4"}'))
    assert error.code == "data_columns" and "no path" in str(error)
    os.unlink(os.fsencode(folder) + b"/caf\xe9.mp4")
    os.unlink(os.fsencode(folder) + b"/th\xe9.mp4")
    assert refused(folder, write(folder / "captions.jsonl", r'{"video": "caf\udce9.mp4"}')).code == "data_encoding"


def test_a_link_out_of_the_folder_is_followed_only_if_allowed(folder, tmp_path):
    (tmp_path / "outside.mp4").touch()
    (folder / "link.mp4").symlink_to(tmp_path / "outside.mp4")
    assert refused(folder).code == "data_outside"
    assert len(listed(folder, allow_outside=True)) == 4


def test_a_folder_that_is_linked_to_is_followed_once_and_from_outside_only_if_allowed(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "d.mp4").touch()
    (tmp_path / "elsewhere" / "round").symlink_to(folder)
    (folder / "again").symlink_to(folder / "below")
    (folder / "up").symlink_to(folder)
    assert [source.id for source in listed(folder)] == ["a.mp4", "b.mp4", "below/c.webm"]
    (folder / "also").symlink_to(tmp_path / "elsewhere")
    (folder / "more").symlink_to(tmp_path / "elsewhere")
    error = refused(folder)
    assert error.code == "data_outside" and "2 files" in str(error) and "--allow-outside" in str(error)
    ids = [source.id for source in listed(folder, allow_outside=True)]
    assert ids == ["a.mp4", "also/d.mp4", "b.mp4", "below/c.webm"]


def test_a_link_to_nothing_is_said(folder):
    (folder / "gone.mp4").symlink_to(folder / "nothing")
    (folder / "circle").symlink_to(folder / "circle")
    (folder / "notes.txt").symlink_to(folder / "nothing")
    error = refused(folder, allow_outside=True)
    assert error.code == "data_missing" and "2 files" in str(error) and "'gone.mp4' is a link to nothing" in str(error)


def test_a_caption_file_goes_before_what_lies_beside_a_clip(folder):
    write(folder / "a.txt", "beside")
    captions = write(folder / "captions.csv", "video,caption\na.mp4,given\nb.mp4,\nbelow/c.webm,more\n")
    assert [source.caption for source in listed(folder, captions)] == ["given", None, "more"]


def test_a_caption_file_of_lines_follows_the_order_of_names(folder):
    captions = write(folder / "captions.txt", "first\n\nthird\n")
    assert [source.caption for source in listed(folder, captions)] == ["first", None, "third"]


@pytest.mark.parametrize(
    ("name", "text", "code", "says"),
    [
        ("captions.txt", "one\ntwo\n", "data_caption_count", "2 lines and the footage 3 files"),
        ("captions.csv", "video,caption\na.mp4,x\nb.mp4,y\n", "data_caption_missing", "1 of 3 files"),
        ("captions.csv", "video,caption\nz.mp4,x\n", "data_caption_unknown", "'z.mp4'"),
        ("captions.csv", "video,caption\na.mp4,x\na.mp4,y\n", "data_duplicate", "again"),
        ("captions.csv", "file,text\na.mp4,x\n", "data_columns", "'file'"),
    ],
)
def test_a_caption_file_that_does_not_fit_is_refused(folder, name, text, code, says):
    error = refused(folder, write(folder / name, text))
    assert error.code == code and says in str(error)


def test_datasets_below_the_footage_are_no_footage(folder):
    for name in ("data", "older", "theirs"):
        (folder / name).mkdir()
        (folder / name / "contact-sheet.png").touch()
    (folder / "older" / "dataset.json").write_text(json.dumps({"format": "videopoet dataset", "version": 1}, indent=1))
    write(folder / "theirs" / "dataset.json", '{"name": "of another program"}')
    found = [source.id for source in listed(folder, leave_out=folder / "data")]
    assert found == ["a.mp4", "b.mp4", "below/c.webm", "theirs/contact-sheet.png"]
