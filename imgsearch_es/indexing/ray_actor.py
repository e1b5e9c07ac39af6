"""The analyzer in an actor of a Ray cluster.

It is made of the stages of the local engine: the same threads and worker processes read and decode,
and the same batches go through the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.errors import ImgsearchError
from imgsearch_es.indexing.analyze import BatchAnalyzer
from imgsearch_es.indexing.ray_rows import (
    failed_row,
    read_tasks,
    ready_row,
    stage_seconds,
    write_outcomes,
)
from imgsearch_es.indexing.read import Failed, Outcome, Readers, Ready
from imgsearch_es.indexing.report import Stages
from imgsearch_es.pictures.files import Limits


class Analyst:
    """Analyzes one table of tasks after the other.

    Args:
        config: the analyzer's configuration.
        weights: the fingerprint of its model's weights, which must be found here as well.
        runtime: what runs the model.
        limits: the largest picture to accept, as keywords of `Limits`.
        retry: also try pictures again that were rejected and have not changed.
        batch_size: pictures per forward pass; None for 32.
        workers: processes that decode.
    """

    def __init__(
        self,
        *,
        config: Mapping[str, Any],
        weights: str,
        runtime: str | None,
        limits: Mapping[str, Any],
        retry: bool,
        batch_size: int | None,
        workers: int,
    ) -> None:
        self._config, self._weights, self._runtime = config, weights, runtime
        self._stages = Stages()
        self._analyzer: Analyzer | None = None
        self._batches = BatchAnalyzer(self._checked, batch_size, self._stages)
        self._readers = Readers(
            self._checked,
            workers=workers,
            limits=Limits(**limits),
            retry=retry,
            stages=self._stages,
            few=0,  # a decoder that crashes must not take the actor along
        )

    def __call__(self, table: pa.Table) -> pa.Table:
        """The outcomes of a table of tasks.

        An error that ends the run is its last row: Ray would take it for a defect of this program
        and wrap it in tracebacks.
        """
        places = read_tasks(table)
        rows: list[dict[str, Any]] = []
        before = dict(self._stages.seconds)
        try:
            self._checked()
            for outcome in self._readers.read(places):
                for found, row in self._advance(outcome):
                    rows.append({"place": places[found], **row})
            for made in self._batches.flush():
                rows.append({"place": places[made.found], **ready_row(made.document)})
        except ImgsearchError as error:
            rows.append({"place": -1, "kind": "stopped", "reason": str(error)})
        rows[-1]["seconds"] = stage_seconds(self._stages.seconds, before)
        return write_outcomes(rows)

    def _advance(self, outcome: Outcome) -> Iterator[tuple[Any, dict[str, Any]]]:
        if isinstance(outcome, Failed):
            yield outcome.found, failed_row(outcome)
        elif isinstance(outcome, Ready):
            for made in self._batches.add(outcome):
                yield made.found, ready_row(made.document)
        else:
            yield outcome.found, {"kind": "unchanged"}

    def _checked(self) -> Analyzer:
        """The analyzer, which must be the one that the driver has; the model loads when used."""
        if self._analyzer is None:
            analyzer = Analyzer(self._config, runtime=self._runtime)
            analyzer.check_is(self._config, self._weights, "the index")
            self._analyzer = analyzer
        return self._analyzer
