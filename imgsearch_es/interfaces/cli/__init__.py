"""The command line: ``imgsearch``.

Exit codes: 0 done (even with rejected pictures, which are counted and listed), 1 a user's mistake
in one sentence, 2 wrong usage, 130 interrupted, 143 by SIGTERM.
"""

from __future__ import annotations

import errno
import io
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from imgsearch_es.errors import ConfigurationError, ImgsearchError, IndexNotFoundError
from imgsearch_es.interfaces.cli import (
    begin,
    evaluate,
    exchange,
    index,
    judge,
    learn,
    search,
    serve,
)
from imgsearch_es.interfaces.cli.options import by_heading, command
from imgsearch_es.interfaces.cli.output import drop_output, fail, print_line
from imgsearch_es.stores.interrupts import STOPPED, end, interrupt


class _Commands(TyperGroup):
    """Turns errors into one sentence and an exit code, before Typer has its say."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except SystemExit as stop:
            if not isinstance(stop.__context__, BrokenPipeError):
                raise
            # The reader of line upon line went away, as `head` does; Click exits with 1 then.
            drop_output()
            sys.exit(0)
        except OSError as error:  # of --help and --version, which are no command
            if error.errno not in _NO_ROOM:
                raise
            _fail_to_write(error)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands by what they are for."""
        for heading, commands in by_heading(self.commands.values(), "Commands").items():
            with formatter.section(heading):
                formatter.write_dl([(each.name, each.get_short_help_str(80)) for each in commands])

    def invoke(self, ctx: Any) -> Any:
        arguments = [*ctx._protected_args, *ctx.args]
        ours = signal.getsignal(signal.SIGINT) is end
        try:
            try:
                if ours:
                    signal.signal(signal.SIGINT, interrupt)
                answer = super().invoke(ctx)
                sys.stdout.flush()
                return answer
            finally:
                if ours:
                    signal.signal(signal.SIGINT, end)
        except KeyboardInterrupt:
            fail(STOPPED, code=interrupt.code)
        except Exception as error:
            is_done = isinstance(error, typer.Exit) and not error.exit_code
            if interrupt.came and not is_done:  # it became this error
                fail(STOPPED, code=interrupt.code)
            hint = _unquoted(arguments)
            if isinstance(error, ConfigurationError | IndexNotFoundError) and hint:
                fail(f"{error}; {hint}")
            if isinstance(error, ImgsearchError):
                fail(str(error))
            if isinstance(error, _UsageError) and hint:
                error.message += f"; {hint}"
            if isinstance(error, OSError) and error.filename:  # of a file that an option names
                fail(f"cannot use {error.filename}: {error.strerror}")
            if isinstance(error, OSError) and error.errno in _NO_ROOM:  # mostly of the output
                _fail_to_write(error)
            if isinstance(error, MemoryError) or str(error) == "can't start new thread":
                fail("there is not enough memory: end other programs, or ask for less at once")
            if isinstance(error, FileNotFoundError) and not error.filename and _is_lost():
                fail("the folder that you are in was deleted: change to another one")
            if isinstance(error, FileNotFoundError) and not error.filename:  # of tempfile
                fail(f"{error.strerror}: make room there, or name a folder by TMPDIR")
            if isinstance(error, RuntimeError) and "home directory" in str(error):  # of pathlib
                fail("a path begins with ~ and the name of nobody here: write it out")
            raise


def _unquoted(arguments: Sequence[str]) -> str:
    """How to write words of which one looks like options, as -poodle does; "" where none does."""
    command, *rest = arguments or [""]
    signed = next((each for each in rest if _SIGNED.fullmatch(each)), None)
    if command not in ("search", "explain", "facets", "remove") or signed is None:
        return ""
    return f"to leave out a word, write the line in quotation marks: 'cat {signed}'"


_UsageError: Any = typer.BadParameter.__bases__[0]  # Typer has no name for it
_SIGNED = re.compile(r"-[^\W\d_]{3,}")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _is_lost() -> bool:
    try:
        return not Path.cwd()
    except FileNotFoundError:
        return True


def _fail_to_write(error: OSError) -> NoReturn:
    drop_output()
    fail(f"cannot write: {error.strerror}; make room and run the command again")


_SHOW = "Show and serve"
_COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Begin": (begin.demo, begin.doctor, begin.models),
    "Index": (index.index, index.watch, index.remove, index.stats, index.rejected),
    "Search": (
        search.search, search.explain, search.word, search.analyze, search.facets,
        search.duplicates,
    ),
    "Evaluate": (
        evaluate.evaluate, judge.judge, judge.hardest, evaluate.compare, evaluate.sweep,
        evaluate.reproduce, evaluate.benchmark, judge.clicks,
    ),
    "Learn": (
        learn.teach, learn.words, learn.forget, learn.ocr, learn.train, learn.groups,
        learn.whiten, learn.quantize,
    ),
    "Move and mend": (
        index.relocate, index.tag, exchange.export, exchange.import_, exchange.reindex,
        exchange.verify,
    ),
    _SHOW: (serve.serve, serve.map_),
}  # fmt: skip
"""What each is for, in the order of the help."""

app = typer.Typer(
    name="imgsearch",
    cls=_Commands,
    help="Image search with a classifier as the analyzer: pictures become ImageNet synsets.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _tell_version(asked: bool) -> None:
    if asked:
        from imgsearch_es import __version__

        print_line(f"imgsearch {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_tell_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


for heading, functions in _COMMANDS.items():
    for function in functions:
        command(app, function, heading)
app.add_typer(serve.kibana, name="kibana", rich_help_panel=_SHOW)


def main() -> None:
    """Run a command, as ``imgsearch_es.__main__`` does once it has taken care of Ctrl-C."""
    if sys.flags.optimize > 1:
        fail(
            "the options are read from docstrings, which -OO and PYTHONOPTIMIZE=2 take away: run "
            "Python without them"
        )
    if (names := sys.getfilesystemencoding()) != "utf-8":  # an index would have others for a file
        fail(
            f"Python takes names of files for {names} here: set PYTHONUTF8=1, or a locale of UTF-8"
        )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8
    sys.unraisablehook = _unraisable
    app()


def _unraisable(lost: sys.UnraisableHookArgs) -> None:
    """Ctrl-C where Python cannot raise it, as while an object is deleted, ends the command too."""
    if lost.exc_type is KeyboardInterrupt:
        end(signal.SIGINT, None)
    sys.__unraisablehook__(lost)
