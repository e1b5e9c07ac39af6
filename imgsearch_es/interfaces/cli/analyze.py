"""``imgsearch analyze`` and ``models``: what a classifier makes of a picture."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.interfaces.cli.options import Analyzing, Index, given
from imgsearch_es.interfaces.cli.output import answer, print_table, say

if TYPE_CHECKING:
    from imgsearch_es.analysis.analyzer import Analyzer


def analyze(*, pictures: list[str], index: Index = None, analyzing: Analyzing) -> None:
    """Show the terms that an analyzer gives a picture.

    It is what Elasticsearch's _analyze does for text. With --index the analyzer of that index,
    else that of --model or --analyzer.

    Options:
        pictures PICTURE: Files or URLs.
    """
    analyzer = _analyzer(index, analyzing)
    answers = []
    for name in pictures:
        picture = analyzer.open(name)
        tokens, rows = [], []
        for position, term in enumerate(analyzer.analyze(picture.image).terms):
            synset = analyzer.vocabulary[term.key]
            wnid, words = synset.wnid, list(synset.lemmas)
            token = {"position": position, "token": term.key, "score": term.score}
            tokens.append({**token, "wnid": wnid, "words": words})
            rows.append((term.key, f"{term.score:.4f}", wnid, ", ".join(words)))
        answers.append({"uri": picture.uri, "tokens": tokens})
        say(picture.uri)
        print_table(("token", "score", "wnid", "words"), rows, right=("score",))
    answer({"analyzer": analyzer.config, "pictures": answers})


def _analyzer(index: str | None, analyzing: Analyzing) -> Analyzer:
    from imgsearch_es.analysis.analyzer import Analyzer
    from imgsearch_es.analysis.configuration import DEFAULT_MODEL

    if index is not None:
        with analyzing.open(index) as source:
            return source.analyzer
    if analyzing.analyzer is not None:
        return Analyzer(analyzing.analyzer, runtime=analyzing.runtime)
    model = given({"name": analyzing.model or DEFAULT_MODEL, "weights": analyzing.weights})
    return Analyzer({"model": model}, runtime=analyzing.runtime)


def models(*, strategies: bool = False, layers: str | None = None) -> None:
    """List the classifiers that can be the analyzer's model.

    Options:
        --strategies: List the ways of scoring instead.
        --layers MODEL: List this model's layers instead, for deep features of an analyzer.
    """
    if strategies:
        _print_strategies()
    elif layers is not None:
        _print_layers(layers)
    else:
        _print_models()


def _print_models() -> None:
    from imgsearch_es.analysis.models import available_models

    found = available_models()
    answer([asdict(model) for model in found])
    rows = []
    for model in found:
        size = "x".join(map(str, model.input_size)) if model.input_size else ""
        weights = {True: "here", False: "downloaded on first use", None: ""}[model.available]
        what = f"broken plug-in: {model.error}" if model.error else model.description
        rows.append((model.name, size, weights, what))
    print_table(("model", "input", "weights", ""), rows)


def _print_layers(name: str) -> None:
    from imgsearch_es.analysis.models import create_model
    from imgsearch_es.analysis.models.base import NetworkModel

    model = create_model(name)
    if not isinstance(model, NetworkModel):
        raise ConfigurationError(f"the model {name} runs in its own way, and shows no layers")
    shapes = {layer: list(shape[1:]) for layer, shape in model.layers().items()}
    answer(shapes)
    print_table(("layer", "gives"), [(k, " x ".join(map(str, v))) for k, v in shapes.items()])


def _print_strategies() -> None:
    from imgsearch_es.retrieval.strategies import STRATEGIES

    items, rows = [], []
    for way in STRATEGIES.values():
        items.append(
            {
                "name": way.name,
                "formula": way.scores_by,
                "exact": True,
                "can_be_approximate": way.can_be_approximate,
                "cost": way.cost,
                "description": way.description,
            }
        )
        exact = "or approximate" if way.can_be_approximate else "yes"
        rows.append((way.name, way.scores_by, exact, way.cost, way.description))
    answer(items)
    print_table(("strategy", "formula", "exact", "cost: it reads", "description"), rows)
    say(
        'Those of the formula "inner", formula (1) of the paper, rank alike.',
        "All are exact, unless an approximate answer is asked for (search --approximate).",
    )
