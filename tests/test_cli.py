import errno
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import typer

import videopoet
from videopoet import cli
from videopoet.cli.base import app, check_folder
from videopoet.errors import CheckpointError, MediaError, TaskError
from videopoet.media.types import Audio, Video
from videopoet.sequence.tasks import TASKS

SENTENCE_LIMIT = 400


class FakePoet:
    """Stands for the model: remembers what was asked of it, and fails as it is told to."""

    def __init__(self):
        self.asked = []
        self.loaded = []
        self.error: BaseException | None = None
        self.media: object = object()
        self.warnings: list[str] = []

    def from_pretrained(self, model=None, **options):
        self.loaded.append((model, options))
        return self

    def generate(self, task, **given):
        self.asked.append((task, given))
        if self.error is not None:
            raise self.error
        return SimpleNamespace(media=self.media, save=self.save, metadata={"task": task}, warnings=self.warnings)

    def variations(self, task, *, count, seed, **given):
        self.asked.append((task, given))
        result = SimpleNamespace(media=self.media, save=self.save, metadata={}, warnings=self.warnings, seed=seed)
        return [result] * count

    def save(self, path, metadata=True):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(f"metadata={metadata}")


@pytest.fixture
def poet(stand_in):
    return stand_in(FakePoet())


def only_line(capsys) -> str:
    """The one line on standard error; nothing is on standard output."""
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert len(line) < SENTENCE_LIMIT
    return line


