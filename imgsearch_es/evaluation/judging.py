"""Judging: people say what is relevant, blind, and it is kept as qrels.

What the first ranks of several systems hold is pooled, each document once, in an order that follows
from the seed and the document's name alone: a person who sees which system found a picture, or how
high it ranked, judges it with that in mind. (So TREC does. Sparck Jones and van Rijsbergen, "Report
on the need for and provision of an 'ideal' information retrieval test collection", 1975.)

Every judgement is on the disk before the next is asked for: the file is read, changed and put in
place of the old one in one step, under a lock. So a crash loses nothing, and two people may judge
into the same file at once. What people see is in ``interfaces``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from imgsearch_es.errors import EvaluationError, MissingDependencyError
from imgsearch_es.evaluation.collection import Collection, Topic, Topics
from imgsearch_es.evaluation.judgements import Judgements, sampled
from imgsearch_es.evaluation.manifest import takes
from imgsearch_es.evaluation.runs import Run, RunLike, pool_runs, several_runs
from imgsearch_es.evaluation.systems import Progress as AskingProgress
from imgsearch_es.evaluation.systems import Questions, Systems, parse_systems, topics_in
from imgsearch_es.evaluation.text_files import as_column, names_in_files, read_lines
from imgsearch_es.index import ImageIndex
from imgsearch_es.pictures.places import alone_in
from imgsearch_es.retrieval.strategies import MAX_RESULTS

if TYPE_CHECKING:
    from imgsearch_es.search.shown import JudgingWidget

GRADES: Mapping[str, int] = MappingProxyType({"relevant": 2, "partly": 1, "not": 0})
"""What a person says, and the grade that qrels keep of it. 1 and more is relevant."""
Grades = dict[str, dict[str, int]]
Names = tuple[Callable[[str], str], Callable[[str], str]]
"""Of queries, and of documents."""
Pool = Mapping[str, Sequence[str]]
"""The documents to judge for each query, in the order in which they are shown."""


class QrelsFile:
    """Judgements in a file of TREC's qrels, one change at a time.

    Args:
        path: of the file, plain or .gz; it and its folder are made by the first judgement.
        ids: what queries and documents are called in the index, by their names in the file.
        names: their names in the file, by what they are called in the index.
    """

    def __init__(
        self, path: str | os.PathLike[str], ids: Names = (str, str), names: Names = (str, str)
    ) -> None:
        self.path = Path(path).expanduser().absolute()
        self._ids, self._names = ids, names

    def read(self) -> Grades:
        """The grades of each query's documents, by the index's ids; none where there is no file."""
        if self.path.is_fifo():  # where nobody writes, reading it would wait for ever
            raise EvaluationError(f"{self.path} is a FIFO, which keeps no judgements")
        if not self.path.exists() or not read_lines(self.path):
            return {}
        query_id, document_id = self._ids
        grades: Grades = {}
        try:
            for query, rows in Judgements.from_qrels(self.path).grades.items():
                kept = grades.setdefault(query_id(query), {})
                for name, grade in rows.items():
                    if (key := document_id(name)) in kept:
                        raise EvaluationError(
                            f"two lines judge the same picture, and one calls it {name}: remove one"
                        )
                    kept[key] = grade
        except EvaluationError as error:
            where = "" if str(self.path) in str(error) else f"{self.path}: "
            raise EvaluationError(f"{where}{error}") from error
        return grades

    def change(
        self, query: str, document: str, grade: int | None, only_of: int | None = None
    ) -> tuple[int | None, Grades]:
        """Write one judgement, or take it back (None); gives what it was, and all that is then.

        One that is no longer ``only_of``, as another person changed it, stays.
        """
        with self._locked():
            grades = self.read()
            row = grades.setdefault(query, {})
            before = row.get(document)
            if only_of is not None and before != only_of:
                return before, grades
            if grade is None:
                row.pop(document, None)
            else:
                row[document] = grade
            query_name, document_name = self._names
            kept = Judgements({query: row for query, row in grades.items() if row})
            kept.renamed(document_name, query_name).write_qrels(self.path)
        return before, grades

    @contextmanager
    def _locked(self) -> Iterator[None]:
        folder = Path(os.path.realpath(self.path)).parent  # also for those who come by a link
        with ExitStack() as held:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                if not self.path.exists():  # what replaces a file is on the disk before
                    self.path.touch()
                held.enter_context(alone_in(folder))
            except OSError as error:
                raise EvaluationError(f"cannot write {self.path}: {error.strerror}") from error
            yield


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is to be judged: is this document relevant to this query?"""

    query: str
    document: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a session is; places are counted from 1, and 0 when all is done."""

    judged: int
    skipped: int
    total: int
    place: int
    of_query: int
    query_place: int
    queries: int


class Session:
    """Asks for judgements of a pool and saves each at once.

    What the file has judged is not asked again. Queries that were begun come first, then the
    others in the pool's order. ``current`` is what is asked now; None when nothing is left.
    """

    def __init__(self, pool: Pool, file: QrelsFile) -> None:
        self.file = file
        self._grades: Grades = file.read()
        self._skipped: set[Candidate] = set()
        self._done: list[tuple[Candidate, int | None, int | None]] = []
        self._pool = dict(sorted(pool.items(), key=lambda item: not self._is_begun(*item)))
        self._all = [Candidate(q, d) for q, documents in self._pool.items() for d in documents]
        self.current: Candidate | None = self._next()

    def judge(self, grade: str | int) -> None:
        """Judge the current document by one of GRADES, save, and go on to the next.

        If the file cannot be written (an EvaluationError), the document is asked again.
        """
        value = GRADES.get(grade) if isinstance(grade, str) else grade
        if value is None or value not in GRADES.values():
            known = ", ".join(f"{name} ({number})" for name, number in GRADES.items())
            raise EvaluationError(f"there is no grade {grade!r}; there are {known}")
        asked = self._asked()
        before, self._grades = self.file.change(asked.query, asked.document, int(value))
        self._done.append((asked, before, int(value)))
        self.current = self._next()

    def skip(self) -> None:
        """Leave the current document unjudged; the next session asks for it again."""
        asked = self._asked()
        self._skipped.add(asked)
        self._done.append((asked, None, None))
        self.current = self._next()

    def undo(self) -> bool:
        """Take the last judgement or skip of this session back, and ask for it again."""
        if not self._done:
            return False
        last, before, given = self._done[-1]
        if last in self._skipped:
            self._skipped.remove(last)
        else:
            _, self._grades = self.file.change(last.query, last.document, before, given)
        self._done.pop()
        self.current = last
        return True

    @property
    def progress(self) -> Progress:
        """How far it is."""
        judged = sum(self._grade(each) is not None for each in self._all)
        skipped = sum(self._grade(each) is None for each in self._skipped)
        place = of_query = query_place = 0
        if self.current is not None:
            documents = self._pool[self.current.query]
            place, of_query = documents.index(self.current.document) + 1, len(documents)
            query_place = list(self._pool).index(self.current.query) + 1
        total, queries = len(self._all), len(self._pool)
        return Progress(judged, skipped, total, place, of_query, query_place, queries)

    @property
    def grades(self) -> Grades:
        """All judgements of the file, by the index's ids; what is not judged is not in it."""
        return {query: dict(row) for query, row in self._grades.items()}

    @property
    def pool(self) -> Pool:
        """The documents to judge for each query, in the order of this session."""
        return MappingProxyType(self._pool)

    @property
    def unjudged(self) -> list[Candidate]:
        """All that has no judgement yet, in the order in which it is asked, skipped ones too."""
        return [each for each in self._all if self._grade(each) is None]

    def _asked(self) -> Candidate:
        if self.current is None:
            raise EvaluationError("everything in the pool is judged or skipped")
        return self.current

    def _next(self) -> Candidate | None:
        return next((each for each in self.unjudged if each not in self._skipped), None)

    def _grade(self, candidate: Candidate) -> int | None:
        return self._grades.get(candidate.query, {}).get(candidate.document)

    def _is_begun(self, query: str, documents: Sequence[str]) -> bool:
        return 0 < sum(each in self._grades.get(query, {}) for each in documents) < len(documents)


