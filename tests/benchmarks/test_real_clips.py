import json
import sys
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

from videopoet import runtime
from videopoet.media.files import write
from videopoet.media.types import Video


@pytest.fixture
def real_clips(benchmark):
    return benchmark("real_clips")


@pytest.fixture
def video():
    noise = torch.rand(3, 5, 4, 4, generator=runtime.generator("real"))
    pixels = torch.nn.functional.interpolate(noise, (32, 32), mode="bilinear")
    return Video((pixels * 255).to(torch.uint8), 8.0)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_a_codec_gives_back_all_frames_and_better_ones_for_more_bits(real_clips, video, codec):
    (fine, many), (coarse, few) = (real_clips.encoded(video, codec, crf) for crf in (5, 45))
    assert fine.shape == coarse.shape == video.frames.shape and many > 2 * few
    assert real_clips.psnr(fine, video.frames) > real_clips.psnr(coarse, video.frames) + 5


def test_the_coarsest_stream_with_enough_bits_is_taken(real_clips):
    bits = {crf: 1000 - 10 * crf for crf in range(52)}
    assert real_clips.at_bits(lambda crf: (torch.zeros(1), bits[crf]), 700)[1:] == (700, 30)
    assert real_clips.at_bits(lambda crf: (torch.zeros(1), bits[crf]), 695)[1:] == (700, 30)
    assert real_clips.at_bits(lambda crf: (torch.zeros(1), bits[crf]), 1)[2] == 51
    assert real_clips.at_bits(lambda crf: (torch.zeros(1), bits[crf]), 5000)[2] == 0


def test_edge_psnr_looks_at_edges_alone(real_clips):
    reference = torch.zeros(3, 2, 20, 40, dtype=torch.uint8)
    reference[..., 20:] = 200
    off_edge, on_edge = reference.clone(), reference.clone()
    off_edge[..., :5] = 50
    on_edge[..., 20] = 150
    assert real_clips.edge_psnr(off_edge, reference) == pytest.approx(100) and 40 > real_clips.edge_psnr(
        on_edge, reference
    )


def test_without_the_folder_the_benchmark_says_that_it_is_skipped(real_clips, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["real_clips", "--media", str(tmp_path / "none")])
    real_clips.main()
    assert "--media" in json.loads(capsys.readouterr().out)["skipped"]


def test_files_that_a_dataset_trains_on_are_left_out(real_clips, tmp_path, video):
    class Rows:
        numbers: ClassVar = {"train": [0, 2], "validation": [1]}

        def row(self, number):
            return {"source": f"b/{number}.mp4"}

    assert real_clips.trained_on(Rows()) == {"b/0.mp4", "b/2.mp4"}
    window = SimpleNamespace(height=32, width=32, frame_rate=8.0, num_frames=5, seconds=5 / 8)
    (tmp_path / "b").mkdir()
    for number in range(3):
        write(video, tmp_path / "b" / f"{number}.mp4")
    found = real_clips.windows(tmp_path, window, 9, real_clips.trained_on(Rows()))
    assert [name for name, _ in found] == ["1.mp4"]
