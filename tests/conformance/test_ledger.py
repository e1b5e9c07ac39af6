"""Rejected pictures are noted beside the documents, and contents are found by hash: both stores."""

from __future__ import annotations

import os
from dataclasses import astuple, replace
from datetime import datetime, timezone
from types import SimpleNamespace

import elasticsearch
import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.errors import StoreError
from imgsearch_es.retrieval.ledger import Rejected
from imgsearch_es.stores import open_store
from imgsearch_es.stores.base import Store
from tests.conformance.collections import AWKWARD_NAMES, document, posteriors
from tests.conformance.conftest import SETTINGS, filled

AT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=timezone.utc)


def entries(number: int) -> list[Rejected]:
    return [
        Rejected(f"/photos/{i:05}.jpg", f"reason {i % 3}", AT, f"{i:064x}", "Pillow 1", given="{}")
        for i in range(number)
    ]


def test_a_ledger_that_is_not_there_is_empty(place, store: Store):
    assert store.ledger.read() == store.ledger.read(["0" * 32]) == []
    with filled(place(), []) as existing:
        assert existing.ledger.read() == existing.ledger.read(["0" * 32]) == []
        existing.ledger.remove(["0" * 32])
        existing.ledger.write([])
        assert existing.ledger.read() == []


def test_entries_come_back_are_replaced_and_struck_out(place):
    noted = entries(2100)
    noted += [Rejected(f"/photos/{name}", f"because of {name}", AT) for name in AWKWARD_NAMES]
    noted.append(
        Rejected(f"http://host/{'é' * 20_000}.jpg", "its URI is longer than a keyword", AT)
    )
    noted.sort(key=lambda entry: entry.uri)
    with filled(place(), posteriors(20)) as store:
        store.ledger.write(noted[::-1])
        found = open_store(store.location).ledger.read()
        assert list(map(astuple, found)) == list(map(astuple, noted))
        some = noted[5:2108:7]
        assert store.ledger.read([*(entry.id for entry in some), "0" * 32]) == some
        assert store.ledger.read([]) == []

        # The newer entry of a URI takes the place of the older one.
        newer = replace(some[0], reason="another", sha256="", rejected_at=AT.replace(year=2027))
        store.ledger.write([some[1], newer])
        assert list(map(astuple, store.ledger.read([newer.id]))) == [astuple(newer)]

        # Searches and counts do not meet rejected pictures.
        store.finish()
        assert store.count() == store.stats()["documents"] == 20
        assert len(store.below("/photos/")) == 20
        assert store.get([entry.id for entry in noted]) == {}

        store.ledger.remove([*(entry.id for entry in noted[2:]), "0" * 32])
        assert store.ledger.read() == noted[:2]


def test_contents_are_found(place):
    documents = posteriors(30)
    copy = replace(document("copy.jpg", [("tabby", 0.5)]), sha256=documents[3].sha256)
    with filled(place(), [*documents, copy]) as store:
        hashes = [document.sha256 for document in documents[:10]]
        expected = {each.sha256: {each.id: each.uri} for each in documents[:10]}
        expected[copy.sha256][copy.id] = copy.uri
        found = store.by_content([*hashes, *hashes, "f" * 64])
        assert found == expected
        assert list(found[copy.sha256]) == sorted([copy.id, documents[3].id])
        assert store.by_content([]) == {}


def test_of_very_many_documents_of_one_content_the_first_are_told(place):
    copies = [replace(document(f"{i}.jpg", [("tabby", 0.5)]), sha256="a" * 64) for i in range(130)]
    with filled(place(), copies) as store:
        (found,) = store.by_content(["a" * 64]).values()
        assert list(found) == sorted(each.id for each in copies)[:100]


@pytest.mark.node
def test_an_index_that_happens_to_have_the_ledgers_name_is_left_alone(fresh_index_name, request):
    url = request.getfixturevalue("elasticsearch_url")
    store, other = (open_store(f"{url}/{fresh_index_name}{end}") for end in ("", "-rejected"))
    for each in (store, other):
        each.create(SETTINGS)
    with pytest.raises(StoreError, match=f"noted in the index {fresh_index_name}-rejected"):
        store.ledger.write(entries(1))
    store.close()
    other.close()


@pytest.mark.node
def test_a_ledger_of_an_earlier_version_takes_what_it_did_not(fresh_index_name, elasticsearch_url):
    properties = {name: {"type": "keyword"} for name in ("uri", "reason", "sha256")}
    with filled(f"{elasticsearch_url}/{fresh_index_name}", []) as store:
        store.client.indices.create(
            index=f"{fresh_index_name}-rejected",
            mappings={"_meta": {"rejected_of": fresh_index_name}, "properties": properties},
        )
        (noted,) = [replace(entry, uri=f"/{'x' * 40_000}") for entry in entries(1)]
        store.ledger.write([noted])
        assert [astuple(entry) for entry in store.ledger.read()] == [astuple(noted)]


