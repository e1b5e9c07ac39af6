"""How photos were taken: both stores meet conditions, sort and count as a loop over documents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import QueryError
from imgsearch_es.pictures.files import picture_id
from imgsearch_es.pictures.photo import Photo
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.language import parse_words
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.search.suggesting import suggestions
from imgsearch_es.stores.base import Store
from imgsearch_es.vocabulary.synsets import imagenet
from tests.conformance.collections import KEYS, posteriors
from tests.conformance.conftest import Case, answers, filled, ranking
from tests.conformance.reference import folder
from tests.conformance.test_verify import IMPORTED

OWN_SETTINGS = IMPORTED
ODD = ("12", "-3.5e2", "1e400", "0x10", "2024-05-01", "2024-05-01 10:30", "2024-5-1", " 7", "text")


MAC = "/mac/cafe\u0301"
"""A folder as a Mac may write it: with the accent apart from its letter."""


def make_documents() -> list[Document]:
    first, second, third, *others = posteriors(240, seed=5)
    top = replace(first, uri="/top.jpg", id=picture_id("/top.jpg"))  # in no folder with a name
    packed = "tar://cats/1.jpg::/photos/3.tar"
    member = replace(second, uri=packed, id=picture_id(packed))
    apart = f"{MAC}/Ho\u0308he.jpg"
    said = {**third.metadata, "where": "cafe\u0301"}
    mac = replace(third, uri=apart, id=picture_id(apart), filename=apart[-9:], metadata=said)
    mac = replace(mac, labels=("cafe\u0301",))
    return [
        replace(
            d, metadata={**d.metadata, "odd": [ODD[i % len(ODD)], ODD[i % 4]], "n": i % 50 - 25}
        )
        for i, d in enumerate([top, member, mac, *others])
    ]


def taken(document: Document) -> datetime:
    return document.photo.taken_at or datetime.min


def year(document: Document) -> int:
    return document.metadata.get("year", -1)


def meters(document: Document, latitude: float, longitude: float) -> float:
    """By the spherical law of cosines."""
    if document.photo.place is None:
        return math.inf
    a, b, c, d = map(math.radians, (*document.photo.place, latitude, longitude))
    cosine = math.sin(a) * math.sin(c) + math.cos(a) * math.cos(c) * math.cos(b - d)
    return 6371008.7714 * math.acos(min(1, cosine))


def inside(d: Document, south: float, west: float, north: float, east: float) -> bool:
    place = d.photo.place
    return place is not None and south <= place[0] <= north and west <= place[1] <= east


CONDITIONS: dict[str, Any] = {
    "taken:2018": lambda d: taken(d).year == 2018,
    "taken:2017-12,2019": lambda d: taken(d).year in (2017, 2019),
    "taken:2018..2019": lambda d: taken(d).year in (2018, 2019),
    "taken_at:2018-07-13T23:59:57": lambda d: taken(d) == datetime(2018, 7, 13, 23, 59, 57),
    "taken:..2018-04": lambda d: datetime.min < taken(d) < datetime(2018, 5, 1),
    "taken:>=2018-07-13T23:59:57.0005": lambda d: taken(d) > datetime(2018, 7, 13, 23, 59, 57),
    "taken:2018-07-13T23:59:57.0005..": lambda d: taken(d) > datetime(2018, 7, 13, 23, 59, 57),
    f"metadata.n:{','.join(f'{n}..{n}' for n in range(256))}": lambda d: d.metadata["n"] >= 0,
    "taken:>2018": lambda d: taken(d).year > 2018,
    "year:<=2018": lambda d: taken(d).year in (2017, 2018),
    "-taken:2018": lambda d: taken(d).year != 2018,
    "camera:x100*": lambda d: d.photo.camera in ("X100V", "x100ü*"),
    "camera:x100v,ilce-7m3": lambda d: d.photo.camera in ("X100V", "ILCE-7M3"),
    'camera:"X100ü*"': lambda d: d.photo.camera == "x100ü*",
    "camera:X100Ü*": lambda d: False,
    'camera:"X100u\u0308*"': lambda d: d.photo.camera == "x100ü*",
    "camera:*u\u0308?": lambda d: d.photo.camera == "x100ü*",
    "label:caf\u00e9": lambda d: d.uri.startswith(MAC),
    "-label:caf\u00e9": lambda d: not d.uri.startswith(MAC),
    "label:*f\u00e9": lambda d: d.uri.startswith(MAC),
    "album:/mac/caf\u00e9": lambda d: d.uri.startswith(MAC),
    "album:*\u00e9": lambda d: d.uri.startswith(MAC),
    "name:H\u00f6he.jpg": lambda d: d.uri.startswith(MAC),
    "name:*\u00f6*": lambda d: d.uri.startswith(MAC),
    "metadata.where:caf\u00e9": lambda d: d.uri.startswith(MAC),
    "-camera:*": lambda d: not d.photo.camera,
    "lens:*f1.4": lambda d: bool(d.photo.lens),
    "caption:*BEACH?": lambda d: "beach" in d.photo.caption,
    r'caption:"a day: at the \\ beach?"': lambda d: "beach" in d.photo.caption,
    "keyword:SEA,k2": lambda d: bool({"sea", "k2"} & set(d.photo.keywords)),
    "near:48.15,179.975,3km": lambda d: meters(d, 48.15, 179.975) < 3000,
    "near:48.2,-179.99,5mi": lambda d: meters(d, 48.2, -179.99) < 5 * 1609.344,
    "-near:48.15,179.975,3000m": lambda d: not meters(d, 48.15, 179.975) < 3000,
    "within:48.11,179.96,48.15,179.97": lambda d: inside(d, 48.11, 179.96, 48.15, 179.97),
    "within:48.1,179.97,90,-179.5": lambda d: inside(d, 48.1, 179.97, 90, 180),
    "-within:48.11,179.96,48.15,179.97": lambda d: not inside(d, 48.11, 179.96, 48.15, 179.97),
    "album:/photos/3,/photos": lambda d: folder(d.uri) == "/photos/3",
    "album:/photos": lambda d: False,
    "-album:*s/?": lambda d: folder(d.uri) in ("", "/photos/3.tar", MAC),
    "album:/photos/3.tar": lambda d: d.uri.startswith("tar://"),
    "album:*.tar": lambda d: d.uri.startswith("tar://"),
    "album:tar*": lambda d: False,
    "album:*s/[3]": lambda d: False,
    "album:*": lambda d: d.uri != "/top.jpg",
    'album:"",/photos/3': lambda d: folder(d.uri) == "/photos/3",
    "album:/p*3": lambda d: folder(d.uri) == "/photos/3",
    "metadata.year:>=2003": lambda d: year(d) >= 2003,
    "metadata.year:2001..2003": lambda d: 2001 <= year(d) <= 2003,
    "-metadata.year:>2003": lambda d: not year(d) > 2003,
    "metadata.n:<0": lambda d: d.metadata["n"] < 0,
    "metadata.n:>-2.5": lambda d: d.metadata["n"] > -2.5,
    "metadata.odd:>11": lambda d: "12" in d.metadata["odd"],
    "metadata.odd:<1e9": lambda d: bool({"12", "-3.5e2"} & set(d.metadata["odd"])),
    "metadata.odd:2024-05-01": lambda d: "2024-05-01" in d.metadata["odd"],
    "metadata.odd:2024-05-01..2024-05-02": lambda d: bool(
        {"2024-05-01", "2024-05-01 10:30"} & set(d.metadata["odd"])
    ),
    "metadata.odd:>2024-05-01T09:00": lambda d: "2024-05-01 10:30" in d.metadata["odd"],
    "top_score:0.1..0.3": lambda d: bool(d.terms) and 0.1 <= d.terms[0].score <= 0.3,
    "width:110..120,130": lambda d: 110 <= d.width <= 120 or d.width == 130,
    "label:pets": lambda d: "pets" in d.labels,
}


@pytest.mark.parametrize("line", CONDITIONS)
def test_conditions(case, line):
    words = parse_words(line, imagenet())
    wanted = sorted(d.id for d in case.documents if CONDITIONS[line](d))
    assert len(wanted) < len(case.documents)
    assert sorted(d.id for d in case.store.documents(words.filters)) == wanted
    terms = tuple(Term(key, 1.0) for key in KEYS[:100])
    ranked, _ = case.reference.rank(Query(terms, k=1000))
    (found,) = answers(case.store, [Query(terms, filters=words.filters, k=1000)])
    assert ranking(found) == [item for item in ranked if item[1] in wanted]
    (found,) = answers(case.store, [Query((), filters=words.filters, k=1000, sort="uri")])
    assert sorted(hit.document.id for hit in found.hits) == wanted
    assert parse_words(" ".join(map(str, words.filters)), imagenet()).filters == words.filters


def test_accents_apart_are_suggested(case):
    found = suggestions(case.store, imagenet(), "label:caf\u00e9", 9)
    assert [each.text for each in found] == ["label:cafe\u0301"]


def number(document: Document) -> float | None:
    return document.metadata.get("year")


SORTS: dict[str, Any] = {
    "taken_at": lambda d: d.photo.taken_at,
    "indexed_at": lambda d: d.indexed_at,
    "width": lambda d: d.width,
    "bytes": lambda d: d.bytes,
    "filename": lambda d: d.filename,
    "metadata.year": number,
}


@pytest.mark.parametrize("minus", ["", "-"])
@pytest.mark.parametrize("field", SORTS)
def test_sorting(case, field, minus):
    has = sorted((d for d in case.documents if SORTS[field](d) is not None), key=lambda d: d.id)
    has.sort(key=SORTS[field], reverse=(field != "filename") != bool(minus))
    lacks = sorted(d.id for d in case.documents if SORTS[field](d) is None)
    wanted = [*(d.id for d in has), *lacks]
    query = Query((), sort=minus + field, k=1000)
    check_list(case.store, query, wanted)
    pets = Query(
        (Term(KEYS[0], 1.0),), sort=minus + field, filters=parse_filters({"label": "pets"})
    )
    keys = {
        d.id for d in case.documents if "pets" in d.labels and KEYS[0] in {t.key for t in d.terms}
    }
    check_list(case.store, replace(pets, k=1000), [key for key in wanted if key in keys])


def check_list(store: Store, query: Query, wanted: Sequence[str]) -> None:
    """A list by one search, by pages of it, from an offset on, and its facets."""
    (whole,) = answers(store, [query])
    assert [hit.document.id for hit in whole.hits] == wanted
    assert (whole.total, whole.exact, {hit.score for hit in whole.hits} <= {0.0}) == (
        len(wanted), True, True,
    )  # fmt: skip
    pages = list(store.pages(replace(query, k=7, offset=5)))
    assert [hit.document.id for page in pages for hit in page.hits] == wanted[5:]
    assert all(page.total == len(wanted) for page in pages)
    scored = Query((Term(KEYS[0], 1.0),))
    first, second, third = store.search_many([scored, replace(query, k=3, offset=2), scored])
    assert [hit.document.id for hit in second.hits] == wanted[2:5]
    assert ranking(first) == ranking(third)
    years = store.facets(query, ["year"], 10)["year"]
    assert sum(item["count"] for item in years) <= len(wanted)
    assert sorted(store.matching(query)) == sorted(wanted)


def test_metadata_of_numbers_and_times_is_sorted_numbers_above_times(case):
    found = store_order(case, "metadata.odd")
    assert found[:2] == ["12", "12"]
    assert found == sorted(found, key=["12", "-3.5e2", "2024-05-01 10:30", "2024-05-01", ""].index)
    other = store_order(case, "-metadata.odd")
    assert other[0] == "2024-05-01"


def store_order(case: Case, sort: str) -> list[str]:
    """What of "odd" the documents are sorted by, each once in the order of the list."""
    (found,) = answers(case.store, [Query((), sort=sort, k=1000)])
    known = ["12", "-3.5e2", "2024-05-01 10:30", "2024-05-01"]
    known = known if sort[0] != "-" else ["2024-05-01", "2024-05-01 10:30", "-3.5e2", "12"]
    return [
        next((value for value in known if value in hit.document.metadata["odd"]), "")
        for hit in found.hits
    ]


def test_it_is_whole_and_comes_through_a_file(case, place, tmp_path):
    with ImageIndex(case.store.location) as index:
        assert index.verify().is_whole
        for name in ("all.jsonl", "all.parquet"):
            index.export(tmp_path / name)
            with ImageIndex(place()) as other:
                assert other.import_(tmp_path / name).rejected == 0
                stored = {d.id: d for d in other.store.documents()}
                assert other.verify().is_whole
            for document in case.documents:
                assert stored[document.id].photo == document.photo
                assert stored[document.id].checksum == document.checksum


@pytest.mark.parametrize("photo", [Photo(keywords=("a",)), Photo(place=(0.0, 0.0))])
def test_an_index_of_before_there_were_photos(place, photo, make_old):
    documents = [replace(d, photo=Photo()) for d in make_documents()[:9]]
    location = place()
    make_old(location, documents)
    with ImageIndex(location) as index:
        store = index.store
        assert store.search(Query((Term(KEYS[0], 1.0),), k=20)).hits is not None
        assert store.search(Query((), sort="taken_at", k=20)).total == 9
        assert not list(store.documents(parse_filters({"camera": "*", "near": "0,0,1km"})))
        assert store.facets(Selection(), ["year", "camera"], 5) == {"year": [], "camera": []}
        assert {d.id: d.checksum for d in store.documents()} == {
            d.id: d.checksum for d in documents
        }
        check_old_metadata(store)
        store.write([replace(documents[0], photo=photo, metadata={"n": 1})])
        store.finish()
        check_old_metadata(store)
        assert index.verify().is_whole
        assert store.get([documents[0].id])[documents[0].id].photo == photo
        assert store.search(Query((), sort="taken_at", k=20)).total == 9


def check_old_metadata(store: Store) -> None:
    """On Elasticsearch it is in order in all documents, or in none."""
    for condition, sort in (("1..2", "uri"), ("x", "metadata.n"), ({"gt": 1}, "uri")):
        filters = parse_filters({"metadata.n": condition})
        with (
            pytest.raises(QueryError, match="`imgsearch reindex` adds that")
            if store.location.startswith("http")
            else nullcontext()
        ):
            store.search(Query((), filters=filters, sort=sort))


@pytest.fixture
def make_old(monkeypatch):
    """Gives what makes an index as versions without photos did."""

    def make(location: str, documents: Sequence[Document]) -> None:
        if location.startswith("http"):
            from imgsearch_es.stores.elastic import mapping

            with monkeypatch.context() as patch:
                kept = {"checksum": mapping.LATER["checksum"]}
                patch.setattr(mapping, "LATER", kept)
                plain = [replace(d, metadata={}, text=None) for d in documents]
                documents[:] = plain  # type: ignore[index]
                with filled(location, plain, IMPORTED):
                    return
        import duckdb

        with filled(location, documents, IMPORTED):
            pass
        with duckdb.connect(location) as connection:
            connection.execute("ALTER TABLE documents DROP COLUMN photo")

    return make
