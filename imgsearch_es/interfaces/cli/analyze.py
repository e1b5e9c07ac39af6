"""``imgsearch analyze`` and ``models``: what a classifier makes of a picture."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from imgsearch_es.interfaces.cli.output import (
    AnalyzerOption,
    IndexOption,
    JsonOption,
    ModelOption,
    RuntimeOption,
    WeightsOption,
    print_json,
    print_table,
    say,
)

if TYPE_CHECKING:
    from imgsearch_es.analysis.analyzer import Analyzer
    from imgsearch_es.analysis.models.base import ModelInfo


def analyze(
    pictures: Annotated[list[str], typer.Argument(metavar="PICTURE", help="Files or URLs.")],
    index: IndexOption = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    analyzer: AnalyzerOption = None,
    runtime: RuntimeOption = None,
    json: JsonOption = False,
) -> None:
    """Show the terms that an analyzer gives a picture.

    It is what Elasticsearch's _analyze does for text. With --index the analyzer of that index,
    else that of --model or --analyzer.
    """
    chosen = _analyzer(index, model, weights, analyzer, runtime)
    vocabulary = chosen.vocabulary
    answers = []
    for name in pictures:
        picture = chosen.open(name)
        terms = chosen.analyze(picture.image).terms
        tokens = [
            {
                "position": position,
                "token": term.key,
                "score": term.score,
                "wnid": vocabulary[term.key].wnid,
                "words": list(vocabulary[term.key].lemmas),
            }
            for position, term in enumerate(terms)
        ]
        answers.append({"uri": picture.uri, "tokens": tokens})
        if not json:
            say(picture.uri)
            rows = [(t["token"], f"{t['score']:.4f}", t["wnid"], _words(t)) for t in tokens]
            print_table(("token", "score", "wnid", "words"), rows, right=("score",))
    if json:
        print_json({"analyzer": chosen.config, "pictures": answers})


def models(
    strategies: Annotated[
        bool, typer.Option("--strategies", help="List the ways of scoring instead.")
    ] = False,
    layers: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            show_default=False,
            help="List this model's layers instead, for deep features of an analyzer.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the classifiers that can be the analyzer's model."""
    if strategies:
        _print_strategies(json)
        return
    if layers is not None:
        _print_layers(layers, json)
        return
    from imgsearch_es.analysis.models import available_models

    found = available_models()
    if json:
        print_json([asdict(model) for model in found])
        return
    print_table(("model", "input", "weights", ""), [_row(model) for model in found])


def _print_layers(name: str, json: bool) -> None:
    from imgsearch_es.analysis.models import create_model
    from imgsearch_es.analysis.models.base import NetworkModel
    from imgsearch_es.errors import ConfigurationError

    model = create_model(name)
    if not isinstance(model, NetworkModel):
        raise ConfigurationError(f"the model {name} runs in its own way, and shows no layers")
    shapes = {layer: list(shape[1:]) for layer, shape in model.layers().items()}
    if json:
        print_json(shapes)
        return
    print_table(("layer", "gives"), [(k, " x ".join(map(str, v))) for k, v in shapes.items()])


def _row(model: ModelInfo) -> tuple[str, str, str, str]:
    size = "x".join(map(str, model.input_size)) if model.input_size else ""
    weights = {True: "here", False: "downloaded on first use", None: ""}[model.available]
    broken = f"broken plug-in: {model.error}" if model.error else model.description
    return model.name, size, weights, broken


def _print_strategies(json: bool) -> None:
    from imgsearch_es.retrieval.strategies import STRATEGIES

    items = [
        {
            "name": way.name,
            "formula": way.scores.name,
            "exact": True,
            "can_be_approximate": way.can_be_approximate,
            "cost": way.cost,
            "description": way.description,
        }
        for way in STRATEGIES.values()
    ]
    if json:
        print_json(items)
        return
    rows = [
        (
            item["name"],
            item["formula"],
            "or approximate" if item["can_be_approximate"] else "yes",
            item["cost"],
            item["description"],
        )
        for item in items
    ]
    print_table(("strategy", "formula", "exact", "cost: it reads", "description"), rows)
    say('Those of the formula "inner", formula (1) of the paper, rank alike.')
    say("All are exact, unless an approximate answer is asked for (search --approximate).")


def _analyzer(
    index: str | None,
    model: str | None,
    weights: str | None,
    analyzer: str | None,
    runtime: str | None,
) -> Analyzer:
    from imgsearch_es.analysis.analyzer import DEFAULT_MODEL, Analyzer

    if index is not None:
        from imgsearch_es.index import ImageIndex

        with ImageIndex(
            index, model=model, weights=weights, analyzer=analyzer, runtime=runtime
        ) as source:
            return source.analyzer
    if analyzer is not None:
        return Analyzer(analyzer, runtime=runtime)
    options = {"weights": weights} if weights else {}
    return Analyzer({"model": {"name": model or DEFAULT_MODEL, **options}}, runtime=runtime)


def _words(token: dict[str, object]) -> str:
    words = token["words"]
    return ", ".join(words) if isinstance(words, list) else ""
