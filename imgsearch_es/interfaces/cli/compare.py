"""``imgsearch compare``: how far strategies answer alike, on one index or on two."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import typer

from imgsearch_es.interfaces.cli.evaluating import Form, FormOption, print_tables
from imgsearch_es.interfaces.cli.output import IndexOption, JsonOption, console
from imgsearch_es.interfaces.cli.search import CountOption


def compare(
    index: IndexOption = None,
    strategies: Annotated[
        str,
        typer.Option(
            metavar="A,B",
            help="What to compare with the first: strategies, dense-cosine:candidates=100 "
            "(approximate), bm25:k1=1.5, and fusions, as of `imgsearch evaluate`.",
        ),
    ] = "script-filtered,impact",
    against: Annotated[
        str | None,
        typer.Option(
            metavar="INDEX",
            show_default=False,
            help="Another index of the same pictures, where all strategies answer as well.",
        ),
    ] = None,
    queries: Annotated[
        int, typer.Option(min=1, help="How many pictures of the index to search for.")
    ] = 50,
    k: CountOption = 10,
    persistence: Annotated[
        float,
        typer.Option(
            "--persistence", "-p", help="p of rank-biased overlap: near 1 looks deeper, 0 < p < 1."
        ),
    ] = 0.9,
    seed: Annotated[int, typer.Option(help="Of the random choice of pictures.")] = 0,
    form: FormOption = Form.TABLE,
    json: JsonOption = False,
) -> None:
    """Compare how strategies score and order the same queries.

    Random pictures of the index are searched for by all in turn, and each
    is compared with the first: rank-biased overlap, Kendall's tau, recall
    and differences of scores (of the same formula), time. Which is better
    is for `imgsearch evaluate` to say, with judgements.
    """
    from imgsearch_es.evaluation.scorers import compare_scorers
    from imgsearch_es.index import ImageIndex

    with ExitStack() as stack:
        target = stack.enter_context(ImageIndex(index))
        other = None if against is None else stack.enter_context(ImageIndex(against))
        if not json and form is Form.TABLE:
            stack.enter_context(console().status("searching ..."))
        found = compare_scorers(
            target, strategies, against=other, queries=queries, k=k, p=persistence, seed=seed
        )
    print_tables(found, form, json, {})
