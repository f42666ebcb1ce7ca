"""Children that are forked decode as those that are started do, and are as confined."""

import os
import select
import subprocess
import sys
import threading

import pytest

from videopoet.errors import MediaError
from videopoet.media import nursery as nursery_module
from videopoet.media.nursery import Nursery, can_fork
from videopoet.media.protocol import Limits
from videopoet.media.sandbox import stream

pytestmark = pytest.mark.skipif(not can_fork(), reason="this system forks no decoders")


@pytest.fixture
def nursery():
    with Nursery() as nursery:
        yield nursery


def messages(path, nursery=None, **wanted):
    return list(stream(path, nursery, **{"what": "video", "limits": Limits(), **wanted}))


def only_forker(nursery):
    (forker,) = nursery._idle
    return forker


def as_child(monkeypatch, code: str) -> None:
    """Let forks run this instead of answering."""
    code = f"from videopoet.media import forker\ndef answer(request, file, pipe):\n    {code}\nforker.answer = answer"
    monkeypatch.setattr(nursery_module, "FORKER", ("-c", f"{code}\nforker.main()"))


def test_a_forked_child_sends_what_a_started_one_does_file_after_file(clip_path, nursery):
    started = messages(clip_path, frame_rate=4.0, sample_rate=8000)
    assert messages(clip_path, nursery, frame_rate=4.0, sample_rate=8000) == started
    forker = only_forker(nursery)
    assert messages(clip_path, nursery, frame_rate=4.0, sample_rate=8000) == started
    assert only_forker(nursery) is forker


def test_a_broken_file_is_refused_and_the_next_one_is_read(clip_path, tmp_path, nursery):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clip_path.read_bytes()[:3000])
    with pytest.raises(MediaError) as caught:
        messages(broken, nursery)
    assert caught.value.code == "media_corrupt"
    assert len(messages(clip_path, nursery)) > 17


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("raise SystemExit(3)", "status 1"),
        ("pass", "status 0"),
        ("import os; os._exit(9)", "status 9"),
    ],
)
def test_a_fork_that_crashes_is_an_error_and_leaves_the_nursery_whole(clip_path, monkeypatch, nursery, code, reason):
    as_child(monkeypatch, code)
    for _ in range(2):
        with pytest.raises(MediaError, match=reason) as caught:
            messages(clip_path, nursery)
        assert caught.value.code == "decoder_crashed"
    assert only_forker(nursery).process.poll() is None


def test_a_fork_that_hangs_is_killed_at_the_deadline(clip_path, monkeypatch, nursery):
    as_child(monkeypatch, "import time; time.sleep(60)")
    with pytest.raises(MediaError) as caught:
        messages(clip_path, nursery, limits=Limits(deadline_seconds=0.3))
    assert caught.value.code == "media_timeout"


def test_a_forked_child_is_confined_and_holds_its_file_and_its_pipe_alone(clip_path, monkeypatch, nursery):
    monkeypatch.setenv("VIDEOPOET_SECRET", "canary")
    code = (
        "import os, resource; from videopoet.media.decoder import confine; names = os.listdir('/proc/self/fd'); "
        "confine(request.limits); found = 'canary' in str(os.environ) or len(names) != 4; "
        "found |= resource.getrlimit(resource.RLIMIT_AS) != (1 << 31, 1 << 31); "
        "found |= resource.getrlimit(resource.RLIMIT_NOFILE) != (3, 3); os._exit(7 if found else 5)"
    )
    as_child(monkeypatch, code)
    with pytest.raises(MediaError, match="status 5"):
        messages(clip_path, nursery)


def test_memory_is_limited_for_each_file_alone(clip_path, nursery):
    small = Limits(memory_bytes=1 << 20)  # less than the process has when it starts
    with pytest.raises(MediaError):
        messages(clip_path, nursery, limits=small)
    assert len(messages(clip_path, nursery)) > 17


def test_a_process_that_someone_ended_is_replaced(clip_path, nursery):
    whole = messages(clip_path, nursery)
    first = only_forker(nursery)
    first.process.kill()
    first.process.wait()
    assert messages(clip_path, nursery) == whole
    assert only_forker(nursery) is not first


def test_a_fork_that_is_ended_with_its_maker_is_named_and_not_waited_for(clip_path, monkeypatch, nursery):
    begun = "pipe.write(b'b' + (2).to_bytes(8, 'little') + b'{}'); pipe.flush()"
    as_child(monkeypatch, f"{begun}; import time; time.sleep(60)")
    reading = stream(clip_path, nursery, what="video", limits=Limits())
    next(reading)
    child = reading.gi_frame.f_locals["child"]
    child.forker.process.kill()
    child.kill()
    with pytest.raises(MediaError, match="SIGKILL"):
        next(reading)
    monkeypatch.undo()
    assert len(messages(clip_path, nursery)) > 17


def test_files_are_read_side_by_side(clip_path, nursery):
    first, second = (stream(clip_path, nursery, what="video", limits=Limits()) for _ in range(2))
    both = [next(first), next(second), *first, *second]
    assert len(both) == 2 * len(messages(clip_path, nursery))


def test_who_stops_reading_ends_the_fork(clip_path, nursery):
    reading = stream(clip_path, nursery, what="video", limits=Limits())
    next(reading)
    child = reading.gi_frame.f_locals["child"]
    reading.close()
    assert child.returncode is not None


def test_a_nursery_leaves_no_process_file_or_thread_behind(clip_path):
    with Nursery() as warm:
        messages(clip_path, warm)
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    with Nursery() as nursery:
        for _ in range(3):
            messages(clip_path, nursery)
        process = only_forker(nursery).process
    assert process.poll() is not None
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


def test_the_process_that_forks_ends_with_its_parent(clip_path):
    code = (
        "import sys; from videopoet.media.nursery import Nursery; from videopoet.media.sandbox import stream\n"
        "from videopoet.media.protocol import Limits\nnursery = Nursery()\n"
        "list(stream(sys.argv[1], nursery, what='video', limits=Limits()))\n"
        "print(nursery._idle[0].process.pid, flush=True)\nimport os; os._exit(0)"
    )
    finished = subprocess.run([sys.executable, "-c", code, clip_path], capture_output=True, text=True, timeout=60)
    process = os.pidfd_open(int(finished.stdout)) if os.path.exists(f"/proc/{int(finished.stdout)}") else None
    if process is not None:
        assert select.select([process], [], [], 30)[0], "it still runs"
        os.close(process)


def test_where_nothing_can_be_forked_children_are_started(clip_path, monkeypatch):
    monkeypatch.setattr(nursery_module, "can_fork", lambda: False)
    with Nursery() as nursery:
        assert messages(clip_path, nursery) == messages(clip_path)
        assert not nursery._idle
