"""``imgsearch judge``: people say what is relevant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgsearch_es.interfaces.cli.evaluating import asking_progress
from imgsearch_es.interfaces.cli.output import (
    IndexOption,
    JsonOption,
    console,
    fail,
    print_json,
    say,
    warn,
)

if TYPE_CHECKING:
    from imgsearch_es.evaluation.judging import Judging
    from imgsearch_es.evaluation.systems import Progress


def judge(
    index: IndexOption = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            show_default=False,
            help="Queries by column: query, and image, text or both.",
        ),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            show_default=False, help="Instead: so many pictures of the index, chosen at random."
        ),
    ] = None,
    strategies: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            show_default="auto",
            help="Whose answers are pooled: strategies, bm25:k1=1.5:b=0.3, and fusions: "
            "sqrt=1+dense-cosine=2. More of them make judgements that are fair to more.",
        ),
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            "--run", metavar="FILE", show_default=False, help="Another program's run to pool."
        ),
    ] = None,
    depth: Annotated[int, typer.Option(help="How many pictures of each ranking.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the order of pictures, and of --sample.")] = 0,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="TREC qrels: to begin, or to go on with.")
    ] = Path("qrels.txt"),
    json: JsonOption = False,
) -> None:
    """Judge, key by key, what strategies find.

    It is not shown which of them found a picture.

    Every judgement is saved at once, so stop when you like (q) and go on later by the same command.
    Grades: relevant 2, partly 1, not 0; a skipped picture stays unjudged. --json asks nothing, and
    prints what is judged and what is left.
    """
    with asking_progress(quiet=json) as progress:
        judging = _pool(
            index, queries, strategies, run, progress,
            sample=sample, depth=depth, out=out, seed=seed,
        )  # fmt: skip
    if json:
        print_json(_summary(judging))
        return
    for note in judging.notes:
        warn(f"note: {note}")
    if judging.session.current is not None:
        _ask(judging)
    progress_now = judging.session.progress
    say(f"{progress_now.judged:,} of {progress_now.total:,} judged, in {judging.session.file.path}")
    if progress_now.judged < progress_now.total:
        say("the same command goes on with the rest")
    elif not progress_now.total:
        say("the pool is empty: no strategy found anything")


def _pool(
    index: str | None,
    queries: Path | None,
    strategies: str | None,
    runs: list[Path] | None,
    progress: Progress | None,
    **options: Any,
) -> Judging:
    from imgsearch_es.evaluation.judging import judge as pool
    from imgsearch_es.index import ImageIndex

    systems = strategies or ("" if runs else "auto")
    with ImageIndex(index) as target:
        return pool(target, queries, systems, runs=runs or (), progress=progress, **options)


def _ask(judging: Judging) -> None:
    from imgsearch_es.interfaces.cli.judging_screen import TerminalJudge

    try:
        TerminalJudge(judging, console(), typer.getchar, typer.launch).run()
    except OSError:  # of the terminal, which is asked for where input comes from elsewhere
        fail("judging reads keys: run it on a terminal, or give --json to see what is left")


def _summary(judging: Judging) -> dict[str, Any]:
    session, name = judging.session, judging.collection.name
    progress = session.progress
    return {
        "out": str(session.file.path),
        "queries": progress.queries,
        "pooled": progress.total,
        "judged": progress.judged,
        "notes": list(judging.notes),
        "unjudged": [
            {
                "query": name(each.query),
                "document": name(each.document),
                "uri": judging.uri(each.document),
            }
            for each in session.unjudged
        ],
    }
