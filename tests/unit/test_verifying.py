"""``imgsearch verify``: what is wrong is named, put right where that can be, and told by others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.errors import ImgsearchError, StoreError
from imgsearch_es.pictures.files import picture_id
from imgsearch_es.retrieval.ledger import Rejected
from imgsearch_es.stores.inspecting import Inspected
from tests.fakes import noise

HARMS = {
    "postings": "DELETE FROM postings WHERE hash(term, document) % 2 = 0",
    "deep feature": "DELETE FROM embeddings WHERE document % 2 = 0",
    "row": "UPDATE documents SET terms = [2000::SMALLINT] || terms[2:] WHERE document = 3",
}


@pytest.mark.parametrize("harm", HARMS)
def test_harm_is_found_told_and_put_right(run, asked, index, photos, cat, harm):
    place = ["--index", index.location]
    index.close()
    run("verify", *place, "--files", "--sample", 2)
    with duckdb.connect(index.location) as connection:
        connection.execute(HARMS[harm])
    assert asked("verify", *place, code=1)["counts"]
    said = []
    for query in ({"text": "dog"}, {"image": cat}, {"image": cat, "strategy": "dense-cosine"}):
        try:
            index.search(**query)
        except ImgsearchError as error:
            said.append(str(error))
    assert bool(said) == (harm != "postings")  # a posting that lacks, no search can see
    assert all("imgsearch verify" in text for text in said)
    if harm in ("deep feature", "row"):
        with pytest.raises(StoreError, match="imgsearch verify"):
            index.reindex()  # a copy would be called whole
    index.close()
    if harm in ("postings", "deep feature"):
        assert re.search("PROBLEM.*imgsearch verify", run("doctor", *place, code=1).stdout)
    index.verify(repair=True)
    index.add(photos)
    run("verify", *place, "--files", "--sample", 12)
    assert index.count() == 12


@pytest.mark.parametrize(
    "harm",
    [
        "sha256 = NULL",
        "sha256 = 'none'",
        "label = NULL",
        "metadata = '[1]'",
        "metadata = '{\"a\":' || repeat('[', 2000) || repeat(']', 2000) || '}'",
    ],
)
def test_a_document_that_cannot_be_read_is_named_or_analyzed_again(index, photos, cat, harm):
    index.close()
    with duckdb.connect(index.location) as connection:
        connection.execute(f"UPDATE documents SET {harm} WHERE id = $1", [picture_id(str(cat))])
    assert index.verify().counts
    if "sha256" in harm:
        assert index.add(photos).updated == 1
    else:
        with pytest.raises(StoreError, match="imgsearch verify"):
            index.add(photos, labels=["pet"])
        assert index.remove(str(cat)) == 1
        index.add(photos)
    assert not index.verify().counts
    assert index.count() == 12


IDS = {
    "another's": "id = (SELECT id FROM documents WHERE document = 9) WHERE document = 2",
    "an earlier one's": "id = (SELECT id FROM documents WHERE document = 2) WHERE document = 9",
    "none": "id = NULL WHERE document = 2",
    "harmed": "id = (SELECT id FROM documents WHERE document = 9), width = 7 WHERE document = 2",
}


@pytest.mark.parametrize("harm", IDS)
def test_a_document_with_a_wrong_id_is_put_right_or_named(index, monkeypatch, harm):
    """Also where that id is another's, which lies in another batch: neither is lost in silence."""
    monkeypatch.setattr("imgsearch_es.indexing.verifying._TOGETHER", 2)
    monkeypatch.setattr("imgsearch_es.stores.embedded.inspecting._BLOCK", 3)
    right = {d.id: d.checksum for d in index.store.documents()}
    index.close()
    with duckdb.connect(index.location) as connection:
        ((key,),) = connection.execute("SELECT id FROM documents WHERE document = 2").fetchall()
        connection.execute(f"UPDATE documents SET {IDS[harm]}")
    report = index.verify(repair=True)
    found = {d.id: d.checksum for d in index.store.documents()}
    if harm == "harmed":
        assert [left for left, _ in report.left] == [key]
        del right[key]
    assert report.is_whole == (harm != "harmed")
    assert found == right


def test_of_two_the_one_that_is_whole_is_kept(index):
    right = {d.id: d.checksum for d in index.store.documents()}
    index.close()
    with duckdb.connect(index.location) as connection:  # without postings and deep feature
        connection.execute(
            "INSERT INTO documents SELECT * REPLACE (90 AS document) FROM documents "
            "WHERE document = 2"
        )
    assert index.verify(repair=True).is_whole
    assert {d.id: d.checksum for d in index.store.documents()} == right
    assert index.count() == len(right)


def test_harm_while_others_write_is_told_as_that(index, monkeypatch):
    inspect = index.store.inspect

    def harmed(*, write: bool) -> Iterator[Inspected]:
        for item in inspect():
            yield replace(item, harms=[("postings", "lack")])
        if write:
            index.store.change([item.id], lambda each: replace(each, labels=("new",)))

    for write in (False, True):
        monkeypatch.setattr(index.store, "inspect", partial(harmed, write=write))
        assert any("others wrote" in text for text in index.verify().unchecked) == write


def test_a_word_taught_meanwhile_is_told_as_that(index, monkeypatch):
    like = [document.id for document in index][:2]
    monkeypatch.setattr(index.store, "glance", lambda: index.teach("thing", like) and [])
    report = index.verify()
    assert report.counts
    assert any("others wrote" in text for text in report.unchecked)


