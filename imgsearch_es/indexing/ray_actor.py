"""The analyzer in an actor of a Ray cluster.

It is made of the stages of the local engine: the same threads and worker processes read and decode,
and the same batches go through the model. Pictures travel pickled, in Arrow tables of one value:
there as they were found, back with what became of them.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.errors import ImgsearchError
from imgsearch_es.indexing.analyze import BatchAnalyzer
from imgsearch_es.indexing.find import Found
from imgsearch_es.indexing.read import Readers
from imgsearch_es.indexing.report import Stages


class Analyst:
    """Analyzes one table of pictures after the other.

    Args:
        config: the analyzer's configuration.
        weights: the fingerprint of its model's weights, which must be found here as well.
        runtime: what runs the model.
        batch_size: pictures per forward pass; None for 32.
        readers: options of `Readers`.
    """

    def __init__(
        self,
        *,
        config: Mapping[str, Any],
        weights: str,
        runtime: str | None,
        batch_size: int | None,
        **readers: Any,
    ) -> None:
        self._config, self._weights, self._runtime = config, weights, runtime
        self._stages = Stages()
        self._analyzer: Analyzer | None = None
        self._batches = BatchAnalyzer(self._checked, batch_size, self._stages)
        # None are few: a decoder that crashes must not take the actor along.
        self._readers = Readers(self._checked, stages=self._stages, few=0, **readers)

    def __call__(self, table: pa.Table) -> pa.Table:
        """What became of the pictures, what each stage worked, and the error that ends the run.

        (Ray would take an exception for a defect of this program and wrap it in tracebacks.)
        """
        places = {found: place for place, found in from_table(table)}
        before, done, error = dict(self._stages.seconds), [], None
        try:
            self._checked()
            for found in self._analyzed(places):
                found.document = None  # labels and metadata are the driver's to give
                done.append((places[found], found))
        except ImgsearchError as stopped:
            error = str(stopped)
        seconds = {stage: now - before[stage] for stage, now in self._stages.seconds.items()}
        return to_table((done, seconds, error))

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


def to_table(value: object) -> pa.Table:
    """A value in a table."""
    return pa.table({"value": [pickle.dumps(value)]})


def from_table(table: pa.Table) -> Any:
    """The value in a table of this program's."""
    return pickle.loads(table["value"][0].as_py())  # noqa: S301 - as Ray does with all it carries
