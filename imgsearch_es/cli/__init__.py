"""The command line: ``imgsearch``.

Exit codes: 0 done (even with rejected pictures, which are counted and listed), 1 a user's mistake
in one sentence, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from imgsearch_es.cli import (
    analyze,
    benchmark,
    clicks,
    compare,
    demo,
    doctor,
    evaluate,
    exchange,
    hardest,
    index,
    judge,
    kibana,
    maps,
    overview,
    quantize,
    search,
    serve,
    sweep,
    train,
    verify,
    watch,
    whiten,
)
from imgsearch_es.cli.output import fail
from imgsearch_es.errors import ImgsearchError


class _Commands(TyperGroup):
    """Turns errors into one sentence and an exit code, before Typer has its say."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except SystemExit as stop:
            if not isinstance(stop.__context__, BrokenPipeError):
                raise
            # The reader of our output went away, as `head` does; Click and Rich exit with 1 then.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(0)

    def invoke(self, ctx: Any) -> Any:
        try:
            answer = super().invoke(ctx)
            sys.stdout.flush()
            return answer
        except ImgsearchError as error:
            fail(str(error))
        except KeyboardInterrupt:
            fail("stopped; what was done is stored, run the command again to go on", code=130)


_WITH_ARGUMENTS = (
    index.index,
    index.remove,
    exchange.export,
    exchange.import_,
    quantize.quantize,
    watch.watch,
    train.groups,
)

app = typer.Typer(
    name="imgsearch",
    cls=_Commands,
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
    overview.facets,
    overview.duplicates,
    analyze.analyze,
    index.remove,
    index.rejected,
    index.stats,
    exchange.export,
    exchange.import_,
    exchange.reindex,
    whiten.whiten,
    quantize.quantize,
    watch.watch,
    serve.serve,
    analyze.models,
    evaluate.evaluate,
    judge.judge,
    hardest.hardest,
    clicks.clicks,
    sweep.sweep,
    compare.compare,
    train.train,
    train.groups,
    maps.map_,
    benchmark.benchmark,
    doctor.doctor,
    verify.verify,
    demo.demo,
):
    named = command.__name__.rstrip("_")  # "import" is a word of Python
    app.command(named, no_args_is_help=command in _WITH_ARGUMENTS)(command)
app.add_typer(kibana.app, name="kibana")


def main() -> None:
    """Run a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8
    app()