def test_a_word_that_documents_are_still_to_get_is_told_as_that(index, monkeypatch):
    def write(seconds: float) -> None:
        index.store.change([item.id], lambda each: replace(each, labels=("new",)))

    item, *_ = index.store.inspect()
    harm = ("taught words", "they are not those of its deep feature")
    monkeypatch.setattr(index.store, "inspect", lambda: iter([replace(item, harms=[harm])]))
    monkeypatch.setattr("imgsearch_es.indexing.verifying.time", SimpleNamespace(sleep=write))
    assert any("others wrote" in text for text in index.verify().unchecked)


def test_a_file_of_before_there_were_checksums(index, cat):
    index.close()
    with duckdb.connect(index.location) as connection:
        connection.execute("ALTER TABLE documents DROP COLUMN checksum")
    report = index.verify()
    assert (report.is_whole, report.without_checksum) == (True, 12)
    index.update(cat, labels="cat")
    assert index.verify().without_checksum == 11
    assert index.verify(repair=True).is_whole
    assert index.verify().without_checksum == 0
    index.close()
    with duckdb.connect(index.location) as connection:
        connection.execute("ALTER TABLE documents DROP COLUMN checksum")
        least = "(SELECT min(document) FROM embeddings)"
        connection.execute(f"DELETE FROM embeddings WHERE document = {least}")
    assert index.verify().counts["deep feature"] == 1


def test_a_password_of_an_old_index_is_taken_out(run, index, cat):
    url, kept = "https://ann:secret@example.org/a.png", "https://example.org/a.png"
    document = index.get(cat)
    index.store.remove([document.id])
    index.store.write([replace(document, id=picture_id(url), uri=url, filename="a.png")])
    index.store.ledger.write([Rejected(url + "?2", "the server answers 404")])
    index.close()
    place = ["--index", index.location]
    said = run("verify", *place, code=1).stdout
    assert (
        f"URI: its URL is stored with a password or a name, which --repair takes out ({kept})"
        in said
    )
    assert f"takes out ({kept}?2)" in said
    assert "secret" not in said
    run("verify", *place, "--repair")
    assert index.get(kept).labels == document.labels
    assert [entry.uri for entry in index.store.ledger.read()] == [f"{kept}?2"]
    index.store.write([replace(document, id=picture_id(url), uri=url, labels=("old",))])
    assert index.verify(repair=True).is_whole  # the newer one stays
    assert (index.get(kept).labels, index.count()) == (document.labels, 12)


@pytest.mark.parametrize(
    ("harm", "labels"),
    [
        ("UPDATE rejected SET reason = 'x'", ("pet",)),
        ("UPDATE rejected SET reason = NULL, rejected_at = NULL", ("pet",)),
        ("UPDATE rejected SET given = reverse(given)", ()),
        ("ALTER TABLE rejected DROP COLUMN checksum", ("pet",)),  # as earlier versions made it
    ],
)
def test_an_entry_of_the_ledger_that_was_changed(run, index, photos, cat, harm, labels):
    index.update(cat, labels="pet")
    cat.write_bytes(b"no picture")  # from now on the ledger has its label
    index.add(photos)
    index.close()
    with duckdb.connect(index.location) as connection:
        connection.execute(harm)
    named = [] if "DROP" in harm else [("ledger", str(cat))]
    assert [(each.part, each.uri) for each in index.verify().harms] == named
    run("rejected", "--index", index.location)
    noise(7).save(cat)
    index.add(photos)
    assert (index.verify().is_whole, index.get(cat).labels) == (True, labels)


def test_a_time_of_an_old_import_is_cut_to_the_millisecond(index, cat):
    old = replace(index.get(cat), indexed_at=datetime(2020, 1, 1, 0, 0, 0, 1999, timezone.utc))
    index.store.write([old])
    assert index.verify().counts == {"indexed_at": 1}
    assert index.verify(repair=True).is_whole
    assert index.get(cat).indexed_at == old.indexed_at.replace(microsecond=1000)


def test_pictures_that_are_others_now(index, cat):
    cat.write_bytes(b"no picture")
    report = index.verify(files=True, sample=12)
    assert {(harm.part, harm.uri) for harm in report.harms} == {
        ("file", str(cat)),
        ("analysis", str(cat)),
    }


def test_wrong_settings_repair_nothing(run, index):
    index.close()
    with duckdb.connect(index.location) as connection:
        connection.execute("UPDATE settings SET value = replace(value, ': 16', ': 17')")
    before = Path(index.location).read_bytes()
    found = run("verify", "--index", index.location, "--repair", code=1)
    assert "first the settings must be right" in found.stdout
    assert Path(index.location).read_bytes() == before


def test_a_harmed_count_of_sorted_postings_stops_no_run(index, photos):
    index.close()
    with duckdb.connect(index.location) as connection:
        connection.execute("UPDATE settings SET value = 'x' WHERE name = 'clustered_postings'")
    assert index.add(photos, labels=["pet"]).updated == 12
    assert index.verify().counts
    index.verify(repair=True)
    assert not index.verify().counts


def test_a_damaged_page_is_told_as_that(index):
    index.close()
    path = Path(index.location)
    with duckdb.connect(index.location) as connection:
        connection.execute("CHECKPOINT")
    data = bytearray(path.read_bytes())
    for at in range(20_000, len(data), 4096):
        data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match="Corrupt database file"):
        ImageIndex(path).search(text="dog")
