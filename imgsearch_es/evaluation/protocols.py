"""Tasks from files: a person's own judgements, and the ground truth of Oxford, Paris and revisited.

Ground truth that comes as a Python pickle is not read: unpickling runs whatever program the file
holds. docs/evaluation.md has the line that makes JSON of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation import tasks
from imgsearch_es.evaluation.collection import Collection
from imgsearch_es.evaluation.judgements import Judgements
from imgsearch_es.evaluation.tasks import Task
from imgsearch_es.evaluation.text_files import read_lines
from imgsearch_es.evaluation.topics import Topic, locate, read_topics

_NAMED: dict[str, Callable[[Collection], Task]] = {
    "labels": tasks.by_label,
    "folder": tasks.by_folder,
    "ukbench": tasks.ukbench,
    "holidays": tasks.holidays,
}
SOURCES = (
    "labels, folder, name:{label}.{number}.jpg, ukbench, holidays, oxford:DIR, paris:DIR, "
    "revisited-easy:FILE.json (or -medium, -hard), or a file of qrels or .csv"
)
BENCHMARKS = {"oxford": "Oxford5k", "paris": "Paris6k"}
QUERIES, REVISITED_QUERIES = 55, 70
LEVELS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}
"""What is relevant and what is junk (Radenovic et al., Revisiting Oxford and Paris, CVPR 2018)."""


def make_task(
    source: str | os.PathLike[str] | Judgements,
    collection: Collection,
    *,
    queries: str | os.PathLike[str] | Mapping[str, Topic] | None = None,
    pictures: Path | None = None,
) -> Task:
    """The task that a person names.

    Raises:
        EvaluationError: there is no such source, or it does not fit the collection.
    """
    if isinstance(source, Judgements):
        return judged(source, collection, "judgements", queries)
    text = os.fspath(source)
    kind, _, rest = text.partition(":")
    is_benchmark = kind in BENCHMARKS or kind.startswith("revisited-")
    if queries is not None and (is_benchmark or kind == "name" or text in _NAMED):
        raise EvaluationError(f"the queries of {kind} are known: leave out others")
    if text in _NAMED:
        return _NAMED[text](collection)
    if kind == "name" and rest:
        return tasks.by_name(collection, rest)
    if kind in BENCHMARKS and rest:
        return oxford(Path(rest), collection, BENCHMARKS[kind], pictures)
    if kind.startswith("revisited-") and rest:
        return revisited(Path(rest), collection, kind.removeprefix("revisited-"), pictures)
    path = Path(text).expanduser()
    if not path.is_file():
        raise EvaluationError(f"there are no judgements {text!r}: name {SOURCES}")
    is_csv = ".csv" in path.suffixes
    read = Judgements.from_csv(path) if is_csv else Judgements.from_qrels(path)
    return judged(read, collection, path.name, queries)


def judged(
    judgements: Judgements,
    collection: Collection,
    name: str,
    queries: str | os.PathLike[str] | Mapping[str, Topic] | None = None,
) -> Task:
    """A task of a person's own judgements, whose names become the index's ids.

    A query that is a picture of the index is left out (its own picture is junk), unless it is
    judged relevant to itself. Judged pictures that the index lacks cannot be found, and count.
    """
    if isinstance(queries, str | os.PathLike):
        queries = read_topics(queries, collection)
    topics = {query: _topic(query, queries, collection) for query in judgements.queries}
    lacking: set[str] = set()

    def document(text: str) -> str:
        if not collection.has(text):
            lacking.add(text)
        return collection.id_of(text)

    keys = {query: topic.image or query for query, topic in topics.items() if queries is None}
    renamed = judgements.renamed(document, lambda query: keys.get(query, query))
    topics = {keys.get(query, query): topic for query, topic in topics.items()}
    if len(topics) != len(judgements):
        raise EvaluationError(f"{name}: two queries are the same picture of the index")
    junk = dict(renamed.junk)
    for query, topic in topics.items():
        own = topic.image or ""
        if own in collection.by_id and renamed.grades[query].get(own, 0) < 1:
            junk[query] = junk.get(query, frozenset()) | {own}
    notes = _lacking(lacking)
    if queries is not None and (more := len(set(queries) - set(topics))):
        notes += (f"{more} queries have no judgements and are not asked",)
    return Task(name, Judgements(renamed.grades, junk), topics, notes=notes)


def oxford(
    folder: Path, collection: Collection, benchmark: str, pictures: Path | None = None
) -> Task:
    """Oxford5k or Paris6k: 55 queries by region; good and ok are relevant, junk is taken out."""
    found = sorted(folder.expanduser().glob("*_query.txt"))
    if not found:
        raise EvaluationError(f"{folder} has no ground truth, such as all_souls_1_query.txt")
    truth: dict[str, dict[str, Any]] = {}
    for path in found:
        name = path.name.removesuffix("_query.txt")
        columns = read_lines(path)[0][1].split()
        lists = {
            kind: [line.strip() for _, line in read_lines(path.with_name(f"{name}_{kind}.txt"))]
            for kind in ("good", "ok", "junk")
        }
        truth[name] = {
            "image": columns[0].removeprefix("oxc1_"),
            "region": _region(columns[1:], path),
            "relevant": lists["good"] + lists["ok"],
            "junk": lists["junk"],
        }
    notes = tasks.incomplete(len(truth), QUERIES, benchmark)
    return _landmarks(benchmark, truth, collection, pictures, notes)


def revisited(path: Path, collection: Collection, level: str, pictures: Path | None = None) -> Task:
    """The revisited Oxford or Paris set: 70 queries apart, by region; AP.

    Queries without a relevant picture at this level are not asked, as in the benchmark's program.
    Pictures of the index that the benchmark does not list are junk: so the queries' own.
    """
    if level not in LEVELS:
        raise EvaluationError(f"revisited has the levels {', '.join(LEVELS)}, not {level!r}")
    if path.suffix == ".pkl":
        raise EvaluationError(
            f"{path} is a pickle, which may run any program: make JSON of it (docs/evaluation.md)"
        )
    good, bad = LEVELS[level]
    data = "\n".join(line for _, line in read_lines(path))
    try:
        truth = json.loads(data)
        names, asked = list(truth["imlist"]), list(truth["qimlist"])
        rows = {
            query: {
                "image": query,
                "region": _region(row["bbx"], path),
                "relevant": [names[i] for kind in good for i in row[kind]],
                "junk": [names[i] for kind in bad for i in row[kind]],
            }
            for query, row in zip(asked, truth["gnd"], strict=True)
        }
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise EvaluationError(f"{path} is no revisited ground truth: {error!r}") from error
    listed = {collection.find(name) for name in names if collection.has(name)}
    others = frozenset(collection.by_id) - listed
    name = f"revisited {path.name.partition('.')[0]}, {level}"
    kept = {query: row for query, row in rows.items() if row["relevant"]}
    notes = tasks.incomplete(len(rows), REVISITED_QUERIES, "the revisited set")
    if len(kept) < len(rows):
        notes += (f"{len(rows) - len(kept)} queries have nothing relevant at the level {level}",)
    return _landmarks(name, kept, collection, pictures, notes, others)


def _landmarks(
    name: str,
    truth: Mapping[str, Mapping[str, Any]],
    collection: Collection,
    pictures: Path | None,
    notes: tuple[str, ...],
    junk: frozenset[str] = frozenset(),
) -> Task:
    lacking: set[str] = set()

    def ids(texts: Iterable[str]) -> list[str]:
        known = [text for text in texts if collection.has(text)]
        lacking.update(set(texts) - set(known))
        return list(map(collection.id_of, texts))

    grades, junks, topics = {}, {}, {}
    for query, row in truth.items():
        grades[query] = dict.fromkeys(ids(row["relevant"]), 1)
        junks[query] = (frozenset(ids(row["junk"])) | junk) - grades[query].keys()
        image = _picture(row["image"], collection, pictures)
        topics[query] = Topic(image, region=row["region"])
    if not any(set(row) & collection.by_id.keys() for row in grades.values()):
        raise EvaluationError(f"the index has none of the pictures of {name}")
    return Task(
        name,
        Judgements(grades, junks),
        topics,
        ("AP-trapezoid", "AP", "P@10"),
        notes + _lacking(lacking),
    )


def _picture(name: str, collection: Collection, pictures: Path | None) -> str:
    for candidate in (name, f"{name}.jpg"):
        try:
            return locate(candidate, collection, pictures)
        except EvaluationError:
            continue
    where = f"neither in the index nor in {pictures}" if pictures else "not in the index"
    raise EvaluationError(
        f"the query picture {name} is {where}: say which folder has the query pictures (--pictures)"
    )


def _region(values: Iterable[Any], path: Path) -> tuple[float, float, float, float]:
    try:
        left, top, right, bottom = (float(value) for value in values)
    except (ValueError, TypeError) as error:
        raise EvaluationError(f"{path}: a region is four numbers: {error}") from error
    return left, top, right, bottom


def _topic(query: str, queries: Mapping[str, Topic] | None, collection: Collection) -> Topic:
    if queries is None:
        if not collection.has(query):
            raise EvaluationError(
                f"the query {query} is no picture of the index: say what it searches for "
                "(--queries FILE.csv with the columns query, and image or text)"
            )
        return Topic(image=collection.find(query))
    if query not in queries:
        raise EvaluationError(f"the query {query} is judged, and not among the queries given")
    return queries[query]


def _lacking(names: set[str]) -> tuple[str, ...]:
    if not names:
        return ()
    return (
        f"{len(names)} judged pictures are not in the index, such as {min(names)}: "
        "they cannot be found, and count",
    )
