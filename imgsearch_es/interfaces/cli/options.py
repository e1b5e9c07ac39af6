"""A command is a function, whose docstring says what each of its options is.

    def whiten(index: Index = None, out: str = "pca.npz", force: bool = False) -> None:
        '''Learn PCA whitening on the deep features of an index.

        Options:
            --out, -o FILE: Where to write it: a name in .npz.
            --force: Overwrite the file.
        '''

A line without dashes is of an argument. Another word than "Options" is a heading of the help, which
is in plain text: Rich, which Typer would show it with, loads slowly. A parameter whose type is a
dataclass stands for its fields, described by its docstring. Every command has ``--json``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import asdict, dataclass
from inspect import Parameter, cleandoc, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import typer
from typer.core import TyperCommand
from typer.models import ParameterInfo

from imgsearch_es.errors import ConfigurationError, QueryError
from imgsearch_es.interfaces.cli.output import fail, json_only
from imgsearch_es.pictures.files import check_finite

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imgsearch_es.index import ImageIndex
    from imgsearch_es.retrieval.strategies import Fusion

Positive = Annotated[int, typer.Option(min=1)]
Natural = Annotated[int, typer.Option(min=0)]
OptionalPositive = Annotated[int | None, typer.Option(min=1)]

_SECTION = re.compile(r"^(\w+):\n(?=    )", re.MULTILINE)
_ITEM = re.compile(
    r"^    (?P<dashes>--)?(?P<name>[\w-]+)(?:, (?P<short>-\w))?(?: (?P<metavar>\S+))?: "
    r"(?P<help>.*(?:\n {5,}.*)*)",
    re.MULTILINE,
)
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


def command(app: typer.Typer, function: Callable[..., None], heading: str | None = None) -> None:
    """Add a function to the commands of a program."""
    text, items = _described(function)
    groups: dict[str, Callable[..., Any]] = {}
    parameters: list[Parameter] = []
    for parameter in signature(function, eval_str=True).parameters.values():
        group: Any = parameter.annotation
        if not hasattr(group, "__dataclass_fields__"):
            parameters.append(parameter)
            continue
        groups[parameter.name] = group
        items = _described(group)[1] | items
        parameters += signature(group, eval_str=True).parameters.values()

    def call(*, json: bool, **given: Any) -> None:
        json_only.set(json)
        for name, group in groups.items():
            given[name] = group(**{each: given.pop(each) for each in signature(group).parameters})
        function(**given)

    shown = [_declared(parameter, items) for parameter in parameters]
    asked = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
    shown.append(Parameter("json", Parameter.KEYWORD_ONLY, default=False, annotation=asked))
    call.__signature__ = signature(call).replace(parameters=shown)  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in shown}
    app.command(
        function.__name__.rstrip("_"),  # "import" is a word of Python
        cls=_Headed,
        help=text,
        no_args_is_help=any(each.default is Parameter.empty for each in shown),
        rich_help_panel=heading,
    )(call)


def by_heading(items: Iterable[Any], default: str) -> dict[str, list[Any]]:
    """Commands, or options, under their headings, in the order in which these come first."""
    groups: dict[str, list[Any]] = {}
    for item in items:
        groups.setdefault(getattr(item, "rich_help_panel", None) or default, []).append(item)
    return groups


class _Headed(TyperCommand):
    """A command whose help shows arguments, then options without a heading, then the others.

    An option that takes several values with commas is given once: the last alone would count.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """What Typer does with them."""
        given = self.make_parser(ctx).parse_args(args=list(args))[2]
        for option in given:
            if "," in (option.metavar or "") and given.count(option) > 1:
                name = option.opts[0]
                fail(f"{name} is given twice: give it once, as {name} {option.metavar}", code=2)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        parameters: list[Any] = self.get_params(ctx)
        arguments = [each for each in parameters if each.param_type_name == "argument"]
        options = [each for each in parameters if each.param_type_name == "option"]
        sections = by_heading(arguments, "Arguments") | by_heading(options, "Options")
        for heading, shown in sections.items():
            with formatter.section(heading):
                records = [each.get_help_record(ctx) for each in shown]
                # Of an argument Typer shows its type of Python, too.
                formatter.write_dl([(name.partition(" <")[0], text) for name, text in records])


def _described(owner: Callable[..., Any]) -> tuple[str, dict[str, dict[str, Any]]]:
    """What a docstring says: a text, and the attributes of each argument and option."""
    text, *sections = _SECTION.split(cleandoc(owner.__doc__ or ""))
    items = {}
    for heading, body in zip(sections[::2], sections[1::2], strict=True):
        for found in _ITEM.finditer(body):
            names = [f"--{found['name']}", *filter(None, [found["short"]])]
            items[found["name"].replace("-", "_")] = {
                "param_decls": names if found["dashes"] else None,
                "metavar": found["metavar"],
                "help": " ".join(found["help"].split()),
                "rich_help_panel": None if heading == "Options" else heading,
            }
    return text.strip(), items


def _declared(parameter: Parameter, items: dict[str, dict[str, Any]]) -> Parameter:
    name, kind = parameter.name.rstrip("_"), parameter.annotation
    kind, *infos = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    info: ParameterInfo = copy(infos[0]) if infos else typer.Option()
    if (item := items.get(name)) is not None:
        if not item["param_decls"]:
            info = typer.Argument(envvar=info.envvar)
        vars(info).update(item)
        if parameter.default is True or (parameter.default is None and bool in get_args(kind)):
            info.param_decls = [f"--{name}/--no-{name}".replace("_", "-")]
    kinds = {kind, *get_args(kind)}
    if not info.metavar and bool not in kinds:
        info.metavar = "NUMBER" if kinds & {int, float} else name.rpartition("_")[2].upper()
    return parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=Annotated[kind, info])


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