def test_tasks_lists_the_whole_table(capsys):
    assert cli.run(["tasks", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(TASKS)
    assert cli.run(["tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(TASKS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["genrate"], ["'genrate'", "'generate'"]),
        (["generate", "x", "--topk", "3"], ["--topk", "--top-k"]),
        (["generate", "x", "--seed", "soon"], ["--seed", "'soon'", "integer"]),
        (["generate", "x", "--seed"], ["--seed", "argument"]),
        (["generate", "x", "--task", "text_to_vdeo"], ["'text_to_vdeo'", "text_to_video"]),
        (["generate", "x", "y"], ["(y)"]),
        (["generate", "x", "--prompt", "y"], ["'x'", "'y'", "--prompt"]),
        (["generate", "x", "-o", "clip.avi"], ["'.avi'", ".mp4", "change the extension"]),
        (["generate", "x", "-o", "clip"], ["''", ".mp4", "change the extension"]),
        (["generate", "x", "-o", "."], ["'.'", "folder", "add a name"]),
        (["generate", "x", "-o", "note.txt/clip.mp4"], ["note.txt", "is a file", "choose another"]),
        (["generate", "--task", "text_to_image", "x", "-o", "clip.mp4"], ["'.mp4'", ".png"]),
        (["generate", "--task", "inpainting", "--box", "0,0,a,1"], ["--box", "'0,0,a,1'", "0.25,0.25,0.75,0.75"]),
        (["generate", "x", "--size", "64"], ["size '64'", "64x64"]),
        (["generate", "x", "--size", "64x48", "--width", "64"], ["--size 64x48, --width 64", "leave the other out"]),
        (["reconstruct", "real.mp4", "-o", "seen.wav"], ["'.wav'", ".mp4"]),
        (["reconstruct"], ["argument", "reconstruct --help"]),
        (["toybox", "-o", "clips", "--count", "0"], ["--count", "'0'", "1"]),
        (["toybox", "-o", "note.txt"], ["note.txt", "is a file"]),
        (["train"], ["--output"]),
    ],
)
def test_wrong_usage_is_one_line_that_says_what_fits(poet, capsys, arguments, said):
    Path("note.txt").touch()
    assert cli.run(arguments) == 2
    line = only_line(capsys)
    assert line.startswith("videopoet: error: ")
    for words in said:
        assert words in line
    assert poet.loaded == []


@pytest.mark.parametrize(
    ("error", "exit_code", "said"),
    [
        (TaskError("no image; one is needed; give --image"), 2, "give --image"),
        (MediaError("clip.mp4 is empty; a clip has frames; give another"), 3, "clip.mp4 is empty"),
        (CheckpointError("no config\nin 'x'; a model has one; check the path"), 3, "no config in 'x'"),
        (OSError(errno.ENOSPC, "No space left on device", "a.mp4"), 4, "no space left on device ('a.mp4', "),
        (PermissionError(errno.EACCES, "Permission denied", "a.mp4"), 4, "choose a place that you may use"),
        (MemoryError(), 4, "out of memory"),
        (RuntimeError("CUDA error: out of memory"), 4, "out of memory"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            4,
            "out of memory",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), 4, "out of memory"),
        (MediaError("the name is '\x1b[2J'; it must be readable; rename it"), 3, "the name is ' [2J'"),
        (ZeroDivisionError("division by zero"), 1, "fault of videopoet"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(poet, capsys, error, exit_code, said):
    poet.error = error
    assert cli.run(["generate", "x", "-o", "a.mp4"]) == exit_code
    line = only_line(capsys)
    assert line.startswith("videopoet: error: ")
    assert said in line
    assert not Path("a.mp4").exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no such folder")
@pytest.mark.parametrize("output", ["/proc/a.mp4", "/proc/new/folder/a.mp4"])
def test_a_place_where_nobody_can_write_is_refused_before_any_work(poet, capsys, output):
    assert cli.run(["generate", "x", "-o", output]) == 4
    assert only_line(capsys).endswith(
        "permission denied ('/proc'); the machine refused it; choose a place that you may use"
    )
    assert poet.loaded == []


def test_finding_out_whether_a_folder_can_be_written_to_leaves_nothing_behind(tmp_path):
    for folder in (tmp_path, tmp_path / "new" / "folder"):
        check_folder(folder)
        assert not list(tmp_path.iterdir())


def test_an_interrupt_exits_130_and_says_nothing(poet, capsys):
    poet.error = KeyboardInterrupt()
    assert cli.run(["generate", "x"]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("arguments", [["--debug", "generate", "x"], ["generate", "x", "--debug"]])
def test_debug_shows_the_traceback_and_keeps_the_exit_code(poet, capsys, arguments):
    poet.error = MediaError("clip.mp4 is empty; a clip has frames; give another")
    assert cli.run(arguments) == 3
    assert "Traceback" in capsys.readouterr().err


def test_a_prompt_may_look_like_a_flag_after_two_dashes(poet):
    assert cli.run(["generate", "-o", "a.mp4", "--", "--debug"]) == 0
    assert poet.asked[0][1]["prompt"] == "--debug"


def test_flags_may_be_written_with_underscores(poet):
    assert cli.run(["generate", "x", "--seed", "1", "--top-k", "5", "--negative-prompt", "y", "--num-frames=9"]) == 0
    assert cli.run(["generate", "x", "--seed", "1", "--top_k", "5", "--negative_prompt", "y", "--num_frames=9"]) == 0
    assert poet.asked[0] == poet.asked[1]
    assert poet.asked[0][1]["top_k"] == 5


def test_a_task_may_be_written_with_dashes(poet):
    assert cli.run(["generate", "x", "--task", "text-to-video"]) == 0
    assert poet.asked[0][0] == "text_to_video"


def test_only_what_is_given_reaches_the_model(poet):
    assert cli.run(["generate", "x", "--seed=7", "--image=a.png", "--task=image_to_video", "--model=runs/a"]) == 0
    given = {"prompt": "x", "image": Path("a.png"), "seed": 7, "sound": True, "progress": True}
    assert poet.asked == [("image_to_video", given)]
    assert poet.loaded == [("runs/a", {"device": None})]


def test_a_size_is_height_and_width(poet):
    assert cli.run(["generate", "x", "--size", "48x96", "--seed=1"]) == 0
    assert cli.run(["generate", "x", "--width=48", "--height=96", "--seed=1"]) == 0
    assert poet.asked[0] == poet.asked[1] and poet.asked[0][1]["height"] == 96


def test_what_painting_and_stylization_take_reaches_the_model(poet):
    assert cli.run(["generate", "--task", "inpainting", "--video=a.mp4", "--box=0,0.5,1,1", "--seed=1"]) == 0
    assert cli.run(["generate", "--task", "inpainting", "--video=a.mp4", "--mask=m.png", "--seed=1"]) == 0
    assert cli.run(["generate", "x", "--task=stylization", "--video=a.mp4", "--depth=d.npy", "--seed=1"]) == 0
    assert cli.run(["generate", "x", "--task=stylization", "--video=a.mp4", "--depth-model=org/x", "--seed=1"]) == 0
    assert cli.run(["generate", "--task=inpainting", "--video=a.mp4", "--start=12.5"]) == 0
    given = [request for _, request in poet.asked]
    assert given[4]["start"] == 12.5 and "start" not in given[0]
    assert given[0]["box"] == (0.0, 0.5, 1.0, 1.0) and given[1]["mask"] == "m.png"
    assert given[2]["depth"] == Path("d.npy") and given[3]["depth_model"] == "org/x"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--task=inpainting", "--video=own.mp4", "-o", "own.mp4"], "output 'own.mp4'"),
        (["--task=inpainting", "--video=own.mp4", "-o", "folder/../own.mp4"], "output 'folder/../own.mp4'"),
        (["--task=inpainting", "--video=own.mp4", "-o", "link.mp4"], "output 'link.mp4'"),
        (["--task=inpainting", "--video=a.mp4", "--mask=own.mp4", "-o", "own.mp4"], "output 'own.mp4'"),
        (["x", "--task=stylization", "--video=a.mp4", "--depth=own.mp4", "-o", "own.mp4"], "output 'own.mp4'"),
        (["--task=inpainting", "--video=own-2.mp4", "--count=2", "-o", "own.mp4"], "output 'own-2.mp4'"),
        (["--task=image_to_video", "--image=own-sheet.png", "--count=2", "-o", "own.mp4"], "output 'own-sheet.png'"),
        (["--task=image_to_video", "--image=own.png", "--preview", "own.png"], "preview 'own.png'"),
        (["--task=image_to_video", "--image=own-2.png", "--count=2", "--preview", "own.png"], "preview 'own-2.png'"),
        (["--task=inpainting", "--video=outputs/inpainting-3.mp4", "--seed=3"], "output 'outputs/inpainting-3.mp4'"),
    ],
)
def test_an_input_is_never_written_over(poet, capsys, arguments, named):
    names = ("own.mp4", "own-2.mp4", "own.png", "own-2.png", "own-sheet.png", "outputs/inpainting-3.mp4")
    files = [Path(name) for name in names]
    for folder in ("outputs", "folder"):
        Path(folder).mkdir()
    for file in files:
        file.write_text("mine")
    Path("link.mp4").symlink_to("own.mp4")
    assert cli.run(["generate", *arguments]) == 2
    assert f"{named} is the input" in only_line(capsys)
    assert poet.loaded == [] and {file.read_text() for file in files} == {"mine"}


def test_what_else_is_there_is_replaced(poet):
    for name in ("own.mp4", "made.mp4"):
        Path(name).write_text("mine")
    for more in (["-o", "made.mp4"], ["-o", "own.mp4", "--count=2"]):  # several have a number each
        assert cli.run(["generate", "--task=inpainting", "--video=own.mp4", *more]) == 0
    assert Path("made.mp4").read_text() == "metadata=True" and Path("own.mp4").read_text() == "mine"


def test_a_clip_is_not_reconstructed_over_itself(poet, capsys):
    Path("own.mp4").write_text("mine")
    assert cli.run(["reconstruct", "own.mp4", "-o", "own.mp4"]) == 2
    assert "output 'own.mp4' is the input" in only_line(capsys) and poet.loaded == []


def test_a_named_output_is_written_and_nothing_is_printed(poet, capsys):
    assert cli.run(["generate", "x", "-o", "new/folder/a.mp4", "--no-metadata"]) == 0
    assert capsys.readouterr() == ("", "")
    assert Path("new/folder/a.mp4").read_text() == "metadata=False"


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("text_to_video", "outputs/text_to_video-3.mp4"),
        ("text_to_image", "outputs/text_to_image-3.png"),
        ("text_to_audio", "outputs/text_to_audio-3.wav"),
        ("video_to_audio", "outputs/video_to_audio-3.mp4"),
        ("audio_video_continuation", "outputs/audio_video_continuation-3.mp4"),
    ],
)
def test_an_output_that_is_not_named_is_printed(poet, capsys, task, name):
    assert cli.run(["generate", "--task", task, "--seed", "3"]) == 0
    assert capsys.readouterr().out == f"{name}\n"
    assert Path(name).exists()


def test_sound_made_for_a_clip_can_be_written_without_it(poet):
    assert cli.run(["generate", "--task", "video_to_audio", "--video", "a.mp4", "-o", "b.wav"]) == 0
    assert Path("b.wav").exists()


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_no_sound_is_refused_where_it_would_leave_nothing_out(poet, capsys, task):
    silenced = task.gives == ("video",) and task.name != "audio_to_video"
    assert cli.run(["generate", "--task", task.name, "--no-sound", "-o", "a.mp4"]) == (0 if silenced else 2)
    if not silenced:
        assert f"--no-sound is given and {task.name} " in only_line(capsys)
    assert [given["sound"] for _, given in poet.asked] == [False] * silenced


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a", "b", "--prompts", "p.txt", "-o", "study", "--key", "key.json"], "--key 'key.json' is given without"),
        (["--tally", "votes.json", "--key", "key.json", "--prompts", "p.txt"], "--prompts 'p.txt' is given with"),
        (["--tally", "votes.json", "--key", "key.json", "-o", "study"], "--output 'study' is given with"),
        (["--tally", "votes.json", "--key", "key.json", "--seed", "0"], "--seed '0' is given with"),
    ],
)
def test_a_study_and_its_count_do_not_take_each_others_flags(poet, capsys, arguments, said):
    assert cli.run(["compare", *arguments]) == 2
    assert said in only_line(capsys) and poet.loaded == []


