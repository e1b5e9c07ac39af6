"""Help under headings, in plain text: the help panels of Typer without Rich, which loads slowly."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand

T = TypeVar("T")


def under(heading: str) -> Callable[..., Any]:
    """``typer.Option`` of an option that the help shows under a heading."""
    return partial(typer.Option, rich_help_panel=heading)


under_access = under("Access")
under_analyzer = under("Analyzer")
under_elasticsearch = under("Elasticsearch")
under_files = under("Files")
under_limits = under("Limits")
under_network = under("Network")
under_queries = under("Queries")
under_speed = under("Speed")
under_statistics = under("Statistics")
under_training = under("Training")


def by_heading(items: Iterable[T], default: str) -> dict[str, list[T]]:
    """Commands, or options, under their headings, in the order in which these come first."""
    groups: dict[str, list[T]] = {}
    for item in items:
        groups.setdefault(getattr(item, "rich_help_panel", None) or default, []).append(item)
    return groups


class Headed(TyperCommand):
    """A command whose help shows arguments, then options without a heading, then the others."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write all that can be given."""
        shown = [each for each in self.get_params(ctx) if each.get_help_record(ctx)]
        arguments = [each for each in shown if each.param_type_name == "argument"]
        options = [each for each in shown if each.param_type_name == "option"]
        sections = by_heading(arguments, "Arguments") | by_heading(options, "Options")
        for heading, parameters in sections.items():
            with formatter.section(heading):
                formatter.write_dl([each.get_help_record(ctx) for each in parameters])