@pytest.mark.node
def test_who_may_not_change_a_ledger_of_an_earlier_version_writes_to_it(
    fresh_index_name, elasticsearch_url, monkeypatch
):
    def denied(*_: object, **__: object) -> None:
        raise elasticsearch.AuthorizationException("denied", SimpleNamespace(status=403), {})

    names = ("filename", "uri", "reason", "sha256", "tried_with", "given")
    properties = {name: {"type": "keyword"} for name in names} | {"rejected_at": {"type": "date"}}
    with filled(f"{elasticsearch_url}/{fresh_index_name}", []) as store:
        indices = store.client.indices
        indices.create(
            index=f"{fresh_index_name}-rejected",
            mappings={"_meta": {"rejected_of": fresh_index_name}, "properties": properties},
        )
        monkeypatch.setattr(type(indices), "put_mapping", denied)
        store.ledger.write(entries(1))
        assert store.ledger.read() == entries(1)


@pytest.mark.scripts
def test_a_file_that_holds_no_picture_any_more_is_not_found_any_more(fake_model, photos, place):
    """Damaged and empty files go at once and are noted; a pipe and a folder are as no file."""
    damaged, empty, pipe, folder = paths = sorted(photos.rglob("*.png"))[:4]
    whole = [path.read_bytes() for path in paths]
    with ImageIndex(place(), model="fake") as index:
        assert index.add(photos).added == 12
        index.add(damaged, labels=["mine"], metadata={"year": 1999})
        damaged.write_bytes(whole[0][:50])
        empty.write_bytes(b"")
        for path in (pipe, folder):
            path.unlink()
        os.mkfifo(pipe)
        folder.mkdir()
        report = index.add(photos)
        assert (report.unchanged, report.removed, len(report.rejected)) == (8, 2, 2)
        report = index.add(photos, prune=True)
        assert (report.removed, index.count()) == (2, 8)
        assert [entry.uri for entry in index.rejected()] == [str(damaged), str(empty)]
        found = {
            hit.uri for hit in index.search(image=str(sorted(photos.rglob("*.png"))[-1]), k=12)
        }
        assert found.isdisjoint(map(str, paths))
        for broken in (b"", b"still none"):
            damaged.write_bytes(broken)
            index.add(photos)
        damaged.write_bytes(whole[1])
        assert index.add(photos).added == 1
        mended = index.get(str(damaged))
        assert (mended.labels, mended.metadata) == (("mine",), {"year": 1999})


def test_what_is_said_of_a_picture_while_a_run_updates_it_stays(fake_model, photos, place):
    changed, same = sorted(photos.rglob("*.png"))[:2]
    with ImageIndex(place(), model="fake") as index:
        index.add(photos)

        def year(uri: str) -> dict[str, int]:  # it is asked for after the index was looked at
            if uri == str(same) and not index.get(uri).labels:
                index.update(changed, labels="mine")
                index.update(same, labels="mine")
            return {"year": 2026}

        changed.write_bytes(same.read_bytes())
        report = index.add(photos, metadata=year)
        assert (report.updated, report.rejected) == (12, [])
        for path in (changed, same):
            found = index.get(path)
            assert (found.labels, found.metadata) == (("mine",), {"year": 2026})
        index.add(photos, labels="given")
        assert {document.labels for document in index} == {("given",)}
        assert index.verify().is_whole


def test_what_is_said_of_a_picture_that_leaves_meanwhile_stays(fake_model, photos, place):
    broken, moved = sorted(photos.rglob("*.png"))[:2]
    with ImageIndex(place(), model="fake") as index:
        index.add(photos)
        whole, new = broken.read_bytes(), moved.with_name("new.png")
        broken.write_bytes(b"no picture")
        moved.rename(new)

        def year(uri: str) -> dict[str, int]:  # it is asked for after the index was looked at
            if uri == str(new) and not index.get(moved).labels:
                index.label([broken, moved], add=["mine"])
            return {"year": 2026}

        report = index.add(photos, metadata=year)
        assert (report.moved, report.removed) == (1, 1)
        assert (index.get(new).labels, index.get(new).metadata) == (("mine",), {"year": 2026})
        broken.write_bytes(whole)
        index.add(photos)
        assert index.get(broken).labels == ("mine",)
