"""``imgsearch search`` and ``explain``: finding pictures, and why they were found."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgsearch_es.cli.output import (
    IndexOption,
    JsonOption,
    ModelOption,
    WeightsOption,
    fail,
    print_json,
    print_table,
    say,
)
from imgsearch_es.errors import QueryError

if TYPE_CHECKING:
    from imgsearch_es.hits import Hit, Hits
    from imgsearch_es.queries import Query

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


def search(
    words: WordsArgument = None,
    index: IndexOption = None,
    image: ImageOption = None,
    where: WhereOption = None,
    k: CountOption = 10,
    offset: Annotated[int, typer.Option(min=0, help="Leave out this many of the best.")] = 0,
    exclude_self: Annotated[
        bool, typer.Option("--exclude-self", help="Leave out the query's own pictures.")
    ] = False,
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
    strategy: StrategyOption = "auto",
    threshold: Annotated[
        float | None,
        typer.Option(show_default=False, help="The least score, for the strategies dense-*."),
    ] = None,
    html: Annotated[
        str | None,
        typer.Option(metavar="FILE", show_default=False, help="Write a gallery page."),
    ] = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    json: JsonOption = False,
) -> None:
    """Find pictures by words, by a picture, or by both added."""
    hits = _search(
        index,
        {"model": model, "weights": weights},
        image=image,
        text=" ".join(words) if words else None,
        where=read_conditions(where),
        k=k,
        offset=offset,
        exclude_self=exclude_self,
        like=like,
        dislike=dislike,
        region=None if region is None else _region(region),
        views=views or (),
        feedback=feedback,
        strategy=strategy,
        threshold=threshold,
    )
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
    model: ModelOption = None,
    weights: WeightsOption = None,
    json: JsonOption = False,
) -> None:
    """Show why pictures were found, synset by synset.

    A picture's score is the sum of query weight x picture score: formula (1) of the paper.
    """
    from imgsearch_es.gallery import number

    conditions = read_conditions(where)
    if picture is not None:
        from imgsearch_es.index import ImageIndex

        with ImageIndex(index) as target:
            conditions["id"] = target.get(picture).id
    hits = _search(
        index,
        {"model": model, "weights": weights},
        image=image,
        text=" ".join(words) if words else None,
        where=conditions,
        k=k,
        strategy=strategy,
    )
    explanations = [hits.explain(i) for i in range(len(hits))]
    if json:
        print_json({"query": str(hits.query), "explanations": [e.to_dict() for e in explanations]})
        return
    if not explanations:
        say(f"nothing to explain: no picture matches {hits.query}")
    for explanation in explanations:
        say(f"{explanation.hit.rank}. {explanation.hit.uri}  score {explanation.total:.6g}")
        rows = [
            (row.key, *map(number, (row.query_weight, row.document_score, row.product)))
            for row in explanation.rows
        ]
        columns = ("synset", "query", "picture", "product")
        print_table(columns, rows, right=columns[1:])


def _search(index: str | None, model: dict[str, Any], **query: Any) -> Hits:
    from imgsearch_es.index import ImageIndex

    if not query["image"] and query["text"] is None and not query.get("like"):
        fail("what to search for? Give words, --image FILE, or both", code=2)
    with ImageIndex(index, **model) as source:
        return source.search(**query)


def _region(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise QueryError(
            f"--region is left,top,right,bottom, four numbers, not {text!r}"
        ) from error


def print_hits(hits: Hits) -> None:
    """Print the ranked table."""
    from imgsearch_es.gallery import number

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
    print_table(("rank", "score", "picture", "synsets"), rows, right=("rank", "score"))
    exact = ", exact" if hits.exact else ""
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


_CONDITION = re.compile(
    r"(?P<field>[^<>=!\s]+)\s*(?P<sign>!=|>=|<=|=|>|<)\s*(?P<value>.+)", re.DOTALL
)
_SIGNS = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}


def read_conditions(texts: list[str] | None) -> dict[str, Any]:
    """Read ``field=value`` conditions; values of one field are alternatives."""
    from imgsearch_es.conditions import NUMBER_FIELDS

    where: dict[str, Any] = {}
    for text in texts or ():
        found = _CONDITION.fullmatch(text.strip())
        if not found:
            raise QueryError(f"--where {text!r} is no condition such as label=indoor or width>=800")
        field, sign, value = found["field"], found["sign"], found["value"].strip()
        is_number = field in NUMBER_FIELDS or field.startswith("score(")
        number = _number(value, field) if is_number else value
        if sign == "!=":
            field, sign = f"-{field}", "="
        is_list = sign == "=" and (is_number or not re.search(r"[*?]", value))
        if field in where and isinstance(where[field], list) != is_list:
            raise QueryError(f"--where compares {field!r} in two ways: {text!r} is the second")
        if sign != "=":
            where.setdefault(field, {})[_SIGNS[sign]] = number
        elif not is_list:
            where[field] = {"wildcard": value}
        else:
            where.setdefault(field, []).append(number)
    return where


def _number(text: str, field: str) -> float:
    try:
        return float(text) if "." in text else int(text)
    except ValueError as error:
        raise QueryError(f"{field!r} is a number; {text!r} is not") from error
