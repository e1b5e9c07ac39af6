"""Facets: both stores count what a loop over the documents counts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import StoreError
from imgsearch_es.pictures.files import picture_id
from imgsearch_es.pictures.photo import Photo
from imgsearch_es.retrieval.conditions import Filter, any_of, parse_filters
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.facets import BOUNDS, FACETS, VALUE_FIELDS
from imgsearch_es.retrieval.language import parse_words
from imgsearch_es.retrieval.queries import Query, Selection, synset_vector
from imgsearch_es.search.suggesting import Suggestion, suggestions
from imgsearch_es.vocabulary.synsets import imagenet
from tests.conformance.collections import AWKWARD_NAMES, KEYS, extremes, posteriors
from tests.conformance.conftest import Case, filled
from tests.conformance.reference import _is_wanted, _small, _values, folder, having
from tests.conformance.test_ranking import LAW, conditions

FIELDS = (*VALUE_FIELDS, *BOUNDS)


def expected(documents: Sequence[Document], query: Selection, fields, size: int):
    """The counts, one document at a time."""
    wanted = [d for d in documents if matches(d, query)]
    counted = {}
    for field in fields:
        found = Counter(value for d in wanted for value in values(d, field))
        if field in ("camera", "lens", "keywords"):
            found = without_case(found, [{_small(v) for v in values(d, field)} for d in wanted])
        if field in BOUNDS:
            order = [shown(field, low) for low in (0, *BOUNDS[field])]
            counted[field] = [{"value": v, "count": found[v]} for v in order if v in found]
        else:
            best = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:size]
            best = sorted(found.items(), reverse=True) if field in ("year", "month") else best
            counted[field] = [{"value": v, "count": n} for v, n in best]
    return counted


def without_case(spelled: Counter[str], of_documents: list[set[str]]) -> dict[str, int]:
    """The most frequent spellings, and how many documents have any spelling of them."""
    best: dict[str, str] = {}
    for value, _ in sorted(spelled.items(), key=lambda item: (-item[1], item[0])):
        best.setdefault(_small(value), value)
    return {value: sum(small in each for each in of_documents) for small, value in best.items()}


def matches(document: Document, query: Selection) -> bool:
    if not isinstance(query, Query):
        return _is_wanted(document, query)
    if query.counts is not None:
        return _is_wanted(document, replace(query, filters=(*query.filters, query.counts)))
    keys = {term.key for term in query.terms}
    shares = document.embedding is not None if query.is_dense else False
    shares = shares or any(term.key in keys for term in document.terms)
    return shares and _is_wanted(document, query)


def values(document: Document, field: str) -> set[str]:
    if field in BOUNDS:
        return {shown(field, getattr(document, field))}
    if field in ("synsets", "top_synset"):
        terms = document.terms if field == "synsets" else document.terms[:1]
        return {term.key for term in terms}
    if field.startswith("metadata."):
        return set(_values(document, Filter(field, "in", ())))
    if field in ("year", "month"):
        taken_at = document.photo.taken_at
        return set() if taken_at is None else {taken_at.isoformat()[: 4 if field == "year" else 7]}
    if field == "place":
        return set() if document.photo.place is None else {tile(*document.photo.place)}
    if field == "album":
        return {folder(document.uri)} - {""}
    if field in ("camera", "lens", "keywords"):
        value = getattr(document.photo, field)
        return set(value) if field == "keywords" else {value} - {""}
    return set(document.labels) if field == "label" else {document.format}


def tile(latitude: float, longitude: float) -> str:
    """By the formula of web maps, as OpenStreetMap's wiki has it."""
    row = 128 * (1 - math.asinh(math.tan(math.radians(latitude))) / math.pi)
    return f"8/{math.floor(256 * (longitude + 180) / 360)}/{math.floor(row)}"


def shown(field: str, number: int) -> str:
    """The range's name, written out once more."""
    names = {
        "bytes": ["<16 KB", "16-64 KB", "64-256 KB", "256 KB-1 MB", "1-4 MB", "4-16 MB", ">=16 MB"]
    }.get(field, ["<256", "256-511", "512-1023", "1024-2047", "2048-4095", ">=4096"])
    return names[sum(number >= bound for bound in BOUNDS[field])]


