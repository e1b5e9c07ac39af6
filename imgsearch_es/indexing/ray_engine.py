"""Reading, decoding and analyzing on a Ray cluster.

Ray Data hands partitions to actors, and again to another actor when one is lost. The driver alone
talks to the store: DuckDB admits one writer, and with Elasticsearch it keeps the ledger, the copies
and the counts in one place. Ray carries a partition as one value: there the pictures as they were
found, back with what became of them, some kB for each.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.errors import AnalyzerError, ConfigurationError, ImgsearchError
from imgsearch_es.indexing.exchange.rows import chunks
from imgsearch_es.indexing.find import Found, Options
from imgsearch_es.indexing.read import Channel, Readers, pump
from imgsearch_es.indexing.report import Stages
from imgsearch_es.indexing.write import BatchAnalyzer
from imgsearch_es.pictures.addresses import with_credentials


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Variables for what is imported or started meanwhile, unless they are set already."""
    added = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


# Ray would connect by itself, in a thread that goes on when its cluster has been ended.
with _environment({"RAY_ENABLE_AUTO_CONNECT": "0"}):
    import ray
    import ray.data
    from ray.data.exceptions import ExecutionTimeoutError
    from ray.exceptions import RayError

_CPUS_PER_ACTOR = 4
"""An actor decodes with all its processors and runs one model."""
_ROUND = 1_000_000
"""Pictures whose names the driver holds at a time; for the next ones actors start anew."""
_PARTITION = 256
"""Pictures in a partition, at most: what a lost worker costs ..."""
_LEAST = 32
_EACH = 4
"""... and at least so many partitions for each actor, if that leaves them some pictures."""
_AHEAD = 1024
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to Ray's makers
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # else its C++ part writes on standard error
}
_RAY_LINE = re.compile(rb"\[[-\d]+ [:,\d]+ [A-Z] \d+ \d+\] \w+\.cc:")
"""How that part begins a line; one says that there is a log level, whatever the level."""


