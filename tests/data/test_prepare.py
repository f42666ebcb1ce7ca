import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from videopoet import locks
from videopoet.data import prepare as preparation
from videopoet.data.clips import Config, grouped
from videopoet.data.combine import Split
from videopoet.data.manifest import Listing
from videopoet.data.prepare import parts, prepare
from videopoet.data.shards import Shards, read_lines
from videopoet.data.sources import Source
from videopoet.errors import ConfigError, DataError, MediaError
from videopoet.media import files, sandbox
from videopoet.media.types import Audio, Image, Video

SMALL = Config(height=32, width=32, num_frames=9, frame_rate=8.0)


def files_of(folder):
    """Every file below a folder with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(folder, name="clips.jsonl"):
    return list(read_lines(folder / name))


def test_what_comes_in_is_kept_or_rejected(dataset):
    folder, counts = dataset
    kept, rejected = rows(folder), rows(folder, "rejects.jsonl")
    assert counts["sources"] == {"found": 9, "kept": 5, "rejected": 4}
    assert counts["clips"] == {"found": len(kept) + len(rejected), "kept": len(kept), "rejected": len(rejected)}
    everything = {row["source"] for row in kept} | {row["source"] for row in rejected}
    assert len(everything) == 9 and counts["other_files"] == 1


def test_bad_clips_are_rejected_for_what_is_wrong_with_them(dataset):
    found = {(row["source"], row["code"]) for row in rows(dataset[0], "rejects.jsonl")}
    assert {
        ("e still.mp4", "static"),
        ("f black.mp4", "black"),
        ("g again.mp4", "duplicate"),
        ("h broken.mp4", "media_corrupt"),
        ("d film.mp4", "black"),
    } <= found
    assert all(row["message"].count(";") >= 2 for row in rows(dataset[0], "rejects.jsonl"))


def test_clips_have_the_shape_of_their_bucket(dataset):
    folder, counts = dataset
    sizes = {row["source"]: (row["height"], row["width"]) for row in rows(folder)}
    assert sizes["a.mp4"] == (32, 32) and sizes["b wide.mp4"] == (32, 56) and sizes["below/c.mp4"] == (56, 32)
    assert sum(counts["sizes"].values()) == counts["clips"]["kept"]
    shards = Shards(folder, json.loads((folder / "dataset.json").read_text())["shards"])
    for row in rows(folder):
        assert shards.row(row["shard"], "video", row["row"]).shape == (3, 9, row["height"], row["width"])
        assert shards.row(row["shard"], "audio", row["row"]).shape == (1, 18_000)


def test_a_clip_is_the_stretch_of_its_file_that_its_row_names(dataset, footage):
    folder, _ = dataset
    row = next(row for row in rows(folder) if row["source"] == "b wide.mp4" and row["start"] > 0)
    clip = Shards(folder).row(row["shard"], "video", row["row"])
    whole = files.read_video(footage / row["source"], height=32, width=56, frame_rate=8.0)
    first = round(row["start"] * 8)
    assert torch.equal(clip, whole.frames[:, first : first + 9])
    sound = Shards(folder).row(row["shard"], "audio", row["row"])[0].float() / 32767
    start = round(row["start"] * 16_000)
    heard = whole.audio.samples[0, start : start + 18_000]
    assert len(heard) > 17_000 and (sound[: len(heard)] - heard).abs().max() < 2e-3


def test_silence_and_a_missing_track_are_marked(dataset):
    heard = {row["source"]: row["heard"] for row in rows(dataset[0])}
    assert (heard["a.mp4"], heard["i silent.mp4"], heard["below/c.mp4"]) == ("sound", "silence", "none")


def test_captions_reach_their_clips(dataset):
    captions = {row["source"]: (row["caption"], row["caption_from"]) for row in rows(dataset[0])}
    assert captions["a.mp4"] == ("A white disc goes bov round.", "sidecar")
    assert captions["b wide.mp4"] == (None, None)


def test_no_source_is_on_both_sides_of_the_split(dataset):
    folder, counts = dataset
    sides = {split: {row["source"] for row in rows(folder) if row["split"] == split} for split in counts["split"]}
    assert sides["train"] and sides["validation"] and not sides["train"] & sides["validation"]


def test_clips_of_another_shape_do_not_take_a_datasets_place(dataset, footage):
    folder, _ = dataset
    before = files_of(folder)
    with pytest.raises(ConfigError, match="32x32, 9 frames.*48x32, 9 frames.*choose another --output") as caught:
        prepare(footage, folder, SMALL.model_copy(update={"width": 48}), workers=1)
    assert caught.value.code == "output_exists" and files_of(folder) == before


def test_preparing_again_changes_nothing(dataset, footage):
    folder, counts = dataset
    before = files_of(folder)
    times = {path: path.stat().st_mtime_ns for path in folder.glob("parts/*/*.safetensors")}
    assert prepare(footage, folder, SMALL, workers=1) == counts
    assert files_of(folder) == before
    assert times == {path: path.stat().st_mtime_ns for path in folder.glob("parts/*/*.safetensors")}


def test_parts_and_workers_change_nothing_of_what_is_kept(dataset, footage, tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "MEAN_PART", 2)
    prepare(footage, tmp_path / "one", SMALL, workers=3)
    assert len(list((tmp_path / "one" / "parts").iterdir())) > 1
    drop = lambda found: [{**row, "shard": "", "row": 0} for row in found]  # noqa: E731
    assert drop(rows(tmp_path / "one")) == drop(rows(dataset[0]))


def test_a_run_that_is_killed_goes_on_to_the_same_dataset(two, tmp_path, monkeypatch, make):
    """Killed once a part is on disk and the next has begun: what is half written never counts."""
    make.moving(1.3, tint=-0.5).save(two / "c.mp4")
    monkeypatch.setattr(preparation, "LARGEST_PART", 1)
    code = (
        "import sys; from videopoet.data import prepare; prepare.LARGEST_PART = 1\n"
        "from videopoet.data.clips import Config\n"
        f"prepare.prepare(sys.argv[1], sys.argv[2], Config.from_dict({SMALL.to_dict()!r}), workers=1)"
    )
    output = tmp_path / "killed"
    child = subprocess.Popen([sys.executable, "-c", code, str(two), str(output)])
    while child.poll() is None and not list(output.glob("parts/[!.]*")):
        time.sleep(0.01)
    assert child.poll() is None, "it ended before it could be killed"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (output / "dataset.json").exists()
    finished = {path: path.stat().st_mtime_ns for path in output.glob("parts/[!.]*/manifest.json")}
    assert 1 <= len(finished) < 3
    prepare(two, output, SMALL, workers=1)
    assert finished == {path: path.stat().st_mtime_ns for path in finished}
    prepare(two, tmp_path / "whole", SMALL, workers=1)
    assert files_of(output) == files_of(tmp_path / "whole")


def test_two_processes_do_not_prepare_into_one_folder(two, tmp_path):
    output = tmp_path / "data"
    prepare(two, output, SMALL)
    before = files_of(output)
    handle = locks.hold(output)
    with pytest.raises(ConfigError, match="another process prepares footage into.*--output") as caught:
        prepare(two, output, SMALL)
    os.close(handle)
    assert caught.value.code == "dataset_in_use" and files_of(output) == before
    prepare(two, output, SMALL)


def test_a_folder_that_cannot_be_locked_is_prepared_with_a_warning(two, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(locks, "hold", lambda folder: (_ for _ in ()).throw(OSError(95, "Not supported")))
    assert prepare(two, tmp_path / "data", SMALL)["clips"]["kept"] == 2
    assert "cannot be locked" in caplog.text


def test_what_failed_for_a_reason_that_may_pass_is_tried_again(two, tmp_path, monkeypatch):
    output, opened = tmp_path / "data", sandbox._open
    (two / "c.mp4").write_bytes((two / "a.mp4").read_bytes()[:700])

    def failing(path):
        if path.name == "b.mp4":
            raise MediaError("b.mp4: it cannot be opened (input/output error)", code="media_unreadable")
        return opened(path)

    monkeypatch.setattr(sandbox, "_open", failing)
    assert prepare(two, output, SMALL)["rejects"] == {"media_corrupt": 1, "media_unreadable": 1}
    monkeypatch.undo()
    assert prepare(two, output, SMALL)["rejects"] == {"media_corrupt": 1}
    times = {path: path.stat().st_mtime_ns for path in output.glob("parts/*/*")}
    prepare(two, output, SMALL)
    assert times == {path: path.stat().st_mtime_ns for path in output.glob("parts/*/*")}


def test_a_shard_that_was_changed_is_made_again(two, tmp_path):
    output = tmp_path / "data"
    prepare(two, output, SMALL)
    before = files_of(output)
    shard = next(output.glob("parts/*/*.safetensors"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    prepare(two, output, SMALL)
    assert files_of(output) == before


@pytest.fixture
def two(tmp_path, make):
    folder = tmp_path / "footage"
    make.moving(1.3).save(folder / "a.mp4")
    make.moving(1.3, tint=0.5).save(folder / "b.mp4")
    return folder


def test_a_dataset_below_its_footage_does_not_learn_its_own_contact_sheet(two, make):
    counts = prepare(two, two / "data", SMALL)
    Image(make.moving(0.5).frames[:, 0]).save(two / "data" / "contact-sheet.png")
    assert prepare(two, two / "data", SMALL) == counts
    assert prepare(two, two / "another", SMALL) == counts


def test_other_footage_does_not_take_a_datasets_place(two, tmp_path, make):
    output = tmp_path / "data"
    prepare(two, output, SMALL)
    before = files_of(output)
    make.moving(1.3, tint=-0.5).save(tmp_path / "others" / "c.mp4")
    with pytest.raises(ConfigError, match="2 files, none of which is among those of.*choose another") as caught:
        prepare(tmp_path / "others", output, SMALL)
    assert caught.value.code == "output_exists" and files_of(output) == before


def test_new_footage_joins_and_removed_footage_goes(two, tmp_path, make, caplog):
    output = tmp_path / "data"
    assert prepare(two, output, SMALL)["sources"]["found"] == 2
    make.moving(1.3, tint=-0.5).save(two / "c.mp4")
    assert prepare(two, output, SMALL)["clips"]["kept"] == 3 and not caplog.text
    (two / "a.mp4").unlink()
    (output / "parts" / ".DS_Store").touch()
    assert prepare(two, output, SMALL)["clips"]["kept"] == 2
    (output / "parts" / ".DS_Store").unlink()
    assert "of 3 files" in caplog.text and "1 are gone" in caplog.text
    named = {row["shard"].split("/")[1] for row in rows(output)}
    assert {path.name for path in (output / "parts").iterdir()} == named


def test_where_a_part_ends_depends_on_the_names_around_it_alone(tmp_path):
    sources = [Source(f"{number:03d}.mp4", str(tmp_path / "clip")) for number in range(200)]
    (tmp_path / "clip").touch()
    whole = {part.name for part in parts(sources, SMALL)}
    fewer = {part.name for part in parts(sources[:77] + sources[78:], SMALL)}
    assert len(whole) > 5 and len(whole - fewer) == 1


def test_a_film_is_cut_where_its_shots_change(tmp_path, make):
    film = make.joined(make.moving(2.0, tint=0.6), make.moving(1.5, tint=-0.6, speed=0.5), make.moving(0.5, tint=0.2))
    film.save(tmp_path / "footage" / "film.mp4")
    prepare(tmp_path / "footage", tmp_path / "data", SMALL)
    assert [row["start"] for row in rows(tmp_path / "data")] == [0.0, 2.0]
    (short,) = rows(tmp_path / "data", "rejects.jsonl")
    assert (short["code"], short["start"], short["seconds"]) == ("shot_too_short", 3.5, 0.5)


def test_faults_that_are_asked_for_are_kept_and_marked(tmp_path, make):
    folder = tmp_path / "footage"
    make.still(1.2).save(folder / "a.mp4")
    make.still(1.2, -1.0).save(folder / "b.mp4")
    make.moving(1.2).save(folder / "c.mp4")
    make.moving(1.2).save(folder / "d.mp4")
    prepare(folder, tmp_path / "data", SMALL.model_copy(update={"keep": ("static", "black", "duplicate")}))
    assert [row["faults"] for row in rows(tmp_path / "data")] == [["static"], ["black"], [], ["duplicate"]]


def test_a_duplicate_is_found_though_it_was_scaled_and_encoded_again(tmp_path, make):
    folder = tmp_path / "footage"
    make.moving(1.2, height=96, width=96).save(folder / "a.mp4")
    make.moving(1.2, height=64, width=64).save(folder / "b.mp4")
    make.moving(1.2, height=64, width=64, speed=-1).save(folder / "c.mp4")
    prepare(folder, tmp_path / "data", SMALL)
    assert [row["source"] for row in rows(tmp_path / "data")] == ["a.mp4", "c.mp4"]
    (reject,) = rows(tmp_path / "data", "rejects.jsonl")
    assert (reject["source"], reject["code"]) == ("b.mp4", "duplicate") and "a.mp4" in reject["message"]


def test_a_file_that_breaks_off_gives_its_beginning(tmp_path, make):

    folder = tmp_path / "footage"
    noise = torch.randint(0, 255, (3, 80, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    frames = make.joined(make.moving(10.0, height=64, width=64, sound=-1)).frames // 2 + noise // 8
    Video(frames, 8.0).save(folder / "a.mp4")
    data = bytearray((folder / "a.mp4").read_bytes())
    for place in range(len(data) * 7 // 10, len(data) * 9 // 10):
        data[place] = 0
    (folder / "a.mp4").write_bytes(data)
    prepare(folder, tmp_path / "data", SMALL)
    (reject,) = [row for row in rows(tmp_path / "data", "rejects.jsonl") if row["code"] == "media_corrupt"]
    kept = rows(tmp_path / "data")
    assert 3 <= len(kept) < 8 and reject["start"] > kept[-1]["start"] and reject["seconds"] is None


def test_what_was_read_before_a_file_breaks_off_is_looked_at():
    def frames():
        yield from range(5)
        raise MediaError("it breaks off", code="media_corrupt")

    groups = []
    with pytest.raises(MediaError, match="breaks off"):
        for group in grouped(frames(), 3):
            groups.append(group)
    assert groups == [[0, 1, 2], [3, 4]] and list(grouped(range(4), 2)) == [[0, 1], [2, 3]]


def test_sound_references_and_masks_come_from_the_files_that_a_manifest_names(tmp_path, make):
    folder = tmp_path / "footage"
    make.moving(1.3, sound=-1).save(folder / "a.mp4")
    make.moving(1.3, sound=0.5).audio.save(folder / "a.wav")
    make.moving(1.3, tint=0.5).save(folder / "depth.mp4")
    make.still(1.3, 1.0).save(folder / "mask.mp4")
    row = {"video": "a.mp4", "audio": "a.wav", "reference_video": "depth.mp4", "video_mask": "mask.mp4"}
    (folder / "list.jsonl").write_text(json.dumps(row))
    prepare(folder / "list.jsonl", tmp_path / "data", SMALL)
    (row,) = rows(tmp_path / "data")
    shards = Shards(tmp_path / "data")
    assert row["heard"] == "sound"
    assert shards.row(row["shard"], "mask", row["row"]).all()
    depth = files.read_video(folder / "depth.mp4", height=32, width=32, frame_rate=8.0, max_frames=9)
    assert torch.equal(shards.row(row["shard"], "reference", row["row"]), depth.frames)


def test_a_reference_that_ends_early_rejects_the_clip(tmp_path, make):
    folder = tmp_path / "footage"
    make.moving(1.3).save(folder / "a.mp4")
    make.moving(0.8, tint=0.5).save(folder / "depth.mp4")
    make.moving(1.3, tint=0.5).save(folder / "b.mp4")
    (folder / "list.jsonl").write_text('{"video": "a.mp4", "reference_video": "depth.mp4"}\n{"video": "b.mp4"}')
    prepare(folder / "list.jsonl", tmp_path / "data", SMALL)
    (reject,) = rows(tmp_path / "data", "rejects.jsonl")
    assert reject["code"] == "side_too_short" and "depth.mp4" in reject["message"]


def test_footage_of_which_nothing_is_left_is_an_error_that_names_the_rejects(tmp_path, make):
    make.still(1.5).save(tmp_path / "footage" / "a.mp4")
    with pytest.raises(DataError, match=r"none of 1 sources.*rejects\.jsonl") as caught:
        prepare(tmp_path / "footage", tmp_path / "data", SMALL)
    assert caught.value.code == "data_empty" and len(rows(tmp_path / "data", "rejects.jsonl")) == 1


@pytest.mark.parametrize("num_sources", [1, 2, 3, 40])
def test_both_sides_of_the_split_have_clips(num_sources):
    split = Split(0.1)
    clips = [
        {"source": f"{source}", "height": 1, "width": 1, "heard": "none", "caption": None}
        for source in range(num_sources)
        for _ in range(3)
    ]
    for clip in clips:
        split.add(clip)
    sides = {}
    for row in split.rows([dict(clip) for clip in clips]):
        sides.setdefault(row["split"], []).append(row["source"])
    assert set(sides) == {"train", "validation"}
    assert num_sources == 1 or not set(sides["train"]) & set(sides["validation"])


def test_a_captioner_describes_clips_that_have_no_caption(two, tmp_path, tiny_captioner):
    (two / "a.txt").write_text("mine")
    config = SMALL.model_copy(update={"captioner": str(tiny_captioner)})
    counts = prepare(two, tmp_path / "data", config)
    captions = {row["source"]: (row["caption"], row["caption_from"]) for row in rows(tmp_path / "data")}
    assert captions["a.mp4"] == ("mine", "sidecar")
    assert captions["b.mp4"][1] == "captioner" and "ball ball" in captions["b.mp4"][0]
    assert counts["captioned"] == 2


@pytest.fixture
def tiny_captioner(tmp_path):
    """A BLIP of random weights that always says the same word."""
    from transformers import BertTokenizerFast, BlipConfig, BlipForConditionalGeneration, BlipProcessor
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    folder = tmp_path / "captioner"
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ball", "[DEC]"]
    narrow = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = BlipForConditionalGeneration(
        BlipConfig(
            text_config={
                **narrow,
                "vocab_size": len(words),
                "encoder_hidden_size": 16,
                "bos_token_id": 6,
                "eos_token_id": 3,
                "sep_token_id": 3,
                "pad_token_id": 0,
            },
            vision_config={**narrow, "image_size": 32, "patch_size": 16},
        )
    )
    model.text_decoder.cls.predictions.bias.data[words.index("ball")] = 9.0
    model.save_pretrained(folder)
    tokenizer = BertTokenizerFast(vocab={word: number for number, word in enumerate(words)})
    BlipProcessor(BlipImageProcessorPil(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


def test_a_captioner_that_is_none_is_refused_before_any_clip_is_read(two, tmp_path):
    with pytest.raises(ConfigError, match="no captioner"):
        prepare(two, tmp_path / "data", SMALL.model_copy(update={"captioner": str(tmp_path)}))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("change", [{"width": 60}, {"keep": ("blurred",)}, {"validation": 0.0}, {"num_frames": 0}])
def test_settings_that_do_not_fit_are_refused(change):
    with pytest.raises(ConfigError):
        Config.from_dict({**SMALL.to_dict(), **change})


def test_only_square_sizes_get_buckets_of_other_shapes():
    assert Config(height=64, width=64).buckets == ((64, 64), (64, 88), (64, 112), (88, 64), (112, 64))
    assert Config(height=48, width=80).buckets == ((48, 80),)


def test_memory_does_not_grow_with_the_clips(tmp_path, monkeypatch, make):
    """A long film: shards are written on the way, and few clips are in memory at a time."""
    from videopoet.data import shards

    monkeypatch.setattr(shards, "SHARD_BYTES", 200_000)
    film = make.joined(
        *[make.moving(4.5, height=32, width=32, tint=number / 10, speed=1 + number / 9) for number in range(4)]
    )
    film.save(tmp_path / "footage" / "film.mp4")
    waiting = []
    add = shards.ShardWriter.add
    monkeypatch.setattr(
        shards.ShardWriter,
        "add",
        lambda self, *given: (add(self, *given), waiting.append(sum(map(len, self._waiting.values()))))[0],
    )
    counts = prepare(tmp_path / "footage", tmp_path / "data", SMALL)
    assert counts["clips"]["kept"] >= 12 and max(waiting) <= 4
    assert len(list((tmp_path / "data").glob("parts/*/*.safetensors"))) >= 3


def test_no_clip_keeps_the_large_frames_that_a_captioner_sees(two, tmp_path, monkeypatch):
    from videopoet.data import shards

    shown, written = [], []
    add = shards.ShardWriter.add

    class Teller:
        def describe(self, picture):
            shown.append((picture.shape[1], picture.untyped_storage().nbytes() == picture.nbytes))

    monkeypatch.setattr(preparation.Captioner, "load", lambda name: Teller())
    monkeypatch.setattr(
        shards.ShardWriter, "add", lambda self, clip, said: (written.append(clip.picture), add(self, clip, said))
    )
    prepare(two, tmp_path / "data", SMALL.model_copy(update={"captioner": "some"}))
    assert shown == 2 * [(224, True)] and written == [None, None]


def test_a_part_that_takes_long_leaves_no_worker_idle(tmp_path, monkeypatch):
    """The first part ends only once all others have begun."""
    (tmp_path / "clip").touch()
    sources = [Source(f"{number:03d}.mp4", str(tmp_path / "clip")) for number in range(9)]
    last_has_begun = threading.Event()

    def prepare_one(part, *_):
        if part.name == "0":
            assert last_has_begun.wait(20)
        if part.name == "8":
            last_has_begun.set()

    monkeypatch.setattr(preparation, "prepare_part", prepare_one)
    waiting = iter(preparation.Part(str(number), (source,)) for number, source in enumerate(sources))
    assert sum(preparation._here(SMALL, tmp_path / "parts", waiting, 160, workers=2)) == 9


def test_a_listing_is_closed_when_preparing_fails(tmp_path, two, monkeypatch):
    closed = []
    close = Listing.close
    monkeypatch.setattr(Listing, "close", lambda self: (closed.append(self), close(self))[1])
    monkeypatch.setattr(preparation, "prepare_part", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space"):
        prepare(two, tmp_path / "data", SMALL)
    assert closed and not (tmp_path / "data" / "dataset.json").exists()


def test_sound_of_another_rate_keeps_its_pitch_and_its_time(tmp_path, make):
    folder = tmp_path / "footage"
    clip = make.moving(2.4)
    times = torch.arange(round(2.4 * 44_100)) / 44_100
    tone = torch.where(times > 1.5, torch.sin(2 * torch.pi * 1000 * times), torch.zeros_like(times)) * 0.5
    Video(clip.frames, clip.frame_rate, Audio(tone[None].repeat(2, 1), 44_100)).save(folder / "a.mp4")
    make.moving(1.3, tint=0.4).save(folder / "b.mp4")
    prepare(folder, tmp_path / "data", SMALL)
    row = next(row for row in rows(tmp_path / "data") if row["id"] == "a.mp4#1.125")
    sound = Shards(tmp_path / "data").row(row["shard"], "audio", row["row"])[0].float() / 32767
    expected = torch.sin(2 * torch.pi * 1000 * (torch.arange(len(sound)) / 16_000 + 1.125)) * 0.5
    starts = round(0.375 * 16_000)
    assert sound[: starts - 800].abs().max() < 0.02
    assert (sound - expected)[starts + 800 : 18_000].abs().max() < 0.05


def test_pictures_and_sounds_have_lists_of_their_own_and_all_are_counted(mixed_dataset):
    folder, counts = mixed_dataset
    assert counts["sources"] == {"found": 15, "kept": 10, "rejected": 5}
    assert counts["clips"] == {"found": 3, "kept": 3, "rejected": 0} and counts["rejects"] == {}
    pictures, sounds = counts["pictures"], counts["sounds"]
    assert pictures["rejects"] == {"black": 1, "duplicate": 1, "media_corrupt": 1} and pictures["kept"] == 4
    assert sounds["rejects"] == {"silent": 1, "sound_too_short": 1} and sounds["kept"] == 6
    assert pictures["captioned"] == 1 and sounds["captioned"] == 2
    assert sounds["seconds"] == {"found": pytest.approx(2.6 * 3 + 0.5 + 1.25, abs=0.01), "kept": 6 * 1.125}
    for name, kept in (("pictures", 4), ("sounds", 6)):
        found = rows(folder, f"{name}.jsonl")
        assert len(found) == kept == sum(counts[name]["split"].values()) and all(counts[name]["split"].values())
    assert {row["source"] for row in rows(folder)} == {f"clip {number}.mp4" for number in range(3)}
    messages = [row["message"] for row in rows(folder, "rejects.jsonl")]
    assert len(messages) == 5 and all(message.count(";") >= 2 for message in messages)


def test_a_picture_is_one_frame_of_the_size_nearest_in_shape(mixed_dataset, mixed_footage):
    folder, _ = mixed_dataset
    found = {row["source"]: row for row in rows(folder, "pictures.jsonl")}
    assert {"picture again.png", "picture 0.png"} & set(found) == {"picture 0.png"}
    wide = found["picture 1.png"]
    assert (wide["height"], wide["width"], wide["caption"]) == (32, 56, "a disc in violet light")
    stored = Shards(folder).row(wide["shard"], "video", wide["row"])
    assert torch.equal(stored[:, 0], files.read_image(mixed_footage / wide["source"], height=32, width=56).frame)
    assert wide["seconds"] is None and wide["motion"] is None and 0 < wide["brightness"] < 1


def test_a_sound_is_a_stretch_of_one_channel_at_the_rate_of_the_dataset(mixed_dataset, mixed_footage):
    folder, _ = mixed_dataset
    found = {row["id"]: row for row in rows(folder, "sounds.jsonl")}
    row = found["sound 1.wav#1.125"]  # two channels at 44,100 Hz
    assert (row["height"], row["caption"], found["sound 0.wav#0.000"]["caption"]) == (None, None, "a tone that rises")
    stored = Shards(folder).row(row["shard"], "audio", row["row"])[0].float() / 32767
    whole = files.read_audio(mixed_footage / "sound 1.wav", sample_rate=16_000).samples.mean(0)
    assert stored.shape == (18_000,) and (stored - whole[18_000:36_000])[400:-400].abs().max() < 0.02


def test_faults_of_pictures_and_sounds_are_kept_when_asked_for(tmp_path, make):
    folder = tmp_path / "footage"
    for name in ("a", "b"):
        Image(make.moving(0.5).frames[:, 0]).save(folder / f"{name}.png")
        Audio(0.5 * torch.sin(torch.arange(20_000) * 0.1)[None], 16_000).save(folder / f"{name}.wav")
    Image(torch.zeros(3, 48, 48, dtype=torch.uint8)).save(folder / "black.png")
    prepare(folder, tmp_path / "data", SMALL.model_copy(update={"keep": ("black", "duplicate")}))
    faults = {row["source"]: row["faults"] for row in rows(tmp_path / "data", "pictures.jsonl")}
    assert faults == {"a.png": [], "b.png": ["duplicate"], "black.png": ["black"]}
    assert [row["faults"] for row in rows(tmp_path / "data", "sounds.jsonl")] == [[], ["duplicate"]]


def test_a_copy_of_a_sound_is_found_though_it_is_another_file(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for name in ("a", "c"):
        steps = torch.randn(18_000 * 2, generator=generator).cumsum(0)
        sound = Audio((steps - steps.mean())[None] / steps.abs().max(), 16_000)
        sound.save(tmp_path / "footage" / f"{name}.wav")
        if name == "a":
            Audio(0.97 * sound.samples.repeat(2, 1), 16_000).save(tmp_path / "footage" / "b.wav")
    counts = prepare(tmp_path / "footage", tmp_path / "data", SMALL)
    assert counts["sounds"]["kept"] == 4 and counts["sounds"]["rejects"] == {"duplicate": 2}
    assert {row["source"] for row in rows(tmp_path / "data", "rejects.jsonl")} == {"b.wav"}


def test_what_is_left_out_later_leaves_no_list(tmp_path, make):
    folder = tmp_path / "footage"
    make.moving(1.3).save(folder / "a.mp4")
    Image(make.moving(0.5, tint=0.3).frames[:, 0]).save(folder / "a.png")
    assert prepare(folder, tmp_path / "data", SMALL)["pictures"]["kept"] == 1
    assert prepare(folder, tmp_path / "data", SMALL, kinds=("clip",))["other_files"] == 1
    assert not (tmp_path / "data" / "pictures.jsonl").exists()
    prepare(folder, tmp_path / "alone", SMALL, kinds=("clip",))
    assert files_of(tmp_path / "data") == files_of(tmp_path / "alone")


def test_a_captioner_describes_pictures_too(tmp_path, make, tiny_captioner):
    Image(make.moving(0.5).frames[:, 0]).save(tmp_path / "footage" / "a.png")
    config = SMALL.model_copy(update={"captioner": str(tiny_captioner)})
    prepare(tmp_path / "footage", tmp_path / "data", config)
    (row,) = rows(tmp_path / "data", "pictures.jsonl")
    assert row["caption_from"] == "captioner" and (row["height"], row["width"]) == (32, 32)
