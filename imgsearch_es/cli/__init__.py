"""The command line: ``imgsearch``.

Exit codes: 0 done (even with rejected pictures, which are counted and listed), 1 a user's mistake
in one sentence, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import os
import sys

import typer

from imgsearch_es.cli import analyze, demo, doctor, index, search
from imgsearch_es.cli.output import fail
from imgsearch_es.errors import ImgsearchError

app = typer.Typer(
    name="imgsearch",
    help="Image search with a classifier as the analyzer: pictures become ImageNet synsets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    index.index,
    search.search,
    search.explain,
    analyze.analyze,
    index.remove,
    index.stats,
    analyze.models,
    doctor.doctor,
    demo.demo,
):
    app.command(no_args_is_help=command in (index.index, index.remove))(command)


def main() -> None:
    """Run a command; turns errors into one sentence and an exit code."""
    try:
        app()
    except ImgsearchError as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("stopped; what was done is stored, run the command again to go on", code=130)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
