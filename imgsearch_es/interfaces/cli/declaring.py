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
from collections.abc import Callable, Iterable
from copy import copy
from inspect import Parameter, cleandoc, signature
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.core import TyperCommand
from typer.models import ParameterInfo

from imgsearch_es.interfaces.cli.output import json_only

Positive = Annotated[int, typer.Option(min=1)]
Natural = Annotated[int, typer.Option(min=0)]
OptionalPositive = Annotated[int | None, typer.Option(min=1)]

_SECTION = re.compile(r"^(\w+):\n(?=    )", re.MULTILINE)
_ITEM = re.compile(
    r"^    (?P<dashes>--)?(?P<name>[\w-]+)(?:, (?P<short>-\w))?(?: (?P<metavar>\S+))?: "
    r"(?P<help>.*(?:\n {5,}.*)*)",
    re.MULTILINE,
)


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
    """A command whose help shows arguments, then options without a heading, then the others."""

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
