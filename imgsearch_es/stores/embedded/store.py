"""The embedded store: one DuckDB file, no server, the same ranking as Elasticsearch."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from imgsearch_es.errors import MissingDependencyError
from imgsearch_es.pictures.files import permit_as
from imgsearch_es.retrieval.facets import Facets
from imgsearch_es.retrieval.queries import Query, Selection, counted
from imgsearch_es.retrieval.scoring import NO_STATISTICS, Statistics
from imgsearch_es.stores.base import Scored, SearchResult
from imgsearch_es.stores.embedded import ranking, schema, sources
from imgsearch_es.stores.embedded.open_file import Gate, mark_of, settled_mark_of, snapshot_path
from imgsearch_es.stores.embedded.open_index import OpenIndex
from imgsearch_es.stores.embedded.pruning import STRATEGY, Neighbors
from imgsearch_es.stores.embedded.schema import NONE, stored
from imgsearch_es.stores.embedded.sections import Sections, SnapshotError
from imgsearch_es.stores.embedded.snapshot import Snapshot, SnapshotSource
from imgsearch_es.stores.embedded.snapshot_writing import (
    check_kind,
    write_neighbors,
    write_snapshot,
)
from imgsearch_es.stores.embedded.sources import Source
from imgsearch_es.stores.shared import check_features, listing, search_parts, weighted_all
from imgsearch_es.vocabulary.colors import COLOR

_LONG, _PAUSE = 0.5, 20
"""What takes more seconds to make is made again after so many times of them."""

Answer = TypeVar("Answer")
Kind = TypeVar("Kind", bound=Sections)
_log = logging.getLogger(__name__)


class EmbeddedStore(OpenIndex):
    """An index in one DuckDB file.

    Args:
        location: path of the file; ``~`` is expanded.
        vectors: "int8_hnsw" makes an index of nearest neighbors at the end of each run from now
            on, for approximate answers by "dense-cosine"; "none" makes none any more. By default
            what was last asked for.

    Raises:
        ConfigurationError: the path is a folder, or its folder does not exist; ``vectors`` is
            something else.
        MissingDependencyError: usearch, which makes it, is not installed.
    """

    def __init__(self, location: str | os.PathLike[str], *, vectors: str | None = None) -> None:
        path = Path(location).expanduser().absolute()
        super().__init__(path)
        check_kind(vectors, self.location)
        self._vectors = vectors
        self._copy = KeptSnapshot(path, Snapshot)
        self._neighbors = KeptSnapshot(path, Neighbors, "neighbors")
        self._counted = sources.Counted()

    def finish(self) -> None:
        """Cluster the postings by term, when many were written since; make the copies anew."""
        self._cluster()
        with self._reading() as reader:
            vectors = schema.vectors(reader.connection)
        if self._vectors not in (None, vectors):
            with self._writing() as connection:
                schema.write_value(connection, "vectors", str(self._vectors))
        self._make_copies()

    def _make_copies(self) -> None:
        """What searches read; the file is free while the graph is made, which takes longest."""
        with self._reading() as reader:
            self._copy.make(partial(write_snapshot, reader))
            vectors, settings = schema.vectors(reader.connection), reader.settings
        copy = self._copy.of_now()
        if vectors == NONE or not settings.embedding_dimensions:
            self._neighbors.delete()
        elif copy is not None:
            self._neighbors.make(partial(write_neighbors, copy))

    def search(self, query: Query) -> SearchResult:
        return self.search_many([query])[0]

    def search_many(self, queries: Sequence[Query]) -> list[SearchResult]:
        for query in queries:
            check_features(self, query)
        return search_parts(self._search_many, self._listed, queries)

    def _listed(self, query: Query) -> SearchResult:
        started = time.perf_counter()
        with self._reading() as reader:
            ids = sources.matching(reader, query)
            page = ids[query.offset : query.offset + query.k]
            documents = stored(reader, page, embeddings=False)
        took_ms = (time.perf_counter() - started) * 1000
        return listing(query, [documents[key] for key in page], len(ids), took_ms)

    def _search_many(self, queries: Sequence[Query]) -> list[SearchResult]:
        ready, results = weighted_all(self, queries), list[SearchResult]()
        while rest := ready[len(results) :]:
            asked = [query for query, _ in rest]
            results += self._ask(asked, partial(ranking.search, queries=rest))
        return results

    def _ask(self, queries: Sequence[Query], ask: Callable[[Source], Answer]) -> Answer:
        """What the snapshot says if it is of the file's state, otherwise what the file says."""
        snapshot = self._copy.of_now()
        if snapshot is not None:
            near = self._neighbors.of_now() if any(q.candidates for q in queries) else None
            near = near if near is not None and near.fits(snapshot) else None
            try:
                if self._read_at == snapshot.mark and not any(query.filters for query in queries):
                    with self._telling():
                        return ask(SnapshotSource(self._reader(None), snapshot, near))
                with self._reading() as reader:
                    if snapshot.mark == mark_of(self._file.path):
                        return ask(SnapshotSource(reader, snapshot, near))
            except SnapshotError as error:
                self._copy.give_up(error)
        with self._reading() as reader:
            return ask(Source(reader))

    def approximable(self) -> tuple[str, ...]:
        """The one that an index of neighbors answers, if there is one; others are exact."""
        return () if self._neighbors.of_now() is None else (STRATEGY,)

    def pages(self, query: Query) -> Iterator[SearchResult]:
        """Rank once, and read the documents of each page when it is asked for.

        Ids and scores of all hits stay in memory, about 100 bytes a hit.
        """
        check_features(self, query)
        started, statistics = time.perf_counter(), NO_STATISTICS
        if query.sort is not None:
            ids: Sequence[str] = self.matching(query)
            scores: Sequence[float] = [0.0] * len(ids)
        else:
            ((query, statistics),) = weighted_all(self, [query])
            ask = partial(ranking.ranked, query=query, statistics=statistics)
            ids, scores = self._ask([query], ask)
        for start in range(query.offset, len(ids), query.k):
            page = ids[start : start + query.k]
            with self._reading() as reader:
                documents = stored(reader, page, embeddings=False)
            hits = tuple(
                Scored(documents[key], score)
                for key, score in zip(page, scores[start:], strict=False)
                if key in documents
            )
            if query.sort is not None:
                yield listing(query, [hit.document for hit in hits], len(ids), 0.0)
                continue
            took_ms = (time.perf_counter() - started) * 1000
            means = "all matching pictures were ranked once, before the first page"
            found = ranking.result(query, statistics, hits, len(ids), took_ms)
            yield replace(found, means=means)
            started = time.perf_counter()

    def facets(self, query: Selection, fields: Sequence[str], size: int) -> Facets:
        wanted, mark = counted(query), self._copy.mark()
        # By its text: True and 1 are equal, but not the same in metadata.
        key = (mark, repr(wanted), *fields, size)
        kept = bool(mark) and not isinstance(wanted, Query)
        if kept and (known := self._counted.get(key)) is not None:
            return known
        with self._reading() as reader:
            found = sources.facets(reader, query, fields, size)
            if kept and mark == self._copy.mark():
                self._counted.keep(key, found)
        return found

    def matching(self, query: Query) -> list[str]:
        with self._reading() as reader:
            return sources.matching(reader, query)

    def count(self, query: Query | None = None) -> int:
        if query is not None and query.counts is not None:
            return self._ask([query], partial(ranking.count, query=query, counts=query.counts))
        if query is not None:
            return len(self.matching(query))
        return int(self._rows("SELECT count(*) FROM documents")[0][0])

    def statistics(self, keys: Sequence[str]) -> Statistics:
        return self._ask([], lambda source: source.statistics(keys))

    def stats(self) -> dict[str, Any]:
        with self._reading() as reader:
            top = reader.rows(
                "SELECT synset, count(*) AS documents, avg(score) FROM postings "
                "JOIN terms USING (term) WHERE NOT starts_with(synset, $1) "
                "GROUP BY synset ORDER BY documents DESC, synset LIMIT 10",
                [COLOR],
            )
            labels = sources.facets(reader, Selection(), ["label"], 10)["label"]
            return {
                "store": "embedded",
                "location": self.location,
                "documents": reader.one("SELECT count(*) FROM documents"),
                "postings": reader.one("SELECT count(*) FROM postings"),
                "bytes": self._file.path.stat().st_size,
                "synsets": [{"synset": k, "documents": n, "mean_score": m} for k, n, m in top],
                "labels": [{"label": i["value"], "documents": i["count"]} for i in labels],
            }

    def beside(self) -> EmbeddedStore:
        return EmbeddedStore(f"{self._file.path}.new")

    def delete(self) -> None:
        super().delete()
        self._copy.delete()
        self._neighbors.delete()

    def replace(self, new: EmbeddedStore, mark: str, *, keep: bool) -> bool:
        """Move the new file to the place of this one; with ``keep`` this becomes ``.old``.

        Nobody writes to either of them meanwhile.
        """
        path, other = self._file.path, new._file.path
        with new._file.writing() as fresh, self._writing() as old:
            if schema.content_mark(old) != mark:
                return False
            schema.write_value(fresh, "vectors", self._vectors or schema.vectors(old))
            for connection in (fresh, old):  # so that no log of changes is left beside the files
                connection.commit()
                connection.execute("CHECKPOINT")
                connection.begin()
            permit_as(path, other)
            if keep:
                kept = path.with_name(f"{path.name}.old")
                kept.unlink(missing_ok=True)
                os.link(path, kept)
            other.replace(path)
        new._copy.delete()
        self._forget()
        self._make_copies()
        return True


