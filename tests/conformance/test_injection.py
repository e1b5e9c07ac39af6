"""Whatever a person writes is data: no store fails over it, runs it, or finds too much by it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.conditions import KEYWORD_FIELDS, parse_filters, quoted
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.language import parse_words
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.vocabulary.synsets import imagenet
from tests.conformance.collections import AWKWARD_NAMES, document
from tests.conformance.conftest import Case, case_of
from tests.conformance.reference import having
from tests.conformance.test_ranking import LAW
from tests.conformance.test_store import same

TABBY = Query((Term("tabby", 1.0),), k=100)
NASTY = (
    *AWKWARD_NAMES, '"', "\\", '\\"', "'; DELETE FROM postings; --", "$terms", "{0}{values}{{",
    '"}}, "match_all": {"', '{"script": {"source": "System.exit(1)"}}',
    "doc['synset.tabby.score'].value", "*", "?", "a*b?c", "synset.tabby.score", "a.b", ".a..b.",
    "a/b~c", "0", "nul\0within", "bell\a, escape\x1b[31m and \x7f", "\ufeff\u200b\u2028", "^2",
    "-label:x", "x,y", "<script>alert(1)</script>", "../../etc/passwd", "%s%n%x", "${7*7}",
    "AND OR NOT TO", "_all", "Z̸͑a̶l̸g̶o", "x" * 4_000,
)  # fmt: skip


def _documents() -> list[Document]:
    made = []
    for number, text in enumerate(NASTY):
        own = {} if "\0" in text else {text: "here"}  # Elasticsearch refuses NUL in names
        one = document(f"n{number}/{text}", [("tabby", 0.5), ("beagle", 0.25)], number=number)
        made.append(replace(one, labels=(text, "all"), metadata={"plain": text, **own}))
    return made


@pytest.fixture(scope="module")
def case(place) -> Iterator[Case]:
    documents = _documents()
    with case_of(place(), documents) as made:
        yield made
        found = made.store.get([d.id for d in documents])
        assert made.store.count() == len(found) == len(documents)
        assert all(same(found[d.id], d) for d in documents)


@pytest.mark.parametrize("number", range(len(NASTY)))
def test_a_value_finds_what_has_it(case, number):
    text, one, queries = NASTY[number], case.documents[number], list[Query]()
    for field, value in [
        ("label", text), ("metadata.plain", text), ("uri", one.uri), ("filename", one.filename),
    ]:  # fmt: skip
        words = parse_words(f"tabby {field}:{quoted(value)}", imagenet())
        assert words.filters == parse_filters({field: value})
        assert parse_words(str(words), imagenet()) == words
        queries.append(replace(TABBY, filters=words.filters))
        assert one.id in {key for _, key in case.reference.rank(queries[-1])[0]}, field
        queries.append(replace(TABBY, filters=parse_filters({f"-{field}": value})))
    case.check(*queries)


@pytest.mark.parametrize("text", NASTY)
def test_everywhere_it_fails_clearly_or_not_at_all(case, text):
    queries = []
    for line in (text, f"-{text}", f"+{text}", f"tabby^{text}", f"tabby {text}:x",
                 f"synset:{text}", f"wnid:{text}", f"score({text})>0.5", f"score(tabby)>{text}",
                 f"tabby width:{text}", f"tabby width:>{text}", f"tabby indexed_at:{text}",
                 f"tabby label:{text}", f"tabby metadata.{text}:x", f"tabby {quoted(text)}",
                 f"tabby filename:{text}*", f"tabby metadata.{quoted(text)}:here"):  # fmt: skip
        try:
            words = parse_words(line, imagenet())
        except QueryError:
            continue
        queries.append(replace(TABBY, filters=words.signs + words.filters))
    case.check(*queries)


@pytest.mark.parametrize("text", NASTY)
def test_as_a_name_it_names_and_does_nothing_else(case, text):
    queries = [replace(TABBY, filters=having([text]))]
    queries.append(replace(TABBY, filters=having([text, "tench"], 0.1, negated=True)))
    queries.append(replace(TABBY, filters=having([text], negated=True), exclude=(text,)))
    for where in (
        {f"metadata.{text}": "here"}, {f"-metadata.{text}": "here"}, {text: "x"},
        {f"score({text})": {"gt": 0.1}}, {f"score({text})": {"lte": 0.1}},
        {"label": {text: "x"}}, {"width": {text: 1}}, {"width": text}, {"indexed_at": text},
        {"label": {"wildcard": text}}, {"synsets": text}, {"top_synset": {"wildcard": text}},
    ):  # fmt: skip
        try:
            queries.append(replace(TABBY, filters=parse_filters(where)))
        except QueryError:
            continue
    case.check(*queries)
    assert case.store.get([text]) == {}
    assert case.store.below(text + "/nowhere") == []


def test_a_megabyte_is_too_much():
    text = "x" * 2**20
    for where in ({"label": text}, {"label": {"wildcard": text}}, {f"metadata.{text}": "x"}):
        with pytest.raises(QueryError, match="characters"):
            parse_filters(where)


def test_numbers_of_any_size(case):
    wanted: list[dict[str, object]] = []
    for number in (0, -1, 2**31, -(2**31), 2**40, 2**53, 0.5, -1e-300, 1e15, 119.5):
        for field in ("width", "bytes", "top_score", "score(tabby)"):
            wanted += [{field: {operator: number}} for operator in ("gt", "gte", "lt", "lte")]
            wanted += [{field: [number, 110]}] * (field != "score(tabby)")
    case.check(*(replace(TABBY, filters=parse_filters(where)) for where in wanted))
    for number in (2**64, 10**5000, 1e300, float("inf"), float("nan")):
        with pytest.raises(QueryError, match="number"):
            parse_filters({"width": number})


def test_dates_of_any_time(case):
    dates = ("0001-01-01", "9999-12-31", "2026-01-01T00:00:00Z", "2026-01-01T05:00+02:00")
    operators = ("gte", "lt", "lte", "gt")
    wanted = [value for text in dates for value in (*({o: text} for o in operators), text)]
    case.check(*(replace(TABBY, filters=parse_filters({"indexed_at": one})) for one in wanted))


@LAW
@given(st.text(max_size=40), st.sampled_from(["label", "filename", "metadata.plain", "metadata.x"]))
def test_any_value_means_itself(case, text, field):
    words = parse_words(f"tabby -{field}:{quoted(text)} {field}:all,{quoted(text)}", imagenet())
    assert words.filters[0].values == (text,)
    for item in words.filters:
        case.check(replace(TABBY, filters=(item,)))


@LAW
@given(
    st.text(st.sampled_from("*?ab[]\\.%_^$\"'-n") | st.characters(exclude_categories=["Cs"])),
    st.sampled_from(KEYWORD_FIELDS),
)
def test_any_pattern_matches_alike(case, pattern, field):
    try:
        filters = parse_filters({field: {"wildcard": pattern}})
    except QueryError:
        assume(False)
    case.check(replace(TABBY, filters=filters))
