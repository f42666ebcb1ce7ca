"""The command line. It parses, calls, prints and turns every error into one line; the work is done elsewhere.

A file here holds the commands of one purpose. Torch and everything that needs it are imported by the command that runs,
so that help and mistakes answer at once.
"""

from videopoet.cli import (  # noqa: F401, I001  each adds its commands, which help lists in this order
    generate,
    describe,
    film,
    movie,
    chain,
    upscale,
    serve,
    prepare,
    look,
    tokenize,
    train,
    convert,
    plan,
    evaluate,
)
from videopoet.cli.program import main, run

__all__ = ["main", "run"]
