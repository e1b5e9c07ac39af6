"""``imgsearch search`` and ``explain``: finding pictures, and why they were found."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgsearch_es.interfaces.cli import options
from imgsearch_es.interfaces.cli.fusion import (
    FuseOption,
    FusionOption,
    RankConstantOption,
    WindowOption,
    read_fusion,
)
from imgsearch_es.interfaces.cli.output import (
    AnalyzerOption,
    IndexOption,
    JsonOption,
    ModelOption,
    RuntimeOption,
    WeightsOption,
    fail,
    print_json,
    print_line,
    print_table,
    say,
)

if TYPE_CHECKING:
    from imgsearch_es.retrieval.queries import Query
    from imgsearch_es.search.hit import Explanation, Hit
    from imgsearch_es.search.hits import Hits

_PAGE = 1000
"""Hits in one request of --all."""

WordsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="WORDS",
        show_default=False,
        help="Words and conditions: tabby cat, 'dog^2 +ball -poodle label:pets width:>=800'. "
        "Put the line in quotation marks when it has more than words.",
    ),
]
ImageOption = Annotated[
    list[str] | None,
    typer.Option(
        "--image",
        metavar="FILE",
        show_default=False,
        help="A picture, or the id of one indexed. May be repeated: the mean counts.",
    ),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        show_default=False,
        help="A condition: label=indoor, label!=pets, width>=800, filename=beach*, "
        "metadata.camera=X100, score(tabby)>0.5. May be repeated.",
    ),
]
CountOption = Annotated[int, typer.Option("-k", "--k", min=1, help="How many hits.")]
StrategyOption = Annotated[
    str,
    typer.Option(
        help="How to score: auto (formula (1), the paper's), tfidf, cosine, sqrt, bm25, "
        "dense-cosine, ...; `imgsearch models --strategies` lists them."
    ),
]

ParameterOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=NUMBER",
        show_default=False,
        help="A parameter of the strategy: k1=1.2 or b=0.75 of bm25. May be repeated.",
    ),
]


def search(
    context: typer.Context,
    words: WordsArgument = None,
    index: IndexOption = None,
    image: ImageOption = None,
    where: WhereOption = None,
    k: CountOption = 10,
    offset: Annotated[int, typer.Option(min=0, help="Leave out this many of the best.")] = 0,
    every: Annotated[
        bool,
        typer.Option(
            "--all", help="Print all hits, a line each as they come; with --json an object a line."
        ),
    ] = False,
    exclude_self: Annotated[
        bool, typer.Option("--exclude-self", help="Leave out the query's own pictures.")
    ] = False,
    vector: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="A deep feature, for the strategies dense-*: a .npy file, or a text file of "
            "numbers; - reads standard input.",
        ),
    ] = None,
    like: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="A picture (or id) to search closer to. May be repeated.",
        ),
    ] = None,
    dislike: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="A picture (or id) to search further from. May be repeated.",
        ),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="LEFT,TOP,RIGHT,BOTTOM",
            show_default=False,
            help="The part of the picture to search for: pixels such as 10,20,200,220, or "
            "fractions of it where all are 1 or less.",
        ),
    ] = None,
    views: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VIEW",
            show_default=False,
            help="Also look at the picture's mirror, rotations or crops. May be repeated.",
        ),
    ] = None,
    feedback: Annotated[
        int,
        typer.Option(min=0, help="Search twice, then with so many of the best hits liked."),
    ] = 0,
    rocchio: Annotated[
        str | None,
        typer.Option(
            metavar="ALPHA,BETA,GAMMA",
            show_default=False,
            help="The weights of the query, the liked and the disliked pictures; 1,0.75,0.15 "
            "unless given.",
        ),
    ] = None,
    strategy: StrategyOption = "auto",
    fuse: FuseOption = None,
    fusion: FusionOption = "sum",
    rank_constant: RankConstantOption = 60,
    window: WindowOption = 100,
    parameter: ParameterOption = None,
    rerank: Annotated[
        bool,
        typer.Option("--rerank", help="Put hits in k-reciprocal order, of the strategies dense-*."),
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option(show_default=False, help="The least score, for the strategies dense-*."),
    ] = None,
    approximate: Annotated[
        bool,
        typer.Option(
            "--approximate",
            help="Compare near candidates only, for dense-cosine, dense-dot or dense-euclidean, on "
            "an index made with --vectors.",
        ),
    ] = False,
    candidates: Annotated[
        int | None,
        typer.Option(
            min=1, show_default=False, help="How many, with --approximate; 200 by default."
        ),
    ] = None,
    html: Annotated[
        str | None,
        typer.Option(metavar="FILE", show_default=False, help="Write a gallery page."),
    ] = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    analyzer: AnalyzerOption = None,
    runtime: RuntimeOption = None,
    json: JsonOption = False,
) -> None:
    """Find pictures by words, by a picture, or by both added."""
    query: dict[str, Any] = {
        "image": image,
        "text": " ".join(words) if words else None,
        "vector": options.vector(vector),
        "where": options.conditions(where),
        "offset": offset,
        "exclude_self": exclude_self,
        "like": like,
        "dislike": dislike,
        "region": options.region(region),
        "views": views or (),
        "feedback": feedback,
        "strategy": strategy,
        "parameters": options.parameters(parameter),
        "rocchio": options.rocchio(rocchio),
        "threshold": threshold,
        "fuse": read_fusion(fuse, fusion, rank_constant, window),
        "approximate": approximate,
        "candidates": candidates,
    }
    opened = {"model": model, "weights": weights, "analyzer": analyzer, "runtime": runtime}
    if every:
        source = context.get_parameter_source("k")
        if (source is not None and source.name == "COMMANDLINE") or html or rerank:
            fail("--all gives every hit as it comes: leave out -k, --html and --rerank", code=2)
        _search_all(index, opened, query, json=json)
        return
    hits = _search(index, opened, k=k, **query)
    if rerank:
        hits = hits.rerank()
    page = hits.to_html(html) if html is not None else None
    if json:
        print_json(hits.to_dict())
        return
    print_hits(hits)
    if page is not None:
        say(f"gallery: {page}")


def explain(
    words: WordsArgument = None,
    index: IndexOption = None,
    image: ImageOption = None,
    picture: Annotated[
        str | None,
        typer.Option(
            metavar="PICTURE",
            show_default=False,
            help="Explain this indexed picture (id or path) instead of the best hits.",
        ),
    ] = None,
    where: WhereOption = None,
    k: CountOption = 3,
    strategy: StrategyOption = "auto",
    fuse: FuseOption = None,
    fusion: FusionOption = "sum",
    rank_constant: RankConstantOption = 60,
    window: WindowOption = 100,
    parameter: ParameterOption = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    analyzer: AnalyzerOption = None,
    runtime: RuntimeOption = None,
    json: JsonOption = False,
) -> None:
    """Show why pictures were found, synset by synset.

    A picture's score is the sum of query weight x picture score: formula (1) of the paper. With
    --fuse it is the sum of what the parts contribute, and the synsets of a part are below it.
    """
    fused = read_fusion(fuse, fusion, rank_constant, window)
    conditions = options.conditions(where)
    wanted = None
    if picture is not None:
        from imgsearch_es.index import ImageIndex

        with ImageIndex(index) as target:
            wanted = target.get(picture).id
        if fused is not None and fused.is_ranked:
            k = window  # its ranks are those among all pictures
        else:
            conditions["id"] = wanted
    hits = _search(
        index,
        {"model": model, "weights": weights, "analyzer": analyzer, "runtime": runtime},
        image=image,
        text=" ".join(words) if words else None,
        where=conditions,
        k=k,
        strategy=strategy,
        fuse=fused,
        parameters=options.parameters(parameter),
    )
    explanations = [hits.explain(i) for i, hit in enumerate(hits) if wanted in (None, hit.id)]
    if json:
        print_json({"query": str(hits.query), "explanations": [e.to_dict() for e in explanations]})
        return
    if not explanations:
        what = f"{picture} is not among the best of" if len(hits) else "no picture matches"
        say(f"nothing to explain: {what} {hits.query}")
    for explanation in explanations:
        say(f"{explanation.hit.rank}. {explanation.hit.uri}  score {explanation.total:.6g}")
        _print_rows(explanation)


def _print_rows(explanation: Explanation) -> None:
    from imgsearch_es.interfaces.gallery import number

    if explanation.hit.parts:
        columns = ("part", "weight", "score", "contribution")
        print_table(columns, explanation.lines(), right=columns[1:])
        return
    rows = [
        (row.key, *map(number, (row.query_weight, row.document_score, row.product)))
        for row in explanation.rows
    ]
    columns = ("synset", "query", "picture", "product")
    print_table(columns, rows, right=columns[1:])


def _search(index: str | None, model: dict[str, Any], **query: Any) -> Hits:
    from imgsearch_es.index import ImageIndex

    _check_something(query)
    with ImageIndex(index, **model) as source:
        return source.search(**query)


def _search_all(
    index: str | None, model: dict[str, Any], query: dict[str, Any], *, json: bool
) -> None:
    """Print hits page by page, as lines that programs can read on the way."""
    from imgsearch_es.index import ImageIndex
    from imgsearch_es.interfaces.gallery import number

    _check_something(query)
    # Closed also when the reader of our output goes away: the server's point in time ends.
    with ImageIndex(index, **model) as source, closing(source.pages(**query, size=_PAGE)) as pages:
        for hit in (hit for page in pages for hit in page):
            if json:
                print_json(hit.to_dict(), indent=None)
            else:
                score, place = number(hit.score), _short(hit.path or hit.uri)
                print_line(f"{hit.rank:>7}  {score:>7}  {place}")


def _check_something(query: dict[str, Any]) -> None:
    asked = query["image"] or query.get("like") or query.get("vector") is not None
    if not asked and query["text"] is None:
        fail("what to search for? Give words, --image FILE, or both", code=2)


def print_hits(hits: Hits) -> None:
    """Print the ranked table."""
    from imgsearch_es.interfaces.gallery import number

    if not len(hits):
        say(f"no picture matches {hits.query}")
        _print_hints(hits)
        return
    rows = [
        (
            hit.rank,
            number(hit.score),
            _short(hit.path or hit.uri),
            _telling(hit, hits.query),
        )
        for hit in hits
    ]
    columns = ("rank", "score", "picture", "synsets")
    print_table(columns, rows, right=columns[:2])
    exact = ", exact" if hits.exact else ", not exact"
    more = "" if hits.total_is_exact else " or more"
    say(f"{len(hits)} of {hits.total}{more} for {hits.query}  ({hits.took_ms:.0f} ms{exact})")
    _print_hints(hits)


def _print_hints(hits: Hits) -> None:
    for hint in hits.query.hints:
        say(f"hint: {hint}")


def _telling(hit: Hit, query: Query) -> str:
    """The three synsets that make most of the score, then the picture's best."""
    weights = {term.key: term.score for term in query.terms}
    terms = sorted(hit.synsets, key=lambda t: (-weights.get(t.key, 0.0) * t.score, -t.score))
    return ", ".join(f"{term.key} {term.score:.2f}" for term in terms[:3])


def _short(place: Path | str) -> str:
    """A path as seen from here, when it is below here."""
    if isinstance(place, Path) and place.is_relative_to(Path.cwd()):
        place = place.relative_to(Path.cwd())
    return str(place)
