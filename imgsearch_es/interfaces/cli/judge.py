"""``imgsearch judge``: people say what is relevant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from imgsearch_es.interfaces.cli.options import Index, opened
from imgsearch_es.interfaces.cli.output import answer, console, fail, say, waiting, warn

if TYPE_CHECKING:
    from imgsearch_es.evaluation.judging import Judging


def judge(
    *,
    index: Index = None,
    queries: Path | None = None,
    sample: int | None = None,
    strategies: str | None = None,
    run: list[Path] | None = None,
    depth: int = 20,
    seed: int = 0,
    out: Path = Path("qrels.txt"),
) -> None:
    """Judge, key by key, what strategies find.

    It is not shown which of them found a picture.

    Every judgement is saved at once, so stop when you like (q) and go on later by the same command.
    Grades: relevant 2, partly 1, not 0; a skipped picture stays unjudged. --json asks nothing, and
    prints what is judged and what is left.

    Options:
        --queries CSV: Queries by column: query, and image, text or both.
        --sample: Instead: so many pictures of the index, chosen at random.
        --strategies A,B: Whose answers are pooled: strategies, bm25:k1=1.5:b=0.3, and fusions:
            sqrt=1+dense-cosine=2. By default auto; more of them make judgements that are fair to
            more.
        --run FILE: Another program's run to pool.
        --depth: How many pictures of each ranking.
        --seed: Of the order of pictures, and of --sample.
        --out FILE: TREC qrels: to begin, or to go on with.
    """
    from imgsearch_es.evaluation.judging import judge as pool

    systems = strategies or ("" if run else "auto")
    pooling: dict[str, Any] = {"sample": sample, "depth": depth, "out": out, "seed": seed}
    with opened(index) as target, waiting("reading the index ...", " queries") as progress:
        judging = pool(target, queries, systems, runs=run or (), progress=progress, **pooling)
    if answer(_summary(judging)):
        return
    for note in judging.notes:
        warn(f"note: {note}")
    if judging.session.current is not None:
        from imgsearch_es.interfaces.cli.judging_screen import TerminalJudge

        try:
            TerminalJudge(judging, console(), typer.getchar, typer.launch).run()
        except OSError:  # of the terminal, which is asked for where input comes from elsewhere
            fail("judging reads keys: run it on a terminal, or give --json to see what is left")
    reached = judging.session.progress
    say(f"{reached.judged:,} of {reached.total:,} judged, in {judging.session.file.path}")
    if reached.judged < reached.total:
        say("the same command goes on with the rest")
    elif not reached.total:
        say("the pool is empty: no strategy found anything")


def _summary(judging: Judging) -> dict[str, Any]:
    progress, name = judging.session.progress, judging.collection.name
    unjudged = [(name(each.query), each.document) for each in judging.session.unjudged]
    return {
        "out": str(judging.session.file.path),
        "queries": progress.queries,
        "pooled": progress.total,
        "judged": progress.judged,
        "notes": list(judging.notes),
        "unjudged": [
            {"query": query, "document": name(document), "uri": judging.uri(document)}
            for query, document in unjudged
        ],
    }
