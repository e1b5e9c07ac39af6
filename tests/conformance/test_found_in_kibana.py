"""What Kibana's search bar finds, and ES|QL, by the queries that they make on a real node.

The node has neither KQL nor ES|QL. So the search bar is asked in Lucene's syntax, and an evaluator
runs ES|QL, whose conditions the node selects by.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.documents import Document, to_score
from imgsearch_es.retrieval.language import parse_words
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.stores import open_store
from imgsearch_es.stores.base import Store
from imgsearch_es.stores.elastic import aliased, mapping
from imgsearch_es.vocabulary.synsets import imagenet
from tests.conformance.collections import posteriors
from tests.conformance.conftest import filled, ranking
from tests.conformance.test_photos import CONDITIONS, make_documents, meters
from tests.conformance.test_verify import IMPORTED

pytestmark = [
    pytest.mark.node,
    pytest.mark.parametrize("place", ["elasticsearch"], indirect=True),
]
PICTURES = [
    ("tabby.jpg", (Term("tabby", 0.9),), {"year": 2024, "day": "2024-02-03", "by": "Ada"}),
    ("dogs.jpg", (Term("pug", 0.5), Term("beagle", 0.4)), {"year": [1999, 2023.5], "by": 7}),
    ("sofa.jpg", (Term("studio_couch", 0.9), Term("pug", 0.02)), {"day": "2023-13-45"}),
]
FOUND = {
    "kinds:dog": {"dogs.jpg"},
    "kinds:Tabby": {"tabby.jpg"},
    "kinds:Studio_Couch OR kinds:cat": {"sofa.jpg", "tabby.jpg"},
    "words:dogs": {"dogs.jpg", "sofa.jpg"},
    "words:entity": set(),
    "numbers.year:>=2024": {"tabby.jpg"},
    "numbers.year:<2024": {"dogs.jpg"},
    "dates.day:<2024-03": {"tabby.jpg"},
    "texts.by:Ada": {"tabby.jpg"},
    "numbers.by:7": {"dogs.jpg"},
    "metadata.by:Ada": {"tabby.jpg"},
}
"""Of the search bar, in Lucene's syntax, and the pictures found; KQL makes the same queries."""


DOCUMENTS = make_documents()


def pictures() -> list[Document]:
    made = posteriors(len(PICTURES))
    return [
        replace(
            document,
            filename=name,
            terms=tuple(Term(term.key, to_score(term.score)) for term in terms),
            metadata=metadata,
        )
        for document, (name, terms, metadata) in zip(made, PICTURES, strict=True)
    ]


def selected(store: Store, text: str) -> set[str]:
    name = store.location.rpartition("/")[2]
    answer = store.client.search(index=name, query={"query_string": {"query": text}}, size=1000)
    return {hit["_id"] for hit in answer["hits"]["hits"]}


def named(store: Store, text: str) -> set[str]:
    return {document.filename for document in store.get(sorted(selected(store, text))).values()}


def evaluated(store: Store, text: str, documents: Sequence[Document]) -> list[tuple[float, str]]:
    """What ES|QL answers: the node selects by its query strings, Python adds and sorts."""
    steps = [line.removeprefix("| ") for line in text.splitlines()]
    left, scores = {document.id: document for document in documents}, dict[str, float]()
    for step in steps:
        if found := re.fullmatch(r'WHERE (NOT )?QSTR\((".*")\)', step):
            meets = selected(store, json.loads(found[2]))
            left = {k: d for k, d in left.items() if (k in meets) != bool(found[1])}
        elif step.startswith("WHERE score "):
            left = {k: d for k, d in left.items() if computed(step[6:], d, scores[k])}
        elif step.startswith("WHERE "):
            left = {k: d for k, d in left.items() if computed(step[6:], d, 0.0, store)}
        elif step.startswith("EVAL score = "):
            scores = {k: computed(step[13:], d, 0.0) for k, d in left.items()}
    limit = int(next(step for step in steps if step.startswith("LIMIT "))[6:])
    ranked = sorted((-scores.get(key, 0.0), key) for key in left)[:limit]
    return [(-score, key) for score, key in ranked]


