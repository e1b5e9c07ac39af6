"""Tasks: queries with their judgements, made from what a collection's names and labels say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.collection import Collection, Item
from imgsearch_es.evaluation.judgements import Judgements
from imgsearch_es.evaluation.measures import GROUP
from imgsearch_es.evaluation.topics import Topic

MEASURES = ("P@10", "nDCG@10", "AP")
"""What is measured where the task does not say."""
HOLIDAYS_QUERIES = 500
_NUMBER = re.compile(r"(\d+)(?!.*\d)")


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What to search for, and what should be found.

    Attributes:
        name: for people.
        judgements: with the index's ids.
        topics: what each query searches for, by query id.
        measures: those of the protocol.
        notes: what a reader of the figures should know.
    """

    name: str
    judgements: Judgements
    topics: Mapping[str, Topic]
    measures: tuple[str, ...] = MEASURES
    notes: tuple[str, ...] = ()


def by_label(collection: Collection) -> Task:
    """Pictures that share a label are relevant to each other; each is searched for, left out."""
    groups = {item.id: item.labels for item in collection.items}
    return _leave_one_out("labels", groups, "two pictures of the index share a label")


def by_folder(collection: Collection) -> Task:
    """Pictures in the same folder are relevant to each other; each is searched for, left out."""
    groups = {item.id: (item.uri.rpartition("/")[0],) for item in collection.items}
    return _leave_one_out("folder", groups, "two pictures of the index are in one folder")


def by_name(collection: Collection, pattern: str) -> Task:
    """Pictures whose file names say the same label are relevant to each other.

    Args:
        collection: of the index.
        pattern: the file name with ``{label}`` where the label is; ``{number}`` stands for digits
            and ``*`` for anything: ``{label}.{number}.jpg``. Others are searched through, and not
            for.
    """
    expression = _expression(pattern)
    groups = {
        item.id: (found["label"],)
        for item in collection.items
        if (found := expression.fullmatch(item.filename))
    }
    missing = len(collection) - len(groups)
    why = f"two file names match {pattern} with one label"
    notes = (f"{missing} file names do not match {pattern}",) if missing else ()
    return _leave_one_out(f"name:{pattern}", groups, why, notes)


def ukbench(collection: Collection) -> Task:
    """UKBench: four pictures of each object, told by the numbers in their names; NS.

    ukbench00000 to ukbench00003 show the first object, and so on. Each picture is searched for, is
    itself in the collection, and counts (Nister and Stewenius, CVPR 2006).
    """
    groups = {item.id: (_number(item) // GROUP,) for item in collection.items}
    sizes: dict[int, int] = {}
    for (number,) in groups.values():
        sizes[number] = sizes.get(number, 0) + 1
    for number, size in sorted(sizes.items()):
        if size != GROUP:
            first = number * GROUP
            raise EvaluationError(
                f"UKBench has {GROUP} pictures of each object, and the index has {size} with the "
                f"numbers {first} to {first + GROUP - 1}"
            )
    judgements = Judgements.from_groups(groups, count_query=True)
    return Task("UKBench", judgements, own_topics(judgements), ("NS", "NS%"))


def holidays(collection: Collection) -> Task:
    """INRIA Holidays: 500 queries, the first picture of each group, which is left out; AP.

    The group is the number in the name without its last two digits: 100000 is a query, 100001 and
    100002 are relevant to it (Jegou, Douze and Schmid, ECCV 2008).
    """
    numbers = {item.id: _number(item) for item in collection.items}
    queries = [key for key, number in numbers.items() if number % 100 == 0]
    groups = {key: (number // 100,) for key, number in numbers.items()}
    judgements = Judgements.from_groups(groups, queries=queries)
    judgements = judgements.select(q for q in queries if judgements.relevant(q))
    if not judgements.grades:
        raise EvaluationError("no picture has a number of Holidays' queries, such as 100000")
    notes = incomplete(len(judgements), HOLIDAYS_QUERIES, "INRIA Holidays")
    measures = ("AP-trapezoid", "AP")
    return Task("INRIA Holidays", judgements, own_topics(judgements), measures, notes)


def incomplete(found: int, queries: int, benchmark: str) -> tuple[str, ...]:
    """What to say where a benchmark's queries are not all there."""
    if found == queries:
        return ()
    return (
        f"{found} queries of the {queries} of {benchmark}: the figures cannot be compared with "
        "published ones",
    )


def own_topics(judgements: Judgements) -> dict[str, Topic]:
    """Each query is the document of its id."""
    return {query: Topic(image=query) for query in judgements.queries}


def _leave_one_out(
    name: str, groups: Mapping[str, tuple[str, ...]], needed: str, notes: tuple[str, ...] = ()
) -> Task:
    judgements = Judgements.from_groups(groups)
    if not judgements.grades:
        raise EvaluationError(f"nothing is relevant to anything: no {needed}")
    alone = len(groups) - len(judgements)
    if alone:
        notes += (f"{alone} pictures have nothing relevant to them and are not searched for",)
    return Task(name, judgements, own_topics(judgements), notes=notes)


def _number(item: Item) -> int:
    found = _NUMBER.search(item.stem)
    if not found:
        raise EvaluationError(
            f"the groups are told by the numbers in file names, and {item.name} has none"
        )
    return int(found[1])


def _expression(pattern: str) -> re.Pattern[str]:
    if pattern.count("{label}") != 1:
        raise EvaluationError(
            f"the pattern {pattern!r} needs {{label}} once, as in {{label}}.{{number}}.jpg"
        )
    known = {"{label}": "(?P<label>.+?)", "{number}": r"\d+", "*": ".*"}
    parts = re.split(r"(\{label\}|\{number\}|\*)", pattern)
    return re.compile("".join(known.get(part, re.escape(part)) for part in parts))
