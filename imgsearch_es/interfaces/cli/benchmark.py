"""``imgsearch benchmark``: time and recall of the strategies on an index."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from imgsearch_es.errors import QueryError
from imgsearch_es.interfaces.cli.output import (
    IndexOption,
    JsonOption,
    console,
    print_json,
    print_table,
    say,
)
from imgsearch_es.interfaces.cli.search import CountOption

if TYPE_CHECKING:
    from imgsearch_es.evaluation.benchmarking import Measured


def benchmark(
    index: IndexOption = None,
    queries: Annotated[
        int, typer.Option(min=1, help="How many of its pictures to search for.")
    ] = 50,
    strategies: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            show_default=False,
            help="Which strategies; by default all that the index can answer.",
        ),
    ] = None,
    k: CountOption = 10,
    candidates: Annotated[
        str,
        typer.Option(
            metavar="N,N",
            help="Candidates of approximate answers, where the index was made with --vectors.",
        ),
    ] = "200",
    seed: Annotated[int, typer.Option(help="Of the random choice of pictures.")] = 0,
    json: JsonOption = False,
) -> None:
    """Measure time and recall on your own pictures.

    Random pictures of the index are searched for by each strategy in turn. Recall is the share of
    the best k, by the exact strategy of the same formula, that were found.
    """
    from imgsearch_es.evaluation.benchmarking import benchmark as run
    from imgsearch_es.index import ImageIndex

    counts = _numbers(candidates)
    names = None if strategies is None else [name.strip() for name in strategies.split(",")]
    waiting = nullcontext() if json else console().status("searching ...")
    with ImageIndex(index) as target, waiting:
        found = run(target, queries=queries, strategies=names, k=k, candidates=counts, seed=seed)
    if json:
        print_json(found.to_dict())
        return
    columns = ("strategy", "candidates", "p50 ms", "p95 ms", "exact", f"recall@{k}", "proven")
    print_table(columns, [_cells(row) for row in found.rows], right=columns[1:])
    say(
        f"{found.location}: {found.pictures:,} pictures, {found.queries} queries. exact, proven: "
        "shares of the queries; proven is by the first window of rescored pictures."
    )


def _cells(row: Measured) -> tuple[str, ...]:
    proven = "" if row.proven_at_first is None else f"{row.proven_at_first:.0%}"
    times = f"{row.p50_ms:.1f}", f"{row.p95_ms:.1f}"
    candidates = str(row.candidates or "")
    return row.strategy, candidates, *times, f"{row.exact:.0%}", f"{row.recall:.3f}", proven


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise QueryError(
            f"--candidates is a number or several such as 100,400, not {text!r}"
        ) from error
