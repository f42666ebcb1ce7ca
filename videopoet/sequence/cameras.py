"""Camera moves by the paper's words, which can be added to any prompt."""

CAMERA_MOVES = (
    "pan left",
    "pan right",
    "tilt up",
    "tilt down",
    "zoom in",
    "zoom out",
    "dolly zoom",
    "arc shot",
    "crane shot",
    "fpv shot",
)


def camera_move(name: str) -> str | None:
    """The move of that name, in capitals or not, with or without the word `shot`; None where there is none."""
    words = " ".join(name.lower().replace("_", " ").split())
    return next((move for move in CAMERA_MOVES if words in (move, move.removesuffix(" shot"))), None)


def with_camera(prompt: str | None, camera: str | None) -> str | None:
    """A prompt that asks for a camera move too; either alone is one, and an empty prompt stays what it is."""
    if prompt is None or camera is None:
        return camera if prompt is None else prompt
    return f"{prompt}, {camera}" if prompt.strip() and camera not in prompt else prompt
