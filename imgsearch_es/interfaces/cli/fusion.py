"""The options that fuse parts of a query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from imgsearch_es.errors import QueryError

if TYPE_CHECKING:
    from imgsearch_es.retrieval.fusion import Fusion

FuseOption = Annotated[
    str | None,
    typer.Option(
        metavar="PART=WEIGHT,...",
        show_default=False,
        help="Fuse parts instead of taking one strategy: image=1,words=0.5,dense-cosine=2. "
        "A part is image, words or a strategy.",
    ),
]
FusionOption = Annotated[
    str,
    typer.Option(
        help="How to fuse: sum (of weighted scores) or rrf (reciprocal rank fusion).",
    ),
]
RankConstantOption = Annotated[
    int, typer.Option(help="Of rrf: a part adds weight / (this + rank).")
]
WindowOption = Annotated[int, typer.Option(help="Of rrf: how many pictures each part ranks.")]


def read_fusion(
    text: str | None, method: str = "sum", rank_constant: int = 60, window: int = 100
) -> Fusion | None:
    """The fusion that the options ask for.

    Raises:
        QueryError: the text is no list of parts and weights, or there is none to fuse by a method.
    """
    if text is None:
        if (method, rank_constant, window) != ("sum", 60, 100):
            raise QueryError(
                "--fusion, --rank-constant and --window go with --fuse PART=WEIGHT,..."
            )
        return None
    from imgsearch_es.retrieval.fusion import Fusion

    weights: dict[str, float] = {}
    for item in text.split(","):
        name, sign, number = (piece.strip() for piece in item.partition("="))
        if not name or name in weights:
            what = f"names {name} twice" if name else "has a part without a name"
            raise QueryError(f"--fuse {text!r} {what}; write for example image=1,words=0.5")
        try:
            weights[name] = float(number) if sign else 1.0
        except ValueError as error:
            raise QueryError(f"--fuse {item!r} is no part and weight, such as image=1") from error
    return Fusion(weights, method, rank_constant, window)
