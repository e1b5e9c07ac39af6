"""``imgsearch hardest``, ``compare``, ``benchmark``, ``clicks``: strategies beside each other."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from imgsearch_es.errors import EvaluationError, LogError
from imgsearch_es.interfaces.cli.evaluate import Form, print_tables
from imgsearch_es.interfaces.cli.options import Count, Index, Positive, given, opened, whole_numbers
from imgsearch_es.interfaces.cli.output import answer, print_table, say, waiting, warn


@dataclass(frozen=True)
class Judged:
    """Queries, and what is relevant to them.

    Options:
        --judgements, -j SOURCE: What is relevant to what, as in `imgsearch evaluate`. By default
            labels.
        --queries CSV: A file with queries, as in `imgsearch evaluate`.
        --pictures DIR: A folder of query pictures that are not in the collection.
    """

    judgements: str | None = None
    queries: Path | None = None
    pictures: Path | None = None


def hardest(
    *,
    index: Index = None,
    judged: Judged,
    strategy: str | None = None,
    measure: str | None = None,
    n: Positive = 10,
    k: Positive = 12,
    run: Path | None = None,
    html: Path | None = None,
) -> None:
    """List the queries that were answered worst.

    Options:
        --strategy SYSTEM: A strategy, or a fusion such as a=1+b=2. By default auto.
        --measure: P@10, nDCG@10, AP, RR, ... By default the judgements' first.
        --n, -n: How many queries.
        --k, -k: Hits in a gallery.
        --run FILE: Instead of a strategy: another program's run.
        --html FILE: Write a page with the galleries.
    """
    from imgsearch_es.evaluation import evaluate
    from imgsearch_es.evaluation.hardest import hardest as find
    from imgsearch_es.interfaces.gallery import hardest_summary as summary

    if run is not None and strategy is not None:
        raise EvaluationError("--run is in place of --strategy: leave one of them out")
    systems: tuple[str, ...] = () if run is not None else (strategy or "auto",)
    with opened(index) as target:
        with waiting():
            found = evaluate(
                target,
                systems=systems,
                runs=[run] if run else (),
                **given({**vars(judged), "measures": measure}),
            )
        worst = find(target, found, n=n, k=k)
    page = None if html is None else str(worst.to_html(html))
    answer(worst.to_dict() | {"page": page})
    rows = [(f"{query.figure:.4f}", query.name, query.problem or summary(query)) for query in worst]
    print_table((worst.measure, "query", "relevant pictures"), rows, right=(worst.measure,))
    say(f"the hardest {len(worst)} of {worst.of} queries for {worst.system}")
    if page is not None:
        say(f"galleries: {page}")


def compare(
    *,
    index: Index = None,
    strategies: str = "script-filtered,impact",
    against: str | None = None,
    queries: Positive = 50,
    k: Count = 10,
    persistence: float = 0.9,
    seed: int = 0,
    form: Form = "table",
) -> None:
    """Compare how strategies score and order the same queries.

    All search for random pictures of the index in turn, and each is compared with the first:
    rank-biased overlap, Kendall's tau, recall and differences of scores (of the same formula),
    time. `imgsearch evaluate` says which is better, by judgements.

    Options:
        --strategies A,B: What to compare with the first: strategies, dense-cosine:candidates=100
            (approximate), bm25:k1=1.5, and fusions, as of `imgsearch evaluate`.
        --against INDEX: Another index of the same pictures, where all strategies answer as well.
        --queries: How many pictures of the index to search for.
        --persistence, -p: p of rank-biased overlap: near 1 looks deeper, 0 < p < 1.
        --seed: The seed of the random choice of pictures.
    """
    from imgsearch_es.evaluation.scorers import compare_scorers

    with ExitStack() as stack:
        target = stack.enter_context(opened(index))
        other = None if against is None else stack.enter_context(opened(against))
        stack.enter_context(waiting())
        found = compare_scorers(
            target, strategies, against=other, queries=queries, k=k, p=persistence, seed=seed
        )
    print_tables(found, form, {})


def benchmark(
    *,
    index: Index = None,
    queries: Positive = 50,
    strategies: str | None = None,
    k: Count = 10,
    candidates: str = "200",
    seed: int = 0,
) -> None:
    """Measure time and recall on your own pictures.

    Each strategy in turn searches for random pictures of the index. Recall is the share of
    the best k, by the exact strategy of the same formula, that were found.

    Options:
        --queries: How many of its pictures to search for.
        --strategies A,B: Which strategies; by default all that the index can answer.
        --candidates N,N: Candidates of approximate answers, where the index was made with
            --vectors.
        --seed: The seed of the random choice of pictures.
    """
    from imgsearch_es.evaluation.benchmarking import benchmark as run

    counts = whole_numbers(candidates, "--candidates", "100,400")
    names = None if strategies is None else [name.strip() for name in strategies.split(",")]
    with opened(index) as target, waiting():
        found = run(target, queries=queries, strategies=names, k=k, candidates=counts, seed=seed)
    answer(found)
    columns = ("strategy", "candidates", "p50 ms", "p95 ms", "exact", f"recall@{k}", "proven")
    rows = [
        (
            row.strategy,
            row.candidates or "",
            f"{row.p50_ms:.1f}",
            f"{row.p95_ms:.1f}",
            f"{row.exact:.0%}",
            f"{row.recall:.3f}",
            "" if row.proven_at_first is None else f"{row.proven_at_first:.0%}",
        )
        for row in found.rows
    ]
    print_table(columns, rows, right=columns[1:])
    say(
        f"{found.location}: {found.pictures:,} pictures, {found.queries} queries. exact, proven: "
        "shares of the queries; proven is by the first window of rescored pictures."
    )


def clicks(
    *, log: Annotated[str, typer.Option(envvar="IMGSEARCH_LOG")], cutoffs: str = "1,5,10"
) -> None:
    """Measure strategies by what people clicked.

    CTR@k is the share of the results shown at ranks 1 to k that were clicked; clicked, the share of
    searches with a click; MRR, the mean reciprocal rank of the best-ranked click. For interleaved
    strategies, it also shows whose pictures were clicked more, with a sign test.

    Options:
        log LOG: The interaction log. Older files of it (LOG.1, ...) are read too.
        --cutoffs K,K: The k of CTR@k.
    """
    from imgsearch_es.evaluation.clicks import click_figures, duels, read_interactions

    numbers = tuple(dict.fromkeys(whole_numbers(cutoffs, "--cutoffs", "1,5,10")))
    found = read_interactions(log)
    if found.broken and not found.searches and not found.stray:
        raise LogError(f"no line of {log} is one of an interaction log: is it another file?")
    figures, fought = click_figures(found.searches, numbers), duels(found.searches)
    printed = {
        "figures": [each.to_dict() for each in figures],
        "interleaved": list(map(asdict, fought)),
        "stray_clicks": found.stray,
        "broken_lines": found.broken,
        "problems": list(found.problems),
    }
    if answer(printed):
        return
    for problem in found.problems:
        warn(f"passed over {problem}")
    if found.broken:
        warn(f"{found.broken:,} broken lines do not count")
    columns = ("strategy", "searches", "clicks", "clicked", "MRR", *(f"CTR@{k}" for k in numbers))
    rows: list[tuple[object, ...]] = []
    for each in figures:
        shares = (each.clicked, each.reciprocal_rank, *each.through.values())
        shown = ("" if share is None else f"{share:.4f}" for share in shares)
        rows.append((each.strategy, f"{each.searches:,}", f"{each.clicks:,}", *shown))
    print_table(columns, rows, right=columns[1:])
    if fought:
        columns = ("interleaved", "against", "wins", "losses", "ties", "p (sign test)")
        rows = [(d.first, d.second, d.wins, d.losses, d.ties, f"{d.p:.4f}") for d in fought]
        print_table(columns, rows, right=columns[2:])
    if found.stray:
        say(f"{found.stray:,} clicks are of no search in the log, or of pictures not shown")
