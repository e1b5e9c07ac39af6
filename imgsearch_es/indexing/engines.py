"""Where pictures are read, decoded and analyzed: on this machine, or on a Ray cluster.

Only these stages differ. Finding, looking up, resolving and writing are the same, here, so that
both engines make the same documents, the same ledger and the same counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import Protocol

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.errors import ConfigurationError, MissingDependencyError, pip_install
from imgsearch_es.indexing.environment import environment
from imgsearch_es.indexing.find import Found
from imgsearch_es.indexing.options import Options
from imgsearch_es.indexing.read import Outcome, Readers
from imgsearch_es.indexing.report import Stages

ENGINES = ("local", "ray")


class Reader(Protocol):
    """The stages between looking pictures up and resolving them."""

    def read(self, pictures: Iterable[Found]) -> Iterator[Outcome]:
        """What became of each picture; works ahead, up to a limit."""
        ...

    def waited(self, part: float) -> None:
        """Take note for which part of its time the next stage had to wait for pictures."""
        ...

    def close(self, *, wait: bool = True) -> None:
        """End whatever is being done."""
        ...


Engine = Callable[[Callable[[], Analyzer], Options, Stages], Reader]
"""Makes a reader, given what gives the analyzer, how to run, and where to add the time."""


def local_engine(analyzer: Callable[[], Analyzer], options: Options, stages: Stages) -> Reader:
    """Threads and worker processes of this machine."""
    return Readers(
        analyzer,
        workers=options.workers,
        limits=options.limits,
        retry=options.retry,
        stages=stages,
    )


def create_engine(name: str, runtime: str | None = None) -> Engine:
    """The engine of this name.

    Args:
        name: one of ``ENGINES``.
        runtime: what runs the model, where the engine has models of its own.

    Raises:
        ConfigurationError: there is no such engine.
        MissingDependencyError: its packages are not installed.
    """
    if name == "local":
        return local_engine
    if name != "ray":
        raise ConfigurationError(f"there is no engine {name!r}; known are {' and '.join(ENGINES)}")
    missing = [package for package in ("ray", "pyarrow") if find_spec(package) is None]
    if missing:
        raise MissingDependencyError(
            f"the engine ray needs a package that is not installed ({missing[0]}): "
            + pip_install("ray")
        )
    # Ray would connect by itself, in a thread that goes on when its cluster has been ended.
    with environment({"RAY_ENABLE_AUTO_CONNECT": "0"}):
        from imgsearch_es.indexing.ray_driver import RayReaders

    def ray_engine(analyzer: Callable[[], Analyzer], options: Options, stages: Stages) -> Reader:
        return RayReaders(analyzer, options, stages, runtime)

    return ray_engine
