"""What a user can cause. Each message is one sentence: what was found, what fits, what to do."""


class VideoPoetError(Exception):
    """The root of every error that a user can cause.

    Attributes:
        code: A stable snake_case name for programs, such as `media_empty`.
        exit_code: What the command line exits with.
    """

    exit_code = 3

    def __init__(self, message: str, *, code: str = "error"):
        super().__init__(message)
        self.code = code


class ConfigError(VideoPoetError):
    """A setting, preset or flag that does not exist or does not fit."""

    exit_code = 2


class TaskError(VideoPoetError):
    """A request that the task table does not allow."""

    exit_code = 2


class MediaError(VideoPoetError):
    """A picture, clip or sound that is missing, broken or of the wrong shape."""


class DataError(VideoPoetError):
    """Training data that cannot be used."""


class CheckpointError(VideoPoetError):
    """A model or training state that is missing, broken or made for something else."""


def shortened(text: str) -> str:
    """What a message quotes, in 60 characters at the most."""
    return text if len(text) <= 60 else text[:57] + "..."


def shown(value: object) -> str:
    """A value as a message quotes it."""
    return shortened(repr(value))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory does not suffice, of the machine or of its device, in whosever words."""
    said = str(error) if isinstance(error, RuntimeError) else ""
    return isinstance(error, MemoryError) or any(word in said for word in ("allocate", "out of memory", "ALLOC_FAILED"))
