"""A Ray cluster: found or started, quiet, and without Ray's usage statistics."""

from __future__ import annotations

import logging
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import ray
import ray.data

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.indexing.environment import environment

CPUS_PER_ACTOR = 4
"""An actor decodes with all its processors and runs one model."""
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to Ray's makers
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # else its C++ part writes on standard error
}
_RAY_LINE = re.compile(rb"\[[-\d]+ [:,\d]+ [A-Z] \d+ \d+\] \w+\.cc:")
"""How that part begins a line; one says that there is a log level, whatever the level."""


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
        """Connect, unless this process is connected already, or ``stop`` was called.

        Raises:
            ConfigurationError: there is no cluster at RAY_ADDRESS.
        """
        with self._lock:
            _be_quiet()
            if ray.is_initialized() or self._is_stopped:
                return
            try:
                with environment(_SETTINGS), _without_ray_lines():
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
            is_rays = type(handler).__module__.partition(".")[0] == "ray"  # and nobody else's
            if is_rays and isinstance(handler, logging.StreamHandler):
                handler.setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False


@contextmanager
def _without_ray_lines() -> Iterator[None]:
    """Hold back standard error, and let through afterwards all that is not of Ray's C++ part."""
    with tempfile.TemporaryFile() as held:
        kept = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held:
                if not _RAY_LINE.match(line):
                    os.write(2, line)
