"""From an index, queries and systems to a session of judging."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from imgsearch_es.errors import EvaluationError, MissingDependencyError, pip_install
from imgsearch_es.evaluation.asking import Progress as AskingProgress
from imgsearch_es.evaluation.asking import Questions
from imgsearch_es.evaluation.collection import Collection, as_column
from imgsearch_es.evaluation.judgements import Judgements
from imgsearch_es.evaluation.judging.pooling import pool_runs
from imgsearch_es.evaluation.judging.qrels_file import QrelsFile
from imgsearch_es.evaluation.judging.session import Session
from imgsearch_es.evaluation.runs import Run
from imgsearch_es.evaluation.systems import System, parse_systems
from imgsearch_es.evaluation.topics import Topic, read_topics
from imgsearch_es.index import ImageIndex
from imgsearch_es.retrieval.strategies import MAX_RESULTS

if TYPE_CHECKING:
    from imgsearch_es.interfaces.notebook.judging import JudgingWidget


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

        Raises:
            EvaluationError: nothing is judged yet.
        """
        grades = self.session.grades
        kept = {query: grades[query] for query in self.session.pool if grades.get(query)}
        if not kept:
            raise EvaluationError(f"nothing is judged yet in {self.session.file.path}")
        junk = own_pictures({query: self.topics[query] for query in kept}, self.collection)
        return Judgements(kept, junk)

    def uri(self, document: str) -> str:
        """Where a document's picture is: an absolute path, or a URL."""
        return self.collection.by_id[document].uri

    def query_text(self, query: str) -> str:
        """What a query searches for, for a person: its words, or its id."""
        topic = self.topics[query]
        return topic.text or self.collection.name(query)

    def query_picture(self, query: str) -> str | None:
        """The URI of a query's picture; None for a query of words alone."""
        image = self.topics[query].image
        known = None if image is None else self.collection.by_id.get(image)
        return image if known is None else known.uri

    def widget(self) -> JudgingWidget:
        """The widget, for notebooks.

        Raises:
            MissingDependencyError: anywidget is not installed.
        """
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


def judge(
    index: ImageIndex,
    queries: str | os.PathLike[str] | Mapping[str, Topic] | None = None,
    systems: str | Iterable[str | System] = "auto",
    *,
    sample: int | None = None,
    runs: Iterable[str | os.PathLike[str] | Run] = (),
    depth: int = 20,
    out: str | os.PathLike[str] = "qrels.txt",
    seed: int = 0,
    progress: AskingProgress | None = None,
) -> Judging:
    """Pool what systems find, to judge it.

    A query's own picture is not asked for. The file may hold judgements from before, of other
    queries, too: they stay, and what is judged is not asked again.

    Args:
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

    Raises:
        EvaluationError: queries, runs or file do not fit the index, or a number makes no sense.
        QueryError: there is no such system, or it cannot answer a query.
    """
    asked = parse_systems(systems) if systems or not runs else ()
    if not 1 <= depth <= MAX_RESULTS:
        raise EvaluationError(f"the depth of a pool is 1 to {MAX_RESULTS}, not {depth}")
    collection = Collection.of(index)
    topics = _topics(queries, sample, seed, collection)
    given = queries is not None

    document = collection.id_of
    file = QrelsFile(
        out,
        document=document,
        document_name=collection.name,
        query=unquote if given else document,
        query_name=as_column if given else collection.name,
    )
    file.read()  # raises before anything is searched for
    junk = own_pictures(topics, collection)
    questions = Questions(index, topics, junk)
    reach = min(depth, len(collection))
    answers = [questions.ask(system, reach, progress) for system in asked]
    answers += [Run.of(run).renamed(document, str if given else document) for run in runs]
    answers = [_known(run, collection) for run in answers]
    pool = pool_runs(
        answers, depth, queries=list(topics), junk=junk, seed=seed, name=collection.name
    )
    return Judging(Session(pool, file), collection, topics, questions.notes)


def own_pictures(topics: Mapping[str, Topic], collection: Collection) -> dict[str, frozenset[str]]:
    """The picture of the index that each query searches for, which is not asked about."""
    return {
        query: frozenset([topic.image])
        for query, topic in topics.items()
        if topic.image is not None and topic.image in collection.by_id
    }


def _topics(
    queries: str | os.PathLike[str] | Mapping[str, Topic] | None,
    sample: int | None,
    seed: int,
    collection: Collection,
) -> Mapping[str, Topic]:
    if queries is not None and sample is None:
        if not isinstance(queries, Mapping):
            return read_topics(queries, collection)
        if not queries:
            raise EvaluationError("there is no query to judge")
        return queries
    if queries is not None or sample is None:
        raise EvaluationError(
            "which queries? Give a CSV with the columns query, and image or text (--queries), or "
            "how many pictures of the index to search for (--sample), and not both"
        )
    if sample < 1:
        raise EvaluationError(f"a sample has at least one query, not {sample}")
    ids = [item.id for item in collection.items]
    places = random.Random(seed).sample(range(len(ids)), min(sample, len(ids)))  # noqa: S311
    return {ids[place]: Topic(image=ids[place]) for place in sorted(places)}


def _known(run: Run, collection: Collection) -> Run:
    """A run without what the index lacks, which nobody can look at."""
    there = collection.by_id
    return Run(
        run.name,
        {query: [row for row in rows if row[0] in there] for query, rows in run.rankings.items()},
    )
