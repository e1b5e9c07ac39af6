"""Tasks: queries with their judgements, from labels, names, files and benchmarks' ground truth.

Ground truth that comes as a Python pickle is not read: unpickling runs whatever program the file
holds. docs/evaluation.md has the line that makes JSON of it.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.collection import (
    Collection,
    Item,
    Topic,
    Topics,
    locate,
    read_dataset,
)
from imgsearch_es.evaluation.judgements import Judgements, JudgementsLike
from imgsearch_es.evaluation.measures import GROUP
from imgsearch_es.evaluation.significance import Clusters
from imgsearch_es.evaluation.systems import topics_in
from imgsearch_es.evaluation.text_files import is_frame, names_in_files, read_lines, read_text
from imgsearch_es.retrieval.feedback import Region

MEASURES = ("P@10", "nDCG@10", "AP")
"""What is measured where the task does not say."""
BENCHMARKS = {"oxford": "Oxford5k", "paris": "Paris6k"}
LEVELS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}
"""What is relevant and what is junk (Radenovic et al., Revisiting Oxford and Paris, CVPR 2018)."""
_NUMBER = re.compile(r"(\d+)(?!.*\d)")
FEW = 10
"""Groups of queries that are too few to speak for groups that were not asked about."""


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What to search for, and what should be found, by the index's ids.

    ``measures`` are those of the protocol, ``notes`` what a reader of the figures should know.
    """

    name: str
    judgements: Judgements
    topics: Mapping[str, Topic]
    measures: tuple[str, ...] = MEASURES
    notes: tuple[str, ...] = ()

    def clusters(self) -> tuple[Clusters | None, tuple[str, ...]]:
        """The group of each query, None where each stands for itself; and what to say of it."""
        pictures = {query: topic.image for query, topic in self.topics.items() if topic.image}
        found = self.judgements.clusters(pictures)
        count, queries = int(found.max(initial=-1)) + 1, len(found)
        if count == queries:
            return None, ()
        if count >= FEW:
            return found, ()
        groups = "group" if count == 1 else "groups"
        return None, (
            f"the queries are of {count} {groups}, too few to speak for others: intervals and "
            "tests hold for more queries of the same alone",
        )


def make_task(
    source: JudgementsLike,
    collection: Collection,
    *,
    queries: Topics | None = None,
    pictures: Path | None = None,
) -> Task:
    """The task that a person names; see ``evaluate``."""
    if isinstance(source, Mapping):
        source = Judgements(source)
    elif is_frame(source):
        source = Judgements.from_frame(source)
    if isinstance(source, Judgements):
        return _judged(source, collection, "judgements", queries)
    text = os.fspath(source)
    kind, _, rest = text.partition(":")
    is_benchmark = kind in BENCHMARKS or kind.startswith("revisited-")
    if queries is not None and (is_benchmark or kind == "name" or text in _NAMED):
        raise EvaluationError(f"the queries of {kind} are known: leave out others")
    if text in _NAMED:
        return _NAMED[text](collection)
    if kind == "name" and rest:
        return _by_name(collection, rest)
    if kind == "ir_datasets" and rest:
        name, judged, topics, measures = read_dataset(rest, collection)
        task = _judged(judged, collection, name, queries or topics)
        return replace(task, measures=measures or MEASURES)
    if kind in BENCHMARKS and rest:
        return _oxford(Path(rest), collection, BENCHMARKS[kind], pictures)
    if kind.startswith("revisited-") and rest:
        return _revisited(Path(rest), collection, kind.removeprefix("revisited-"), pictures)
    path = Path(text).expanduser()
    if not path.is_file():
        raise EvaluationError(
            f"there are no judgements {text!r}: name labels, words, folder, "
            "name:{label}.{number}.jpg, ukbench, holidays, oxford:DIR, paris:DIR, "
            "revisited-easy:FILE.json (or -medium, -hard), ir_datasets:FOLDER (or its name), or a "
            "file of qrels or .csv"
        )
    is_csv = ".csv" in path.suffixes
    read = Judgements.from_csv(path) if is_csv else Judgements.from_qrels(path)
    return _judged(read, collection, path.name, queries, in_file=not is_csv)


# -- by labels and names ---------------------------------------------------------------------------


def _by_label(collection: Collection) -> Task:
    groups = {item.id: item.labels for item in collection.items}
    return _leave_one_out("labels", groups, "two pictures of the index share a label")


def _by_words(collection: Collection) -> Task:
    grades: dict[str, dict[str, int]] = {}
    for item in collection.items:
        for label in item.labels:
            grades.setdefault(label, {})[item.id] = 1
    if not grades:
        raise EvaluationError("no picture of the index has a label to search for as words")
    topics = {label: Topic(text=label) for label in sorted(grades)}
    return Task("words", Judgements({label: grades[label] for label in topics}), topics)


def _by_folder(collection: Collection) -> Task:
    groups = {item.id: (item.uri.rpartition("/")[0],) for item in collection.items}
    return _leave_one_out("folder", groups, "two pictures of the index are in one folder")


