"""``imgsearch verify``: whether an index is whole."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from imgsearch_es.interfaces.cli.output import (
    IndexOption,
    JsonOption,
    now_and_then,
    print_json,
    say,
)

if TYPE_CHECKING:
    from imgsearch_es.indexing.verifying import VerifyProgress, VerifyReport

_LISTED = 20
"""Of what is wrong; --json lists 10,000."""


def verify(
    index: IndexOption = None,
    files: Annotated[
        bool, typer.Option("--files", help="Also read every picture's file and compare its hash.")
    ] = False,
    sample: Annotated[
        int, typer.Option(min=0, help="Also analyze so many of the pictures again.")
    ] = 0,
    repair: Annotated[
        bool, typer.Option("--repair", help="Put right what something whole says how.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Check that an index is whole.

    All that it keeps is compared with all else that it keeps: documents
    with their checksums, postings and deep features, settings, sums, the
    list of rejected pictures. Exit code 1 when something is wrong.
    """
    from imgsearch_es.index import ImageIndex

    with ImageIndex(index) as target, _shown(quiet=json) as progress:
        report = target.verify(files=files, sample=sample, repair=repair, progress=progress)
    if json:
        print_json(report.to_dict())
    else:
        _say(report, target.location)
    if not report.is_whole:
        raise typer.Exit(1)


def _say(report: VerifyReport, location: str) -> None:
    for harm in report.harms[:_LISTED]:
        say(f"  {harm.part}: {harm.what}{f' ({harm.uri or harm.id})' if harm.id else ''}")
    wrong = sum(report.counts.values())
    if wrong > _LISTED:
        say(f"  ... and {wrong - _LISTED:,} more; --json lists them")
    for what in report.unchecked:
        say(f"  not checked: {what}")
    for key, uri in report.left[:_LISTED]:
        say(f"  to be indexed again: {uri or key}")
    if report.left:
        say("  `imgsearch index` does that for those which --repair could mark; remove the others")
    say(f"{location}: {report}")


@contextmanager
def _shown(*, quiet: bool) -> Iterator[VerifyProgress | None]:
    """A bar on a terminal, a line now and then elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None if quiet else now_and_then(lambda done, total: f"{done:,} of {total:,}")
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("documents", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