def make_documents() -> list[Document]:
    random = np.random.default_rng(4)
    made = []
    for number, document in enumerate(posteriors(400, seed=3) + extremes()):
        size = int(2 ** random.uniform(3, 13))
        weight = int(2 ** random.uniform(10, 26))
        if number % 10 == 0:  # on a bound, or just below
            size, weight = 1024 - number % 20 // 10, 64 * 1024 - number % 20 // 10
        labels = (*document.labels, AWKWARD_NAMES[number % len(AWKWARD_NAMES)])
        odd = {"a [b] > 'c\"": {"d": AWKWARD_NAMES[number % len(AWKWARD_NAMES)]}}
        odd["real"] = [1e16, -1e300, 1e-5, 123456789012345680.0, -0.0, 0.1][number % 6 :]
        photo = document.photo
        camera = photo.camera.upper() if number % 5 else photo.camera.lower()
        keywords = (*photo.keywords, *(("Sea", "SEA", "übung")[: number % 4]))
        photo = replace(photo, camera=camera, keywords=keywords)
        document = replace(document, metadata={**document.metadata, **odd}, photo=photo)
        if number % 9 == 0:
            uri = f"tar://a/{number}.jpg::/photos/{number % 2}.tar"
            document = replace(document, uri=uri, id=picture_id(uri))
        made.append(replace(document, width=size, height=size, bytes=weight, labels=labels))
    return made


def check(case: Case, query: Selection, fields: Sequence[str] = FIELDS, size: int = 10) -> None:
    assert case.store.facets(query, fields, size) == expected(case.documents, query, fields, size)


@pytest.mark.scripts
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_all_documents(case, size):
    check(case, Selection(), size=size)


def test_the_default_fields(case):
    check(case, Selection(), FACETS)
    assert case.store.facets(Selection(), [], 10) == {}


@pytest.mark.scripts
@LAW
@given(
    keys=st.lists(st.sampled_from(KEYS[:80]), min_size=1, max_size=5, unique=True),
    where=conditions,
    without=st.lists(st.sampled_from(KEYS[:40]), max_size=2),
    size=st.integers(1, 30),
)
def test_of_a_query(case, keys, where, without, size):
    terms = synset_vector(Term(key, 0.5) for key in keys)
    query = Query(terms, filters=parse_filters(where) + having(without, negated=True), k=1)
    check(case, query, size=size)


@pytest.mark.scripts
@LAW
@given(
    groups=st.lists(
        st.lists(st.sampled_from(KEYS[:80]), min_size=1, max_size=9, unique=True),
        min_size=1,
        max_size=3,
    ),
    where=conditions,
    least=st.sampled_from([0.0, 1e-6, 0.01, 0.04, 0.2, 0.5]),
    without=st.sampled_from(KEYS[:40]),
)
def test_what_counts(case, groups, where, least, without):
    """Of words those pictures that show one: totals, facets, lists and what is removed."""
    counts = any_of(tuple(item for keys in groups for item in having(keys, least)))
    unless = any_of((*having([without], least, negated=True), *having(groups[0], 0.3)))
    query = Query(
        synset_vector([Term(key, 0.5) for keys in groups for key in keys]),
        filters=(*parse_filters(where), unless),
        counts=counts,
    )
    check(case, query)
    ids = sorted(document.id for document in case.documents if matches(document, query))
    assert case.store.matching(query) == ids
    assert case.store.count(query) == len(ids)
    assert case.store.search(replace(query, sort="uri")).total == len(ids)
    case.check(query)


@pytest.mark.parametrize(
    ("line", "conditions"),
    [("cat -dog", 3), ("dog -cat", 1), ("poodle -dog", 1), ("+tabby dog -jackfruit kite", 2)],
)
def test_lines_of_words(case, line, conditions):
    """An excluded word is compared with those asked for, where it has more classes than they."""
    words = parse_words(line, imagenet())
    assert len(words.signs) == conditions
    query = Query(words.terms, filters=words.signs, counts=words.counts)
    check(case, query, ["top_synset", "label"])
    assert case.store.count(query) == len(case.store.matching(query))
    case.check(query)