def computed(text: str, document: Document, score: float, store: Store | None = None) -> Any:
    """The value of an expression of ES|QL for a document: NaN is null, which COALESCE replaces."""
    known = {term.key: term.score for term in document.terms}

    def distance(_: object, at: tuple[float, float]) -> float:
        return meters(document, at[1], at[0])

    names: dict[str, Any] = {
        "COALESCE": lambda value, other: other if value is None or value != value else value,
        "SQRT": np.sqrt, "NOT": None, "score": score, "false": False, "place": None,
        "length": document.length, "norm": document.norm, "ST_DISTANCE": distance,
        "TO_GEOPOINT": lambda point: tuple(map(float, point[6:-1].split())),
        "ST_X": lambda _: document.photo.place[1] if document.photo.place else math.nan,
        "ST_Y": lambda _: document.photo.place[0] if document.photo.place else math.nan,
        "QSTR": lambda text: store is None or document.id in selected(store, text),
        "column": lambda key: known.get(key, math.nan),
    }  # fmt: skip
    text = re.sub(r"`synset\.(.*?)\.score`", lambda found: f"column({found[1]!r})", text)
    for word in ("NOT", "AND", "OR"):
        text = re.sub(rf"(?<![\w:\"]){word} (?=[\w(])", f"{word.lower()} ", text)
    return eval(text, {"__builtins__": {}}, names)  # noqa: S307


@pytest.mark.scripts
def test_the_search_bar_finds_kinds_words_and_ranges_of_metadata(place):
    with filled(place(), pictures(), IMPORTED) as store:
        assert {text: named(store, text) for text in FOUND} == FOUND
        with ImageIndex(store.location) as index:
            assert index.verify().is_whole
            name = store.location.rpartition("/")[2]
            store.client.update(index=name, id=pictures()[1].id, doc={"kinds": ["cat"]})
            assert {harm.part for harm in index.verify().harms} == {"hit", "kinds"}


def test_names_beyond_the_fields_of_an_index_are_found_as_before(place, monkeypatch):
    monkeypatch.setattr(mapping, "MOST_NAMES", 0)
    monkeypatch.setattr(mapping, "_OTHER_FIELDS", 40)
    many = replace(pictures()[0], metadata={f"name {i}": i for i in range(400)})
    with filled(place(), [many], IMPORTED) as store:
        found = store.search(
            Query((), sort="uri", filters=parse_filters({"metadata.name 399": 399}))
        )
        assert [hit.document.id for hit in found.hits] == [many.id]


def test_an_older_index_is_written_to_and_rebuilt(place, monkeypatch):
    """With the fields of then: the words in no language, and hits that were not packed."""
    location = place()
    with monkeypatch.context() as patch:
        patch.setattr(mapping, "FIELDS", {"words": {"type": "text"}})
        patch.setattr(mapping, "MADE", ("words",))
        open_store(location).create(IMPORTED)
    monkeypatch.setattr(aliased, "_LAST_SEARCHES_SECONDS", 0)
    with ImageIndex(location) as index:
        assert index.store.write(pictures()).rejected == []
        index.store.finish()
        assert index.verify().is_whole
        assert named(index.store, "words:dogs") == set()
        index.reindex()
        assert named(index.store, "kinds:dog") == {"dogs.jpg"}
        assert index.verify().is_whole


@pytest.fixture(scope="module")
def store(place: Callable[[], str]) -> Iterator[Store]:
    with filled(place(), DOCUMENTS, IMPORTED) as made:
        yield made


@pytest.mark.parametrize(
    "strategy",
    [
        "auto",
        "tfidf",
        *(pytest.param(name, marks=pytest.mark.scripts) for name in ("cosine", "sqrt", "bm25")),
    ],
)
def test_esql_ranks_as_a_search_does(store, strategy):
    name = store.location.rpartition("/")[2]
    terms = max((d.terms for d in DOCUMENTS), key=len)
    for conditions in ({}, {"width": {"gte": 120}, "-label": "pets"}):
        query = Query(terms, strategy=strategy, k=40, filters=parse_filters(conditions))
        text = query.to_esql(name, statistics=store.statistics([term.key for term in terms]))
        found = sorted((-np.float32(s), key) for s, key in evaluated(store, text, DOCUMENTS))
        assert [(-score, key) for score, key in found] == ranking(store.search(query))


@pytest.mark.parametrize("line", CONDITIONS)
def test_esql_selects_as_a_search_does(store, line):
    name = store.location.rpartition("/")[2]
    filters = parse_words(line, imagenet()).filters
    query = Query((), k=1000, sort="uri", filters=filters)
    found = {key for _, key in evaluated(store, query.to_esql(name), DOCUMENTS)}
    assert found == {hit.document.id for hit in store.search(query).hits}
    assert len(found) < len(DOCUMENTS)


@pytest.mark.parametrize("line", ["cat -dog", "dog -cat label:pets", "+dog beach"])
def test_esql_reads_words_with_signs(store, line):
    name = store.location.rpartition("/")[2]
    words = parse_words(line, imagenet())
    query = Query(words.terms, k=1000, filters=words.signs + words.filters)
    found = {key for _, key in evaluated(store, query.to_esql(name), DOCUMENTS)}
    assert found == {hit.document.id for hit in store.search(query).hits} != set()
