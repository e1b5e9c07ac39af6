"""The verbs of a store: create, write, get, known, below, remove, count, stats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import partial
from itertools import product
from operator import eq, ge, gt, le, lt
from threading import Thread

import numpy as np
import pytest

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.analysis.terms import TaughtWord
from imgsearch_es.errors import IndexNotFoundError, StoreError
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.facets import FACETS, conditions_of
from imgsearch_es.retrieval.ledger import DEPTH, TEXT_BYTES
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.stores import open_store
from imgsearch_es.stores.base import Known, Store
from imgsearch_es.stores.elastic.aliased import TRUSTED_SECONDS
from imgsearch_es.stores.embedded import schema
from tests.conformance.collections import DIMENSIONS, document, extremes, posteriors
from tests.conformance.conftest import SETTINGS, filled

TABBY = Query((Term("tabby", 1.0),))


def same(a: Document, b: Document) -> bool:
    """Equal in every field, to the last bit."""
    left, right = ({**{f: getattr(d, f) for f in d.__slots__}} for d in (a, b))
    vectors = left.pop("embedding"), right.pop("embedding")
    return left == right and np.array_equal(*vectors)


def test_times_are_compared_to_the_millisecond(place):
    second = datetime(2026, 1, 1, 10, 30, tzinfo=timezone.utc)
    moments = [second + timedelta(milliseconds=ms) for ms in (-1, 0, 1, 500, 999, 1000)]
    documents = [
        replace(document(f"{i}.jpg", []), indexed_at=moment) for i, moment in enumerate(moments)
    ]
    compared = {"gt": gt, "gte": ge, "lt": lt, "lte": le, "in": eq}
    with filled(place(), documents) as store:
        for (operator, compare), moment in product(compared.items(), moments):
            value = moment.isoformat()
            where = {"indexed_at": value if operator == "in" else {operator: value}}
            found = {d.indexed_at for d in store.documents(parse_filters(where))}
            assert found == {m for m in moments if compare(m, moment)}, where


def test_a_condition_of_no_values_is_met_by_none(place):
    with filled(place(), [document(f"{i}.jpg", [], number=i) for i in range(3)]) as store:
        for field in ("id", "label", "width", "taken_at", "lens", "keywords", "ocr", "metadata.n"):
            assert [*store.documents(parse_filters({field: []}))] == [], field
            assert len([*store.documents(parse_filters({f"-{field}": []}))]) == 3, field


def test_a_value_that_looks_like_a_range_is_found(place):
    values = ["1..3", "2", "1", "2019..2021", "2020-01-01..", "x"]
    documents = [
        replace(document(f"{i}.jpg", [("tabby", 1.0)]), metadata={"v": value})
        for i, value in enumerate(values)
    ]
    with filled(place(), documents) as store:
        for value, wanted in (
            ("1..3", {"1..3", "2", "1"}),
            ("2019..2021", {"2019..2021"}),
            ("2020-01-01..", {"2020-01-01.."}),
            (["1..2", "x"], {"1", "2", "x"}),
        ):
            for where in ({"metadata.v": value}, {"-metadata.v": value}):
                found = {d.metadata["v"] for d in store.documents(parse_filters(where))}
                assert found == (set(values) - wanted if "-metadata.v" in where else wanted)
        for item in store.facets(Selection(), ["metadata.v"], 10)["metadata.v"]:
            of_value = store.documents(conditions_of("metadata.v", item["value"]))
            assert {d.metadata["v"] for d in of_value} == {item["value"]}
        both = [conditions_of("metadata.v", "1..3"), parse_filters({"metadata.v": "1..3"})]
        results = store.search_many([replace(TABBY, filters=filters) for filters in both])
        assert [result.total for result in results] == [1, 3]


def test_nothing_is_there_before_create(store: Store):
    assert store.settings() is None
    for verb in (
        lambda: store.search(TABBY),
        lambda: store.search_many([TABBY]),
        lambda: next(store.pages(TABBY)),
        lambda: store.facets(Selection(), FACETS, 10),
        lambda: list(store.documents()),
        lambda: list(store.fingerprints(embeddings=False)),
    ):
        with pytest.raises(IndexNotFoundError, match=store.location):
            verb()
    assert store.settings() is None


def test_settings_come_back(place):
    with filled(place(), []) as store:
        assert open_store(store.location).settings() == SETTINGS
        with pytest.raises(StoreError, match="exists"):
            open_store(store.location).create(SETTINGS)
        assert store.count() == 0
        assert list(store.search(TABBY).hits) == []
        assert store.facets(Selection(), FACETS, 10) == {field: [] for field in FACETS}
        assert list(store.fingerprints(embeddings=True)) == []


def test_documents_come_back_as_they_were(place):
    documents = posteriors(50) + extremes()
    with filled(place(), documents) as store:
        found = store.get([document.id for document in documents] + ["0" * 32])
        assert len(found) == len(documents)
        assert all(same(found[document.id], document) for document in documents)
        assert store.get([]) == {}


def test_writing_again_replaces(place):
    documents = posteriors(30)
    with filled(place(), documents) as store:
        changed = replace(
            documents[3],
            sha256="f" * 64,
            terms=(Term("tabby", 0.5),),
            labels=("new",),
            metadata={"only": "this"},
        )
        assert store.write([changed, *documents[4:]]).stored == 27
        store.finish()
        assert store.count() == 30
        assert same(store.get([changed.id])[changed.id], changed)
        hits = store.search(replace(TABBY, filters=parse_filters({"label": "new"}))).hits
        assert [(hit.document.id, hit.score) for hit in hits] == [(changed.id, 0.5)]

        # One id twice in a batch is one document, and is found at once after finish.
        twice = replace(changed, terms=(Term("tabby", 0.75),)), replace(changed, labels=("last",))
        store.write(twice)
        store.finish()
        assert store.count() == 30
        wanted = replace(TABBY, filters=parse_filters({"label": ["new", "last"]}))
        hits = open_store(store.location).search(wanted).hits
        assert [(hit.document.labels, hit.score) for hit in hits] == [(("last",), 0.5)]


def test_of_two_who_change_a_document_at_once_neither_loses(place):
    with filled(place(), [document("a", [("tabby", 0.5)]), document("b", [])]) as store:
        key, others = document("a", []).id, list[Thread]()

        def labeled(label: str, document: Document) -> Document:
            if document.id != key or label in document.labels:
                return document
            if label == "mine" and not others:
                other = open_store(store.location)  # as of another program
                change = partial(other.change, [key], partial(labeled, "theirs"))
                others.append(Thread(target=change))
                others[0].start()
                others[0].join(1)  # of a file it waits for its turn
            return replace(document, labels=(*document.labels, label))

        ids = [key, document("b", []).id, "0" * 32]
        assert store.change(ids, partial(labeled, "mine")).stored == 1
        others[0].join()
        store.finish()
        assert sorted(store.get([key])[key].labels) == ["mine", "theirs"]
        assert store.change(ids, partial(labeled, "mine")).stored == 0


def test_what_is_changed_for_a_word_taught_meanwhile_does_not_count(place):
    documents = posteriors(2)
    weights = np.ones(DIMENSIONS, np.float32)
    word = TaughtWord("bright", "bright_taught", 1000, weights, 0.1, ("/a",))
    with filled(place(), documents) as store:
        store.change_taught(lambda settings: settings.with_taught([word]))

        def labeled(found: Document) -> Document:
            return replace(found, labels=("new",)) if found.id == documents[0].id else found

        assert store.change([document.id for document in documents], labeled).stored == 1


@pytest.mark.node
def test_others_ask_the_server_themselves_until_one_has_its_answer(
    elasticsearch_url, fresh_index_name, monkeypatch
):
    with filled(f"{elasticsearch_url}/{fresh_index_name}", []) as store:
        ask = store.client.indices.get

        def looked(**options):
            assert store._looked_at == -TRUSTED_SECONDS
            return ask(**options)

        monkeypatch.setattr(store.client.indices, "get", looked)
        store._looked_at = -TRUSTED_SECONDS
        store._look_for_taught()
        assert store._looked_at > 0


def test_a_document_that_is_changed_while_all_are_read_comes_once(place, monkeypatch):
    monkeypatch.setattr(schema, "_BLOCK", 4)
    monkeypatch.setattr(schema, "_FINGERPRINTS", 4)
    documents = posteriors(12)
    with filled(place(), documents) as store:
        ids = sorted(document.id for document in documents)
        for label, read in ("a", store.documents), ("b", store.fingerprints):
            reading = read(**({"embeddings": True} if label == "b" else {}))
            found = [next(reading).id]
            labeled = partial(replace, labels=(label,))
            assert store.change(ids[::2], labeled).stored == 6  # some were read, others not yet
            assert sorted([*found, *(item.id for item in reading)]) == ids


def test_a_document_that_moves_takes_along_what_is_said_meanwhile(place):
    with filled(place(), [document("a", [("tabby", 0.5)])]) as store:
        key, said = document("a", []).id, list[int]()
        other = open_store(store.location)  # as of another program

        def label() -> None:
            labeled = other.change([key], lambda found: replace(found, labels=("theirs",)))
            said.append(labeled.stored)

        labeling = Thread(target=label)

        def moved(found: Document) -> Document:
            if found.id == "f" * 32:
                return found
            if not labeling.ident:
                labeling.start()
                labeling.join(1)  # of a file it waits for its turn, and is too late
            return replace(found, id="f" * 32)

        assert store.change([key], moved).stored == 1
        labeling.join()
        store.finish()
        assert store.count() == 1
        assert store.get(["f" * 32])["f" * 32].labels == (("theirs",) if said == [1] else ())


def test_known_below_and_removed(place):
    documents = posteriors(40)
    with filled(place(), documents) as store:
        some = documents[7]
        known = store.known([some.id, "0" * 32])
        assert known == {some.id: Known(some.sha256, some.labels, some.metadata, some.text)}
        assert store.known([]) == {}
        expected = sorted((d.uri, d.id) for d in documents if d.uri.startswith("/photos/3/"))
        assert sorted((uri, key) for key, uri in store.below("/photos/3/")) == expected
        assert store.below("/photos/%/") == []
        gone = [document.id for document in documents[:5]]
        assert store.remove([*gone, "0" * 32]) == 5
        assert store.remove(gone) == 0
        assert store.count() == 35
        everything = Query(tuple(Term(term.key, 1.0) for term in documents[0].terms), k=1000)
        assert not set(gone) & {hit.document.id for hit in store.search(everything).hits}
        assert store.get(gone) == {}


def test_many_writes_are_laid_out_again_without_loss(place):
    documents = [
        document(f"many/{i}.jpg", [("tabby", (i + 1) / 4096), ("beagle", 0.5)] * 1, number=i)
        for i in range(600)
    ]
    with filled(place(), documents) as store:
        for _ in range(3):
            store.write(documents)
            store.finish()
        assert store.count() == 600
        assert store.search(replace(TABBY, k=1000)).total == 600


def nested(levels: int, value: object = 1) -> dict[str, object]:
    return {"a": value if levels == 1 else nested(levels - 1, value)}


@pytest.fixture(scope="module")
def kept(place) -> Iterator[Store]:
    """An index with "other.jpg" alone."""
    with filled(place(), []) as store:
        yield store


TEXT = "x" * (TEXT_BYTES - 2)
WIDE = {f"field{number}": "x" * 30_000 for number in range(40)}


def test_what_the_limits_allow_comes_back(place):
    made = [
        replace(
            document(f"{number}.jpg", [("tabby", 0.5)]), labels=(f"{TEXT}xx", ""), metadata=metadata
        )
        for number, metadata in enumerate(
            [
                {"a": TEXT, TEXT[:-4]: 1, "": "", ".": 1, "a..b": "x\0y", "c.d": 1, "c": {"d": 2}},
                nested(DEPTH),
                nested(DEPTH - 1, [1]),
                {f"field{number}": number for number in range(2000)},
                {"n": [2**64 - 1, -(2**63), 1e308, 5e-324, True, None, [], {}]},
                dict(list(WIDE.items())[:33]),
            ]
        )
    ]
    with filled(place(), made) as store:
        found = store.get([one.id for one in made])
        assert all(same(found[one.id], one) for one in made)
        wanted = parse_filters({"metadata.n": 2**64 - 1})
        assert [hit.document.id for hit in store.search(replace(TABBY, filters=wanted)).hits] == [
            made[4].id
        ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"labels": (f"{TEXT}xxx",)}, "a label may have 32,766 bytes"),
        ({"labels": ("\ud800",)}, "a label has half a character"),
        ({"labels": (1,)}, "a label is 1, which is no text"),
        ({"labels": ("x" * 30_000,) * 34}, "labels have 1,000,000 bytes at most"),
        ({"uri": f"/{TEXT}xx"}, "the URI may have"),
        ({"metadata": {"a": f"{TEXT[1:]}é"}}, "metadata.a may have"),
        ({"metadata": {"b": {"a": [TEXT]}}}, "metadata.b.a may have"),
        ({"metadata": {"a": [1, float("nan")]}}, "metadata.a is nan"),
        ({"metadata": {"a": float("-inf")}}, "metadata.a is -inf"),
        ({"metadata": {"a": "\udc00"}}, "metadata.a has half a character"),
        ({"metadata": {"\udc00": 1}}, "half a character"),
        ({"metadata": {"a\0b": 1}}, "null character"),
        ({"metadata": {1: 1}}, "a name in metadata is 1"),
        ({"metadata": {"a": 2**64}}, "metadata.a has more than 64 bits"),
        ({"metadata": {"a": {1, 2}}}, "metadata.a is of the type set"),
        ({"metadata": nested(DEPTH + 1)}, "deeper than 20 levels"),
        ({"metadata": nested(DEPTH, [1])}, "deeper than 20 levels"),
        ({"metadata": nested(500)}, "deeper than 20 levels"),
        ({"metadata": [1]}, "metadata is [1], not values by their names"),
        ({"metadata": WIDE}, "metadata has more than 1,000,000 bytes"),
        ({"embedding": np.full(DIMENSIONS, np.nan, np.float32)}, "that is not finite"),
        ({"embedding": np.full(DIMENSIONS, 1e19, np.float32)}, "the longest that can be compared"),
    ],
)
def test_what_no_store_holds_is_refused_alone(kept, change, reason):
    other = document("other.jpg", [("tabby", 0.5)])
    made = replace(document("bad.jpg", [("tabby", 1.0)]), **change)
    assert kept.write([made]).stored == 0
    report = kept.write([made, other])
    ((uri, why),) = report.rejected
    kept.finish()
    assert (report.stored, kept.count(), uri) == (1, 1, made.uri)
    assert reason in why


def test_stats(place):
    documents = [
        document(f"s/{i}.jpg", [("tabby", 0.5), ("beagle", 0.25)][: 1 + i % 2], labels=["a", "a"])
        for i in range(4)
    ]
    with filled(place(), documents) as store:
        stats = store.stats()
        assert stats["documents"] == 4
        assert stats["bytes"] > 0
        assert stats["synsets"] == [
            {"synset": "tabby", "documents": 4, "mean_score": 0.5},
            {"synset": "beagle", "documents": 2, "mean_score": 0.25},
        ]
        assert stats["labels"] == [{"label": "a", "documents": 4}]
        assert store.features()