def test_a_caption_is_printed_or_written(poet, capsys):
    poet.media = "a red ball"
    assert cli.run(["generate", "--task", "video_captioning", "--video", "a.mp4"]) == 0
    assert capsys.readouterr().out == "a red ball\n"
    assert cli.run(["generate", "--task", "video_captioning", "--video", "a.mp4", "-o", "caption.txt"]) == 0
    assert capsys.readouterr().out == ""
    assert Path("caption.txt").exists()


def test_without_a_seed_each_call_makes_something_new(poet):
    assert cli.run(["generate", "x"]) == cli.run(["generate", "x"]) == 0
    assert poet.asked[0][1]["seed"] != poet.asked[1][1]["seed"]


def test_json_is_one_object_and_warnings_go_to_standard_error(poet, capsys):
    poet.warnings = ["'zebra' is not a word that this model knows"]
    assert cli.run(["generate", "a zebra", "--seed", "5", "-o", "a.mp4", "--json"]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert (answer["task"], answer["seed"], answer["output"]) == ("text_to_video", 5, "a.mp4")
    assert answer["warnings"] == poet.warnings
    assert answer["metadata"] == {"task": "text_to_video"}
    assert captured.err == "videopoet: warning: 'zebra' is not a word that this model knows\n"


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_gif_loses_the_sound_of_a_clip_and_says_so_once(poet, capsys, count):
    silent = Video(torch.zeros(3, 2, 8, 8, dtype=torch.uint8), 8.0)
    heard = Video(silent.frames, 8.0, Audio(torch.zeros(1, 16), 64))
    for media, name, warned in ((heard, "a.gif", 1), (heard, "a.mp4", 0), (silent, "a.gif", 0)):
        poet.media = media
        assert cli.run(["generate", "a ball", "-o", name, "--count", count]) == 0
        assert capsys.readouterr().err.count("warning: a .gif holds no sound") == warned


def test_help_and_version_answer_without_torch():
    code = "import sys; from videopoet.cli import run; run(['generate', '--help']); run(['tasks']); run(['--version'])"
    code += "; print([name for name in ('torch', 'transformers', 'numpy', 'av') if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-2:] == [f"videopoet {videopoet.__version__}", "[]"]


@pytest.mark.parametrize("module", ["videopoet", "videopoet.cli"])
@pytest.mark.parametrize(("arguments", "exit_code"), [(["tasks"], 0), ([], 0), (["--nonsense"], 2)])
def test_the_program_exits_with_the_code(module, arguments, exit_code):
    command = [sys.executable, "-m", module, *arguments]
    assert subprocess.run(command, capture_output=True).returncode == exit_code


def test_a_reader_that_stops_early_is_no_error():
    command = [sys.executable, "-m", "videopoet.cli", "tasks"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None and program.stderr is not None
        program.stdout.close()
        assert program.stderr.read() == b""


def test_toybox_writes_clips_with_captions(tmp_path, capsys):
    assert cli.run(["toybox", "-o", str(tmp_path / "clips"), "--count", "2", "--seed", "4", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert [Path(clip["video"]).name for clip in written] == ["000004.mp4", "000005.mp4"]
    for clip in written:
        assert Path(clip["video"]).stat().st_size > 1_000
        assert Path(clip["video"]).with_suffix(".txt").read_text() == clip["caption"] + "\n"


@pytest.fixture
def bundled(root):
    if not (root / "videopoet" / "bundled" / "videopoet.json").exists():
        pytest.skip("no bundled model")


def test_info_describes_the_model_and_the_machine(bundled, capsys):
    assert cli.run(["info", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["model"]
    assert described["machine"]["cores"] >= 1


def test_reconstruct_prints_what_the_tokens_keep(bundled, tmp_path, capsys):
    assert cli.run(["toybox", "-o", str(tmp_path), "--count", "1"]) == 0
    assert cli.run(["reconstruct", str(tmp_path / "000000.mp4"), "-o", str(tmp_path / "seen.mp4"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["psnr"] > 20
    assert 0 < figures["ssim"] <= 1
    assert figures["bits_per_pixel"] > 0 and not figures["warnings"]
    assert (tmp_path / "seen.mp4").exists()
    assert cli.run(["reconstruct", str(tmp_path / "000000.mp4"), "--start", "0.75"]) == 0
    assert "warning: the clip has 11 frames at 8 a second; the tokens hold the first 9" in capsys.readouterr().err
    assert cli.run(["reconstruct", str(tmp_path / "000000.mp4"), "--start", "90"]) == 3
    assert "start is 90 s and it ends after" in capsys.readouterr().err


@pytest.mark.slow
def test_generate_writes_a_clip_with_the_bundled_model(bundled, tmp_path, capsys):
    output = tmp_path / "clip.mp4"
    assert cli.run(["generate", "a red ball bounces on the grass", "-o", str(output), "--seed", "7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["output"] == str(output)
    assert output.stat().st_size > 1_000


def test_a_dry_run_checks_the_stages_too(tmp_path, capsys):
    assert cli.run(["train", "--dry-run", "--stages", "nothing", "-o", str(tmp_path / "run")]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and "unknown stage 'nothing'" in printed.err


def test_flags_that_stand_for_those_of_other_tools_are_there(root):
    table = (root / "docs" / "tasks.md").read_text().split("## Names from other tools")[1]
    commands: dict = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
    named = re.findall(r"`(?:videopoet )?([a-z]+) (--[a-z-]+)", table)
    assert len(named) >= 6
    for command, flag in named:
        assert flag in {name for option in commands[command].params for name in option.opts}, f"{command} {flag}"


def test_every_task_has_a_command_in_the_docs(poet, root):
    commands = re.findall(r"^    videopoet (generate .*)", (root / "docs" / "tasks.md").read_text(), re.MULTILINE)
    for command in commands:
        arguments = shlex.split(command, comments=True)
        arguments += ["--count", "1"] if "--count" in arguments else []
        assert cli.run(arguments) == 0, command
    assert {task for task, _ in poet.asked} == set(TASKS)


def test_the_way_in_says_how_it_is_used(root):
    vp = [sys.executable, root / "vp.py"]
    helped = subprocess.run([*vp, "--help"], capture_output=True, text=True, timeout=60)
    assert helped.returncode == 0 and "vp.py demo [PROMPT]" in helped.stdout and helped.stderr == ""
    refused = subprocess.run([*vp, "damo"], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2 and "vp.py demo [PROMPT]" in refused.stderr


def test_help_begins_with_what_a_newcomer_types_first(capsys):
    assert cli.run([]) == 0
    commands = re.findall(r"^\W+([a-z]+)  +[A-Z]", capsys.readouterr().out, flags=re.MULTILINE)
    assert commands[0] == "generate"
    assert commands.index("prepare") < commands.index("train") < commands.index("evaluate")
