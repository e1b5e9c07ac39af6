"""Strategies by the Tab key in IPython and Jupyter: ``index.search("cat", strategy="de``.

Names and options complete by themselves, as functions have signatures; so do strategies in editors
that read types. IPython reads none.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple, get_args

from IPython.core.completer import CompletionContext, SimpleCompletion, context_matcher
from IPython.core.getipython import get_ipython
from IPython.core.interactiveshell import InteractiveShell

from imgsearch_es.retrieval.strategies import StrategyName

_NAME = "imgsearch_es.strategies"
_TYPES = {"StrategyName", "Systems"}
"""In annotations: what takes names of strategies."""
_TOKEN = re.compile(
    r"""#[^\n]*|\"{3}(?:.|\n)*?\"{3}|'{3}(?:.|\n)*?'{3}"""
    r"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|[\w.]+|\S"""
)
"""A quotation mark alone is one that is not closed."""


class _Bracket(NamedTuple):
    """An open bracket: what is called by it, and the argument in which the cursor is."""

    called: str
    place: int = 0
    name: str = ""


def register(shell: InteractiveShell | None = None) -> None:
    """Have a shell complete strategies, by default the one that runs, if there is one."""
    shell = shell or get_ipython()
    known = [] if shell is None else shell.Completer.custom_matchers
    if shell is None or _NAME in {getattr(each, "matcher_identifier", "") for each in known}:
        return

    @context_matcher(identifier=_NAME)
    def matcher(context: CompletionContext) -> dict[str, Any]:
        return _matches(context, shell.user_ns)

    known.append(matcher)


def _matches(context: CompletionContext, names: Mapping[str, Any]) -> dict[str, Any]:
    """Names of strategies, within a string where one of our functions takes them."""
    lines = context.full_text.split("\n")[: context.cursor_line]
    string, brackets = _open("\n".join([*lines, context.text_until_cursor]))
    typed = re.split("[+,]", string or "")[-1].lstrip()  # a fusion, or several strategies
    found: list[str] = []
    if string is not None and any(_takes_strategy(each, names) for each in brackets):
        found = [name for name in get_args(StrategyName) if name.startswith(typed)]
    return {
        "completions": [SimpleCompletion(name, type="value") for name in found],
        "matched_fragment": typed if found else context.token,
        "suppress": bool(found),
        "ordered": True,
    }


def _open(code: str) -> tuple[str | None, list[_Bracket]]:
    """What was typed of the string that the cursor is in, if so, and the brackets around it."""
    brackets = [_Bracket("")]
    last = ""
    for found in _TOKEN.finditer(code):
        part = found[0]
        if part in "\"'":
            return code[found.end() :], brackets
        if part in "([{":
            brackets.append(_Bracket(last if part == "(" else ""))
        elif part in ")]}" and len(brackets) > 1:
            brackets.pop()
        elif part == ",":
            brackets[-1] = brackets[-1]._replace(place=brackets[-1].place + 1, name="")
        elif part == "=":
            brackets[-1] = brackets[-1]._replace(name=last)
        last = part
    return None, brackets


def _takes_strategy(bracket: _Bracket, names: Mapping[str, Any]) -> bool:
    """Whether the argument in which the cursor is names strategies."""
    function = _function(bracket.called, names)
    if function is None:
        return False
    parameters = inspect.signature(function).parameters
    placed = [p for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    found = parameters.get(bracket.name)
    if not bracket.name and bracket.place < len(placed):
        found = placed[bracket.place]
    return found is not None and bool(_TYPES & {*re.findall(r"\w+", str(found.annotation))})


def _function(dotted: str, names: Mapping[str, Any]) -> Any:
    """What a name such as ``index.search`` calls, if it is ours; no property is read."""
    first, *rest = dotted.split(".")
    value = names.get(first)
    for name in rest:
        if not _is_ours(value) or isinstance(inspect.getattr_static(value, name, None), property):
            return None
        value = getattr(value, name, None)
    return value if _is_ours(value) and callable(value) else None


def _is_ours(value: Any) -> bool:
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return str(name).partition(".")[0] == "imgsearch_es"