def _by_name(collection: Collection, pattern: str) -> Task:
    """By the label in the file name; names that do not match are searched through, and not for."""
    if pattern.count("{label}") != 1:
        raise EvaluationError(
            f"the pattern {pattern!r} needs {{label}} once, as in {{label}}.{{number}}.jpg"
        )
    known = {"{label}": "(?P<label>.+?)", "{number}": r"\d+", "*": ".*"}
    parts = re.split(r"(\{label\}|\{number\}|\*)", pattern)
    expression = re.compile("".join(known.get(part, re.escape(part)) for part in parts))
    groups = {
        item.id: (found["label"],)
        for item in collection.items
        if (found := expression.fullmatch(item.filename))
    }
    missing = len(collection) - len(groups)
    why = f"two file names match {pattern} with one label"
    notes = (f"{missing} file names do not match {pattern}",) if missing else ()
    return _leave_one_out(f"name:{pattern}", groups, why, notes)


def _leave_one_out(
    name: str, groups: Mapping[str, tuple[str, ...]], needed: str, notes: tuple[str, ...] = ()
) -> Task:
    judgements = Judgements.from_groups(groups)
    if not judgements.grades:
        raise EvaluationError(f"nothing is relevant to anything: no {needed}")
    if alone := len(groups) - len(judgements):
        notes += (f"{alone} pictures have nothing relevant to them and are not searched for",)
    return Task(name, judgements, _own_topics(judgements), notes=notes)


