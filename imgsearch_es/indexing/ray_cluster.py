"""A Ray cluster: found or started, quiet, and without Ray's usage statistics."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import ray
import ray.data

from imgsearch_es.errors import ConfigurationError

CPUS_PER_ACTOR = 4
"""An actor decodes with all its processors and runs one model."""
_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0"}
"""Of a cluster that is started here: nothing is sent to Ray's makers."""


@dataclass(frozen=True, slots=True)
class Share:
    """What actors get of a cluster: how many there are, and each one's processors and GPUs."""

    actors: int
    cpus: int
    gpus: float


def share(resources: Mapping[str, float], actors: int | None = None) -> Share:
    """Divide a cluster.

    Args:
        resources: Ray's, in total: ``CPU`` and, where there are some, ``GPU``.
        actors: how many; None takes one for each GPU, or for each four processors.

    Raises:
        ConfigurationError: there are fewer processors than actors.
    """
    processors = int(resources.get("CPU", 0))
    gpus = int(resources.get("GPU", 0))
    count = actors or gpus or max(1, processors // CPUS_PER_ACTOR)
    if processors < count:
        raise ConfigurationError(
            f"{count} actors need as many processors, and the Ray cluster has {processors}: "
            "give fewer by workers= (--workers)"
        )
    return Share(count, min(CPUS_PER_ACTOR, processors // count), min(1.0, gpus / count))


class Cluster:
    """The cluster that RAY_ADDRESS names or this machine runs; else one of this machine alone."""

    def __init__(self) -> None:
        self._is_ours = self._is_stopped = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Connect, unless this process is connected already.

        Raises:
            ConfigurationError: there is no cluster at RAY_ADDRESS.
        """
        with self._lock:
            _be_quiet()
            if ray.is_initialized() or self._is_stopped:
                return
            try:
                with _environment(_SETTINGS):
                    ray.init(
                        include_dashboard=False,
                        log_to_driver=False,
                        logging_level=logging.ERROR,
                    )
            except (ConnectionError, ValueError, RuntimeError) as error:
                address = os.environ.get("RAY_ADDRESS", "this machine")
                raise ConfigurationError(
                    f"Ray does not start on {address}: {' '.join(str(error).split())[:300]}"
                ) from error
            self._is_ours = True

    def stop(self) -> None:
        """Let go of the cluster if ``start`` connected: one that it started ends."""
        with self._lock:
            self._is_stopped = True
            if self._is_ours and ray.is_initialized():
                ray.shutdown()


def _be_quiet() -> None:
    """Ray's messages stay in its own log files; errors come back as exceptions."""
    for name in ("ray", "ray.data"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler) and handler.level < logging.CRITICAL:
                handler.setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Settings for processes that are started meanwhile, unless they are set already."""
    added = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