class RayReaders:
    """Reads, decodes and analyzes with ``workers`` actors; takes the place of `Readers`."""

    def __init__(self, analyzer: Callable[[], Analyzer], options: Options, stages: Stages) -> None:
        self._analyzer, self._options, self._stages = analyzer, options, stages
        self._is_ours = False
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "imgsearch-ray")
        self._outcomes: Channel[Found] = Channel(_AHEAD)
        self._closed = threading.Event()

    def read(self, pictures: Iterable[Found]) -> Iterator[Found]:
        """What became of each picture, in the order in which actors are done."""
        pump(self._thread, self._rounds(pictures), self._outcomes)
        for outcomes in self._outcomes.batches(1):
            yield outcomes[0]

    def waited(self, part: float) -> None:
        """The number of actors is fixed."""

    def close(self, *, wait: bool = True) -> None:
        """End the actors, and the cluster if it was started here."""
        self._closed.set()
        self._outcomes.close()
        with self._lock:
            if self._is_ours and ray.is_initialized():
                ray.shutdown()
        self._thread.shutdown(wait=wait, cancel_futures=True)

    def _rounds(self, pictures: Iterable[Found]) -> Iterator[Found]:
        source = iter(pictures)
        while tasks := dict(enumerate(islice(source, _ROUND))):
            if self._closed.is_set():
                return
            if any(found.picture or found.data is not None for found in tasks.values()):
                raise ConfigurationError(
                    "a picture in memory cannot be analyzed on a cluster: add it with "
                    "engine='local', or give its path or URL"
                )
            if any(with_credentials(found.uri) != found.uri for found in tasks.values()):
                raise ConfigurationError(
                    "a URL with a password is not analyzed on a cluster, as passwords stay here: "
                    "add it with engine='local' (without --engine)"
                )
            try:
                yield from self._round(tasks)
            except (RayError, ExecutionTimeoutError) as error:
                if self._closed.is_set():
                    return  # the cluster was ended under it
                lines = [line.strip() for line in str(error).splitlines() if line.strip()]
                said = lines[-1][:300] if lines else type(error).__name__
                raise AnalyzerError(
                    f"Ray failed: {said}; run the command again to go on after what is stored"
                ) from error

    def _round(self, tasks: dict[int, Found]) -> Iterator[Found]:
        self._start()
        for row in self._dataset(tasks).iter_rows():
            done, seconds, error = row["value"].value
            for stage, worked in seconds.items():
                self._stages.add(stage, worked)
            for place, found in done:
                if tasks.pop(place, None) is None:
                    continue  # nothing that came before comes twice
                if found.decoded is not None:
                    self._stages.add("decode", 0.0, 1)
                    self._stages.add("analyze", 0.0, 1)
                yield found
            if error is not None:
                raise AnalyzerError(error)
        if tasks and not self._closed.is_set():
            uri = next(iter(tasks.values())).uri
            raise AnalyzerError(
                f"Ray gave back nothing for {len(tasks)} pictures, {uri} among them; run the "
                "command again"
            )

    def _start(self) -> None:
        """Connect to the cluster that RAY_ADDRESS names or this machine runs, else start one."""
        with self._lock:
            _be_quiet()
            if ray.is_initialized() or self._closed.is_set():
                return
            try:
                with _environment(_SETTINGS), _without_ray_lines():
                    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
                    ray.init(include_dashboard=False, **quiet)
            except Exception as error:  # Ray raises no other kind here and there
                address = os.environ.get("RAY_ADDRESS", "this machine")
                raise ConfigurationError(
                    f"Ray does not start on {address}: {' '.join(str(error).split())[:300]}"
                ) from error
            self._is_ours = True

    def _dataset(self, tasks: dict[int, Found]) -> ray.data.Dataset:
        actors, cpus, gpus = share(ray.cluster_resources(), self._options.workers)
        size = min(_PARTITION, max(_LEAST, len(tasks) // (_EACH * actors)))
        partitions = [{"value": Carried(some)} for some in chunks(tasks.items(), size)]
        analyzer = self._analyzer()
        options = replace(self._options, labels=None, metadata=None, workers=cpus)
        return ray.data.from_items(partitions, override_num_blocks=len(partitions)).map_batches(
            Analyst,
            fn_constructor_args=(analyzer.config, analyzer.fingerprint(), options),
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=min(actors, len(partitions))),
            num_cpus=cpus,
            num_gpus=gpus,
        )


@dataclass(frozen=True, slots=True)
class Carried:
    """A value that Ray carries as it is, since it does not look into it for columns."""

    value: Any


class Analyst:
    """An actor, which analyzes one partition after the other; ``workers`` decode.

    The analyzer is made anew of its configuration, and must have the same weights here.
    """

    def __init__(self, config: Mapping[str, Any], weights: str, options: Options) -> None:
        self._config, self._weights, self._runtime = config, weights, options.runtime
        self._stages = Stages()
        self._analyzer: Analyzer | None = None
        self._batches = BatchAnalyzer(self._checked, options.batch_size, self._stages)
        # None are few: a decoder that crashes must not take the actor along.
        self._readers = Readers(self._checked, options, self._stages, few=0)

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """What became of the pictures, what each stage worked, and the error that ends the run.

        Ray would take an exception for a defect of this program and wrap it in tracebacks.
        """
        places = {found: place for place, found in batch["value"][0].value}
        before, done, error = dict(self._stages.seconds), [], None
        try:
            self._checked()
            for found in self._analyzed(places):
                found.document = None  # labels and metadata are the driver's to give
                done.append((places[found], found))
        except ImgsearchError as stopped:
            error = str(stopped)
        seconds = {stage: now - before[stage] for stage, now in self._stages.seconds.items()}
        answer = np.empty(1, dtype=object)
        answer[0] = Carried((done, seconds, error))
        return {"value": answer}

    def _analyzed(self, pictures: Mapping[Found, int]) -> Iterator[Found]:
        for found in self._readers.read(pictures):
            if found.decoded is None:
                yield found
            else:
                yield from self._batches.add(found, found.decoded)
        yield from self._batches.flush()

    def _checked(self) -> Analyzer:
        """The analyzer, which must be the one that the driver has; the model loads when used."""
        if self._analyzer is None:
            analyzer = Analyzer(self._config, runtime=self._runtime)
            analyzer.check_is(self._config, self._weights, "the index")
            self._analyzer = analyzer
        return self._analyzer


def share(resources: Mapping[str, float], actors: int | None = None) -> tuple[int, int, float]:
    """Divide a cluster: how many actors there are, and each one's processors and GPUs.

    By default there is an actor for each GPU, or for each four processors.
    """
    processors = int(resources.get("CPU", 0))
    gpus = int(resources.get("GPU", 0))
    count = actors or gpus or max(1, processors // _CPUS_PER_ACTOR)
    if processors < count:
        raise ConfigurationError(
            f"{count} actors need as many processors, and the Ray cluster has {processors}: "
            "give fewer by workers= (--workers)"
        )
    return count, min(_CPUS_PER_ACTOR, processors // count), min(1.0, gpus / count)


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
