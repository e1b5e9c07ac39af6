"""``imgsearch quantize``: a classifier with numbers of 8 bits, and what that changes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from imgsearch_es.interfaces.cli.output import (
    AnalyzerOption,
    JsonOption,
    ModelOption,
    WeightsOption,
    print_json,
    say,
)


def quantize(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Files and folders like those to be indexed."),
    ],
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FILE", help="Where to write it: a name in .zip.")
    ] = "quantized.zip",
    model: ModelOption = None,
    weights: WeightsOption = None,
    analyzer: AnalyzerOption = None,
    pictures: Annotated[
        int, typer.Option("--pictures", min=60, help="How many to fit it to and compare on.")
    ] = 300,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    json: JsonOption = False,
) -> None:
    """Make a classifier with 8 bits: faster, with other scores.

    It is fitted to two thirds of the pictures; the others show what
    changes. It runs on OpenVINO, and is named quantized:FILE.
    """
    from imgsearch_es.indexing.wanted_analyzer import WantedAnalyzer
    from imgsearch_es.learning import quantizing

    wanted = WantedAnalyzer(model=model, analyzer=analyzer, weights=weights).build(None)
    made = quantizing.quantize(sources, out, analyzer=wanted, pictures=pictures, force=force)
    if json:
        print_json(asdict(made))
        return
    say(f"{out}: {made.model} with 8 bits, {made.bytes / 1e6:.1f} MB")
    say(f"fitted to {made.fitted} pictures; on {made.compared} others, beside {made.model}:")
    say("")
    for what, value in (
        ("the best synset is the same", f"{made.best:.0%}"),
        ("terms that are the same", f"{made.terms:.0%}"),
        (f"of the best {quantizing.HITS} hits by formula (1)", f"{made.hits:.0%}"),
        ("a synset's score differs by at most", f"{made.largest_difference:.2f}"),
        ("pictures per second", f"{made.speed:.1f} times as many"),
    ):
        say(f"  {what:<40} {value}")
    say("")
    say(f"imgsearch index PICTURES --model quantized:{out}")
