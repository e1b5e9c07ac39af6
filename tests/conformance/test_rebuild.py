"""Going over all documents, and putting an index that was built beside in the place of another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import IndexRebuiltError
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.stores import open_store
from imgsearch_es.stores.base import Store
from tests.conformance.collections import document, posteriors
from tests.conformance.conftest import SETTINGS, filled

TABBY = Query((Term("tabby", 1.0),))
OTHER = replace(SETTINGS, weights="sha256:other")


def rebuilt(old: Store, *names: str) -> Store:
    """An index beside, with these documents."""
    new = old.beside()
    new.create(OTHER)
    new.write([document(name, [("tabby", 0.25)]) for name in names])
    new.finish()
    return new


def test_documents_that_meet_conditions(place):
    documents = posteriors(700)
    where = {"label": "pets", "-format": "PNG", "width": {"gte": 110}}
    wanted = {d.id for d in documents if "pets" in d.labels and d.format != "PNG" and d.width > 109}
    with filled(place(), documents) as store:
        assert {d.id for d in store.documents(parse_filters(where))} == wanted
        assert list(store.documents(parse_filters({"label": "none"}))) == []


def test_the_mark_changes_with_every_write(place):
    first = document("a.jpg", [("tabby", 0.5)])
    with filled(place(), [first]) as store:
        marks = [store.mark()]
        assert store.mark() == marks[0]
        store.write([document("b.jpg", [("tabby", 0.5)])])
        marks.append(store.mark())
        store.write([replace(first, labels=("new",))])
        marks.append(store.mark())
        store.remove([first.id])
        marks.append(store.mark())
        assert len(set(marks)) == 4


@pytest.mark.parametrize("keep", [False, True])
def test_replacing_is_noticed_by_all_who_have_the_index_open(place, keep):
    with filled(place(), [document("a.jpg", [("tabby", 0.5)])]) as store:
        reader, other, writer = (open_store(store.location) for _ in range(3))
        assert reader.search(TABBY).total == 1
        assert other.settings() == writer.settings() == SETTINGS
        new = rebuilt(store, "a.jpg", "b.jpg")
        assert store.search(TABBY).total == 1, "the new index is not seen before the swap"
        assert store.replace(new, store.mark(), keep=keep)
        with pytest.raises(IndexRebuiltError, match="rebuilt"):
            reader.search(TABBY)
        with pytest.raises(IndexRebuiltError, match="rebuilt"):
            other.search_many([TABBY, TABBY])
        with pytest.raises(IndexRebuiltError, match="rebuilt"):
            writer.write([document("c.jpg", [("tabby", 1.0)])])
        for opened in (open_store(store.location), renewed(reader), renewed(writer)):
            assert opened.settings() == OTHER
            assert opened.search(TABBY).total == opened.count() == 2
        second = rebuilt(renewed(store), "c.jpg")
        assert store.replace(second, store.mark(), keep=False)
        assert open_store(store.location).count() == 1


def test_who_writes_or_turns_pages_stays_with_the_index_it_began_with(place):
    """A search in another thread notices the new index; writing must go on to be an error."""
    with filled(place(), [document("a.jpg", [("tabby", 0.5)])]) as store:
        opened, late = open_store(store.location), open_store(store.location)
        assert (opened.search(TABBY).total, late.settings()) == (1, SETTINGS)
        assert store.replace(rebuilt(store, "other.jpg"), store.mark(), keep=False)
        for _ in range(2):
            with pytest.raises(IndexRebuiltError):
                opened.search(TABBY)
            with pytest.raises(IndexRebuiltError):
                opened.write([document("b.jpg", [("tabby", 1.0)])])
            with pytest.raises(IndexRebuiltError):
                opened.mark()
        assert renewed(opened).count() == 1
        with pytest.raises(IndexRebuiltError, match="rebuilt"):
            next(late.pages(TABBY))  # it was asked for when the other was there
        assert [result.total for result in renewed(late).pages(TABBY)] == [1]


def renewed(store: Store) -> Store:
    store._looked_at = 0.0  # the alias is asked for once a second
    store.renew()
    return store


def test_nothing_is_replaced_when_the_old_index_was_written_to(place):
    with filled(place(), [document("a.jpg", [("tabby", 0.5)])]) as store:
        mark, new = store.mark(), rebuilt(store, "a.jpg")
        store.write([document("late.jpg", [("tabby", 0.5)])])
        assert not store.replace(new, mark, keep=False)
        assert store.settings() == SETTINGS
        assert store.write([document("later.jpg", [("tabby", 0.5)])]).stored == 1
        store.finish()
        assert store.search(TABBY).total == 3
        beside = open_store(store.location).beside()
        assert (beside.settings(), beside.count()) == (OTHER, 1), "it is found again"
        new.delete()
        assert store.beside().settings() is None
        new.delete()


@pytest.mark.parametrize("place", ["elasticsearch"], indirect=True)
@pytest.mark.node
def test_an_index_that_was_kept_is_not_taken_for_one_that_was_begun(place):
    """Who goes back to the replaced index keeps both, or a copy under the next number."""
    with filled(place(), [document("a.jpg", [("tabby", 0.5)])]) as store:
        assert store.replace(rebuilt(store, "b.jpg", "c.jpg"), store.mark(), keep=True)
        first, second, third = (f"{store.location}-00000{number}" for number in (1, 2, 3))
        name, old, new = (url.rpartition("/")[2] for url in (store.location, first, second))
        back = {"remove": {"index": new, "alias": name}}, {"add": {"index": old, "alias": name}}
        store.client.indices.update_aliases(actions=back)
        returned = open_store(store.location)
        rebuilt_again = rebuilt(returned, "d.jpg")
        assert rebuilt_again.location == third
        assert returned.beside().count() == 1, "that one is found again"
        assert returned.replace(rebuilt_again, returned.mark(), keep=True)
        assert [open_store(each).count() for each in (first, second, third)] == [1, 2, 1]