class KeptSnapshot(Generic[Kind]):
    """The copy of an index file, open as long as it is of the file's state."""

    def __init__(self, path: Path, kind: Callable[[Path], Kind], ending: str = "snapshot") -> None:
        self._file, self._path, self._kind = path, snapshot_path(path, ending), kind
        self._open: Kind | None = None
        self._opened = ""

    def of_now(self) -> Kind | None:
        """The copy of the file as it is now, if there is one; a stale one is opened once."""
        mark = mark_of(self._file)
        if self._open is not None and not self._open.is_untouched():
            self._open, self._opened = None, "of what another program cut off or wrote over"
        if self._open is not None and self._open.mark == mark:
            return self._open
        there = mark_of(self._path)
        if there != self._opened:
            self._open, self._opened = None, there
            try:
                self._open = self._kind(self._path)
            except FileNotFoundError:
                pass
            except (OSError, SnapshotError, ValueError, LookupError, TypeError) as error:
                self.give_up(error)
        found = self._open
        return found if found is not None and found.mark == mark else None

    def mark(self) -> str:
        """The state of the file, if there is a copy of it: any change makes another; else ""."""
        found = self.of_now()
        return "" if found is None else found.mark

    def give_up(self, error: Exception) -> None:
        """Use it no more, as it is damaged; searches read the index file, which is slower."""
        _log.warning("%s is not used: %s", self._path, error)
        self._open = None

    def make(self, write: Callable[[Path, str, Callable[[], bool]], None]) -> None:
        """Make it anew, unless it is of this state, or somebody else makes it or waits to write.

        A large one is not made again soon: whoever adds a picture a minute would write all day.
        """
        if self.of_now() is not None:
            return
        last = self._open
        if (
            last is not None
            and last.seconds > _LONG
            and 0 <= time.time() - last.written_at < _PAUSE * last.seconds
        ):
            return
        draft = self._path.with_name(f".{self._path.name}")
        gate, wanted = Gate(self._path), Gate(self._file)
        try:
            mark = settled_mark_of(self._file)
            if gate.shut():  # else the draft is somebody else's
                try:
                    draft.touch()
                    permit_as(self._file, draft)  # it holds what the file holds
                    write(draft, mark, lambda: not wanted.is_shut())
                    draft.replace(self._path)
                finally:
                    draft.unlink(missing_ok=True)
        except (OSError, SnapshotError, MissingDependencyError) as error:
            _log.info("%s was not made: %s", self._path, error)
        finally:
            gate.open()

    def delete(self) -> None:
        self._open = None
        self._path.unlink(missing_ok=True)
