"""From an index, queries and systems to a pool that is judged.

What the first ranks of several systems hold is judged, in an order that tells nothing: a person who
sees which system found a picture, or how high it ranked, judges it with that in mind. (Sparck Jones
and van Rijsbergen, "Report on the need for and provision of an 'ideal' information retrieval test
collection", 1975; so TREC makes its judgements.)
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from imgsearch_es.errors import EvaluationError, MissingDependencyError, pip_install
from imgsearch_es.evaluation.collection import Collection, Topic, Topics, as_column, read_topics
from imgsearch_es.evaluation.judgements import Judgements
from imgsearch_es.evaluation.judging.session import QrelsFile, Session
from imgsearch_es.evaluation.manifest import takes
from imgsearch_es.evaluation.runs import Run
from imgsearch_es.evaluation.systems import Progress, Questions, System, parse_systems
from imgsearch_es.index import ImageIndex
from imgsearch_es.retrieval.strategies import MAX_RESULTS

if TYPE_CHECKING:
    from imgsearch_es.interfaces.notebook.judging import JudgingWidget


def pool_runs(
    runs: Iterable[Run],
    depth: int,
    *,
    queries: Sequence[str],
    junk: Mapping[str, frozenset[str]] | None = None,
    seed: int = 0,
    name: Callable[[str], str] = str,
) -> dict[str, tuple[str, ...]]:
    """The first documents of all runs, for each query; ``name`` is the same on other machines.

    The order of two documents does not depend on which others there are, so a pool that grows (a
    further system, a greater depth) keeps the order that it had.
    """
    if depth < 1:
        raise EvaluationError(f"a pool is at least 1 deep, not {depth}")
    given = list(runs)

    def place(query: str, document: str) -> bytes:
        return hashlib.sha256(repr((seed, query, name(document))).encode()).digest()

    pool: dict[str, tuple[str, ...]] = {}
    for query in queries:
        without = (junk or {}).get(query, frozenset())
        found: set[str] = set()
        for run in given:
            found.update([d for d in run.documents(query) if d not in without][:depth])
        pool[query] = tuple(sorted(found, key=lambda document: place(query, document)))
    return pool


@dataclass(frozen=True, eq=False)
class Judging:
    """A pool that is being judged; shows itself in a notebook, to be judged by keys.

    Attributes:
        session: asks, saves, takes back.
        collection: the pictures of the index, by name.
        topics: what each query searches for.
        notes: what a person should know.
    """

    session: Session
    collection: Collection
    topics: Mapping[str, Topic]
    notes: tuple[str, ...] = ()

    @property
    def judgements(self) -> Judgements:
        """What is judged so far of these queries, with the index's ids; for ``evaluate``.

        A query's own picture is junk, so it is left out of rankings.
        """
        grades = self.session.grades
        kept = {query: grades[query] for query in self.session.pool if grades.get(query)}
        if not kept:
            raise EvaluationError(f"nothing is judged yet in {self.session.file.path}")
        junk = _own_pictures({query: self.topics[query] for query in kept}, self.collection)
        return Judgements(kept, junk)

    def uri(self, document: str) -> str:
        """Where a document's picture is: an absolute path, or a URL."""
        return self.collection.by_id[document].uri

    def query_text(self, query: str) -> str:
        """What a query searches for, for a person: its words, or its id."""
        return self.topics[query].text or self.collection.name(query)

    def query_picture(self, query: str) -> str | None:
        """The URI of a query's picture; None for a query of words alone."""
        image = self.topics[query].image
        known = None if image is None else self.collection.by_id.get(image)
        return image if known is None else known.uri

    def widget(self) -> JudgingWidget:
        """The widget, for notebooks (needs anywidget)."""
        try:
            from imgsearch_es.interfaces.notebook.judging import JudgingWidget
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith(("anywidget", "traitlets", "ipywidgets")):
                raise
            raise MissingDependencyError(
                f"judging in a notebook needs anywidget: {pip_install('widgets')}; on a "
                "terminal it is `imgsearch judge`"
            ) from error
        return JudgingWidget(self)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        try:
            return self.widget()._repr_mimebundle_(**options)
        except MissingDependencyError as error:
            return {"text/plain": f"{self!r}\n{error}"}

    def __repr__(self) -> str:
        progress = self.session.progress
        return (
            f"Judging({progress.judged} of {progress.total} pictures for {progress.queries} "
            f"queries, saved in {self.session.file.path})"
        )