def test_what_is_typed_goes_on(case):
    best = Counter(document.terms[0].key for document in case.documents if document.terms)
    found = suggestions(case.store, imagenet(), "gold", 9)
    assert {"goldfish", "goldfinch", "golden retriever"} <= {item.text for item in found}
    counts = [item.count for item in found if item.text.startswith("gold")]
    assert counts == sorted(counts, reverse=True)
    assert all(item.count == best[item.text.replace(" ", "_")] for item in found[:3])
    pets = Counter(label for document in case.documents for label in document.labels)["pets"]
    assert suggestions(case.store, imagenet(), "PET", 9)[-1] == Suggestion(
        "label:pets", "label", pets
    )
    assert Suggestion("label:", "field", None) in suggestions(case.store, imagenet(), "la", 12)
    name = case.documents[0].filename
    (named,) = {i for i in suggestions(case.store, imagenet(), name, 9) if i.kind == "file"}
    assert parse_words(named.text, imagenet()).filters == (Filter("filename", "in", (name,)),)
    assert suggestions(case.store, imagenet(), f"name:{name[:3]}", 9)
    assert suggestions(case.store, imagenet(), "year:20", 9)
    for facet in ("month:20", "place:8"):  # no fields of the language
        assert suggestions(case.store, imagenet(), facet, 9) == []
    assert suggestions(case.store, imagenet(), "retreiver", 9)[0].text == "retriever"
    for line in ("golden re", "zebra golden re", "zebra " * 2000 + "golden re"):  # after others
        assert suggestions(case.store, imagenet(), line, 9)[0].text == "golden retriever"
    assert suggestions(case.store, imagenet(), " ", 9) == []
    taught = imagenet().with_taught([("taught", "w^2 AND", "")])
    assert suggestions(case.store, taught, "w^2", 9) == [Suggestion('"w^2 AND"', "taught", 0)]


@pytest.mark.scripts
def test_of_a_picture_by_its_deep_feature_and_of_conditions_alone(case):
    options = {"strategy": "dense-cosine", "embedding": np.ones(8, np.float32)}
    pets = parse_filters({"label": "pets"})
    check(case, Query((), **options))
    check(case, Query((), filters=pets, **options))
    check(case, Selection(filters=parse_filters({"label": "pets", "width": {"gte": 500}})))
    others = parse_filters({"-label": "pets"})
    check(case, Selection(filters=others + having(KEYS[:40]) + having(KEYS[:9], negated=True)))


@pytest.mark.parametrize(
    "field",
    ["camera", "tags", "place.indoor", "people.name", "people.seen.at.0", "a [b] > 'c\".d",
     "people", "real", "nothing"],
)  # fmt: skip
def test_of_metadata(case, field):
    field = f"metadata.{field}"
    check(case, Selection(), [field])
    check(case, Selection(filters=parse_filters({"label": "pets"})), [field, "format"], size=1)
    words = Query((Term(KEYS[0], 1.0), Term(KEYS[1], 1.0)))
    check(case, words, [field], size=10_000)
    of_one = Selection(filters=parse_filters({"metadata.real": [1e16, 0.1]}))
    check(case, of_one, [field])


@pytest.mark.scripts
def test_nothing_matches(case):
    query = Query((Term("tabby", 1.0),), filters=parse_filters({"label": "nobody's"}))
    assert case.store.facets(query, FIELDS, 10) == {field: [] for field in FIELDS}


@pytest.mark.node
def test_many_values_on_several_shards(fresh_index_name, elasticsearch_url):
    """More values than a shard reports, so that the best can only be known by counting all."""
    base = make_documents()[:100]
    documents = [
        replace(
            base[i % 100],
            id=f"{i:032x}",
            labels=(f"often {i % 7}", *(f"once {i} {j}" for j in range(110))),
            photo=Photo(
                keywords=(f"{'oO'[i % 2]}ften", *(f"{'kK'[j % 2]} {i} {j // 2}" for j in range(90)))
            ),
        )
        for i in range(300)
    ]
    with filled(f"{elasticsearch_url}/{fresh_index_name}", documents, shards=2) as store:
        check(Case(store, documents), Selection(), ["label", "format", "keywords"], 12)
        many = {"many": [f"once {i}" for i in range(11_000)]}
        assert store.write([replace(d, metadata=many) for d in documents[:9]]).rejected == []
        store.finish()
        with pytest.raises(StoreError, match=r"metadata\.many on several shards"):
            store.facets(Selection(), ["metadata.many"], 12)
