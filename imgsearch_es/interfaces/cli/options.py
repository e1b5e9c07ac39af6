"""Options of several commands, and the reading of those that are more than a word or a number.

What is written in another way than an option asks for is a QueryError or ConfigurationError.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgsearch_es.errors import ConfigurationError, QueryError
from imgsearch_es.interfaces.cli.declaring import OptionalPositive
from imgsearch_es.pictures.files import check_finite

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imgsearch_es.index import ImageIndex
    from imgsearch_es.retrieval.strategies import Fusion

Index = Annotated[
    str | None,
    typer.Option(
        "--index",
        "-i",
        envvar="IMGSEARCH_INDEX",
        help="The index: a file such as pets.duckdb, or http://host:9200/pets.",
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FIELD=VALUE",
        help="Conditions of the query language: label=indoor,pets, label!=pets, width>=800, "
        "filename=beach*, metadata.camera=X100, score(dog)>0.5. May be repeated: all must hold.",
    ),
]
Count = Annotated[int, typer.Option("-k", "--k", min=1, help="How many hits.")]


@dataclass(frozen=True)
class Analyzing:
    """What makes terms of pictures.

    Options:
        --model, -m: The classifier; `imgsearch models` lists them. A new index takes vgg16, an old
            one keeps its own.
    Analyzer:
        --weights FILE: A file with the model's weights.
        --analyzer TOML: A TOML file with a whole analyzer instead of a model: image filters, model,
            term filters. Or paper: vgg16 with ten terms.
        --runtime: What runs the classifier: tensorflow, openvino, or auto: openvino where both
            agree. `imgsearch doctor` tells which. By default IMGSEARCH_RUNTIME, else auto.
    """

    model: str | None = None
    weights: str | None = None
    analyzer: str | None = None
    runtime: str | None = None

    def open(self, index: str | None, **more: Any) -> ImageIndex:
        """Open an index with it."""
        return opened(index, **asdict(self), **more)


@dataclass(frozen=True)
class Seen:
    """What a new index keeps of its pictures.

    Analyzer:
        --words FILE: Words or phrases, one a line, that a model zeroshot:PRESET looks for.
        --terms: How many of its best synsets a picture keeps. By default 50; more find more by
            words.
        --query-terms: How many of them a picture in a query asks with. By default 10.
        --views: Analyze overlapping parts of each picture as well: tiles (five) or tiles14
            (fourteen). Slower, and finds smaller things.
        --visual-words: Also index each deep feature as 128 sparse terms, for search --strategy
            visual-words, and on Elasticsearch for --approximate.
    Photos:
        --exif: Keep what EXIF and XMP say: when a photo was taken, camera, lens, caption and
            keywords. This is the default; --no-exif keeps nothing.
        --gps: Keep the place, too, which may be private.
        --thumbnails PIXELS: Keep a thumbnail of each picture for Kibana (on Elasticsearch). One of
            96 pixels takes 2 to 3 KB.
    """

    words: str | None = None
    terms: OptionalPositive = None
    query_terms: OptionalPositive = None
    views: str | None = None
    visual_words: bool | None = None
    exif: bool | None = None
    gps: bool | None = None
    thumbnails: int | None = None


@dataclass(frozen=True)
class Layout:
    """How Elasticsearch keeps a new index, and a file its deep features.

    Elasticsearch:
        --vectors KIND: Also index deep features, for `imgsearch search --approximate`: int8_hnsw,
            bbq_hnsw, hnsw, flat, int8_flat or bbq_flat. A file takes int8_hnsw or none, at any
            time.
        --similarity: How --vectors compares: cosine (the default), dot or euclidean.
        --impacts FORMULAS: Make these formulas as fast as auto: cosine, sqrt, bm25, or several
            (with commas).
        --shards: Shards of a new index.
        --replicas: Copies of each shard.
        --layout: How documents are kept: full (the default), or lean: a third of the bytes,
            without _source, the paper's fields and Kibana's table of pictures.
    """

    vectors: str | None = None
    similarity: str | None = None
    impacts: str | None = None
    shards: Annotated[int | None, typer.Option(min=1)] = None
    replicas: Annotated[int | None, typer.Option(min=0)] = None
    layout: str | None = None


def opened(index: str | None, **options: Any) -> ImageIndex:
    """Open an index; ``ImageIndex`` is imported when one is needed, so that help comes at once."""
    from imgsearch_es.index import ImageIndex

    return ImageIndex(index, **options)


def given(values: dict[str, Any]) -> dict[str, Any]:
    """The options that were given: those of None have a default further down."""
    return {name: value for name, value in values.items() if value is not None}


def conditions(texts: list[str] | None) -> str:
    """The conditions as one line of the query language."""
    return " ".join(texts or ())


def vector(file: str) -> NDArray[np.float32]:
    """Read a deep feature: a .npy file, or numbers with commas or spaces between them."""
    import numpy as np

    try:
        check_finite(Path(file))
        if file.endswith(".npy"):
            found = np.asarray(np.load(file, allow_pickle=False))
        else:
            text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
            found = np.array(text.replace(",", " ").split(), dtype=np.float32)
    except Exception as error:  # a damaged header of NumPy raises anything
        raise QueryError(f"--vector {file} cannot be read: {error}") from error
    return found.reshape(-1) if 1 in found.shape else found


def parameters(texts: list[str] | None) -> dict[str, float]:
    """Read ``name=number``, each name once."""
    return _named_numbers("--parameter", texts or [], "k1=1.5")


def fusion(text: str | None, method: str, rank_constant: int, window: int) -> Fusion | None:
    """Read ``part=weight,...``; a part without a weight has 1."""
    from imgsearch_es.retrieval.strategies import Fusion

    if text is not None:
        items = [item if "=" in item or not item else f"{item}=1" for item in text.split(",")]
        return Fusion(_named_numbers("--fuse", items, "image=1"), method, rank_constant, window)
    if (method, rank_constant, window) != ("sum", 60, 100):
        raise QueryError("--fusion, --rank-constant and --window go with --fuse PART=WEIGHT,...")
    return None


def whole_numbers(text: str, option: str, example: str) -> list[int]:
    """Read ``n,n``."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigurationError(
            f"{option} is a number or several such as {example}, not {text!r}"
        ) from error


def _named_numbers(option: str, items: list[str], example: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for item in items:
        name, equals, value = (part.strip() for part in item.partition("="))
        if not name or not equals:
            raise QueryError(f"{option} {item!r} is no name=number such as {example}")
        if name in found:
            raise QueryError(f"{option} {item!r} is the second of its name")
        found[name] = numbers(value, f"{option} {name} takes")[0]
    return found


def numbers(text: str, what: str, count: int | None = None) -> tuple[float, ...]:
    """Read ``x,x``, of so many numbers."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise QueryError(f"{what} numbers, not {text!r}") from error
    if count not in (None, len(found)):
        raise QueryError(f"{what} numbers, not {text!r}")
    return found