def _ukbench(collection: Collection) -> Task:
    """Four pictures of each object; a query's own counts (Nister and Stewenius, CVPR 2006)."""
    groups = {item.id: (_number(item) // GROUP,) for item in collection.items}
    for number, size in sorted(Counter(number for (number,) in groups.values()).items()):
        if size != GROUP:
            first = number * GROUP
            raise EvaluationError(
                f"UKBench has {GROUP} pictures of each object, and the index has {size} with the "
                f"numbers {first} to {first + GROUP - 1}"
            )
    judgements = Judgements.from_groups(groups, count_query=True)
    return Task("UKBench", judgements, _own_topics(judgements), ("NS", "NS%"))


def _holidays(collection: Collection) -> Task:
    """100000 is a query, 100001 and 100002 are relevant (Jegou, Douze and Schmid, ECCV 2008)."""
    numbers = {item.id: _number(item) for item in collection.items}
    queries = [key for key, number in numbers.items() if number % 100 == 0]
    groups = {key: (number // 100,) for key, number in numbers.items()}
    judgements = Judgements.from_groups(groups, queries=queries)
    judgements = judgements.select(q for q in queries if judgements.relevant(q))
    if not judgements.grades:
        raise EvaluationError("no picture has a number of Holidays' queries, such as 100000")
    notes = _incomplete(len(judgements), 500, "INRIA Holidays")
    measures = ("AP-trapezoid", "AP")
    return Task("INRIA Holidays", judgements, _own_topics(judgements), measures, notes)


def _own_topics(judgements: Judgements) -> dict[str, Topic]:
    return {query: Topic(image=query) for query in judgements.queries}


def _number(item: Item) -> int:
    found = _NUMBER.search(item.stem)
    if not found:
        raise EvaluationError(
            f"the groups are told by the numbers in file names, and {item.name} has none"
        )
    return int(found[1])


_NAMED: dict[str, Callable[[Collection], Task]] = {
    "labels": _by_label,
    "words": _by_words,
    "folder": _by_folder,
    "ukbench": _ukbench,
    "holidays": _holidays,
}


# -- a person's own --------------------------------------------------------------------------------


def _judged(
    given: Judgements,
    collection: Collection,
    name: str,
    queries: Topics | None,
    in_file: bool = False,
) -> Task:
    """A task of a person's own judgements, whose names become the index's ids.

    A query that is a picture of the index is left out (its own picture is junk), unless it is
    judged relevant to itself. Judged pictures that the index lacks cannot be found, and count.
    """
    asked = None if queries is None else topics_in(collection, queries)
    names = names_in_files(asked or (), first=in_file)
    judgements = given.renamed(str, lambda query: names.get(query, query))
    topics = {query: _topic(query, asked, collection) for query in judgements.queries}
    keys = {query: topic.image or query for query, topic in topics.items() if asked is None}
    renamed = judgements.renamed(collection.id_of, lambda query: keys.get(query, query))
    topics = {keys.get(query, query): topic for query, topic in topics.items()}
    if len(topics) != len(given):
        raise EvaluationError(f"{name}: two queries are the same, or the same picture of the index")
    junk = dict(renamed.junk)
    for query, topic in topics.items():
        own = topic.image or ""
        if own in collection.by_id and renamed.grades[query].get(own, 0) < 1:
            junk[query] = junk.get(query, frozenset()) | {own}
    notes = _lacking(renamed, collection)
    if asked is not None and (more := len(set(asked) - set(topics))):
        notes += (f"{more} queries have no judgements and are not asked",)
    return Task(name, Judgements(renamed.grades, junk), topics, notes=notes)


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


def _lacking(judgements: Judgements, collection: Collection) -> tuple[str, ...]:
    judged = {id(grades): grades for grades in judgements.grades.values()}  # some are shared
    names = set().union(*judged.values(), *judgements.junk.values()) - collection.by_id.keys()
    if not names:
        return ()
    return (
        f"{len(names)} judged pictures are not in the index, such as {min(names)}: "
        "they cannot be found, and count",
    )


# -- Oxford, Paris and revisited -------------------------------------------------------------------


def _oxford(folder: Path, collection: Collection, benchmark: str, pictures: Path | None) -> Task:
    """55 queries by region; good and ok are relevant, junk is taken out."""
    found = sorted(folder.expanduser().glob("*_query.txt"))
    if not found:
        raise EvaluationError(f"{folder} has no ground truth, such as all_souls_1_query.txt")
    truth: dict[str, dict[str, Any]] = {}
    for path in found:
        name = path.name.removesuffix("_query.txt")
        image, *region = next((line.split() for _, line in read_lines(path)), [""])
        good, ok, junk = (
            [line.strip() for _, line in read_lines(path.with_name(f"{name}_{kind}.txt"))]
            for kind in ("good", "ok", "junk")
        )
        truth[name] = {
            "image": image.removeprefix("oxc1_"),
            "region": _region(region, path),
            "relevant": good + ok,
            "junk": junk,
        }
    notes = _incomplete(len(truth), 55, benchmark)
    return _landmarks(benchmark, truth, collection, pictures, notes)


def _revisited(path: Path, collection: Collection, level: str, pictures: Path | None) -> Task:
    """70 queries apart, by region.

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
    data = read_text(path)
    try:
        truth = json.loads(data)
        names, asked = list(truth["imlist"]), list(truth["qimlist"])
        if odd := [name for name in names + asked if not isinstance(name, str)]:
            raise TypeError(f"{odd[0]!r:.50} is no name of a picture")
        rows = {
            query: {
                "image": query,
                "region": _region(row["bbx"], path),
                "relevant": [names[i] for kind in good for i in row[kind]],
                "junk": [names[i] for kind in bad for i in row[kind]],
            }
            for query, row in zip(asked, truth["gnd"], strict=True)
        }
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise EvaluationError(f"{path} is no revisited ground truth: {error!r}") from error
    listed = {collection.find(name) for name in names if collection.has(name)}
    others = frozenset(collection.by_id) - listed
    kept = {query: row for query, row in rows.items() if row["relevant"]}
    notes = _incomplete(len(rows), 70, "the revisited set")
    if len(kept) < len(rows):
        notes += (f"{len(rows) - len(kept)} queries have nothing relevant at the level {level}",)
    name = f"revisited {path.name.partition('.')[0]}, {level}"
    return _landmarks(name, kept, collection, pictures, notes, others)


def _landmarks(
    name: str,
    truth: Mapping[str, Mapping[str, Any]],
    collection: Collection,
    pictures: Path | None,
    notes: tuple[str, ...],
    junk: frozenset[str] = frozenset(),
) -> Task:
    grades, junks, topics = {}, {}, {}
    for query, row in truth.items():
        grades[query] = dict.fromkeys(map(collection.id_of, row["relevant"]), 1)
        junks[query] = frozenset(map(collection.id_of, row["junk"])) | junk
        junks[query] -= grades[query].keys()
        image = _query_picture(row["image"], collection, pictures)
        topics[query] = Topic(image, region=row["region"])
    if not any(set(row) & collection.by_id.keys() for row in grades.values()):
        raise EvaluationError(f"the index has none of the pictures of {name}")
    judgements = Judgements(grades, junks)
    notes += _lacking(judgements, collection)
    return Task(name, judgements, topics, ("AP-trapezoid", "AP", "P@10"), notes)


def _query_picture(name: str, collection: Collection, pictures: Path | None) -> str:
    for candidate in (name, f"{name}.jpg"):
        with suppress(EvaluationError):
            return locate(candidate, collection, pictures)
    where = f"neither in the index nor in {pictures}" if pictures else "not in the index"
    raise EvaluationError(
        f"the query picture {name} is {where}: say which folder has the query pictures (--pictures)"
    )


def _region(values: Iterable[Any], path: Path) -> Region:
    try:
        left, top, right, bottom = (float(value) for value in values)
    except (ValueError, TypeError) as error:
        raise EvaluationError(f"{path}: a region is four numbers: {error}") from error
    return left, top, right, bottom


def _incomplete(found: int, queries: int, benchmark: str) -> tuple[str, ...]:
    """What to say where a benchmark's queries are not all there."""
    if found == queries:
        return ()
    return (
        f"{found} queries of the {queries} of {benchmark}: the figures cannot be compared with "
        "published ones",
    )
