"""``imgsearch clicks``: what an interaction log says of the strategies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from imgsearch_es.errors import ConfigurationError, LogError
from imgsearch_es.interfaces.cli.output import JsonOption, print_json, print_table, say, warn

if TYPE_CHECKING:
    from imgsearch_es.evaluation.clicks import ClickFigures


def clicks(
    log: Annotated[
        str,
        typer.Argument(
            metavar="LOG",
            envvar="IMGSEARCH_LOG",
            show_default=False,
            help="The interaction log. Older files of it (LOG.1, ...) are read too.",
        ),
    ],
    cutoffs: Annotated[str, typer.Option(metavar="K,K", help="The k of CTR@k.")] = "1,5,10",
    json: JsonOption = False,
) -> None:
    """Measure strategies by what people clicked.

    CTR@k is the share of the results shown at ranks 1 to k that were clicked; clicked, the share of
    searches with a click; MRR, the mean reciprocal rank of the best-ranked click. For interleaved
    strategies, it also shows whose pictures were clicked more, with a sign test.
    """
    from imgsearch_es.evaluation.clicks import click_figures, duels, read_interactions

    numbers = _cutoffs(cutoffs)
    found = read_interactions(log)
    if found.broken and not found.searches and not found.stray:
        raise LogError(f"no line of {log} is one of an interaction log: is it another file?")
    figures, fought = click_figures(found.searches, numbers), duels(found.searches)
    if json:
        print_json(
            {
                "figures": [each.to_dict() for each in figures],
                "interleaved": [each.to_dict() for each in fought],
                "stray_clicks": found.stray,
                "broken_lines": found.broken,
                "problems": list(found.problems),
            }
        )
        return
    for problem in found.problems:
        warn(f"passed over {problem}")
    if found.broken:
        warn(f"{found.broken:,} broken lines do not count")
    columns = ("strategy", "searches", "clicks", "clicked", "MRR", *(f"CTR@{k}" for k in numbers))
    print_table(columns, map(_row, figures), right=columns[1:])
    if fought:
        columns = ("interleaved", "against", "wins", "losses", "ties", "p (sign test)")
        rows = [(d.first, d.second, d.wins, d.losses, d.ties, f"{d.p:.4f}") for d in fought]
        print_table(columns, rows, right=columns[2:])
    if found.stray:
        say(f"{found.stray:,} clicks are of no search in the log, or of pictures not shown")


def _row(figures: ClickFigures) -> tuple[str, ...]:
    through = ("" if value is None else f"{value:.4f}" for value in figures.through.values())
    return (
        figures.strategy,
        f"{figures.searches:,}",
        f"{figures.clicks:,}",
        f"{figures.clicked:.4f}",
        f"{figures.reciprocal_rank:.4f}",
        *through,
    )


def _cutoffs(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise ConfigurationError(
            f"--cutoffs are whole numbers such as 1,5,10, not {text}"
        ) from None
