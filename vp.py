#!/usr/bin/env python3
"""Set videopoet up in .venv with nothing but pip, then use it.

    python3 vp.py demo [PROMPT]              make outputs/demo.mp4, then install the extras too
    python3 vp.py test [PYTEST ARGUMENTS]    run the tests

VIDEOPOET_TORCH holds what to ask pip for in place of `torch==2.13.0`: another version, or an index with other builds.
"""

import hashlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parent
VENV = HOME / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
CORE, LOCK = HOME / "requirements" / "core.txt", HOME / "requirements" / "lock.txt"


def stop(message, code):
    print("vp.py: error: " + message, file=sys.stderr)
    sys.exit(code)


def step(what, *command):
    print("vp.py: " + what, file=sys.stderr, flush=True)
    if subprocess.call([str(part) for part in command], stdout=sys.stderr, cwd=HOME):
        stop(what + " failed, the reason is above; repair it and run the same command again", 4)


def stamp(packages):
    """The file that says which state of `packages` .venv was brought to, and what it has to say."""
    wanted = hashlib.sha256(packages.read_bytes() + (HOME / "pyproject.toml").read_bytes()).hexdigest()
    return VENV / ("videopoet-" + packages.stem), wanted


def installed(packages):
    file, wanted = stamp(packages)
    return PYTHON.exists() and file.exists() and file.read_text() == wanted


def install(packages):
    """Bring .venv to the state that a file of locked packages and pyproject.toml name."""
    if installed(packages):
        return
    torch = os.environ.get("VIDEOPOET_TORCH") or "torch==2.13.0"
    # To compile all modules takes longer than to install them, and a clip imports a few of them only.
    pip = [PYTHON, "-m", "pip", "install", "--no-compile", "--disable-pip-version-check"]
    pip += ["-qq"] * (not sys.stderr.isatty())
    if not PYTHON.exists():
        step("making .venv", sys.executable, "-m", "venv", VENV)
    step("installing " + torch, *pip, *shlex.split(torch))
    step("installing requirements/" + packages.name, *pip, "--require-hashes", "--no-deps", "-r", packages)
    step("installing videopoet", *pip, "--no-deps", "--no-build-isolation", "-e", HOME)
    if packages is LOCK:
        compile_all = (
            "import compileall, sysconfig as s; compileall.compile_dir(s.get_path('purelib'), quiet=2, workers=0)"
        )
        step("compiling what is installed", PYTHON, "-c", compile_all)
    file, wanted = stamp(packages)
    file.write_text(wanted)


def main(verb="", *arguments):
    if verb in ("-h", "--help"):
        print(__doc__)
        return 0
    if sys.version_info < (3, 11):
        stop("this is Python %d.%d; videopoet needs 3.11 or later; run a newer python3" % sys.version_info[:2], 4)
    if sys.platform == "darwin" and os.uname().machine != "arm64":
        stop("this Python is for Intel Macs, which PyTorch has no packages for; run one for Apple silicon", 4)
    if verb not in ("demo", "test") or (verb == "demo" and len(arguments) > 1):
        stop("unknown use; write `python3 vp.py demo [PROMPT]` or `python3 vp.py test [PYTEST ARGUMENTS]`", 2)
    if verb == "test":
        install(LOCK)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [str(PYTHON), "-m", "pytest", "-n", "2", "--dist", "loadfile", *arguments]
        return subprocess.call(command, cwd=HOME, env=environment)
    if not installed(LOCK):
        install(CORE)
    prompt = arguments[0] if arguments else "a red ball bounces on the grass"
    command = [PYTHON.with_name("videopoet"), "generate", "-o", "outputs/demo.mp4", "--", prompt]
    code = subprocess.call([str(part) for part in command], cwd=HOME)
    if code == 0:
        print("outputs/demo.mp4", flush=True)
        install(LOCK)
    return code


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
