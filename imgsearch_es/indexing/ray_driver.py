"""The driver's side of a Ray cluster: tasks go out in partitions, outcomes come back.

Ray Data hands partitions to actors, and again to another actor when one is lost. The driver alone
talks to the store: DuckDB admits one writer, and with Elasticsearch it keeps the ledger, the copies
and the counts in one place. What comes back is some kB for each picture.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from typing import Any

import ray
import ray.data
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.errors import AnalyzerError, ConfigurationError
from imgsearch_es.indexing.channel import Channel, pump
from imgsearch_es.indexing.find import Found
from imgsearch_es.indexing.options import Options
from imgsearch_es.indexing.ray_actor import Analyst
from imgsearch_es.indexing.ray_cluster import Cluster, Share, share
from imgsearch_es.indexing.ray_rows import read_outcome, write_tasks
from imgsearch_es.indexing.read import Outcome, Ready
from imgsearch_es.indexing.report import STAGES, Stages

ROUND = 1_000_000
"""Pictures whose names the driver holds at a time; for the next ones actors start anew."""
PARTITION = 256
"""Pictures in a partition, at most: what a lost worker costs ..."""
_LEAST = 32
_EACH = 4
"""... and at least so many partitions for each actor, if that leaves them some pictures."""
_AHEAD = 1024


class RayReaders:
    """Reads, decodes and analyzes on a Ray cluster; takes the place of `Readers`.

    Args:
        analyzer: gives the analyzer; asked when the first picture comes.
        options: how to run; ``workers`` is the number of actors.
        stages: where to add the time that actors work.
        runtime: what runs the model; None lets each machine choose.
    """

    def __init__(
        self,
        analyzer: Callable[[], Analyzer],
        options: Options,
        stages: Stages,
        runtime: str | None,
    ) -> None:
        self._analyzer = analyzer
        self._options = options
        self._stages = stages
        self._runtime = runtime
        self._cluster = Cluster()
        self._thread = ThreadPoolExecutor(1, "imgsearch-ray")
        self._outcomes: Channel[Outcome] = Channel(_AHEAD)
        self._closed = threading.Event()

    def read(self, pictures: Iterable[Found]) -> Iterator[Outcome]:
        """What became of each picture, in the order in which actors are done.

        Raises:
            ConfigurationError: a picture is in memory.
            AnalyzerError: the actors have not the analyzer of the index, or Ray failed.
        """
        pump(self._thread, self._rounds(pictures), self._outcomes)
        for outcomes in self._outcomes.batches(1):
            yield outcomes[0]

    def waited(self, part: float) -> None:
        """The number of actors is fixed."""

    def close(self, *, wait: bool = True) -> None:
        """End the actors, and the cluster if it was started here."""
        self._closed.set()
        self._outcomes.close()
        self._cluster.stop()
        self._thread.shutdown(wait=wait, cancel_futures=True)

    def _rounds(self, pictures: Iterable[Found]) -> Iterator[Outcome]:
        source = iter(pictures)
        while tasks_now := dict(enumerate(islice(source, ROUND))):
            if self._closed.is_set():
                return
            if any(task.picture is not None for task in tasks_now.values()):
                raise ConfigurationError(
                    "a picture in memory cannot be analyzed on a cluster: add it with "
                    "engine='local', or give its path or URL"
                )
            try:
                yield from self._round(tasks_now)
            except (RayError, ExecutionTimeoutError) as error:
                if self._closed.is_set():
                    return  # the cluster was ended under it
                raise AnalyzerError(
                    f"Ray failed: {_last_line(error)}; run the command again to "
                    "go on after what is stored"
                ) from error

    def _round(self, tasks: dict[int, Found]) -> Iterator[Outcome]:
        self._cluster.start()
        part = share(ray.cluster_resources(), self._options.workers)
        for row in self._dataset(tasks, part).iter_rows():
            if row["kind"] == "stopped":
                raise AnalyzerError(row["reason"])
            for stage, seconds in zip(STAGES, row["seconds"] or (), strict=False):
                self._stages.add(stage, seconds)
            task = tasks.pop(row["place"], None)
            if task is not None:  # nothing that came before comes twice
                outcome = read_outcome(row, task)
                if isinstance(outcome, Ready):
                    for stage in ("decode", "analyze"):
                        self._stages.add(stage, 0.0, 1)
                yield outcome
        if tasks and not self._closed.is_set():
            uri = next(iter(tasks.values())).uri
            raise AnalyzerError(
                f"Ray gave back nothing for {len(tasks)} pictures, {uri} among them; run the "
                "command again"
            )

    def _dataset(self, tasks: dict[int, Found], part: Share) -> ray.data.Dataset:
        size = min(PARTITION, max(_LEAST, len(tasks) // (_EACH * part.actors)))
        rows = iter(tasks.items())
        partitions = []
        while some := list(islice(rows, size)):
            partitions.append(write_tasks(some))
        analyzer, options = self._analyzer(), self._options
        arguments: dict[str, Any] = {
            "config": analyzer.config,
            "weights": analyzer.fingerprint(),
            "runtime": self._runtime,
            "limits": asdict(options.limits),
            "retry": options.retry,
            "batch_size": options.batch_size,
            "workers": part.cpus,
        }
        return ray.data.from_arrow(partitions).map_batches(
            Analyst,
            fn_constructor_kwargs=arguments,
            batch_size=None,  # a partition as it is
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray.data.ActorPoolStrategy(size=part.actors),
            num_cpus=part.cpus,
            num_gpus=part.gpus,
        )


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