@dataclass(frozen=True, eq=False)
class JudgingRequest:
    """The arguments of ``judge``.

    Attributes:
        index: the collection.
        queries: what each query searches for: Topics by query id, or a CSV with the columns
            ``query``, and ``image``, ``text`` or both.
        systems: strategies and fusions whose answers are pooled, by short names (see
            ``imgsearch_es.evaluation.systems``).
        sample: instead of queries, so many pictures of the index, chosen at random.
        runs: of other programs, in TREC's format with the names of pictures, to pool as well.
        depth: how many pictures of each ranking are judged.
        out: the qrels file to go on with, or to begin.
        seed: of the sample and of the order in which pictures are shown.
        progress: told of each system's queries.
    """

    index: ImageIndex
    queries: Topics | None = None
    systems: str | Iterable[str | System] = "auto"
    _: KW_ONLY
    sample: int | None = None
    runs: Iterable[str | os.PathLike[str] | Run] = ()
    depth: int = 20
    out: str | os.PathLike[str] = "qrels.txt"
    seed: int = 0
    progress: Progress | None = None


@takes(JudgingRequest)
def judge(request: JudgingRequest) -> Judging:
    """Pool what systems find, to judge it.

    A query's own picture is not asked for. The file may hold judgements from before, of other
    queries, too: they stay, and what is judged is not asked again.

    Raises:
        EvaluationError: queries, runs or file do not fit the index, or a number makes no sense.
        QueryError: there is no such system, or it cannot answer a query.
    """
    depth, runs = request.depth, request.runs
    asked = parse_systems(request.systems) if request.systems or not runs else ()
    if not 1 <= depth <= MAX_RESULTS:
        raise EvaluationError(f"the depth of a pool is 1 to {MAX_RESULTS}, not {depth}")
    collection = Collection.of(request.index)
    topics = _topics(request, collection)
    document, name, given = collection.id_of, collection.name, request.queries is not None
    file = QrelsFile(
        request.out,
        document=document,
        document_name=name,
        query=unquote if given else document,
        query_name=as_column if given else name,
    )
    file.read()  # raises before anything is searched for
    junk = _own_pictures(topics, collection)
    questions = Questions(request.index, topics, junk)
    reach = min(depth, len(collection))
    answers = [questions.ask(system, reach, request.progress) for system in asked]
    for run in runs:
        found = Run.of(run).renamed(document, str if given else document).rankings
        there = collection.by_id  # what the index lacks, nobody can look at
        kept = {query: [row for row in rows if row[0] in there] for query, rows in found.items()}
        answers.append(Run("", kept))
    seed, queries = request.seed, list(topics)
    pool = pool_runs(answers, depth, queries=queries, junk=junk, seed=seed, name=name)
    return Judging(Session(pool, file), collection, topics, questions.notes)


def _own_pictures(topics: Mapping[str, Topic], collection: Collection) -> dict[str, frozenset[str]]:
    """The picture of the index that each query searches for, which is not asked about."""
    return {
        query: frozenset([topic.image])
        for query, topic in topics.items()
        if topic.image is not None and topic.image in collection.by_id
    }


def _topics(request: JudgingRequest, collection: Collection) -> Mapping[str, Topic]:
    queries, sample = request.queries, request.sample
    if (queries is None) == (sample is None):
        raise EvaluationError(
            "which queries? Give a CSV with the columns query, and image or text (--queries), or "
            "how many pictures of the index to search for (--sample), and not both"
        )
    if queries is not None:
        if not isinstance(queries, Mapping):
            return read_topics(queries, collection)
        if not queries:
            raise EvaluationError("there is no query to judge")
        return queries
    if sample is None or sample < 1:
        raise EvaluationError(f"a sample has at least one query, not {sample}")
    ids = [item.id for item in collection.items]
    places = random.Random(request.seed).sample(range(len(ids)), min(sample, len(ids)))  # noqa: S311
    return {ids[place]: Topic(image=ids[place]) for place in sorted(places)}