@dataclass(frozen=True, eq=False)
class Judging:
    """A pool that is being judged; shows itself in a notebook, to be judged by keys."""

    session: Session
    collection: Collection
    topics: Mapping[str, Topic]
    notes: tuple[str, ...] = ()

    @property
    def judgements(self) -> Judgements:
        """What is judged so far of these queries, by ids; a query's own picture is junk."""
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
        known = self.collection.by_id.get(image or "")
        return image if known is None else known.uri

    def widget(self) -> JudgingWidget:
        """The widget, for notebooks (needs anywidget)."""
        from imgsearch_es.search.shown import judging_widget

        return judging_widget()(self)

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
        queries: what each query searches for, by query id: words, the Path of a picture, or a
            Topic; or a CSV with the columns ``query``, and ``image``, ``text`` or both.
        systems: strategies and fusions whose answers are pooled, by short names (see
            ``imgsearch_es.evaluation.systems``).
        sample: instead of queries, so many pictures of the index, chosen at random.
        runs: of other programs, with the names of pictures, to pool as well; see ``evaluate``.
        depth: how many pictures of each ranking are judged.
        out: the qrels file to go on with, or to begin.
        seed: of the sample and of the order in which pictures are shown.
        progress: told of each system's queries.
    """

    index: ImageIndex
    queries: Topics | None = None
    systems: Systems = "auto"
    _: KW_ONLY
    sample: int | None = None
    runs: RunLike | Iterable[RunLike] = ()
    depth: int = 20
    out: str | os.PathLike[str] = "qrels.txt"
    seed: int = 0
    progress: AskingProgress | None = None


@takes(JudgingRequest)
def judge(request: JudgingRequest) -> Judging:
    """Pool what systems find, to judge it.

    A query's own picture is not asked for. The file may hold judgements from before, of other
    queries, too: they stay, and what is judged is not asked again.

    >>> session = judge(index, {"q1": "cat", "q2": "coffee"}, depth=3)
    >>> list(session.topics)
    ['q1', 'q2']

    Raises:
        EvaluationError: queries, runs or file do not fit the index, or a number makes no sense.
        QueryError: there is no such system, or none can answer any query.
    """
    depth, runs = request.depth, several_runs(request.runs)
    systems = parse_systems(request.systems) if request.systems or not runs else ()
    if not 1 <= depth <= MAX_RESULTS:
        raise EvaluationError(f"the depth of a pool is 1 to {MAX_RESULTS}, not {depth}")
    collection = Collection.of(request.index)
    topics = _topics(request, collection)
    name, given = collection.name, request.queries is not None
    ids, names = _names(collection, topics if given else {})
    file = QrelsFile(request.out, ids, names)
    file.read()  # raises before anything is searched for
    junk = _own_pictures(topics, collection)
    questions = Questions(request.index, topics, junk)
    reach = min(depth, len(collection))
    answers = list(questions.ask_all(systems, reach, request.progress).values())
    for run in runs:
        found = Run.of(run).renamed(ids[1], ids[0]).rankings
        there = collection.by_id  # what the index lacks, nobody can look at
        kept = {query: [row for row in rows if row[0] in there] for query, rows in found.items()}
        answers.append(Run("", kept))
    pool = pool_runs(answers, depth, queries=list(topics), junk=junk, seed=request.seed, name=name)
    return Judging(Session(pool, file), collection, topics, questions.notes)


def _names(collection: Collection, queries: Iterable[str]) -> tuple[Names, Names]:
    """What queries and pictures of a file are in the index; and the other way around.

    What it says of other queries, and of pictures that the index lacks, keeps its name.
    """
    columns = {query: as_column(query) for query in queries}
    called = names_in_files(columns, first=True)

    def query_id(text: str) -> str:
        return called.get(text, text)

    def query_name(query: str) -> str:
        return columns.get(query, query)

    def name(key: str) -> str:
        return collection.name(key) if key in collection.by_id else key

    if not columns:  # a query is a picture of the index
        return (collection.id_of, collection.id_of), (name, name)
    return (query_id, collection.id_of), (query_name, name)


def _own_pictures(topics: Mapping[str, Topic], collection: Collection) -> dict[str, frozenset[str]]:
    """The picture of the index that each query searches for, which is not asked about."""
    return {
        query: frozenset([topic.image])
        for query, topic in topics.items()
        if topic.image is not None and topic.image in collection.by_id
    }


def _topics(request: JudgingRequest, collection: Collection) -> Mapping[str, Topic]:
    queries, sample = request.queries, request.sample
    if sample is not None and queries is None:
        ids = [item.id for item in collection.items]
        return {key: Topic(image=key) for key in sampled(ids, sample, request.seed)}
    if sample is not None or queries is None:
        raise EvaluationError(
            "which queries? Give a CSV with the columns query, and image or text (--queries), or "
            "how many pictures of the index to search for (--sample), and not both"
        )
    return topics_in(collection, queries)
