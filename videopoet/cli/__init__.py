"""The command line. It parses, calls, prints and turns every error into one line; the work is done elsewhere.

A file here holds the commands of one purpose. Torch and everything that needs it are imported by the command that runs,
so that help and mistakes answer at once.
"""

from videopoet.cli import (  # noqa: F401  each adds its commands, in this order
    chain,
    convert,
    describe,
    evaluate,
    film,
    generate,
    look,
    movie,
    plan,
    prepare,
    serve,
    tokenize,
    train,
    upscale,
)
from videopoet.cli.program import main, run

__all__ = ["main", "run"]
