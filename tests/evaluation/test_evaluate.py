import hashlib
import json
import re
import shutil

import numpy as np
import pytest
import torch

from videopoet import cli, registry
from videopoet.errors import ConfigError, DataError
from videopoet.evaluation import baselines, prompts, samples
from videopoet.evaluation import evaluate as evaluation
from videopoet.evaluation.cases import Take
from videopoet.evaluation.evaluate import answer_seed, evaluate
from videopoet.evaluation.metrics.base import Figure, Weighty
from videopoet.evaluation.provenance import model_hash
from videopoet.evaluation.reading import oracle_hash
from videopoet.evaluation.report_page import lines
from videopoet.evaluation.suites import SUITES
from videopoet.media.files import probe
from videopoet.media.types import Audio, Video

SMALL = {"tasks": ["text_to_image", "video_captioning"], "count": 2, "progress": False}


@pytest.fixture(scope="module", autouse=True)
def few_training_captions():
    """Retrieval from a few captions is as good a baseline where nothing is reported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "NUM_TRAINING_CAPTIONS", 32)
        yield


@pytest.fixture(scope="module")
def folder(make_poet, tmp_path_factory):
    """A report on every task of the table, of short clips."""
    place = tmp_path_factory.mktemp("report") / "all"
    with pytest.MonkeyPatch.context() as patch:
        for name in registry.names("evaluation.metrics"):  # which are tested by themselves, and would cost minutes here
            metric = registry.component("evaluation.metrics", name)
            patch.setattr(metric, "baselines", metric.baselines[:1] if name in ("physics", "painting") else ())
        evaluate(make_poet(num_frames=9), place, count=2, progress=False)
    return place


@pytest.fixture(scope="module")
def report(folder):
    return json.loads((folder / "report.json").read_text())


@pytest.fixture
def small(poet, tmp_path):
    evaluate(poet, tmp_path / "small", **SMALL)
    return tmp_path / "small"


def without_times(values):
    """A report without what differs from run to run."""
    if isinstance(values, dict):
        return {
            key: without_times(value) for key, value in values.items() if key not in ("took_seconds", "peak_memory_mb")
        }
    if isinstance(values, list):
        kept = [one for one in values if not (isinstance(one, dict) and one.get("metric") == "cost")]
        return [without_times(value) for value in kept]
    return values


def test_every_task_of_the_table_is_measured(report):
    assert set(report["measured"]) == set(SUITES)
    assert all(measured["figures"] for measured in report["measured"].values())


def test_a_report_says_all_that_its_figures_depend_on(report):
    hashes = ("model_sha256", "prompts_sha256", "oracle_sha256", "world_network_sha256")
    assert all(re.fullmatch("[0-9a-f]{64}", report[name]) for name in hashes)
    for name in (
        "count",
        "per_prompt",
        "seed",
        "split",
        "size",
        "frame_rate",
        "sampling",
        "date",
        "parameters",
        "machine",
    ):
        assert report[name] is not None
    assert "commit" in report and report["took_seconds"] > 0 and report["peak_memory_mb"] > 0


def test_every_figure_has_a_value_an_interval_around_it_and_its_company(report):
    for suite, measured in report["measured"].items():
        for figure in measured["figures"]:
            assert figure["value"] is not None and 1 <= figure["prompts"] <= 2, (suite, figure)
            if figure["metric"] in ("code_usage", "diversity", "attribute_shift") and figure["interval"] is None:
                continue  # of a set whose redraws are all alike
            low, high = figure["interval"]
            assert low - 1e-9 <= figure["value"] <= high + 1e-9, (suite, figure)
            if figure["figure"] in ("slots", "all_correct", "identity", "silence", "structure", "kept_psnr", "psnr"):
                assert figure["truth"] is not None and figure["tokenizer"] is not None, (suite, figure)


def test_what_needs_more_prompts_is_left_out_with_the_reason(report):
    assert report["not_measured"]["text_to_video: trajectory_frechet"] == "it needs 400 prompts, there are 2"


def test_every_answer_is_kept_and_can_be_played(folder, report):
    for suite in report["measured"]:
        place = folder / "samples" / suite
        for number in range(2):
            name = samples.playable(place, f"{number:05d}-0")
            assert name is not None and (place / f"{number:05d}-0.npz").exists()
    kinds = {"text_to_video": "video", "text_to_image": "image", "text_to_audio": "audio"}
    for suite, kind in kinds.items():
        place = folder / "samples" / suite
        assert probe(place / samples.playable(place, "00000-0")).kind == kind


def test_the_page_opens_from_disk_alone(folder, report):
    page = (folder / "index.html").read_text()
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page
    sources = re.findall(r'src="([^"]+)"', page)
    assert sources and all((folder / source).is_file() for source in sources)
    for suite in report["measured"]:
        assert f'id="{suite}"' in page


def test_an_answer_is_judged_by_the_figure_of_its_task(folder, report):
    figures = {suite: {one["figure"] for one in report["answers"] if one["suite"] == suite} for suite in SUITES}
    assert figures["tokenizer"] == {"survival"} and figures["text_to_video"] == {"all_correct"}
    assert figures["inpainting"] <= {"reappears"} and figures["outpainting"] <= {"reappears"}
    assert figures["video_to_audio"] and figures["video_to_audio"] <= {"f1_50ms", "silence"}
    assert figures["text_to_audio"] and figures["text_to_audio"] <= {"material", "silence"}
    for one in report["answers"]:
        assert one["success"] == (one["scores"][one["figure"]] >= 0.5)
    assert "Successes, by survival" in (folder / "index.html").read_text()


def test_the_lines_for_a_terminal_name_every_figure(report):
    printed = "\n".join(lines(report))
    for measured in report["measured"].values():
        assert all(f"{figure['number']} {figure['figure']}" in printed for figure in measured["figures"])
    assert max(map(len, printed.splitlines())) < 240


def test_the_same_evaluation_again_makes_no_answer_and_gives_the_same_figures(poet, small, monkeypatch):
    first = json.loads((small / "report.json").read_text())

    def refuse(*arguments, **options):
        raise AssertionError("an answer was made again")

    monkeypatch.setattr(type(poet), "generate_batch", refuse)
    assert without_times(json.loads(json.dumps(evaluate(poet, small, **SMALL)))) == without_times(first)


def test_what_suites_share_changes_no_figure(poet, tmp_path, monkeypatch):
    tasks = ["image_to_video", "video_continuation", "video_to_audio"]
    shared = evaluate(poet, tmp_path / "shared", tasks=tasks, count=2, progress=False)
    monkeypatch.setattr(evaluation, "MOST_SHARED", 0)
    assert without_times(evaluate(poet, tmp_path / "alone", tasks=tasks, count=2, progress=False)) == without_times(
        shared
    )


def test_a_lost_answer_is_made_again_as_it_was(poet, small):
    path = small / "samples" / "text_to_image" / "00001-0.npz"
    with np.load(path) as file:
        before = file["frames"].astype(float)
    path.unlink()
    evaluate(poet, small, **SMALL)
    with np.load(path) as file:
        assert np.abs(file["frames"] - before).mean() < 1


def test_an_answer_to_another_prompt_is_refused(poet, small):
    place = small / "samples" / "text_to_image"
    shutil.copy(place / "00001-0.npz", place / "00000-0.npz")
    with pytest.raises(DataError, match="equal prompts only"):
        evaluate(poet, small, **SMALL)


@pytest.mark.parametrize("change", [{"count": 3}, {"seed": 1}, {"split": "combinations"}, {"tasks": ["text_to_image"]}])
def test_a_folder_of_another_evaluation_is_refused(poet, small, change):
    with pytest.raises(ConfigError, match="another evaluation"):
        evaluate(poet, small, **(SMALL | change))


def test_a_folder_of_another_model_is_refused(make_poet, small):
    other = make_poet()
    with torch.no_grad():
        other.parts.language_model.head_weight[0, 0] += 1
    with pytest.raises(ConfigError, match="model_sha256"):
        evaluate(other, small, **SMALL)


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(poet, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        evaluate(poet, tmp_path, **SMALL)
    with pytest.raises(ConfigError, match="is a file"):
        evaluate(poet, tmp_path / "notes.txt", **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("numbers", [{"count": 1}, {"per_prompt": 0}])
def test_too_few_prompts_or_answers_are_refused(poet, tmp_path, numbers):
    with pytest.raises(ConfigError, match="the least"):
        evaluate(poet, tmp_path / "new", **(SMALL | numbers))
    assert not (tmp_path / "new").exists()


def test_a_task_that_the_model_was_not_trained_for_is_left_out_with_the_reason(make_poet, tmp_path):
    poet = make_poet(tasks=("text_to_image",))
    tasks = ["text_to_image", "video_captioning"]
    report = evaluate(poet, tmp_path / "new", tasks=tasks, count=2, progress=False)
    assert set(report["measured"]) == {"text_to_image"}
    assert report["not_measured"]["video_captioning"] == "this model was not trained for video_captioning"


def test_a_report_says_which_prompts_and_which_oracle_it_depends_on(report):
    assert report["frozen_prompts_sha256"] == hashlib.sha256(prompts.FILE.read_bytes()).hexdigest()
    assert report["oracle_sha256"] == oracle_hash()
    frozen = {suite: measured["frozen"] for suite, measured in report["measured"].items()}
    assert frozen.pop("open_prompts") == 0 and set(frozen.values()) == {2}


def test_tokenizers_answer_once_however_many_answers_are_asked_for(poet, tmp_path):
    report = evaluate(poet, tmp_path / "new", tasks=["tokenizer"], count=2, per_prompt=3, progress=False)
    measured = report["measured"]["tokenizer"]
    seen = next(figure for figure in measured["figures"] if figure["figure"] == "codes_seen")
    assert measured["per_prompt"] == 1 and seen["value"] == seen["tokenizer"]
    assert len(report["answers"]) == 2 and all((tmp_path / "new" / one["file"]).is_file() for one in report["answers"])


def test_the_split_out_of_range_is_measured_on_its_frozen_prompts(poet, tmp_path):
    report = evaluate(poet, tmp_path / "new", tasks=["text_to_image"], count=2, split="outside", progress=False)
    assert report["split"] == "outside" and report["measured"]["text_to_image"]["frozen"] == 2


def test_a_broken_answer_is_refused_with_what_to_do(poet, small):
    path = small / "samples" / "text_to_image" / "00000-0.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="delete it"):
        evaluate(poet, small, **SMALL)


def test_the_hash_of_a_model_is_of_its_weights_alone(make_poet):
    one, same = make_poet(), make_poet(name="another")
    assert model_hash(one) == model_hash(same)
    with torch.no_grad():
        same.parts.video_tokenizer.state_dict()[next(iter(same.parts.video_tokenizer.state_dict()))].add_(1)
    assert model_hash(one) != model_hash(same)


def test_answers_have_seeds_of_their_own():
    seeds = {
        answer_seed(suite, 0, n, k) for suite in ("text_to_video", "inpainting") for n in range(50) for k in range(4)
    }
    assert len(seeds) == 400


@pytest.fixture
def clip():
    stream = torch.Generator().manual_seed(0)
    frames = torch.randint(256, (3, 5, 8, 8), generator=stream, dtype=torch.uint8)
    return Take(Video(frames, 8.0), Audio(torch.rand(1, 100, generator=stream), 16_000), seconds=2.5)


def test_an_answer_comes_back_from_disk_bit_for_bit(tmp_path, clip):
    assert samples.save(tmp_path, "a", clip) == "a.mp4" == samples.playable(tmp_path, "a")
    back = samples.load(tmp_path, "a")
    assert torch.equal(back.video.frames, clip.video.frames) and torch.equal(back.audio.samples, clip.audio.samples)
    assert (back.video.frame_rate, back.audio.sample_rate, back.seconds, back.text) == (8.0, 16_000, 2.5, None)
    samples.save(tmp_path, "b", Take(text="a blue ball"))
    assert samples.load(tmp_path, "b").text == "a blue ball"


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 broken"])
def test_what_is_no_answer_is_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        samples.load(tmp_path, "a")


def test_a_missing_answer_is_refused(tmp_path):
    with pytest.raises(DataError, match="no sample 'a.npz'"):
        samples.load(tmp_path, "a")


def test_an_array_of_objects_is_not_loaded(tmp_path):
    np.savez(tmp_path / "a.npz", frames=np.array([{}], dtype=object), seconds=np.array(1.0))
    with pytest.raises(DataError, match="cannot be read"):
        samples.load(tmp_path, "a")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda take: Take(Video(take.video.frames[:, :9].contiguous(), 8.0)), "9 frames"),
        (lambda take: Take(Video(take.video.frames[:, :, :16].contiguous(), 8.0)), "32x16"),
        (lambda take: Take(Video(take.video.frames, 12.0)), "12 frames a second"),
        (lambda take: Take(audio=take.audio), "has no video"),
    ],
)
def test_answers_that_do_not_fit_their_prompts_are_refused(cases_of, change, said):
    cases = cases_of("text_to_video")
    takes = [case.right for case in cases]
    samples.check_takes(cases, takes)
    with pytest.raises(DataError, match=said):
        samples.check_takes(cases, [change(takes[0]), takes[1]])


def test_unequal_numbers_and_doubled_answers_are_refused(cases_of):
    cases = cases_of("text_to_video")
    takes = [case.right for case in cases]
    with pytest.raises(DataError, match="1 samples for 2 prompts"):
        samples.check_takes(cases, takes[:1])
    with pytest.raises(DataError, match="the same clip"):
        samples.check_takes(cases, [takes[0], takes[0]])
    seen: dict[str, int] = {}
    samples.check_takes(cases[:1], takes[:1], seen)
    with pytest.raises(DataError, match="samples 0 and 1"):
        samples.check_takes(cases[1:], takes[:1], seen)


def test_the_command_writes_a_report_and_prints_it(make_poet, tmp_path, capsys):
    make_poet().save_pretrained(tmp_path / "poet")
    command = [
        "evaluate",
        str(tmp_path / "poet"),
        "--tasks",
        "text-to-image",
        "--count",
        "2",
        "-o",
        str(tmp_path / "r"),
    ]
    assert cli.run(command) == 0
    printed = capsys.readouterr().out
    assert "text_to_image" in printed and "M2 all_correct" in printed and "index.html" in printed
    assert cli.run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 2
    shutil.rmtree(tmp_path / "r" / "samples" / "text_to_image")
    (tmp_path / "r" / "samples" / "text_to_image").write_text("in the way")
    assert cli.run(command) == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tasks", "text_to_vdeo"], "'text_to_vdeo'"),
        (["--split", "ood"], "'ood'"),
        (["--count", "1"], "--count"),
        (["--metric", "fvd"], "i3d_torchscript.pt"),
        (["--metric", "ssim=x"], "fvd"),
    ],
)
def test_a_wrong_command_ends_in_one_line_before_any_work(tmp_path, capsys, options, said):
    assert cli.run(["evaluate", "-o", str(tmp_path / "r"), *options]) in (2, 3)
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and not (tmp_path / "r").exists()


class Counted(Weighty):
    """A metric with weights that counts answers."""

    suites = ("text_to_image",)
    figures = {"answers": Figure("", better="neither")}
    least = 2
    what_to_get = "a file"

    def collect(self, case, take):
        return 1

    def summarize(self, collected, reference):
        return {"answers": float(len(collected))}


def test_a_report_names_the_weights_that_metrics_were_given(poet, tmp_path):
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"numbers")
    report = evaluate(poet, tmp_path / "report", **SMALL, metrics=[("counted", Counted(weights))])
    assert report["weights_sha256"] == {"counted": hashlib.sha256(b"numbers").hexdigest()}


def test_a_metric_with_two_weights_is_refused_before_anything_is_made(poet, tmp_path):
    twice = [("counted", Counted(tmp_path / name)) for name in ("one.pt", "other.pt")]
    with pytest.raises(ConfigError, match="counted is asked for 2 times; a report holds"):
        evaluate(poet, tmp_path / "report", **SMALL, metrics=twice)
    assert not (tmp_path / "report").exists()


def test_a_set_has_as_many_answers_as_prompts_however_many_are_asked_for(poet, tmp_path):
    asked = SMALL | {"tasks": ["text_to_image"], "per_prompt": 2}
    report = evaluate(poet, tmp_path / "report", **asked, metrics=[("counted", Counted(tmp_path))])
    figures = {figure["figure"]: figure for figure in report["measured"]["text_to_image"]["figures"]}
    assert figures["answers"]["value"] == figures["answers"]["truth"] == 2.0


@pytest.mark.parametrize(
    ("change", "said"),
    [({"tasks": ["video_captioning"]}, "on none of video_captioning; it is on text_to_image"), ({}, "it needs 3")],
)
def test_a_metric_that_would_say_nothing_is_refused_before_anything_is_made(poet, tmp_path, monkeypatch, change, said):
    monkeypatch.setattr(Counted, "least", 3)
    with pytest.raises(ConfigError, match=said):
        evaluate(poet, tmp_path / "report", **(SMALL | change), metrics=[("counted", Counted(tmp_path))])
    assert not (tmp_path / "report").exists()
