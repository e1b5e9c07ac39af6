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
    from imgsearch_es.hits import Hits

WordsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[WORDS]",
        show_default=False,
        help="Words, such as: tabby cat. Quote a line with minus: 'dog -poodle'.",
    ),
]
ImageOption = Annotated[
    str | None,
    typer.Option(
        "--image", metavar="FILE", show_default=False, help="A picture, or the id of one indexed."
    ),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        show_default=False,
        help="A condition: label=indoor, width>=800, filename=beach*, metadata.camera=X100. "
        "May be repeated.",
    ),
]
CountOption = Annotated[int, typer.Option("-k", "--k", min=1, help="How many hits.")]
StrategyOption = Annotated[
    str,
    typer.Option(
        help="How Elasticsearch computes the scores: auto, impact, script, script-filtered. "
        "All rank alike."
    ),
]


def search(
    words: WordsArgument = None,
    index: IndexOption = None,
    image: ImageOption = None,
    where: WhereOption = None,
    k: CountOption = 10,
    offset: Annotated[int, typer.Option(min=0, help="Leave out this many of the best.")] = 0,
    exclude_self: Annotated[bool, typer.Option(help="Leave out the query picture.")] = False,
    strategy: StrategyOption = "auto",
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
        where=_conditions(where),
        k=k,
        offset=offset,
        exclude_self=exclude_self,
        strategy=strategy,
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
    model: ModelOption = None,
    weights: WeightsOption = None,
    json: JsonOption = False,
) -> None:
    """Show the summands of formula (1): query weight x picture score, synset by synset."""
    conditions = _conditions(where)
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
            (row.key, f"{row.query_weight:.4f}", f"{row.document_score:.4f}", f"{row.product:.4f}")
            for row in explanation.rows
        ]
        columns = ("synset", "query", "picture", "product")
        print_table(columns, rows, right=columns[1:])


def _search(index: str | None, model: dict[str, Any], **query: Any) -> Hits:
    from imgsearch_es.index import ImageIndex

    if query["image"] is None and query["text"] is None:
        fail("what to search for? Give words, --image FILE, or both", code=2)
    with ImageIndex(index, **model) as source:
        return source.search(**query)


def print_hits(hits: Hits) -> None:
    """Print the ranked table."""
    if not len(hits):
        say(f"no picture matches {hits.query}")
        return
    rows = [
        (
            hit.rank,
            score_text(hit.score),
            _short(hit.path or hit.uri),
            ", ".join(f"{term.key} {term.score:.2f}" for term in hit.synsets[:3]),
        )
        for hit in hits
    ]
    print_table(("rank", "score", "picture", "best synsets"), rows, right=("rank", "score"))
    more = "" if hits.total_is_exact else " or more"
    say(f"{len(hits)} of {hits.total}{more} for {hits.query}  ({hits.took_ms:.0f} ms, exact)")


def score_text(score: float) -> str:
    """Four decimals, unless that shows nothing of a small score."""
    return f"{score:.4f}" if score >= 0.001 else f"{score:.1e}"


def _short(place: Path | str) -> str:
    """A path as seen from here, when it is below here."""
    if isinstance(place, Path) and place.is_relative_to(Path.cwd()):
        place = place.relative_to(Path.cwd())
    return str(place)


_CONDITION = re.compile(r"(?P<field>[^<>=\s]+)\s*(?P<sign>>=|<=|=|>|<)\s*(?P<value>.+)", re.DOTALL)
_SIGNS = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}


def _conditions(texts: list[str] | None) -> dict[str, Any]:
    """Read ``field=value`` conditions; values of one field are alternatives."""
    from imgsearch_es.queries import NUMBER_FIELDS

    where: dict[str, Any] = {}
    for text in texts or ():
        found = _CONDITION.fullmatch(text.strip())
        if not found:
            raise QueryError(f"--where {text!r} is no condition such as label=indoor or width>=800")
        field, sign, value = found["field"], found["sign"], found["value"].strip()
        number = _number(value, field) if field in NUMBER_FIELDS else value
        if sign != "=":
            where.setdefault(field, {})[_SIGNS[sign]] = number
        elif field not in NUMBER_FIELDS and re.search(r"[*?]", value):
            where[field] = {"wildcard": value}
        else:
            where.setdefault(field, []).append(number)
    return where


def _number(text: str, field: str) -> float:
    try:
        return float(text) if "." in text else int(text)
    except ValueError as error:
        raise QueryError(f"{field!r} is a number; {text!r} is not") from error
